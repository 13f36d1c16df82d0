"""`senderproxy setup` without a terminal."""

import os
from pathlib import Path

import pytest

from senderproxy.simulator.server import Simulator
from tests.senderproxy.cli.conftest import Office


def options(simulator: Simulator, *more: str) -> tuple[str, ...]:
    return (
        *(
            "--yes",
            "--provider",
            "ionos",
            "--host",
            "127.0.0.1",
            "--port",
            str(simulator.port_tls),
            "--security",
            "tls",
        ),
        *("--ca-file", str(simulator.ca_file), "--mailbox", "anna@firma.example", "--password-stdin", *more),
    )


@pytest.fixture
def place(empty_office: Office) -> Path:
    return empty_office.folder / "new"


def test_one_command_creates_everything_and_tries_the_first_login(empty_office: Office, place: Path) -> None:
    ended = empty_office.bare(
        "setup", "--folder", str(place), *options(empty_office.simulator), "--catch-all", stdin="geheim-anna\n"
    )
    assert ended.code == 0, ended.err
    assert len(empty_office.simulator.logins()) == 1
    for name in ("accounts.vault", "vault.key"):
        assert (place / name).stat().st_mode & 0o777 == 0o600
    for words in ("Set-SendConnector", "New-SendConnector", "relayhost = [127.0.0.1]:2525", "hMailServer", "scanner"):
        assert words in ended.out
    assert "keep a copy" in ended.out
    config = ("--config", str(place / "senderproxy.toml"))
    explained = empty_office.bare(*config, "explain", "anything@firma.example").out
    # Of a provider that is not built in the strictest rule is expected.
    assert "accepts only the account's own addresses" in explained
    assert "Reply-To: anything@firma.example" in explained
    assert empty_office.bare(*config, "account", "list", "--json").json[0]["carries"] == [
        "anna@firma.example",
        "@firma.example",
    ]


def test_the_configuration_is_commented_and_contains_the_answers(empty_office: Office, place: Path) -> None:
    listen = ("--listen", "192.168.1.10:2525", "--allow", "192.168.1.0/24", "--hostname", "proxy.firma.example")
    more = options(empty_office.simulator, "--no-verify", *listen)
    ended = empty_office.bare("setup", "--folder", str(place), *more, stdin="geheim-anna\n")
    assert ended.code == 0, ended.err
    text = (place / "senderproxy.toml").read_text()
    for words in ('address = "192.168.1.10:2525"', '"192.168.1.0/24"', 'hostname = "proxy.firma.example"', "# "):
        assert words in text
    assert '-SmartHosts "[192.168.1.10]" -Port 2525' in ended.out
    assert "on this machine only" not in ended.out


def test_a_dry_run_names_the_changes_and_makes_none(empty_office: Office, place: Path) -> None:
    words = ("setup", "--folder", str(place), *options(empty_office.simulator))
    ended = empty_office.bare(*words, "--dry-run", "--json", stdin="geheim-anna\n")
    assert (ended.code, ended.json["running"]) == (0, False)
    assert ended.json["changed"] == ["configuration (new)", "account anna@firma.example (new): anna@firma.example"]
    assert not place.exists()
    assert empty_office.simulator.logins() == []
    assert empty_office.bare(*words, stdin="geheim-anna\n").code == 0
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    allow = ("--allow", "192.168.1.20", "--listen", "127.0.0.1:2525")
    changed = empty_office.bare(*words, *allow, "--dry-run", stdin="geheim-anna\n")
    assert "These would be changed (--dry-run):\n  setting listeners.allow\n" in changed.out
    assert "Nothing would be changed (--dry-run)." in empty_office.bare(*words, "--dry-run", stdin="geheim-anna\n").out
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_a_refused_password_leaves_nothing_behind(empty_office: Office, place: Path) -> None:
    ended = empty_office.bare(
        "setup", "--folder", str(place), *options(empty_office.simulator), stdin="geheim-falsch\n"
    )
    assert ended.code == 1
    assert "535" in ended.err
    assert not place.exists()
    assert empty_office.simulator.failed_logins() == 1


