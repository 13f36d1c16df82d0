"""`senderproxy setup` on a terminal: every slip is asked for again, and Ctrl-C leaves nothing behind."""

import socket
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.peers.process import free_port
from tests.senderproxy.cli.conftest import Office, service_status
from tests.senderproxy.cli.pseudo_terminal import Terminal, at_terminal

pytestmark = pytest.mark.slow

MAILBOXES, PROVIDER, PASSWORD = "Mailboxes: ", "Provider: ", "Password of anna@firma.example: "
NETWORK, LISTEN, TEST = "IP addresses: ", "Address to listen on [", "Test message to ["
ALERTS = "Alerts to [none]: "


class Wizard:
    """Types the answers of a usual office; a test replaces or adds some."""

    def __init__(self, office: Office, terminal: Terminal) -> None:
        self.office = office
        self.terminal = terminal

    def answer(self, question: str, *texts: str) -> None:
        """Answer a question; each further text after the question was asked again."""
        for text in texts:
            self.terminal.read_until(question)
            self.terminal.type(text)

    def mailboxes(self, *texts: str) -> None:
        self.answer(MAILBOXES, *texts, "anna@firma.example")

    def provider(self, *texts: str) -> None:
        self.answer(PROVIDER, *texts, f"127.0.0.1:{self.office.simulator.port_tls} tls")

    def password(self) -> None:
        self.answer(PASSWORD, "geheim-anna")

    def network(self, *texts: str) -> None:
        self.answer(NETWORK, *texts, "")

    def listen(self, *texts: str) -> None:
        self.answer(LISTEN, *texts, f"127.0.0.1:{free_port()}")

    def test_message(self, *texts: str) -> None:
        self.answer(TEST, *texts, "none")
        self.answer(ALERTS, "")


@contextmanager
def wizard(office: Office, *words: str) -> Iterator[Wizard]:
    ca_file = ("--ca-file", str(office.simulator.ca_file))
    with at_terminal(office, "setup", "--folder", str(office.folder / "new"), *ca_file, *words) as terminal:
        yield Wizard(office, terminal)


def config(office: Office) -> dict[str, Any]:
    return tomllib.loads((office.folder / "new" / "senderproxy.toml").read_text())


def test_the_usual_office_is_set_up_with_six_questions(empty_office: Office) -> None:
    port = free_port("0.0.0.0")
    with wizard(empty_office) as asked:
        asked.mailboxes()
        asked.provider()
        asked.password()
        asked.answer(NETWORK, "192.168.1.20 192.168.7.0/24")
        asked.answer(LISTEN, "192.168.1.10")
        asked.terminal.read_until("192.168.1.10 is no address of this machine.")
        asked.answer(LISTEN, str(port))
        asked.test_message()
        assert asked.terminal.end() == 0, asked.terminal.screen
    listener = config(empty_office)["listeners"][0]
    assert listener["allow"][:4] == ["127.0.0.0/8", "::1/128", "192.168.1.20", "192.168.7.0/24"]
    assert listener["address"].endswith(f":{port}")
    own = ip_address(listener["address"].rpartition(":")[0].strip("[]"))
    assert own.is_unspecified or any(own in ip_network(network) for network in listener["allow"])
    screen = asked.terminal.screen
    for number in range(1, 7):
        assert f"\n{number}. " in screen
    assert "\n7. " not in screen
    assert "the login works" in screen
    assert "senderproxy.toml run" in screen
    wide = [line for line in screen.splitlines() if len(line) > 79 and str(empty_office.folder) not in line]
    assert wide == []
    assert (
        empty_office.bare("--config", str(empty_office.folder / "new/senderproxy.toml"), "account", "verify").code == 0
    )


# What is typed, and the words of the explanation; the same question comes again.
SLIPS = {
    MAILBOXES: [
        ("anna", "anna is no mail address"),
        ("anna@firma.example Anna@firma.example", "The mailbox Anna@firma.example is named twice."),
        ("anna@firma.example bert@", "Invalid address"),
        ("", ""),
        ("missing.csv", "there is no such file"),
        ("/", "there is no such file"),
    ],
    PROVIDER: [
        ("hoster", "There is no built-in provider hoster."),
        ("ionoss", "ionos-es"),
        ("smtp.hoster.example:0", "0 is not a port."),
        ("smtp.hoster.example:587 ssl", "ssl is neither tls nor starttls."),
        ("smtp_1.hoster.example", "underscore"),
        ("info@", "The provider of info@ is unknown."),
        ("", ""),
    ],
    "[Y/n] ": [("perhaps", "Type y or n.")],
    NETWORK: [
        ("exchange", '"exchange" is not a network.'),
        ("192.168.1.20/24", "the address of a host"),
        ("192.168.1.20 0.0.0.0/0", "open relay"),
    ],
    LISTEN: [
        ("localhost", '"localhost" is not an IP address with a'),
        ("127.0.0.1:99999", "99999 is not a port"),
        ("0", "port 0 is any free port"),
        ("25", "Port 25 is below 1024"),
        ("203.0.113.9:2525", "203.0.113.9 is no address of this machine."),
        ("PORT-IN-USE", "Another program already listens on"),
    ],
    TEST: [("anna", "Invalid address"), ("@", "Invalid address")],
    ALERTS: [("it", "Invalid address"), ("it@firma.example chef", "Invalid address")],
}


