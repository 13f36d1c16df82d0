"""The DNS record of a DKIM key of our own: its text, and does the published one have this key? PURE.

Guarantees: a record of another key, of no key and of several keys is never taken for the right one. Time in proportion
to the length of the records.
Not here: the keys of providers (domain_records.dkim), the looks (service.dkim_watch, cli.dkim).
RFC 6376 section 3.6; RFC 1035 section 3.3.14 (a string has at most 255 octets).
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from senderproxy.domain_records.dkim import is_for_mail, is_meant
from senderproxy.domain_records.judgement import shown
from senderproxy.domain_records.lookups import Lookups
from senderproxy.domain_records.tag_list import TagListError, parse_tags
from senderproxy.translation import N_, _

STRING: Final = 255  # octets of one string of a TXT record


class KeyRecord(StrEnum):
    """The DNS record of a key, compared with it. The values are stored: they do not change."""

    RIGHT = "right"
    NONE = "none"
    QUOTED = "quoted"  # with quotes that the form of a hoster has taken for text
    OTHER_KEY = "other_key"
    CUT_OFF = "cut_off"  # mostly after the 255 characters of one string
    SEVERAL = "several"
    INVALID = "invalid"
    REVOKED = "revoked"
    DOUBLED_NAME = "doubled_name"  # the form has added the zone to a name that had it already


@dataclass(frozen=True, slots=True)
class KeyLook:
    """The result of a look. `record`: as published, safe to show, or empty."""

    problem: KeyRecord
    record: str = ""


_WORDS: Final[Mapping[KeyRecord, str]] = MappingProxyType(
    {
        KeyRecord.RIGHT: N_("the DNS has the key"),
        KeyRecord.NONE: N_("the DNS has no record {name} yet"),
        KeyRecord.QUOTED: N_("the record {name} has quotation marks inside its text: enter it without them"),
        KeyRecord.OTHER_KEY: N_("the record {name} has another key: enter the whole text again"),
        KeyRecord.CUT_OFF: N_(
            "the text of the record {name} is cut off: enter it in strings of at most 255 characters"
        ),
        KeyRecord.SEVERAL: N_("{name} has more than one record: remove all but the one with this key"),
        KeyRecord.INVALID: N_("receivers cannot read the record {name}: {record}"),
        KeyRecord.REVOKED: N_("the record {name} has an empty key, which means that it is revoked"),
        KeyRecord.DOUBLED_NAME: N_("the record is at {name}.{domain}: enter the name without the domain"),
    }
)


def words_of_look(look: KeyLook, name: str, domain: str) -> str:
    """A sentence on the look, without its capital letter and its period."""
    return _(_WORDS[look.problem]).format(name=name, domain=domain, record=look.record)


def record_text(public: bytes) -> str:
    """The text of the record for a public key in DER."""
    return f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode('ascii')}"


def record_strings(public: bytes) -> list[str]:
    """The same text in strings of at most 255 octets, as a zone file has them."""
    text = record_text(public)
    return [text[at : at + STRING] for at in range(0, len(text), STRING)]


def look_at_key(lookups: Lookups, name: str, domain: str, public: bytes) -> KeyLook:
    """Look at the record of a key. `name`: that of its record; `public`: the key in DER. Raises LookupFailed."""
    texts = [text for text in lookups.texts(name) if is_meant(text)]
    if not texts:
        doubled = [text for text in lookups.texts(f"{name}.{domain}") if is_meant(text)]
        if doubled and _judge(doubled[0], public) is KeyRecord.RIGHT:
            return KeyLook(KeyRecord.DOUBLED_NAME, shown(doubled[0]))
        return KeyLook(KeyRecord.NONE)
    if len(texts) > 1:
        return KeyLook(KeyRecord.SEVERAL, shown(" | ".join(texts)))
    return KeyLook(_judge(texts[0], public), shown(texts[0]))


def _judge(text: str, public: bytes) -> KeyRecord:
    if '"' in text:
        return KeyRecord.QUOTED
    try:
        tags = parse_tags(text)
        value = "".join(tags.get("p", "-").split())
        key = base64.b64decode(value, validate=True) if not _is_cut_off(value, public) else b""
    except (TagListError, binascii.Error, ValueError):
        return KeyRecord.INVALID
    if not key:
        return KeyRecord.CUT_OFF if value else KeyRecord.REVOKED
    has_version = "v" not in tags or (tags["v"] == "DKIM1" and next(iter(tags)) == "v")
    if not has_version or tags.get("k", "rsa") != "rsa" or not is_for_mail(tags.get("s", "*"), tags.get("h", "sha256")):
        return KeyRecord.INVALID
    return KeyRecord.RIGHT if key == public else KeyRecord.OTHER_KEY


def _is_cut_off(value: str, public: bytes) -> bool:
    whole = base64.b64encode(public).decode("ascii")
    return value != whole and whole.startswith(value)
