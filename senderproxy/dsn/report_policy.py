"""Which outcomes deserve which report, and who gets it. PURE.

Guarantees: nothing is ever reported to a null reverse-path, and nothing on a report of ours; so a report cannot bring
forth another. Whatever failed for good is reported wherever that leaves somebody to tell, automatic mail too: who sends
it in bulk wants to know which addresses are dead. A delay is reported once for each recipient, and never to a machine.
Not here: what a report says (dsn.compose), how it travels (relay).
RFC 5321 sections 4.5.5 and 6.1, RFC 3461 section 5.2, RFC 3834 section 2.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from senderproxy.mail.address import Address, ForwardPath, ReversePath
from senderproxy.mail.header import HeaderSection


class ReportKind(Enum):
    """What there is to tell. The values stand in events on people's disks: never changed."""

    FAILED = "failed"  # refused for good
    EXPIRED = "expired"  # tried for as long as the settings say
    DELAYED = "delayed"  # not there yet, still tried
    CANCELLED = "cancelled"  # taken from the queue by a person


@dataclass(frozen=True, slots=True)
class DueReports:
    """Whom to tell, and which recipients to tell of in which report."""

    to: Address
    reports: Mapping[ReportKind, tuple[ForwardPath, ...]]


@dataclass(frozen=True, slots=True)
class NoReport:
    """Nobody is told; `why` is for the message's story."""

    why: str


NULL_PATH_REASON: Final = "its reverse-path is null: a bounce or an automatic reply is never bounced (RFC 5321 6.1)"
IS_REPORT_REASON: Final = "it is a report itself, and there is no report on a report (RFC 5321 6.1)"
AUTOMATIC_REASON: Final = "it is automatic mail: no person waits to hear of a delay (RFC 3834)"
ALREADY_REPORTED_REASON: Final = "the delay was reported before"


def due_reports(
    happened: Mapping[ForwardPath, ReportKind],
    reverse_path: ReversePath,
    header: HeaderSection,
    *,
    report_on: str | None = None,
    delay_reported: Collection[ForwardPath] = (),
) -> DueReports | NoReport:
    """The reports on what happened to some recipients of one message; `delay_reported` had theirs already."""
    if not isinstance(reverse_path, Address):
        return NoReport(NULL_PATH_REASON)
    if report_on is not None:
        return NoReport(IS_REPORT_REASON)
    automatic = is_automatic(header)
    reports: dict[ReportKind, tuple[ForwardPath, ...]] = {}
    for path, kind in happened.items():
        if kind is ReportKind.DELAYED and (automatic or path in delay_reported):
            continue
        reports[kind] = (*reports.get(kind, ()), path)
    if happened and not reports:
        return NoReport(AUTOMATIC_REASON if automatic else ALREADY_REPORTED_REASON)
    return DueReports(reverse_path, reports)


_BULK: Final = (b"bulk", b"junk", b"list")
# Exchange's own word for it: no delivery reports, no notes of non-delivery ([MS-OXCMAIL], X-Auto-Response-Suppress).
_SUPPRESSED: Final = frozenset({b"all", b"dr", b"ndr"})


def is_automatic(header: HeaderSection) -> bool:
    """Made by a machine, by its own words: RFC 3834 section 5, Precedence, or what Exchange writes."""
    if any(_token(value) != b"no" for value in header.values("Auto-Submitted")):
        return True
    if any(_token(value) in _BULK for value in header.values("Precedence")):
        return True
    suppressed = (value.lower() for value in header.values("X-Auto-Response-Suppress"))
    return any(word.strip() in _SUPPRESSED for value in suppressed for word in value.split(b","))


def _token(value: bytes) -> bytes:
    """The first word, without parameters and comments."""
    return value.strip().lower().partition(b";")[0].partition(b"(")[0].strip()
