"""Judgements of a domain's records, from records in memory and from a name server on loopback."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import PublicFormat

from senderproxy.dns_client import client as dns_client
from senderproxy.dns_client.errors import LookupFailed
from senderproxy.domain_records.dkim import rsa_bits
from senderproxy.domain_records.domain import judge_domain, main_judgements
from senderproxy.domain_records.judgement import Aspect, Judgement, RecordProblem, Weight
from senderproxy.domain_records.lookups import QUERIES
from senderproxy.domain_records.provider_records import PROVIDER_RECORDS, records_of_domains
from senderproxy.domain_records.wording import subject_of, words_of
from senderproxy.mail.address import AddressPattern, parse_address
from senderproxy.routing.account import Account
from tests.senderproxy.domain_records.keys import KEY, ed25519_key, rsa_key
from tests.senderproxy.domain_records.name_server import name_server

IONOS = PROVIDER_RECORDS["ionos-de"]
FIRMA = "firma.example"
Changes = Mapping[tuple[str, str], list[str]]
PROVIDER: dict[tuple[str, str], list[str]] = {
    ("_spf-eu.ionos.com", "TXT"): ["v=spf1 ip4:212.227.15.0/24 ip4:212.227.17.0/25 ip6:2001:8d8::/48 ?all"],
    ("s1.dkim.ionos.com", "TXT"): [f"v=DKIM1; p={KEY}"],
}
GOOD = PROVIDER | {
    (FIRMA, "TXT"): ["some other text", "v=spf1 include:_spf-eu.ionos.com ~all"],
    (FIRMA, "MX"): ["20 mx01.ionos.de.", "10 mx00.ionos.de."],
    (f"s1-ionos._domainkey.{FIRMA}", "CNAME"): ["s1.dkim.ionos.com."],
    (f"_dmarc.{FIRMA}", "TXT"): ["v=DMARC1; p=none;"],
}


class Records:
    """A query of records in memory; counts."""

    def __init__(self, records: Changes, failing: Sequence[str] = ()) -> None:
        self.records = records
        self.failing = failing
        self.asked: list[tuple[str, str]] = []

    def query(self, name: str, kind: str) -> Sequence[str]:
        self.asked.append((name, kind))
        if name in self.failing:
            raise LookupFailed("no reply")
        found = self.records.get((name, kind), [])
        if not found and kind != "CNAME" and (alias := self.records.get((name, "CNAME"))):
            return self.records.get((alias[0].rstrip("."), kind), [])
        if kind == "MX":
            found = [text.split()[1].rstrip(".") or "." for text in sorted(found, key=lambda one: int(one.split()[0]))]
        return found


def judged(changes: Changes, domain: str = FIRMA, failing: Sequence[str] = ()) -> dict[Aspect, list[Judgement]]:
    found: dict[Aspect, list[Judgement]] = {}
    for one in judge_domain(Records(GOOD | dict(changes), failing).query, domain, IONOS):
        found.setdefault(one.aspect, []).append(one)
        words = words_of(one, domain, "ionos-de")
        assert "{" not in (words.text + words.hint).replace("%{", "")
        assert bool(words.hint) is (one.weight is not Weight.OK)
        assert Judgement.from_json(one.aspect, one.to_json()) == one
    assert list(found) == list(Aspect)
    return found


def spf(record: str, others: Mapping[str, str] | None = None, failing: Sequence[str] = ()) -> list[Judgement]:
    """The judgements of this SPF record; `others`: those of other domains, or an address."""
    changes: dict[tuple[str, str], list[str]] = {(FIRMA, "TXT"): [record]}
    for name, text in (others or {}).items():
        changes[name, "A" if text[0].isdigit() else "TXT"] = [text]
    return judged(changes, failing=failing)[Aspect.SPF]


def problems(found: Sequence[Judgement]) -> list[RecordProblem]:
    return [one.problem for one in found]


def test_a_domain_with_the_records_of_the_provider_is_right() -> None:
    found = judged({})
    assert [problems(of_one) for of_one in found.values()] == [
        [RecordProblem.SPF_INCLUDED],
        [RecordProblem.DKIM_KEY],
        [RecordProblem.DMARC_POLICY],
        [RecordProblem.MX_SERVER],
    ]
    assert found[Aspect.MX][0].values["server"] == "mx00.ionos.de"
    assert found[Aspect.SPF][0].record == "v=spf1 include:_spf-eu.ionos.com ~all"


def test_a_domain_without_records_gets_the_records_to_enter() -> None:
    found = judge_domain(Records({}).query, FIRMA, IONOS)
    assert problems(found) == [
        RecordProblem.SPF_NONE,
        RecordProblem.DKIM_NONE,
        RecordProblem.DMARC_NONE,
        RecordProblem.MX_NONE,
    ]
    hints = [words_of(one, FIRMA, "ionos-de").hint for one in found]
    assert '"v=spf1 include:_spf-eu.ionos.com ~all"' in hints[0]
    assert f"s1-ionos._domainkey.{FIRMA}, s2-ionos._domainkey.{FIRMA}" in hints[1]
    assert f"_dmarc.{FIRMA}" in hints[2]
    subjects = [subject_of(one.aspect, FIRMA) for one in found]
    assert subjects == [f"{name} of {FIRMA}" for name in ("SPF", "DKIM", "DMARC", "MX")]


# ---- SPF ----

INCLUDE = "include:_spf-eu.ionos.com"
NO_RECORD = {f"no{number}.example": "no SPF" for number in range(5)}
NESTED = {f"n{number}.example": "v=spf1 ip4:192.0.2.1 -all" for number in range(30)}
OWN = "_spf.firma.example"


def includes(count: int) -> str:
    return " ".join(f"include:n{number}.example" for number in range(count))


@pytest.mark.parametrize(
    ("record", "others", "expected"),
    [
        (f"v=spf1 {INCLUDE} -all", {}, [RecordProblem.SPF_INCLUDED]),
        (f"V=SPF1  {INCLUDE.upper()}. ~ALL ", {}, [RecordProblem.SPF_INCLUDED]),
        (f"v=spf1 +{INCLUDE} ?all", {}, [RecordProblem.SPF_INCLUDED]),
        (f"v=spf1 mx redirect={OWN}", {OWN: f"v=spf1 {INCLUDE} -all"}, [RecordProblem.SPF_INCLUDED]),
        ("v=spf1 include:_spf.%{d} -all", {OWN: f"v=spf1 {INCLUDE} -all"}, [RecordProblem.SPF_INCLUDED]),
        ("v=spf1 include:%{d1}.%{or}.x.example ~all", {"example.example.firma.x.example": f"v=spf1 {INCLUDE} -all"},
         [RecordProblem.SPF_INCLUDED]),
        (f"v=spf1 exists:%{{i}}._spf.%{{h}} {INCLUDE} -all", {}, [RecordProblem.SPF_INCLUDED]),
        (f"v=spf1 {INCLUDE} unknown=value exp=why.firma.example -all", {}, [RecordProblem.SPF_INCLUDED]),
        # The terms behind `all` do not count, nor a redirect beside it.
        (f"v=spf1 -all {INCLUDE}", {}, [RecordProblem.SPF_AFTER_ALL]),
        (f"v=spf1 ~all redirect={OWN}", {OWN: f"v=spf1 {INCLUDE} -all"}, [RecordProblem.SPF_NOT_INCLUDED]),
        # Only a pass on the whole way lets the servers pass.
        (f"v=spf1 ?{INCLUDE} -all", {}, [RecordProblem.SPF_NOT_PASSED]),
        (f"v=spf1 -{INCLUDE} ~all", {}, [RecordProblem.SPF_NOT_PASSED]),
        ("v=spf1 include:a.example -all", {"a.example": f"v=spf1 ~{INCLUDE} -all"}, [RecordProblem.SPF_NOT_PASSED]),
        ("v=spf1 ~include:a.example -all", {"a.example": f"v=spf1 {INCLUDE} -all"}, [RecordProblem.SPF_NOT_PASSED]),
        # Another provider, no terms at all.
        ("v=spf1 include:n1.example ~all", NESTED, [RecordProblem.SPF_NOT_INCLUDED]),
        ("v=spf1", {}, [RecordProblem.SPF_NOT_INCLUDED]),
        ("v=spf1 -all", {}, [RecordProblem.SPF_NOT_INCLUDED]),
        # Errors before and behind the provider.
        (f"v=spf1 include:no1.example {INCLUDE} -all", NO_RECORD, [RecordProblem.SPF_TARGET_INVALID]),
        (f"v=spf1 {INCLUDE} include:no1.example -all", NO_RECORD, [RecordProblem.SPF_INCLUDED, RecordProblem.SPF_OTHERS_FAIL]),
        (f"v=spf1 include:bad.example {INCLUDE} -all", {"bad.example": "v=spf1 ipv4:192.0.2.1"},
         [RecordProblem.SPF_TARGET_INVALID]),
        ("v=spf1 include:_spf.perfora.net -all", {}, [RecordProblem.SPF_TARGET_INVALID]),
        # Ten look-ups.
        (f"v=spf1 {includes(9)} {INCLUDE} -all", NESTED, [RecordProblem.SPF_INCLUDED]),
        (f"v=spf1 {includes(10)} {INCLUDE} -all", NESTED, [RecordProblem.SPF_TOO_MANY]),
        (f"v=spf1 {INCLUDE} {includes(9)} -all", NESTED, [RecordProblem.SPF_INCLUDED]),
        (f"v=spf1 {INCLUDE} {includes(10)} -all", NESTED, [RecordProblem.SPF_INCLUDED, RecordProblem.SPF_OTHERS_FAIL]),
        (f"v=spf1 {includes(30)} {INCLUDE} -all", NESTED, [RecordProblem.SPF_TOO_MANY]),
        (f"v=spf1 a mx a:h.example ptr exists:h.example mx:{FIRMA} a a a {INCLUDE} ~all",
         {"h.example": "192.0.2.1"}, [RecordProblem.SPF_TOO_MANY_VOID]),  # `a`: the domain has no address itself
        (f"v=spf1 mx a:h.example ptr exists:h.example mx:{FIRMA} mx mx mx mx {INCLUDE} ~all",
         {"h.example": "192.0.2.1"}, [RecordProblem.SPF_INCLUDED]),
        (f"v=spf1 ptr {includes(9)} {INCLUDE} ~all", NESTED, [RecordProblem.SPF_TOO_MANY]),
        ("v=spf1 include:firma.example -all", {}, [RecordProblem.SPF_TOO_MANY]),  # goes round in a circle
        # Two without a result.
        (f"v=spf1 a:no1.example mx:no2.example {INCLUDE} -all", {}, [RecordProblem.SPF_INCLUDED]),
        (f"v=spf1 a:no1.example mx:no2.example exists:no3.example {INCLUDE} -all", {}, [RecordProblem.SPF_TOO_MANY_VOID]),
        (f"v=spf1 {INCLUDE} a:no1.example mx:no2.example a:no3.example -all", {},
         [RecordProblem.SPF_INCLUDED, RecordProblem.SPF_OTHERS_FAIL]),
        # Macros of services that answer for each message.
        ("v=spf1 include:%{i}._ip.%{h}._ehlo.%{d}._spf.vali.email ~all", {}, [RecordProblem.SPF_MACRO]),
        # The provider's addresses in place of its include.
        ("v=spf1 ip4:212.227.0.0/16 ip6:2001:8d8::/32 -all", {}, [RecordProblem.SPF_LISTED]),
        ("v=spf1 ip4:212.227.15.0/25 ip4:212.227.15.128/25 ip4:212.227.17.0/24 ip6:2001:8d8::/48 -all", {},
         [RecordProblem.SPF_LISTED]),
        ("v=spf1 ip4:212.227.15.0/25 ip4:212.227.17.0/24 ip6:2001:8d8::/48 -all", {}, [RecordProblem.SPF_NOT_INCLUDED]),
        ("v=spf1 ?ip4:0.0.0.0/0 ?ip6:::/0 -all", {}, [RecordProblem.SPF_NOT_INCLUDED]),
        # Advice.
        (f"v=spf1 {INCLUDE} +all", {}, [RecordProblem.SPF_INCLUDED, RecordProblem.SPF_ALL_PASS]),
        (f"v=spf1 {INCLUDE} all", {}, [RecordProblem.SPF_INCLUDED, RecordProblem.SPF_ALL_PASS]),
        (f"v=spf1 {INCLUDE}", {}, [RecordProblem.SPF_INCLUDED, RecordProblem.SPF_NO_ALL]),
        (f"v=spf1 ip4=192.0.2.1 {INCLUDE} -all", {}, [RecordProblem.SPF_INCLUDED, RecordProblem.SPF_IGNORED]),
        (f"v=spf1 {INCLUDE} {'ip4:192.0.2.1 ' * 40}-all", {}, [RecordProblem.SPF_INCLUDED, RecordProblem.SPF_LONG]),
        # Texts that are none.
        ('"v=spf1 include:x.example -all"', {}, [RecordProblem.SPF_MISSPELT]),
        ("v=spf1;include:x.example", {}, [RecordProblem.SPF_MISSPELT]),
        ("v=spf2 -all", {}, [RecordProblem.SPF_MISSPELT]),
        ("spf1 include:x.example", {}, [RecordProblem.SPF_MISSPELT]),
        ("google-site-verification=spf", {}, [RecordProblem.SPF_NONE]),
    ],
)  # fmt: skip
def test_an_spf_record_is_judged_as_receivers_do(
    record: str, others: dict[str, str], expected: list[RecordProblem]
) -> None:
    assert problems(spf(record, others)) == expected


@pytest.mark.parametrize(
    "term",
    [
        *("ip4:192.0.2.300", "ip4:192.0.2.0/33", "ip4:192.0.2", "ip4", "ip4:192.0.2.1/", "ip4:192.0.2.0/255.255.255.0"),
        *("ip6:192.0.2.1", "ip6:2001:db8::/129", "ip6:fe80::1%eth0", "ipv4:192.0.2.1", "redirect:x.example"),
        *(
            "include",
            "include:",
            "include:localhost",
            "include:a..example",
            "exists",
            "redirect=",
            "-redirect=x.example",
        ),
        *("all:x.example", "all/24", "a/33", "a:x.example/24/64", "mx//129", "a/", "include:%{x}", "include:%{d", "+"),
        *("include:%d.example", "exists:%{c}.example", "include:x.123", "include:münchen.example", "mx\tall", ","),
        *(f"include:{'x' * 64}.example", "a://64", "include:x.example;"),
    ],
)
def test_a_syntax_error_is_named_by_its_place(term: str) -> None:
    (found,) = spf(f"v=spf1 {INCLUDE} {term} -all")
    assert (found.problem, found.values["place"]) == (RecordProblem.SPF_SYNTAX, "2")
    assert found.values["term"] == term.replace("\t", "?")


def test_a_repeated_redirect_is_a_syntax_error() -> None:
    (found,) = spf("v=spf1 redirect=a.example redirect=b.example")
    assert (found.problem, found.values["place"]) == (RecordProblem.SPF_SYNTAX, "2")


def test_prefix_lengths_underscores_and_long_macros_are_valid() -> None:
    record = f"v=spf1 mx/24 mx/24//64 a:{FIRMA}//64 exists:%{{l1r+-}}._x.%{{d/}}/x.example {INCLUDE} -all"
    assert problems(spf(record)) == [RecordProblem.SPF_INCLUDED]


def test_two_spf_records_are_none() -> None:
    found = judged({(FIRMA, "TXT"): [f"v=spf1 {INCLUDE} ~all", "v=spf1 -all"]})[Aspect.SPF]
    assert problems(found) == [RecordProblem.SPF_SEVERAL]
    assert found[0].values["count"] == "2"


def test_a_failed_look_up_is_no_missing_record() -> None:
    found = judged({}, failing=[FIRMA, f"s1-ionos._domainkey.{FIRMA}", f"_dmarc.{FIRMA}"])
    assert [problems(of_one) for of_one in found.values()] == [[RecordProblem.LOOKUP_FAILED]] * 4
    assert {one.weight for of_one in found.values() for one in of_one} == {Weight.UNKNOWN}


def test_a_failed_look_up_counts_if_the_provider_may_lie_behind_it() -> None:
    record = f"v=spf1 include:n1.example {INCLUDE} include:n2.example a:n3.example -all"
    assert problems(spf(record, NESTED, failing=["n1.example"])) == [RecordProblem.LOOKUP_FAILED]
    assert problems(spf(record, NESTED, failing=["n2.example"])) == [RecordProblem.SPF_INCLUDED]
    assert problems(spf(record, NESTED, failing=["n3.example"])) == [RecordProblem.SPF_INCLUDED]


def test_look_ups_are_bounded_and_made_once() -> None:
    names = range(300)
    wide = {
        (f"n{number}.example", "TXT"): [f"v=spf1 {' '.join(f'a:x{number}-{each}.example' for each in names)}"]
        for number in names
    }
    records = Records(GOOD | wide | {(FIRMA, "TXT"): [f"v=spf1 {includes(300)}"]})
    judge_domain(records.query, FIRMA, IONOS)
    assert len(records.asked) < QUERIES
    assert len(set(records.asked)) == len(records.asked)


# ---- DKIM ----

S1, S2 = ((f"{name}-ionos._domainkey.{FIRMA}", "TXT") for name in ("s1", "s2"))
NO_ALIAS: dict[tuple[str, str], list[str]] = {(f"s1-ionos._domainkey.{FIRMA}", "CNAME"): []}


def dkim(*texts: str, also: Changes | None = None) -> list[Judgement]:
    return judged(NO_ALIAS | {S1: list(texts)} | dict(also or {}))[Aspect.DKIM]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"v=DKIM1; k=rsa; p={KEY}", RecordProblem.DKIM_KEY),
        (f"p={KEY[:60]} {KEY[60:]};", RecordProblem.DKIM_KEY),
        (f"v=DKIM1; p={rsa_key(1024)}; s=email; h=sha1:sha256", RecordProblem.DKIM_KEY),
        (f"v=DKIM1; p={rsa_key(2048, PublicFormat.PKCS1)}", RecordProblem.DKIM_KEY),
        (f"v=DKIM1; k=ed25519; p={ed25519_key()}", RecordProblem.DKIM_KEY),
        ("v=DKIM1; p=", RecordProblem.DKIM_REVOKED),
        ("v=DKIM1; k=rsa; p= ;", RecordProblem.DKIM_REVOKED),
        (f"v=DKIM1; p={KEY[:-3]}", RecordProblem.DKIM_INVALID),
        (f"v=DKIM1; p={KEY[:40]}", RecordProblem.DKIM_INVALID),
        (f"v=DKIM1; p={KEY[:80]}!{KEY[81:]}", RecordProblem.DKIM_INVALID),
        ("v=DKIM1; p=abc", RecordProblem.DKIM_INVALID),
        (f"v=DKIM1; k=ed25519; p={KEY}", RecordProblem.DKIM_INVALID),
        (f"v=DKIM1; k=dsa; p={KEY}", RecordProblem.DKIM_INVALID),
        (f"v=DKIM2; p={KEY}", RecordProblem.DKIM_INVALID),
        (f"k=rsa; v=DKIM1; p={KEY}", RecordProblem.DKIM_INVALID),
        (f"v=DKIM1; h=sha1; p={KEY}", RecordProblem.DKIM_INVALID),
        (f"v=DKIM1; s=tlsrpt; p={KEY}", RecordProblem.DKIM_INVALID),
        (f"v=DKIM1 k=rsa p={KEY}", RecordProblem.DKIM_INVALID),
        (f"v=DKIM1; nonsense; p={KEY}", RecordProblem.DKIM_INVALID),
        (f"v=DKIM1; p={KEY}; p={KEY}", RecordProblem.DKIM_INVALID),
        ("v=spf1 -all", RecordProblem.DKIM_NONE),  # a wildcard record of the domain
        ("some other text", RecordProblem.DKIM_NONE),
    ],
    ids=lambda value: getattr(value, "value", "key"),  # the same in each process: the keys are random
)
def test_a_dkim_key_is_judged_as_receivers_do(text: str, expected: RecordProblem) -> None:
    assert problems(dkim(text)) == [expected]


@pytest.mark.parametrize("bits", [512, 768, 1023])
def test_a_key_that_is_too_short_is_shown_with_its_bits(bits: int) -> None:
    """In DER made by hand: newer libraries refuse to make such a key."""
    modulus = (1 << (bits - 1) | 1).to_bytes(bits // 8 + 1, "big")
    key = _der(0x30, _der(0x02, modulus) + _der(0x02, b"\1\0\1"))
    text = f"v=DKIM1; p={base64.b64encode(key).decode()}"
    (found,) = dkim(text)
    assert (found.problem, found.values["bits"]) == (RecordProblem.DKIM_SHORT, str(bits))


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    size = bytes((length,)) if length < 128 else b"\x82" + length.to_bytes(2, "big")
    return bytes((tag,)) + size + content


def test_octets_that_are_no_key_have_no_bits() -> None:
    der = base64.b64decode(KEY)
    assert rsa_bits(der) == 2048
    assert not any(rsa_bits(der[:end]) for end in range(len(der)))
    assert rsa_bits(der + b"\0") == 0
    for place in range(len(der)):
        for octet in (0, 0x7F, 0x80, 0xFF):
            rsa_bits(der[:place] + bytes((octet,)) + der[place + 1 :])


def test_a_flag_for_tests_is_an_advice() -> None:
    assert problems(dkim(f"v=DKIM1; t=y:s; p={KEY}")) == [RecordProblem.DKIM_KEY, RecordProblem.DKIM_TESTING]
    assert problems(dkim(f"v=DKIM1; t=s; p={KEY}")) == [RecordProblem.DKIM_KEY]


def test_one_usable_selector_suffices() -> None:
    good = [f"v=DKIM1; p={KEY}"]
    assert problems(dkim("v=DKIM1; p=", also={S2: good})) == [RecordProblem.DKIM_KEY]
    assert problems(dkim(also={S2: good})) == [RecordProblem.DKIM_KEY]
    assert problems(dkim("v=DKIM1; p=abc", also={S2: good})) == [
        RecordProblem.DKIM_KEY,
        RecordProblem.DKIM_OTHER_INVALID,
    ]
    assert problems(dkim("v=DKIM1; p=", also={S2: ["v=DKIM1; p=abc"]})) == [RecordProblem.DKIM_INVALID]


def test_two_keys_at_one_name_are_named() -> None:
    assert problems(dkim(f"v=DKIM1; p={KEY}", f"v=DKIM1; p={KEY}x")) == [RecordProblem.DKIM_SEVERAL]
    assert problems(dkim(f"v=DKIM1; p={KEY}", "v=spf1 -all")) == [RecordProblem.DKIM_KEY]


def test_an_alias_without_a_key_behind_it_is_named() -> None:
    (found,) = judged({("s1.dkim.ionos.com", "TXT"): []})[Aspect.DKIM]
    assert found.problem is RecordProblem.DKIM_DANGLING
    assert found.values["target"].rstrip(".") == "s1.dkim.ionos.com"


# ---- DMARC ----


def dmarc(*texts: str, also: Changes | None = None, domain: str = FIRMA) -> list[Judgement]:
    changes: dict[tuple[str, str], list[str]] = {(f"_dmarc.{domain}", "TXT"): list(texts)}
    return judged(changes | dict(also or {}), domain)[Aspect.DMARC]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v=DMARC1; p=none", RecordProblem.DMARC_POLICY),
        ("v=DMARC1;p=reject;rua=mailto:a@b.example", RecordProblem.DMARC_POLICY),
        ("v = DMARC1 ; p = Quarantine ; pct=50; unknown=x;", RecordProblem.DMARC_POLICY),
        ("v=DMARC1; rua=mailto:a@b.example", RecordProblem.DMARC_POLICY),  # as if it were none
        ("v=DMARC1", RecordProblem.DMARC_NO_POLICY),
        ("v=DMARC1; p=", RecordProblem.DMARC_NO_POLICY),
        ("v=DMARC1; p=block; rua=mailto:a@b.example", RecordProblem.DMARC_NO_POLICY),
        ("v=DMARC1; sp=reject", RecordProblem.DMARC_NO_POLICY),
        ("v=DMARC1; p=none; p=reject", RecordProblem.DMARC_SYNTAX),
        ("v=DMARC1; p none", RecordProblem.DMARC_SYNTAX),
        ("v=DMARC1; p=none, rua", RecordProblem.DMARC_NO_POLICY),
        ("v=DMARC1; p=none;; rua=mailto:a@b.example", RecordProblem.DMARC_SYNTAX),
        ("v=dmarc1; p=none", RecordProblem.DMARC_MISSPELT),
        ("p=none; v=DMARC1", RecordProblem.DMARC_MISSPELT),
        ('"v=DMARC1; p=none"', RecordProblem.DMARC_MISSPELT),
        ("DMARC1; p=none", RecordProblem.DMARC_MISSPELT),
        ("some other text", RecordProblem.DMARC_NONE),
    ],
)
def test_a_dmarc_record_is_judged_as_receivers_do(text: str, expected: RecordProblem) -> None:
    assert problems(dmarc(text)) == [expected]


def test_several_dmarc_records_are_none() -> None:
    assert problems(dmarc("v=DMARC1; p=none", "v=DMARC1; p=reject")) == [RecordProblem.DMARC_SEVERAL]
    assert problems(dmarc("v=DMARC1; p=none", "v=spf1 -all")) == [RecordProblem.DMARC_POLICY]


def test_a_domain_below_another_has_the_policy_of_its_organization() -> None:
    domain = f"a.mail.{FIRMA}"
    also: dict[tuple[str, str], list[str]] = {(f"_dmarc.{FIRMA}", "TXT"): ["v=DMARC1; p=reject; sp=quarantine"]}
    (found, nothing) = dmarc(also=also, domain=domain)
    assert found.problem is RecordProblem.DMARC_POLICY
    assert dict(found.values) == {"name": f"_dmarc.{FIRMA}", "policy": "quarantine"}
    assert nothing.problem is RecordProblem.DMARC_NOTHING_PASSES  # neither SPF nor DKIM of the domain itself
    (own,) = dmarc("v=DMARC1; p=none", also=also, domain=domain)
    assert own.values["name"] == f"_dmarc.{domain}"
    public: dict[tuple[str, str], list[str]] = {(f"_dmarc.{FIRMA}", "TXT"): ["v=DMARC1; p=reject; psd=y"]}
    assert problems(dmarc(also=public, domain=domain)) == [RecordProblem.DMARC_NONE]


def test_the_walk_to_the_organization_asks_eight_names_and_no_top_level_domain() -> None:
    records = Records({})
    domain = ".".join(f"l{number}" for number in range(30)) + ".firma.example"
    judge_domain(records.query, domain, IONOS)
    asked = {name for name, _ in records.asked if name.startswith("_dmarc.")}
    assert len(asked) == 7
    assert "_dmarc.firma.example" in asked
    assert "_dmarc.example" not in asked


@pytest.mark.parametrize("policy", ["reject", "quarantine"])
def test_a_policy_without_a_key_says_what_happens_to_forwarded_mail(policy: str) -> None:
    without_key: dict[tuple[str, str], list[str]] = {("s1.dkim.ionos.com", "TXT"): ["v=DKIM1; p="]}
    found = dmarc(f"v=DMARC1; p={policy}", also=without_key)
    assert problems(found) == [RecordProblem.DMARC_POLICY, RecordProblem.DMARC_FORWARDED]
    assert "your mail that a recipient forwards" in words_of(found[1], FIRMA, "ionos-de").text
    no_spf: dict[tuple[str, str], list[str]] = {(FIRMA, "TXT"): []}
    found = dmarc(f"v=DMARC1; p={policy}", also=without_key | no_spf)
    assert problems(found) == [RecordProblem.DMARC_POLICY, RecordProblem.DMARC_NOTHING_PASSES]
    assert found[1].weight is Weight.WRONG
    assert problems(dmarc("v=DMARC1; p=none", also=without_key | no_spf)) == [RecordProblem.DMARC_POLICY]
    assert problems(dmarc(f"v=DMARC1; p={policy}", also=no_spf)) == [RecordProblem.DMARC_POLICY]


# ---- MX ----


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({(FIRMA, "MX"): ["0 ."]}, RecordProblem.MX_NULL),
        ({(FIRMA, "MX"): []}, RecordProblem.MX_NONE),
        ({(FIRMA, "MX"): [], (FIRMA, "AAAA"): ["2001:db8::1"]}, RecordProblem.MX_IMPLICIT),
        ({(FIRMA, "MX"): [], (FIRMA, "A"): ["192.0.2.1"]}, RecordProblem.MX_IMPLICIT),
    ],
)
def test_a_domain_must_be_able_to_get_bounces(changes: Changes, expected: RecordProblem) -> None:
    assert problems(judged(changes)[Aspect.MX]) == [expected]


# ---- from a name server ----


def test_the_records_of_a_name_server_are_judged_the_same() -> None:
    with name_server(GOOD) as server:

        def found() -> dict[Aspect, Judgement]:
            return main_judgements(judge_domain(server.client().records, FIRMA, IONOS))

        assert {one.weight for one in found().values()} == {Weight.OK}
        server.records = GOOD | {(FIRMA, "MX"): ["0 ."], ("s1.dkim.ionos.com", "TXT"): []}
        assert found()[Aspect.MX].problem is RecordProblem.MX_NULL
        assert found()[Aspect.DKIM].problem is RecordProblem.DKIM_DANGLING
        server.failing = {f"_dmarc.{FIRMA}"}
        assert found()[Aspect.DMARC].problem is RecordProblem.LOOKUP_FAILED
        server.records, server.failing = {}, set()
        missing = [RecordProblem.SPF_NONE, RecordProblem.DKIM_NONE, RecordProblem.DMARC_NONE, RecordProblem.MX_NONE]
        assert problems(list(found().values())) == missing


def test_a_silent_name_server_costs_a_bounded_time_and_is_no_fault_of_the_domain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dns_client, "_TIMEOUT", 0.3)
    monkeypatch.setattr(dns_client, "_ALL", 0.5)
    with name_server(GOOD) as server:
        server.is_silent = True
        client = server.client()
        assert problems(judge_domain(client.records, FIRMA, IONOS)) == [RecordProblem.LOOKUP_FAILED] * 4
        server.is_silent = False
        with pytest.raises(LookupFailed):
            client.records(FIRMA, "TXT")  # its time is used up


# ---- texts ----


def test_texts_from_the_dns_are_bounded_and_have_no_control_characters() -> None:
    (found,) = spf("v=spf1 \x1b[2J\x07" + "x" * 5000)
    assert found.problem is RecordProblem.SPF_SYNTAX
    for text in (found.record, *found.values.values(), words_of(found, FIRMA, "ionos-de").text):
        assert text.isprintable()
        assert len(text) < 500


def test_a_judgement_of_another_version_is_refused_or_shown_with_gaps() -> None:
    entry: dict[str, Any] = {"problem": "spf_none", "values": {}, "record": ""}
    assert "include:?" in words_of(Judgement.from_json(Aspect.SPF, entry), FIRMA, "x").hint
    for change in ({"problem": "other"}, {"values": 5}, {"values": ["a"]}):
        with pytest.raises((ValueError, TypeError)):
            Judgement.from_json(Aspect.SPF, entry | change)


def test_only_domains_of_the_office_are_looked_at() -> None:
    def account(address: str, provider: str) -> Account:
        mailbox = parse_address(address)
        return Account(address, address, provider, mailbox, (AddressPattern(mailbox.local_part, mailbox.domain),))

    accounts = [
        account("anna@firma.example", "ionos"),
        account("bert@firma.example", "ionos"),
        account("carl@gmail.com", "gmail"),
        account("dora@office.example", "gmail"),
        account("emil@firma.onmicrosoft.com", "m365"),
        account("fritz@other.example", "generic"),
    ]
    found = records_of_domains(accounts, lambda name: {"ionos": "ionos-de"}.get(name, name))
    assert list(found) == [("firma.example", "ionos"), ("office.example", "gmail")]
