"""DNS records of a domain, from a name server on loopback."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from senderproxy.cli.check_dns import PROVIDER_RECORDS, check_domain
from senderproxy.cli.findings import Finding, Level
from senderproxy.dns_client.client import DnsClient
from senderproxy.dns_client.errors import LookupFailed

IONOS = PROVIDER_RECORDS["ionos-de"]


@contextmanager
def name_server(records: Mapping[str, str | list[str]]) -> Iterator[int]:
    """TXT records by name (a CNAME as "-> target"), over UDP on loopback; the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer() -> None:
            while True:
                octets, peer = server.recvfrom(4096)
                if octets == b"leave":
                    return
                server.sendto(_answer(octets, records), peer)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(b"leave", server.getsockname())
            thread.join(10)


def _answer(octets: bytes, records: Mapping[str, str | list[str]]) -> bytes:
    query = dns.message.from_wire(octets)
    response = dns.message.make_response(query)
    response.flags |= dns.flags.RA
    name = query.question[0].name
    found = records.get(name.to_text(omit_final_dot=True))
    while isinstance(found, str):
        target = found.removeprefix("-> ")
        response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", f"{target}."))
        name, found = dns.name.from_text(target), records.get(target)
    if found:
        response.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *(f'"{text}"' for text in found)))
    elif not response.answer:
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response.to_wire()


def judged(records: Mapping[str, str | list[str]], domain: str = "firma.example") -> dict[str, Finding]:
    with name_server(records) as port:
        found = list(check_domain(DnsClient(("127.0.0.1",), port).txt_records, domain, "ionos-de", IONOS))
    return {finding.subject.split()[0]: finding for finding in found}


def test_a_domain_with_the_records_of_the_provider_passes() -> None:
    found = judged(
        {
            "firma.example": ["some other text", "v=spf1 include:_spf-eu.ionos.com ~all"],
            "s1-ionos._domainkey.firma.example": "-> s1.dkim.ionos.com",
            "s1.dkim.ionos.com": ["v=DKIM1; p=abc"],
            "_dmarc.firma.example": "-> dmarc.ionos.de",
            "dmarc.ionos.de": ["v=DMARC1; p=none;"],
        }
    )
    assert [finding.level for finding in found.values()] == [Level.OK] * 3


def test_a_domain_without_records_gets_the_records_to_enter() -> None:
    found = judged({})
    assert found["SPF"].level is Level.WRONG
    assert '"v=spf1 include:_spf-eu.ionos.com ~all"' in found["SPF"].hint
    assert found["DKIM"].level is Level.ADVICE
    assert "s1-ionos._domainkey.firma.example" in found["DKIM"].hint
    assert found["DMARC"].level is Level.ADVICE
    assert "_dmarc.firma.example" in found["DMARC"].hint


def test_an_spf_record_that_includes_the_provider_indirectly_passes() -> None:
    records = {
        "firma.example": ["v=spf1 mx redirect=_spf.firma.example"],
        "_spf.firma.example": ["V=SPF1 include:other.example include:_spf.kundenserver.de -all"],
        "other.example": ["v=spf1 include:firma.example -all"],  # goes round in a circle
    }
    assert judged(records)["SPF"].level is Level.OK


def test_an_spf_record_for_another_provider_is_shown_with_the_include_to_add() -> None:
    found = judged({"firma.example": ["v=spf1 include:_spf.google.com ~all"]})["SPF"]
    assert found.level is Level.WRONG
    assert found.hint == "Add include:_spf-eu.ionos.com to the record: v=spf1 include:_spf.google.com ~all"


def test_spf_records_that_include_each_other_end_the_lookup() -> None:
    assert judged({"firma.example": ["v=spf1 include:firma.example -all"]})["SPF"].level is Level.WRONG


def test_two_spf_records_fail_the_check() -> None:
    found = judged({"firma.example": ["v=spf1 include:_spf-eu.ionos.com ~all", "v=spf1 -all"]})["SPF"]
    assert found.level is Level.WRONG
    assert "2 records" in found.message


def test_a_failed_lookup_is_not_a_fault_of_the_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senderproxy.dns_client.client._TIMEOUT", 0.3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        client = DnsClient(("127.0.0.1",), silent.getsockname()[1])
        with pytest.raises(LookupFailed):
            client.txt_records("firma.example")
        found = list(check_domain(client.txt_records, "firma.example", "ionos-de", IONOS))
    assert {finding.level for finding in found} == {Level.UNKNOWN}
    assert "DNS lookup failed" in found[0].message
