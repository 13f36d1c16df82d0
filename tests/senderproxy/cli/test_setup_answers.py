"""`senderproxy setup` by an answers file: the same as by options, and a second run changes nothing."""

import json
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.senderproxy.cli.conftest import Ended, Office, service_status

COMPLETE = """\
provider = "hoster"
host = "127.0.0.1"
security = "tls"
allow = ["192.168.1.20", "192.168.7.0/24"]
listen = "127.0.0.1:2525"
hostname = "relay.firma.example"
test_to = "carl@kunde.example"

[[mailboxes]]
address = "anna@firma.example"
password_file = "anna.password"
catch_all = true

[[mailboxes]]
address = "bert@firma.example"
password_file = "bert.password"
display_name = "Bert Beispiel"
"""


class Place:
    """A folder of its own for an answers file and an installation."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.folder = office.folder / "new"
        self.answers = office.folder / "answers.toml"
        for name, secret in {"anna": "geheim-anna", "bert": "geheim-bert"}.items():
            path = office.folder / f"{name}.password"
            path.write_text(f"{secret}\n")
            path.chmod(0o600)

    def write(self, text: str) -> None:
        simulator = self.office.simulator
        server = f'port = {simulator.port_tls}\nca_file = "{simulator.ca_file}"\n'
        self.answers.write_text(text if "host =" not in text or "port =" in text else server + text, encoding="utf-8")

    def set_up(self, *more: str, stdin: str = "") -> Ended:
        words = ("setup", "--folder", str(self.folder), "--answers", str(self.answers), *more)
        return self.office.bare(*words, stdin=stdin)

    def changed(self, *more: str) -> list[str]:
        ended = self.set_up("--json", *more)
        assert ended.code == 0, ended.err
        result: dict[str, Any] = json.loads(ended.out)
        assert result["ok"]
        assert not result["running"]
        return list(result["changed"])

    def files(self) -> dict[str, tuple[bytes, int, int]]:
        return {
            str(path.relative_to(self.folder)): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
            for path in self.folder.rglob("*")
            if path.is_file()
        }

    def config(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "senderproxy.toml").read_text())

    def accounts(self) -> list[dict[str, Any]]:
        listed = self.office.bare("--config", str(self.folder / "senderproxy.toml"), "account", "list", "--json")
        return list(listed.json)


@pytest.fixture
def place(empty_office: Office) -> Place:
    place = Place(empty_office)
    place.write(COMPLETE)
    return place


def test_a_file_answers_everything_and_each_login_is_tried_once(place: Place) -> None:
    ended = place.set_up()
    assert ended.code == 0, ended.err
    assert len(place.office.simulator.logins()) == 2
    listener = place.config()["listeners"][0]
    assert listener["address"] == "127.0.0.1:2525"
    assert listener["allow"] == ["127.0.0.0/8", "::1/128", "192.168.1.20", "192.168.7.0/24"]
    assert [account["carries"] for account in place.accounts()] == [
        ["anna@firma.example", "@firma.example"],
        ["bert@firma.example"],
    ]
    assert "send --from anna@firma.example --to carl@kunde.example" in ended.out


def test_a_second_run_changes_no_file_and_says_so(place: Place) -> None:
    place.set_up()
    before, logins = place.files(), len(place.office.simulator.logins())
    ended = place.set_up()
    assert ended.code == 0, ended.err
    assert "Nothing was changed" in ended.out
    assert place.files() == before
    assert len(place.office.simulator.logins()) == logins
    assert place.changed() == []


def test_options_do_exactly_the_same(place: Place) -> None:
    place.set_up()
    by_file = (place.config(), place.accounts())
    before = place.files()
    simulator = place.office.simulator
    options = [
        *("--yes", "--provider", "hoster", "--host", "127.0.0.1", "--port", str(simulator.port_tls)),
        *("--security", "tls", "--ca-file", str(simulator.ca_file), "--allow", "192.168.1.20"),
        *("--allow", "192.168.7.0/24", "--listen", "127.0.0.1:2525", "--hostname", "relay.firma.example"),
    ]
    passwords = place.office.folder / "passwords"
    passwords.write_text("geheim-anna\ngeheim-bert\n")
    passwords.chmod(0o600)
    mailboxes = ["--mailbox", "anna@firma.example", "--mailbox", "bert@firma.example"]
    folder = ["setup", "--folder", str(place.folder)]
    again = place.office.bare(*folder, *options, *mailboxes, "--password-file", str(passwords))
    assert "Nothing was changed" in again.out
    assert place.files() == before
    elsewhere = place.office.folder / "elsewhere"
    fresh = ["setup", "--folder", str(elsewhere), *options, *mailboxes, "--password-stdin", "--no-catch-all"]
    assert place.office.bare(*fresh, stdin="geheim-anna\ngeheim-bert\n").code == 0
    config = tomllib.loads((elsewhere / "senderproxy.toml").read_text())
    assert (config["listeners"], config["providers"]) == (by_file[0]["listeners"], by_file[0]["providers"])


@pytest.mark.parametrize(
    ("old", "new", "changed", "path", "value"),
    [
        ('"relay.firma.example"', '"mx.firma.example"', "identity.hostname", ("identity", "hostname"), "mx.firma.example"),
        (
            'listen = "127.0.0.1:2525"',
            'listen = "0.0.0.0:2600"',
            "listeners.address",
            ("listeners", 0, "address"),
            "0.0.0.0:2600",
        ),
        (
            '"192.168.1.20"',
            '"192.168.1.21"',
            "listeners.allow",
            ("listeners", 0, "allow"),
            ["127.0.0.0/8", "::1/128", "192.168.1.21", "192.168.7.0/24"],
        ),
    ],
)  # fmt: skip
def test_a_changed_answer_changes_only_that(
    place: Place, old: str, new: str, changed: str, path: tuple[str | int, ...], value: object
) -> None:
    place.set_up()
    config = place.folder / "senderproxy.toml"
    config.write_text(config.read_text() + "\n[senders]\nremove_bcc = true # by hand\n")
    text, files, expected = config.read_text(), place.files(), place.config()
    place.write(COMPLETE.replace(old, new))
    assert place.changed() == [f"setting {changed}"]
    section: Any = expected
    for part in path[:-1]:
        section = section[part]
    section[path[-1]] = value
    assert place.config() == expected
    lines = set(text.splitlines()) ^ set(config.read_text().splitlines())
    assert len(lines) == 2
    assert {name: entry for name, entry in place.files().items() if name != "senderproxy.toml"} == {
        name: entry for name, entry in files.items() if name != "senderproxy.toml"
    }
    assert place.changed() == []


def test_a_changed_password_is_tried_and_stored(place: Place) -> None:
    place.set_up()
    config = (place.folder / "senderproxy.toml").read_bytes()
    (place.office.folder / "bert.password").write_text("geheim-falsch\n")
    before = place.files()
    refused = place.set_up()
    assert refused.code == 1
    assert "bert@firma.example" in refused.err
    assert place.files() == before
    simulator = place.office.simulator
    assert simulator.failed_logins() == 1
    assert place.changed("--no-verify") == ["account bert@firma.example: bert@firma.example"]
    assert (place.folder / "senderproxy.toml").read_bytes() == config
    assert place.changed("--no-verify") == []


def test_a_further_mailbox_is_added_and_a_missing_one_stays(place: Place) -> None:
    place.set_up()
    (place.office.folder / "post.password").write_text("geheim-laden\n")
    head, _bert = COMPLETE.split('\n[[mailboxes]]\naddress = "bert')
    place.write(head + '\n[[mailboxes]]\naddress = "post@laden.example"\npassword_file = "post.password"\n')
    assert place.changed() == ["account post@laden.example (new): post@laden.example"]
    assert [account["id"] for account in place.accounts()] == [
        "anna@firma.example",
        "bert@firma.example",
        "post@laden.example",
    ]


def test_a_table_is_read_each_time_and_stored_once(place: Place) -> None:
    table = place.office.folder / "accounts.csv"
    table.write_text("login;password\nanna@firma.example;geheim-anna\nbert@firma.example;geheim-bert\n")
    table.chmod(0o600)
    head = COMPLETE.split("\n[[mailboxes]]")[0]
    place.write(head + '\ntable = "accounts.csv"\n')
    assert len(place.changed()) == 3
    before = place.files()
    assert place.changed() == []
    assert place.files() == before
    table.write_text("login;password\nanna@firma.example;geheim-anna\nanna@firma.example;geheim-anna\n")
    ended = place.set_up()
    assert ended.code == 64
    assert "line 3" in ended.err
    assert place.files() == before


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('provider = "ionos"\n', "--mailbox"),
        ('[[mailboxes]]\naddress = "anna@firma.example"\npassword_file = "anna.password"\n', "provider"),
        ('provider = "ionos"\n[[mailboxes]]\naddress = "anna@firma.example"\n', "password_file"),
        ('provider = "ionos"\n[[mailboxes]]\npassword_file = "anna.password"\n', "mailboxes[0].address"),
        ('provider = "hoster"\n[[mailboxes]]\naddress = "a@b.example"\npassword_file = "anna.password"\n', "submission server"),
    ],
)  # fmt: skip
def test_a_missing_answer_is_named(place: Place, text: str, named: str) -> None:
    place.write(text)
    ended = place.set_up()
    assert ended.code == 64
    assert named in ended.err
    assert not place.folder.exists()


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (lambda text: text + 'password = "x"\n', 64, "mailboxes[1].password"),
        (lambda text: 'passphrase = "x"\n' + text, 64, "passphrase"),
        (lambda text: text.replace("listen", "listn"), 64, "did you mean listen?"),
        (lambda text: text.replace('"127.0.0.1:2525"', "2525"), 64, 'listen = "…"'),
        (lambda text: text.replace("catch_all = true", 'catch_all = "yes"'), 64, "mailboxes[0].catch_all"),
        (lambda text: text.replace('"anna.password"', '"missing.password"'), 66, "missing.password"),
        (lambda text: text.replace("anna@firma", "anna firma"), 64, "mailboxes[0].address"),
        (lambda text: text.replace("bert@firma.example", "Anna@firma.example"), 64, "named twice"),
        (lambda text: text.replace('"192.168.1.20"', '"exchange"'), 64, "allow"),
        (lambda text: text.replace('"192.168.1.20"', '"0.0.0.0/0"'), 64, "open relay"),
        (lambda text: text.replace("127.0.0.1:2525", "localhost:2525"), 64, "listen"),
        (lambda text: text.replace('host = "127.0.0.1"', 'host = "127.0.0.1:465"'), 64, "host"),
        (lambda text: text.replace('security = "tls"', 'security = "ssl"'), 78, "security"),
        (lambda text: text.replace("carl@kunde.example", "carl"), 64, "test_to"),
        (lambda text: text.replace('"relay.firma.example"', '"relay_1"'), 64, "hostname"),
        (lambda text: text.replace("[[mailboxes]]", "[[mailboxes]", 1), 66, "not valid TOML"),
    ],
)
def test_a_wrong_answer_is_named_and_leaves_nothing(
    place: Place, change: Callable[[str], str], code: int, named: str
) -> None:
    place.write(change(COMPLETE))
    ended = place.set_up()
    assert (ended.code, named in ended.err) == (code, True), ended.err
    assert not place.folder.exists()
    assert place.office.simulator.logins() == []


def test_a_password_file_that_others_may_read_is_reported(place: Place) -> None:
    (place.office.folder / "anna.password").chmod(0o644)
    ended = place.set_up()
    assert ended.code == 0
    assert "chmod 600" in ended.err


def test_the_listeners_own_address_is_allowed_where_others_are(place: Place) -> None:
    own = COMPLETE.replace("127.0.0.1:2525", "192.168.1.10:2525")
    place.write(own)
    place.set_up()
    assert place.config()["listeners"][0]["allow"][-1] == "192.168.1.10"
    place.write(own.replace("192.168.1.10:", "192.168.1.11:"))
    assert sorted(place.changed()) == ["setting listeners.address", "setting listeners.allow"]
    assert place.config()["listeners"][0]["allow"][-1] == "192.168.1.11"
    place.write(own.replace("192.168.1.10:", "192.168.7.9:"))  # inside a network that is allowed already
    place.changed()
    assert "192.168.7.9" not in place.config()["listeners"][0]["allow"]


def test_a_listener_for_others_needs_others(place: Place) -> None:
    place.write(
        COMPLETE.replace("127.0.0.1:2525", "192.168.1.10:2525").replace('["192.168.1.20", "192.168.7.0/24"]', "[]")
    )
    ended = place.set_up()
    assert ended.code == 78
    assert "allows this machine only" in ended.err
    assert not place.folder.exists()


def test_a_vault_without_its_configuration_is_not_touched(place: Place) -> None:
    place.set_up()
    (place.folder / "senderproxy.toml").unlink()
    before = place.files()
    ended = place.set_up()
    assert ended.code == 73
    assert "--force" in ended.err
    assert place.files() == before


def test_a_configuration_without_its_vault_gets_a_new_one(place: Place) -> None:
    place.set_up()
    (place.folder / "accounts.vault").unlink()
    assert len(place.changed()) == 2
    assert len(place.accounts()) == 2


def test_a_configuration_that_the_service_refuses_is_not_kept(place: Place) -> None:
    place.set_up()
    before = place.files()
    place.write(COMPLETE.replace("relay.firma.example", "mx.firma.example"))
    service = Office.__new__(Office)
    service.folder = place.folder
    with service_status(service):  # it knows no other request than for its status
        ended = place.set_up()
    assert ended.code == 69
    assert "Unknown request 'reload'" in ended.err
    assert place.files() == before


_HOSTS = st.sampled_from(["192.168.1.20", "192.168.7.0/24", "10.0.0.0/8", "fd00::20", "127.0.0.1", "192.168.1.10"])
_ANSWERS = st.fixed_dictionaries(
    {
        "allow": st.lists(_HOSTS, max_size=4),
        "listen": st.sampled_from(["0.0.0.0:2525", "192.168.1.10:2525", "127.0.0.1:2600", "[fd00::1]:2525", "2530", None]),
        "hostname": st.sampled_from(["a.example", "B.example.", None]),
        "catch_all": st.sampled_from([True, False, None]),
    }
)  # fmt: skip


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(first=_ANSWERS, second=_ANSWERS)
def test_after_any_answers_the_same_answers_change_nothing(
    place: Place, first: dict[str, Any], second: dict[str, Any]
) -> None:
    for answers in (first, second):
        lines = [f"{key} = {json.dumps(value)}" for key, value in answers.items() if value is not None]
        catch_all = [lines.pop()] if answers["catch_all"] is not None else []
        mailbox = ["[[mailboxes]]", 'address = "anna@firma.example"', 'password_file = "anna.password"', *catch_all]
        place.answers.write_text("\n".join(['provider = "ionos"', "verify = false", *lines, *mailbox]) + "\n")
        before = place.files()
        ended = place.set_up()
        if ended.code != 0:
            assert place.files() == before
            continue
        after = place.files()
        assert "Nothing was changed" in place.set_up().out
        assert place.files() == after
