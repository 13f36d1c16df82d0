"""An office that hands mail to the mail servers of recipients: a network of its own, with port 25 and public addresses.

As a program, in a mount and a network namespace of its own: the addresses are those of nobody else there, and the name
server is at the port that every program asks. Everything is on the loopback device of that namespace.
"""

import contextlib
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.errors import SenderproxyError
from tests.peers.exchanger import PostfixExchanger
from tests.peers.letters import Letter
from tests.peers.mail_client import MailClient
from tests.peers.name_server import NameServer
from tests.peers.process import LOOPBACK
from tests.peers.provider import Mailbox, PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy, VaultAccount

# Addresses of the public network, which nothing in this namespace leads to.
OURS, MX1, MX2, IONOS = "44.0.0.9", "44.0.0.1", "44.0.0.2", "44.0.0.3"
NAME: Final = "mail.firma.example"
ANNA = Mailbox("anna@firma.example", "geheim-Anna-44")
GOOD, WRONG = f'"v=spf1 include:_spf-eu.ionos.com ip4:{OURS} -all"', '"v=spf1 ip4:192.0.2.1 -all"'
ROUTES = f"""
[mx]
public_address = "{OURS}"
[[routes]]
recipients = ["@kunde.example", "@null.example", "@fehlt.example", "@wir.example", "@innen.example"]
via = "mx"
[[routes]]
recipients = ["@ionoskunde.example", "@andere.example"]
via = "provider-mx"
"""
RECORDS = {
    (NAME, "A"): OURS,
    ("9.0.0.44.in-addr.arpa", "PTR"): f"{NAME}.",
    ("firma.example", "TXT"): WRONG,
    ("_spf-eu.ionos.com", "TXT"): '"v=spf1 ip4:192.0.2.0/24 -all"',
    ("firma.example", "MX"): "10 mx00.ionos.de.",
    ("kunde.example", "MX"): "10 mx1.kunde.example.\n20 mx2.kunde.example.",
    ("mx1.kunde.example", "A"): MX1,
    ("mx2.kunde.example", "A"): MX2,
    ("null.example", "MX"): "0 .",
    ("wir.example", "MX"): f"10 {NAME}.\n20 mx2.kunde.example.",
    ("innen.example", "MX"): "10 innen.innen.example.",
    ("innen.innen.example", "A"): "127.0.0.1",
    ("ionoskunde.example", "MX"): "10 mx00.ionos.de.",
    ("mx00.ionos.de", "A"): IONOS,
    ("andere.example", "MX"): "10 mx2.kunde.example.",
}


class Network:
    """The peers, and what each has received."""

    def __init__(self, things: contextlib.ExitStack) -> None:
        self.records = dict(RECORDS)
        things.enter_context(NameServer("127.0.0.1", self.records))
        self.mx1, self.mx2, self.ionos = (
            things.enter_context(PostfixExchanger(name, address=address))
            for name, address in (("mx1", MX1), ("mx2", MX2), ("ionos", IONOS))
        )
        self.provider = things.enter_context(PostfixProvider([ANNA], Rule.DOMAIN))
        section = f"""
preset = "ionos-de"
host = "localhost"
port = {self.provider.starttls_port}
security = "starttls"
ca_file = "{self.provider.authority.ca_file}"
"""
        account = VaultAccount(ANNA.login, ANNA.password)
        self.proxy = things.enter_context(Senderproxy([account], section, hostname=NAME))
        self.sent = 0

    def send(self, *recipients: str) -> str:
        """Hand in one message; the reply to its end, or the refusal."""
        self.sent += 1
        letter = Letter(ANNA.login, recipients, f"{self.sent}@firma.example")
        with MailClient(LOOPBACK, self.proxy.port, local_hostname="desk.office.test", timeout=60) as client:
            client.ehlo()
            client.mail(letter.author, ["BODY=8BITMIME"])
            for recipient in recipients:
                client.rcpt(recipient)
            code, text = client.data(letter.content)
        return f"{code} {text.decode('ascii')}"

    def received(self) -> dict[str, list[str]]:
        """The recipients of each server, sorted."""
        return {
            server.name: sorted(r for delivery in server.received() for r in delivery.recipients)
            for server in (self.mx1, self.mx2, self.ionos, self.provider)
        }


