"""Lines in a header section that are no header field: removal, or an empty line before the text. PURE.

Guarantees: afterwards every line up to the first empty line is a header field or continues one, so that all programs
end the header section at the same place; otherwise the message is refused, here with the line, or by mail.author where
the line may hide a sender. No octet of a field changes.

Removed on any listener, because it is never part of a message: a byte order mark and an mbox line at octet 0. For
another line: if a common field follows it before the next empty line, the line is a banner, which a lenient listener
removes and another one refuses; if none follows, the text begins there, and gets the empty line before it (as Postfix
does).

Not here: fields with invalid values (rewriting.repair).

RFC 5322 section 2.1, RFC 4155 (mbox).
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from senderproxy.mail.author import hides_sender
from senderproxy.mail.display import decode_8bit
from senderproxy.mail.header import Cut, HeaderSection
from senderproxy.rewriting.edited_header import Change, EditedHeader
from senderproxy.translation import N_

_AT_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?:>?From (?![ \t]*+:)[^\r\n]*+\r\n)?(?:\xef\xbb\xbf)?")
_COMMON_FIELD: Final = re.compile(
    rb"^(?:from|sender|to|cc|bcc|subject|date|message-id|mime-version|content-[!-9;-~]++)[ \t]*+:",
    re.IGNORECASE | re.MULTILINE,
)
_SHOWN: Final = 60  # characters of a line in a reply or a change


@dataclass(frozen=True, slots=True)
class StrayLine:
    """A line, in printable characters, for which the message is refused."""

    text: str


def without_stray_lines(header: HeaderSection, *, lenient: bool) -> EditedHeader | StrayLine:
    """Remove stray lines, or end the header section before the text. Most headers have none."""
    edited = EditedHeader(header)
    if not _is_stray(header.rest):
        return edited
    start = _AT_START.match(header.raw)
    if start is not None and start.end():
        edited = _with_cut(edited, Cut(0, start.end()), N_("it does not belong to the message"))
    rest = edited.header.rest
    if _is_stray(rest) and _names_common_field(rest):
        if not lenient or _is_folded(rest):
            return StrayLine(_shown(rest))
        edited = _with_cut(edited, _cut_of_line(edited.header), N_("it is not a header field"))
        rest = edited.header.rest
        if _is_stray(rest) and _names_common_field(rest):
            return StrayLine(_shown(rest))  # a second one: which of them is the text is a guess
    if _is_stray(rest) and not hides_sender(rest):
        place = len(edited.header.raw) - len(rest)
        edited = _with_cut(edited, Cut(place, place, b"\r\n"), N_("the empty line before the text was missing"))
    return edited


def _is_stray(rest: bytes) -> bool:
    """True if these octets after the last field are neither an empty line nor nothing."""
    return bool(rest) and not rest.startswith(b"\r\n")


def _names_common_field(rest: bytes) -> bool:
    """True if a common field follows the first of these lines."""
    return _COMMON_FIELD.search(rest, rest.find(b"\n") + 1) is not None if b"\n" in rest else False


def _is_folded(rest: bytes) -> bool:
    """True if the first of these lines continues another or is continued: removed, it would change a field."""
    return rest.startswith((b" ", b"\t")) or rest[rest.find(b"\n") + 1 :][:1] in (b" ", b"\t")


def _cut_of_line(header: HeaderSection) -> Cut:
    place = len(header.raw) - len(header.rest)
    return Cut(place, header.raw.index(b"\n", place) + 1)


def _with_cut(edited: EditedHeader, cut: Cut, reason: str) -> EditedHeader:
    header = edited.header
    old = _shown(header.raw[cut.start : cut.end]) if cut.end > cut.start else ""
    change = Change("header section", old, "" if old else N_("an empty line"), reason)
    return replace(edited, header=header.with_cut(cut), cuts=(*edited.cuts, cut), changes=(*edited.changes, change))


def _shown(octets: bytes) -> str:
    line = decode_8bit(octets.partition(b"\r\n")[0][: 4 * _SHOWN]).encode("ascii", "backslashreplace").decode("ascii")
    return "".join(c if " " <= c <= "~" else " " for c in line).strip()[:_SHOWN]