def test_every_slip_is_explained_and_asked_for_again(empty_office: Office) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, wizard(empty_office, "--no-verify") as asked:
        right = {MAILBOXES: "anna@firma.example", PROVIDER: "ionos", "[Y/n] ": "n", NETWORK: "", TEST: "none"}
        right[ALERTS] = "it@firma.example, chef@privat.example"
        right[LISTEN] = f"127.0.0.1:{free_port()}"
        for question, slips in SLIPS.items():
            if question == "[Y/n] ":
                asked.password()
                asked.answer("Repeat: ", "geheim-anders")
                asked.terminal.read_until("The two entries differ")
                asked.password()
                asked.answer("Repeat: ", "geheim-anna")
            for typed, said in slips:
                asked.answer(question, typed.replace("PORT-IN-USE", f"127.0.0.1:{other.getsockname()[1]}"))
                asked.terminal.read_until(said)
            asked.answer(question, right[question])
        assert asked.terminal.end() == 0, asked.terminal.screen
    assert config(empty_office)["listeners"][0]["address"] == right[LISTEN]
    assert config(empty_office)["alerts"] == {"to": ["it@firma.example", "chef@privat.example"]}


def test_a_wrong_password_a_wrong_login_and_a_wrong_server_are_asked_for_again(empty_office: Office) -> None:
    unused = free_port()
    with wizard(empty_office) as asked:
        asked.mailboxes()
        asked.answer(PROVIDER, f"127.0.0.1:{unused} tls")
        asked.answer(PASSWORD, "geheim-falsch")
        asked.answer("Choice [r]: ", "x", "r", "s")
        asked.answer("Provider [127.0.0.1]: ", f"127.0.0.1:{empty_office.simulator.port_tls} tls")
        asked.answer("Choice [p]: ", "u")
        asked.answer("User name [anna@firma.example]: ", "bert@firma.example")
        asked.answer("Choice [p]: ", "")
        asked.answer("Password of bert@firma.example: ", "")
        asked.terminal.read_until("it is empty")
        asked.answer("Password of bert@firma.example: ", "geheim-bert")  # what is typed before the prompt is discarded
        asked.network()
        asked.listen()
        asked.test_message()
        assert asked.terminal.end() == 0, asked.terminal.screen
    assert "the login could not be tried" in asked.terminal.screen
    assert "535 Authentication credentials" in asked.terminal.screen
    assert empty_office.simulator.failed_logins() == 2
    assert config(empty_office)["providers"] == {
        "127.0.0.1": {
            "host": "127.0.0.1",
            "port": empty_office.simulator.port_tls,
            "security": "tls",
            "ca_file": str(empty_office.simulator.ca_file),
        }
    }


def test_an_unreachable_provider_may_be_kept_for_all_mailboxes(empty_office: Office) -> None:
    with wizard(empty_office) as asked:
        asked.answer(MAILBOXES, "anna@firma.example,bert@firma.example")
        asked.answer(PROVIDER, f"127.0.0.1:{free_port()} tls")
        asked.answer(PASSWORD, "geheim-anna")
        asked.answer("Choice [r]: ", "k")
        asked.answer("Password of bert@firma.example: ", "geheim-bert")
        asked.answer("Repeat: ", "geheim-anders")
        asked.answer("Password of bert@firma.example: ", "geheim-bert")
        asked.answer("Repeat: ", "geheim-bert")
        asked.network()
        asked.listen()
        asked.test_message()
        assert asked.terminal.end() == 0, asked.terminal.screen
    assert "The two entries differ" in asked.terminal.screen


def test_a_listener_for_others_without_others_is_asked_for_again(empty_office: Office) -> None:
    with wizard(empty_office, "--no-verify") as asked:
        asked.mailboxes()
        asked.provider()
        asked.password()
        asked.answer("Repeat: ", "geheim-anna")
        asked.answer(NETWORK, "")
        asked.answer(LISTEN, f"0.0.0.0:{free_port('0.0.0.0')}")
        asked.terminal.read_until("allows this machine only")
        asked.answer(NETWORK, "192.168.1.0/24")
        asked.answer(LISTEN, f"0.0.0.0:{free_port('0.0.0.0')}")
        asked.test_message()
        assert asked.terminal.end() == 0, asked.terminal.screen