def test_an_invalid_setting_leaves_nothing_behind(empty_office: Office, place: Path) -> None:
    more = options(empty_office.simulator, "--no-verify", "--listen", "0.0.0.0:2525", "--allow", "0.0.0.0/0")
    ended = empty_office.bare("setup", "--folder", str(place), *more, stdin="geheim-anna\n")
    assert ended.code == 64
    assert "open relay" in ended.err
    assert not place.exists()


def test_existing_files_are_never_overwritten_and_with_force_renamed(empty_office: Office, place: Path) -> None:
    first = ("setup", "--folder", str(place), *options(empty_office.simulator))
    assert empty_office.bare(*first, stdin="geheim-anna\n").code == 0
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    failed = empty_office.bare(*first, "--force", stdin="geheim-falsch\n")
    assert failed.code == 1
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert empty_office.bare(*first, "--force", stdin="geheim-anna\n").code == 0
    assert (place / "vault.key.before-1").read_bytes() == before["vault.key"]
    assert (place / "accounts.vault.before-1").read_bytes() == before["accounts.vault"]


def test_files_are_read_from_where_they_were_typed(
    empty_office: Office, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration is in another folder, and would read a relative path from there."""
    here = empty_office.folder
    (here / "own ca.pem").write_bytes(empty_office.simulator.ca_file.read_bytes())
    (here / "old.key").write_bytes(os.urandom(32))
    (here / "old.key").chmod(0o600)
    monkeypatch.chdir(here)
    more = ("--ca-file", "own ca.pem", "--key", "key-file:old.key")
    ended = empty_office.bare(
        "setup", "--folder", str(place), *options(empty_office.simulator), *more, stdin="geheim-anna\n"
    )
    assert ended.code == 0, ended.err
    assert len(empty_office.simulator.logins()) == 1
    monkeypatch.chdir("/")
    assert empty_office.bare("--config", str(place / "senderproxy.toml"), "account", "verify").code == 0
    text = (place / "senderproxy.toml").read_text()
    assert f'ca_file = "{here / "own ca.pem"}"' in text
    assert f'unlock = "key-file:{here / "old.key"}"' in text


def test_a_passphrase_instead_of_the_key_file(empty_office: Office, place: Path) -> None:
    more = options(empty_office.simulator, "--key", "passphrase")
    ended = empty_office.bare("setup", "--folder", str(place), *more, stdin="geheim-anna\ngeheim-satz im Tresor\n")
    assert ended.code == 0, ended.err
    assert not (place / "vault.key").exists()
    assert 'unlock = "passphrase"' in (place / "senderproxy.toml").read_text()


def test_a_built_in_provider_needs_no_host(empty_office: Office, place: Path) -> None:
    ended = empty_office.bare(
        *("setup", "--folder", str(place), "--yes", "--provider", "web.de", "--mailbox", "anna@web.de"),
        *("--password-stdin", "--no-verify"),
        stdin="geheim-anna\n",
    )
    assert ended.code == 0, ended.err
    listed = empty_office.bare("--config", str(place / "senderproxy.toml"), "account", "list", "--json").json
    assert listed[0]["login"] == "anna"  # web.de calls the user by the part before the @


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--provider", "unknown-hoster", "--mailbox", "a@b.example"), "submission server"),
        (("--provider", "ionos-de"), "--mailbox"),
        (("--provider", "ionos-de", "--mailbox", "nobody"), "has no @"),
    ],
)
def test_without_a_terminal_a_missing_answer_is_named(
    empty_office: Office, place: Path, words: tuple[str, ...], hint: str
) -> None:
    ended = empty_office.bare(
        "setup", "--folder", str(place), "--yes", "--password-stdin", *words, stdin="geheim-anna\n"
    )
    assert ended.code == 64
    assert hint in ended.err
    assert not place.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root has the system's folders")
def test_for_other_users_than_root_the_files_are_below_the_home_folder(
    empty_office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(empty_office.folder))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    ended = empty_office.bare("setup", *options(empty_office.simulator), stdin="geheim-anna\n")
    assert ended.code == 0, ended.err
    assert (empty_office.folder / ".config" / "senderproxy" / "senderproxy.toml").exists()
    assert (empty_office.folder / ".local" / "state" / "senderproxy" / "accounts.vault").exists()
