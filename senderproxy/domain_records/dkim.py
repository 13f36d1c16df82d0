"""DKIM: has one of the provider's selectors a usable key in this domain? PURE.

Guarantees: a provider changes its keys from one selector to the next, so one usable key suffices. Time in proportion to
the length of the records.
Not here: signatures (dkim), keys of our own (domain_records.own_key). RFC 6376 section 3.6, RFC 8301 (RSA from 1024
bits, no SHA-1), RFC 8463 (Ed25519).
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from typing import Final

from senderproxy.domain_records.judgement import Aspect, Judgement, RecordProblem, judge
from senderproxy.domain_records.lookups import Lookups
from senderproxy.domain_records.tag_list import TagListError, parse_tags

_MINIMUM: Final = 1024  # bits of an RSA key; receivers ignore a shorter one: RFC 8301 section 3.2
_ED25519: Final = 32  # octets
_RSA_OID: Final = bytes.fromhex("2a864886f70d010101")
_SEQUENCE, _INTEGER, _BIT_STRING, _OID = 0x30, 0x02, 0x03, 0x06

# The worse ones first: of several selectors without a usable key, this one is the judgement.
_ORDER: Final = (
    RecordProblem.DKIM_SEVERAL,
    RecordProblem.DKIM_SHORT,
    RecordProblem.DKIM_INVALID,
    RecordProblem.DKIM_REVOKED,
    RecordProblem.DKIM_DANGLING,
    RecordProblem.DKIM_NONE,
)


def judge_dkim(lookups: Lookups, domain: str, selectors: Sequence[str]) -> Iterator[Judgement]:
    """The main judgement first, then advice. Raises LookupFailed."""
    found = [_judge_selector(lookups, f"{selector}._domainkey.{domain}", selector) for selector in selectors]
    usable = [one for one in found if one.problem is RecordProblem.DKIM_KEY]
    if not usable:
        main = min(found, key=lambda one: _ORDER.index(one.problem))
        names = ", ".join(f"{selector}._domainkey.{domain}" for selector in selectors)
        yield judge(Aspect.DKIM, main.problem, main.record, **(dict(main.values) | {"names": names}))
        return
    yield usable[0]
    if usable[0].values["testing"]:
        yield judge(Aspect.DKIM, RecordProblem.DKIM_TESTING, usable[0].record, name=usable[0].values["name"])
    for one in found:
        if one.problem in (RecordProblem.DKIM_INVALID, RecordProblem.DKIM_SHORT, RecordProblem.DKIM_SEVERAL):
            yield judge(Aspect.DKIM, RecordProblem.DKIM_OTHER_INVALID, one.record, name=one.values["name"])


def _judge_selector(lookups: Lookups, name: str, selector: str) -> Judgement:
    texts = [text for text in lookups.texts(name) if is_meant(text)]
    if not texts:
        targets = lookups.records(name, "CNAME")
        if targets:
            return judge(Aspect.DKIM, RecordProblem.DKIM_DANGLING, name=name, target=targets[0])
        return judge(Aspect.DKIM, RecordProblem.DKIM_NONE, name=name)
    if len(texts) > 1:
        return judge(Aspect.DKIM, RecordProblem.DKIM_SEVERAL, " | ".join(texts), name=name, count=len(texts))
    text = texts[0]
    try:
        tags = parse_tags(text)
    except TagListError as error:
        return judge(Aspect.DKIM, RecordProblem.DKIM_INVALID, text, name=name, part=error.args[0])
    if not tags.get("p", "-"):
        return judge(Aspect.DKIM, RecordProblem.DKIM_REVOKED, text, name=name)
    problem, part, bits = _judge_key(tags.get("k", "rsa"), tags.get("p", ""))
    if problem is RecordProblem.DKIM_KEY and not is_for_mail(tags.get("s", "*"), tags.get("h", "sha256")):
        problem, part = RecordProblem.DKIM_INVALID, f"s={tags.get('s', '*')}; h={tags.get('h', '')}"
    if tags.get("v", "DKIM1") != "DKIM1" or ("v" in tags and next(iter(tags)) != "v"):
        problem, part = RecordProblem.DKIM_INVALID, f"v={tags['v']}"
    testing = "y" if "y" in tags.get("t", "").replace(" ", "").split(":") else ""
    return judge(
        Aspect.DKIM,
        problem,
        text,
        name=name,
        selector=selector,
        part=part,
        bits=bits,
        minimum=_MINIMUM,
        testing=testing,
    )


def is_meant(text: str) -> bool:
    """True for a text that is meant as a key: a wildcard record of the domain has others."""
    return "p=" in text.replace(" ", "") and not text.lower().startswith(("v=spf1", "v=dmarc1"))


def is_for_mail(services: str, hashes: str) -> bool:
    """True if the key is for mail (`s=`) and for SHA-256 (`h=`)."""
    words = [word.strip() for word in services.split(":")]
    return ("*" in words or "email" in words) and "sha256" in [word.strip() for word in hashes.split(":")]


def _judge_key(kind: str, value: str) -> tuple[RecordProblem, str, int]:
    """The problem, the part with it, and the bits of the key."""
    try:
        octets = base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return RecordProblem.DKIM_INVALID, f"p={value[:40]}", 0
    if kind == "ed25519":
        problem = RecordProblem.DKIM_KEY if len(octets) == _ED25519 else RecordProblem.DKIM_INVALID
        return problem, "p=", 8 * len(octets)
    bits = rsa_bits(octets) if kind == "rsa" else 0
    if not bits:
        return RecordProblem.DKIM_INVALID, f"k={kind}; p={value[:40]}", 0
    return (RecordProblem.DKIM_KEY if bits >= _MINIMUM else RecordProblem.DKIM_SHORT), "p=", bits


# ---- DER: SubjectPublicKeyInfo of RFC 5280, or RSAPublicKey of RFC 8017 ----


def rsa_bits(der: bytes) -> int:
    """The bits of the modulus; 0 if the octets are no RSA key."""
    try:
        outer, rest = _element(der, _SEQUENCE)
        if rest:
            return 0
        if outer[:1] == bytes((_INTEGER,)):
            return _modulus_bits(outer)
        algorithm, rest = _element(outer, _SEQUENCE)
        if _element(algorithm, _OID)[0] != _RSA_OID:
            return 0
        bit_string, rest = _element(rest, _BIT_STRING)
        if rest or bit_string[:1] != b"\0":
            return 0
        key, rest = _element(bit_string[1:], _SEQUENCE)
        return 0 if rest else _modulus_bits(key)
    except ValueError:
        return 0


def _modulus_bits(key: bytes) -> int:
    modulus, rest = _element(key, _INTEGER)
    exponent, rest = _element(rest, _INTEGER)
    if rest or not exponent or modulus[:1] > b"\x7f":  # negative
        return 0
    return int.from_bytes(modulus, "big").bit_length()


def _element(octets: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the first element, and the rest behind it. Raises ValueError."""
    if len(octets) < 2 or octets[0] != tag:
        raise ValueError("another element")
    length, begin = octets[1], 2
    if length >= 0x80:
        begin += length - 0x80
        length = int.from_bytes(octets[2:begin], "big")
    end = begin + length
    if begin > len(octets) or end > len(octets):
        raise ValueError("cut off")
    return octets[begin:end], octets[end:]