def refuses_a_wrong_spf_record(net: Network) -> None:
    """A reload and a start are refused, and the service goes on as before."""
    with pytest.raises(SenderproxyError, match=f"firma.example does not name {OURS}") as caught:
        net.proxy.configure(ROUTES)
    assert f"ip4:{OURS}" in caught.value.hint
    assert net.send("a@elsewhere.example").startswith("250")
    net.proxy.stop()
    words = [*net.proxy._service_words()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert f"firma.example does not name {OURS}" in done.stderr, done.stderr
    checked = net.proxy.command("check", exit_code=1)
    assert f"SPF of firma.example for this machine: does not name {OURS}: its mail waits" in flat(checked), checked


def starts_without_an_answer_and_waits(net: Network) -> None:
    """No record is known: the service starts, and mail by mx waits."""
    net.records["firma.example", "TXT"] = '"v=spf1 exists:%{l}.users.firma.example -all"'
    net.proxy.start()
    reply = net.send("a@kunde.example")
    assert reply.startswith("451 4.7.0 The SPF record of firma.example could not be evaluated yet"), reply
    status = ask(net.proxy.folder / "control", new_request(Verb.STATUS))
    assert "mx_stopped" in [one["key"] for one in status["conditions"]], status["conditions"]
    net.proxy.stop()
    net.records["firma.example", "TXT"] = GOOD
    net.proxy.start()


def delivers_each_recipient_by_its_way(net: Network) -> None:
    reply = net.send("a@kunde.example", "b@elsewhere.example", "c@ionoskunde.example", "d@andere.example")
    assert reply.startswith("250"), reply
    assert net.received() == {
        "mx1": ["a@kunde.example"],
        "mx2": [],
        "ionos": ["c@ionoskunde.example"],
        "provider": ["a@elsewhere.example", "b@elsewhere.example", "d@andere.example"],
    }
    for server in (net.mx1, net.ionos):
        (delivery,) = server.received()
        assert (delivery.login, delivery.reverse_path) == (None, ANNA.login)
    assert {delivery.login for delivery in net.provider.received()} == {ANNA.login}


def refuses_what_the_dns_refuses(net: Network) -> None:
    for recipient, begin in (
        ("a@null.example", "556 5.1.10"),
        ("a@fehlt.example", "550 5.1.2"),
        ("a@wir.example", "554 5.4.6"),
        ("a@innen.example", "550 5.4.4"),
    ):
        reply = net.send(recipient)
        assert reply.startswith(begin), reply


def goes_on_without_the_preferred_server(net: Network) -> None:
    net.mx1.stop()
    assert net.send("e@kunde.example").startswith("250")
    assert net.received()["mx2"] == ["e@kunde.example"]
    net.mx1.start()


def goes_back_to_the_account(net: Network) -> None:
    net.ionos.restart(refuses="550 5.7.1 Client is not welcome")
    assert net.send("f@ionoskunde.example").startswith("250")
    net.ionos.stop()
    assert net.send("g@ionoskunde.example").startswith("250")
    received = net.received()
    assert received["ionos"] == ["c@ionoskunde.example"]
    assert {"f@ionoskunde.example", "g@ionoskunde.example"} <= set(received["provider"])
    assert all(count == 1 for recipients in received.values() for count in Counter(recipients).values())
    net.ionos.restart()


def is_shown(net: Network) -> None:
    """`explain`, `check`, `track` and `status`."""
    explained = flat(net.proxy.command("explain", ANNA.login, "--to", "a@kunde.example"))
    assert "mx kunde.example" in explained, explained
    checked = flat(net.proxy.command("check", "--json"))
    for words in (
        f"its name is {NAME}, which leads back to it",
        "mx00.ionos.de answers",
        f"names {OURS}",
        f"it leads to {OURS}",
    ):
        assert words in checked, checked


def flat(text: str) -> str:
    return " ".join(text.split())


STEPS = (
    refuses_a_wrong_spf_record,
    starts_without_an_answer_and_waits,
    delivers_each_recipient_by_its_way,
    refuses_what_the_dns_refuses,
    goes_on_without_the_preferred_server,
    goes_back_to_the_account,
    is_shown,
)


def make_network(folder: Path) -> None:
    """Addresses and the resolver's file, for this namespace alone."""
    resolver = folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\n")
    commands = [["ip", "link", "set", "lo", "up"], ["mount", "--bind", str(resolver), "/etc/resolv.conf"]]
    commands += [["ip", "address", "add", f"{address}/32", "dev", "lo"] for address in (OURS, MX1, MX2, IONOS)]
    for command in commands:
        subprocess.run(command, check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as things:
        make_network(Path(folder))
        net = Network(things)
        try:
            for step in STEPS:
                step(net)
                print("ok", step.__name__, flush=True)
        except BaseException:
            print(net.proxy.log()[-20_000:], file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
