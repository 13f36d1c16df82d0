"""What `check` says about delivery to mail servers of recipients, with a real name server and a real port."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from senderproxy.cli.check_mx import check_mx, looks_dynamic
from senderproxy.cli.findings import Finding, Level
from senderproxy.delivery.mx.hosts import Ourselves
from senderproxy.dns_client.client import DnsClient
from senderproxy.dns_client.errors import LookupFailed
from tests.senderproxy.domain_records.name_server import name_server

OURS, OURS_6, NAME = "203.0.113.7", "2001:db8::7", "mail.firma.example"
PTR = "7.113.0.203.in-addr.arpa"
PTR_6 = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
DIAL_IN = "p203-0-113-7.dip0.t-ipconnect.example"
Zone = Mapping[tuple[str, str], list[str]]
GOOD: Zone = {
    (PTR, "PTR"): [f"{NAME}."],
    (NAME, "A"): [OURS],
    ("firma.example", "TXT"): ["v=spf1 ip4:203.0.113.7 -all"],
    ("firma.example", "MX"): ["10 mx.firma.example."],
    ("mx.firma.example", "A"): ["127.0.0.1"],
}
OK, ADVICE, UNKNOWN, WRONG = Level.OK, Level.ADVICE, Level.UNKNOWN, Level.WRONG


@contextmanager
def greeting_port(greeting: bytes = b"220 mx.firma.example ESMTP\r\n") -> Iterator[int]:
    """A port that greets one connection, and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.sendall(greeting)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def findings(
    zone: Zone = GOOD,
    *,
    addresses: tuple[str, ...] = (OURS,),
    port: int = 1,
    failing: set[str] | None = None,
    **more: bool,
) -> dict[str, Finding]:
    """The findings by their subject."""
    with name_server(zone) as names:
        names.failing.update(failing or ())
        found = list(
            check_mx(
                addresses,
                NAME,
                ["firma.example"],
                spf_is_needed=more.get("spf_is_needed", True),
                new_client=names.client,
                port=port,
                ourselves=Ourselves(public_only=False),
            )
        )
    assert len({finding.subject for finding in found}) == len(found)
    return {finding.subject: finding for finding in found}


ADDRESS, SERVER, PORT, SPF = (
    f"public address {OURS}",
    f"name of this server, {NAME}",
    "port 25",
    "SPF of firma.example for this machine",
)


def test_a_server_that_is_set_up_is_right_in_everything() -> None:
    with greeting_port() as port:
        found = findings(port=port)
    assert [(subject, finding.level, finding.message) for subject, finding in found.items()] == [
        (ADDRESS, OK, f"its name is {NAME}, which leads back to it"),
        (SERVER, OK, f"it leads to {OURS}"),
        (PORT, OK, "mx.firma.example answers"),
        (SPF, OK, f"names {OURS}"),
    ]


@pytest.mark.parametrize(
    ("change", "subject", "level", "message"),
    [
        ({(PTR, "PTR"): []}, ADDRESS, WRONG, "it has no name (PTR), and many servers refuse such clients"),
        ({(PTR, "PTR"): ["other.example."]}, ADDRESS, WRONG, "its name other.example does not lead back to it"),
        (
            {(PTR, "PTR"): ["other.example."], ("other.example", "A"): [OURS]},
            ADDRESS,
            ADVICE,
            f"its name is other.example, and this server calls itself {NAME}",
        ),
        (
            {(PTR, "PTR"): [f"{DIAL_IN}."],
             (DIAL_IN, "A"): [OURS]},
            ADDRESS,
            WRONG,
            f"its name {DIAL_IN} is that of a private or changing address: many servers refuse its mail",
        ),
        ({(NAME, "A"): []}, SERVER, WRONG, "it has no address, and many servers refuse such clients"),
        ({(NAME, "A"): ["203.0.113.8"]}, SERVER, ADVICE, f"it does not lead to {OURS}"),
        ({("firma.example", "MX"): []}, PORT, UNKNOWN, "not tried: no mail server of an own domain is known"),
        ({}, PORT, WRONG, "no connection to mx.firma.example: Connection refused"),
        (
            {("firma.example", "TXT"): ["v=spf1 include:_spf-eu.ionos.com -all"], ("_spf-eu.ionos.com", "TXT"): ["v=spf1 -all"]},
            SPF,
            WRONG,
            f"does not name {OURS}: its mail waits",
        ),
        ({("firma.example", "TXT"): []}, SPF, WRONG, f"does not name {OURS}: its mail waits"),
        ({("firma.example", "TXT"): ["v=spf1 ip4:nonsense -all"]}, SPF, WRONG, "the record is invalid: ip4:nonsense"),
    ],
)  # fmt: skip
def test_what_is_not_right(change: Zone, subject: str, level: Level, message: str) -> None:
    finding = findings({**GOOD, **change})[subject]
    assert (finding.level, finding.message) == (level, message)
    assert finding.hint or level is UNKNOWN


def test_without_spf_mail_of_provider_mx_goes_by_its_account() -> None:
    finding = findings({**GOOD, ("firma.example", "TXT"): []}, spf_is_needed=False)[SPF]
    assert (finding.level, finding.message) == (WRONG, f"does not name {OURS}: its mail goes by its account")
    assert finding.hint == "Add ip4:203.0.113.7 to the record, before its end."


def test_each_address_is_checked() -> None:
    zone = {**GOOD, (PTR_6, "PTR"): [f"{NAME}."], (NAME, "AAAA"): [OURS_6]}
    found = findings(zone, addresses=(OURS, OURS_6))
    assert found[f"public address {OURS_6}"].level is OK
    assert (found[SPF].level, found[SPF].hint) == (WRONG, f"Add ip6:{OURS_6} to the record, before its end.")


def test_a_server_that_does_not_speak_smtp_is_no_mail_server() -> None:
    with greeting_port(b"SSH-2.0-OpenSSH\r\n") as port:
        assert findings(port=port)[PORT].level is WRONG


def test_a_name_server_that_fails_is_not_a_wrong_record() -> None:
    levels = {finding.level for finding in findings(failing={PTR, NAME, "firma.example"}).values()}
    assert levels == {UNKNOWN}


def test_a_machine_without_name_servers() -> None:
    def none() -> DnsClient:
        raise LookupFailed("this machine has no name servers configured")

    found = list(check_mx([OURS], NAME, ["firma.example"], spf_is_needed=True, new_client=none))
    assert {finding.level for finding in found} == {UNKNOWN}


@pytest.mark.parametrize(
    ("name", "dynamic"),
    [
        ("mail.firma.example", False),
        ("p5b2a1c3d.dip0.t-ipconnect.de", True),
        ("static-203-0-113-7.provider.example", True),
        ("7.113.0.203.pool.example", True),
        ("host.dyn.example", True),
        ("dsl-customer.example", True),
        ("pooley.example", False),
        ("homepage.example", False),
    ],
)
def test_names_of_private_addresses(name: str, dynamic: bool) -> None:
    assert looks_dynamic(name, OURS) is dynamic
