"""Reasons of changes: texts with names and numbers in them, stored in English and shown in the reader's language. PURE.

Guarantees: a reason of another version, or one that is no text of ours, is shown as it is stored.
Not here: reasons without a name or number in them, which are marked (`N_`) where they are given.
"""

import re
from functools import lru_cache
from string import Formatter
from typing import Final

from senderproxy.translation import N_, _

ACCEPTS_ANY: Final = N_("{provider} accepts any sender")
ACCEPTS_DOMAIN: Final = N_("{provider} accepts only senders of the domain {domain}")
ACCEPTS_OWN: Final = N_("{provider} accepts only the account's own addresses")
REFUSES_NULL_PATH: Final = N_("{provider} does not accept a null reverse-path")
BOUNCES_TO: Final = N_("{reason}; bounces go to {address}")
OCCURRED: Final = N_("it occurred {count} times")
OCCURRED_ALIKE: Final = N_("it occurred {count} times with the same author")
LONG_LINE: Final = N_("a line was longer than {limit} octets")
LINE_LIMITED: Final = N_("no line may be longer than {limit} octets (RFC 5321 section 4.5.3.1.6)")
NOT_READ: Final = N_("it could not be read: {fault}")
PRESERVES_AUTHOR: Final = N_("preserves the original author {author}")
NEEDS_CHANGE: Final = N_("{provider} requires a change of {what}, and the account does not permit it")
SENDER: Final = N_("the sender")  # what NEEDS_CHANGE names, unless it is a field
REVERSE_PATH: Final = N_("the reverse-path")
MAY_NOT_SEND: Final = N_("{client} is not permitted the sender {address}")

# The first that fits: a text with another one in it stands before that.
_TEMPLATES: Final = (
    BOUNCES_TO, ACCEPTS_ANY, ACCEPTS_DOMAIN, ACCEPTS_OWN, REFUSES_NULL_PATH, OCCURRED_ALIKE, OCCURRED, LONG_LINE,
    LINE_LIMITED, NOT_READ, PRESERVES_AUTHOR, NEEDS_CHANGE, MAY_NOT_SEND,
)  # fmt: skip
_LONGEST: Final = 2000  # characters of a text that is looked at


_PARTS: Final = {  # of a message or its envelope, where a field is named otherwise
    "body": N_("body"),
    "header section": N_("header section"),
    "recipient": N_("recipient"),
    "way": N_("way"),
}


def part_in_words(what: str) -> str:
    """The changed part of a message; the name of a field stays as it is."""
    return _(_PARTS[what]) if what in _PARTS else what


def is_text_of_ours(what: str) -> bool:
    """True for a changed part that has no value of its own: a text of ours stands in place of one."""
    return what in ("body", "header section")


def value_in_words(what: str, value: str) -> str:
    """The new value of a changed part."""
    return _(value) if is_text_of_ours(what) else value


def reason_in_words(text: str) -> str:
    """A stored reason in the reader's language."""
    shown = _(text)
    if shown != text or len(text) > _LONGEST:
        return shown
    for template, pattern in _patterns():
        if found := pattern.fullmatch(text):
            return _(template).format(**{name: _value(name, value) for name, value in found.groupdict().items()})
    return text


def _value(name: str, value: str) -> str:
    """A part of a reason; some are texts themselves."""
    if name == "reason":
        return reason_in_words(value)
    return _(value) if value in (SENDER, REVERSE_PATH) else value


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Each template with its pattern, which has two parts at most: a search is linear in each."""
    return tuple((template, re.compile(_pattern(template), re.DOTALL)) for template in _TEMPLATES)


def _pattern(template: str) -> str:
    pieces = Formatter().parse(template)
    return "".join(re.escape(text) + (f"(?P<{name}>.*)" if name else "") for text, name, _form, _kind in pieces)
