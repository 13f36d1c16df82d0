"""SPF for mail that leaves from this machine: the record names our address, does not, or nobody knows."""

import pytest

from senderproxy.dns_client.errors import LookupFailed
from senderproxy.domain_records.lookups import Lookups
from senderproxy.domain_records.spf_address import AddressVerdict, SpfResult, judge_addresses

OURS = "203.0.113.7"
OURS_6 = "2001:db8::7"

Zone = dict[tuple[str, str], list[str]]
ZONE: Zone = {
    ("_spf.other.example", "TXT"): ["v=spf1 ip4:203.0.113.0/28 -all"],
    ("_none.other.example", "TXT"): ["v=spf1 ip4:198.51.100.0/24 ~all"],
    ("_macro.other.example", "TXT"): ["v=spf1 exists:%{l}.users.example -all"],
    ("mail.firma.example", "A"): [OURS],
    ("mail.firma.example", "AAAA"): [OURS_6],
    ("near.firma.example", "A"): ["203.0.113.200"],
    ("firma.example", "MX"): ["near.firma.example", "mail.firma.example"],
    ("null.example", "MX"): ["."],
    ("loop.example", "TXT"): ["v=spf1 include:loop.example -all"],
}


def verdict(record: str | list[str], *addresses: str, zone: Zone = ZONE) -> AddressVerdict:
    texts = [record] if isinstance(record, str) else record
    records = zone | {("firma.example", "TXT"): texts}

    def query(name: str, kind: str) -> list[str]:
        if name == "away.example":
            raise LookupFailed("no reply")
        return records.get((name, kind), [])

    return judge_addresses(Lookups(query), "firma.example", addresses or (OURS,))


NAMED, NOT_NAMED, INVALID, UNKNOWN = SpfResult.NAMED, SpfResult.NOT_NAMED, SpfResult.INVALID, SpfResult.UNKNOWN


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ("v=spf1 ip4:203.0.113.7 -all", NAMED),
        ("v=spf1 ip4:203.0.113.0/24 -all", NAMED),
        ("v=spf1 ip4:203.0.113.8 -all", NOT_NAMED),
        ("v=spf1 ip6:2001:db8::/32 -all", NOT_NAMED),
        ("v=spf1 include:_spf.other.example -all", NAMED),
        ("v=spf1 include:_none.other.example ~all", NOT_NAMED),
        ("v=spf1 redirect=_spf.other.example", NAMED),
        ("v=spf1 redirect=_spf.other.example -all", NOT_NAMED),  # ignored beside all
        ("v=spf1 a:mail.firma.example -all", NAMED),
        ("v=spf1 a:near.firma.example -all", NOT_NAMED),
        ("v=spf1 a:near.firma.example/24 -all", NAMED),
        ("v=spf1 a:near.firma.example/25 -all", NOT_NAMED),
        ("v=spf1 mx -all", NAMED),
        ("v=spf1 a -all", NOT_NAMED),
        ("v=spf1 +all", NAMED),
        ("v=spf1 ?all", NOT_NAMED),
        ("v=spf1 ~ip4:203.0.113.7 +all", NOT_NAMED),  # the first one that matches decides
        ("v=spf1 -all ip4:203.0.113.7", NOT_NAMED),
        ("v=spf1 ptr -all", NOT_NAMED),
        ("v=spf1", NOT_NAMED),
        ("nothing of the kind", NOT_NAMED),
        ("v=spf1 exists:mail.firma.example -all", NAMED),
        ("v=spf1 exists:%{d}.nowhere.example ip4:203.0.113.7 -all", NAMED),
        # by the message
        ("v=spf1 exists:%{l}.users.example -all", UNKNOWN),
        ("v=spf1 exists:%{l}.users.example ip4:203.0.113.7 -all", NAMED),
        ("v=spf1 -exists:%{l}.users.example ip4:203.0.113.7 -all", UNKNOWN),
        ("v=spf1 -include:_macro.other.example ip4:203.0.113.7 -all", UNKNOWN),
        ("v=spf1 include:_macro.other.example ip4:203.0.113.7 -all", NAMED),
        # no reply
        ("v=spf1 include:away.example ip4:203.0.113.7 -all", UNKNOWN),
        ("v=spf1 ip4:203.0.113.7 include:away.example -all", NAMED),
        # errors
        ("v=spf1 ipv4:203.0.113.7 -all", INVALID),
        ("v=spf1 include:nowhere.example -all", INVALID),
        ("v=spf1 include:loop.example -all", INVALID),
        ("v=spf1 a:x1.example a:x2.example a:x3.example ip4:203.0.113.7 -all", INVALID),
        ("v=spf1 mx:null.example ip4:203.0.113.7 -all", NAMED),
        ("v=spf1 " + "ptr " * 11 + "ip4:203.0.113.7 -all", INVALID),
        ("v=spf1 " + "ptr " * 10 + "ip4:203.0.113.7 -all", NAMED),
    ],
)
def test_results(record: str, result: SpfResult) -> None:
    found = verdict(record)
    assert found.result is result
    assert found.is_wrong is (result in (NOT_NAMED, INVALID))


def test_two_records_are_an_error_and_none_names_nobody() -> None:
    assert verdict(["v=spf1 +all", "v=spf1 -all"]).result is INVALID
    assert verdict([]) == AddressVerdict(NOT_NAMED, OURS)


def test_the_worst_of_several_addresses_counts() -> None:
    found = verdict("v=spf1 ip4:203.0.113.7 -all", OURS, OURS_6)
    assert (found.result, found.address) == (NOT_NAMED, OURS_6)
    assert verdict("v=spf1 a:mail.firma.example -all", OURS, OURS_6).result is NAMED
    assert verdict("v=spf1 include:away.example -all", OURS_6, OURS).result is UNKNOWN


def test_too_many_mail_servers_of_one_term_are_an_error() -> None:
    zone = ZONE | {("many.example", "MX"): [f"mx{number}.example" for number in range(11)]}
    assert verdict("v=spf1 mx:many.example -all", zone=zone).result is INVALID