def test_a_table_is_asked_for_until_all_of_its_rows_are_right(empty_office: Office) -> None:
    table, office = empty_office.folder / "konten.csv", empty_office
    table.write_text("Benutzer;Kennwort\nanna@firma.example;geheim-falsch\n")
    table.chmod(0o600)
    with wizard(office) as asked:
        asked.answer(MAILBOXES, str(table))
        asked.provider()
        asked.terminal.read_until(f"Table [{table}]: ")
        assert "535 Authentication credentials" in asked.terminal.screen
        table.write_text("Name;Sonstiges\nanna;1\n")
        asked.terminal.type("")
        asked.terminal.read_until("login (or address) and password among them.")
        asked.answer(f"Table [{table}]: ", "missing.csv")
        table.write_text("Benutzer;Kennwort\nanna@firma.example;geheim-anna\nbert@firma.example;geheim-bert\n")
        asked.answer(f"Table [{table}]: ", str(table))
        asked.network()
        asked.listen()
        asked.answer("Test message to [none]: ", "")
        asked.answer(ALERTS, "")
        assert asked.terminal.end() == 0, asked.terminal.screen
    assert (
        len(office.bare("--config", str(office.folder / "new/senderproxy.toml"), "account", "list", "--json").json) == 2
    )


def test_a_second_time_enter_keeps_everything(empty_office: Office) -> None:
    with wizard(empty_office) as asked:
        asked.mailboxes()
        asked.provider()
        asked.password()
        asked.network()
        asked.listen()
        asked.test_message()
        assert asked.terminal.end() == 0, asked.terminal.screen
    folder: Path = empty_office.folder / "new"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with wizard(empty_office) as asked:
        asked.answer(MAILBOXES, "")
        asked.answer(NETWORK, "")
        asked.answer(LISTEN, "")
        asked.answer(TEST, "")
        asked.answer(ALERTS, "")
        assert asked.terminal.end() == 0, asked.terminal.screen
    assert "senderproxy is set up already" in asked.terminal.screen
    assert "Nothing was changed" in asked.terminal.screen
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("option", "value", "said"), [("--hostname", "relay_1", "underscore"), ("--allow", "exchange", "not a network")]
)
def test_a_wrong_option_is_no_answer_and_ends_it(empty_office: Office, option: str, value: str, said: str) -> None:
    with wizard(empty_office, option, value) as asked:
        assert asked.terminal.end() == 64
    assert said in asked.terminal.screen
    assert not (empty_office.folder / "new").exists()


@pytest.mark.parametrize("question", [PROVIDER, PASSWORD, "Choice [p]: ", TEST])
def test_ctrl_c_at_a_question_leaves_nothing_behind(empty_office: Office, question: str) -> None:
    with wizard(empty_office) as asked:
        for shown, step in (
            (MAILBOXES, asked.mailboxes),
            (PROVIDER, asked.provider),
            (PASSWORD, lambda: asked.answer(PASSWORD, "geheim-falsch")),
            ("Choice [p]: ", lambda: asked.answer("Choice [p]: ", "k")),
            (NETWORK, asked.network),
            (LISTEN, asked.listen),
        ):
            if shown == question:
                break
            step()
        asked.terminal.read_until(question)
        assert asked.terminal.interrupt() == 130
    assert not (empty_office.folder / "new").exists()


def test_the_check_is_made_and_the_message_sent_again_where_a_service_runs(empty_office: Office) -> None:
    """The control socket answers, and no listener does: each recipient is asked for again."""
    with wizard(empty_office) as asked:
        asked.mailboxes()
        asked.provider()
        asked.password()
        asked.network()
        asked.listen()
        asked.test_message()
        assert asked.terminal.end() == 0, asked.terminal.screen
    office = Office.__new__(Office)
    office.folder = empty_office.folder / "new"
    with service_status(office), wizard(empty_office, "--no-verify") as asked:
        asked.answer(MAILBOXES, "bert@firma.example")
        asked.answer(PROVIDER, "127.0.0.1")
        asked.answer("Password of bert@firma.example: ", "geheim-bert")
        asked.answer("Repeat: ", "geheim-bert")
        asked.network()
        asked.answer(LISTEN, "")
        asked.answer(TEST, "carl@kunde.example")
        asked.answer(ALERTS, "")
        asked.terminal.read_until("Cannot reach the service at")
        asked.answer("Test message to (none: no more): ", "dora", "none")
        assert asked.terminal.end() == 1, asked.terminal.screen
    assert "No check failed." in asked.terminal.screen
