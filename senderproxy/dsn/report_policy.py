"""Policy of reports: which results are reported, and to whom. PURE.

Guarantees: no report is sent to a null reverse-path or about a report of our own, so a report cannot cause another one.
A permanent failure is always reported if there is a reverse-path, also for automatic mail: a bulk sender needs to know
invalid addresses. A delay is reported once for each recipient, and never for automatic mail.

Not here: the text of a report (dsn.compose), its delivery (relay).

RFC 5321 sections 4.5.5 and 6.1, RFC 3461 section 5.2, RFC 3834 section 2.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from senderproxy.mail.address import Address, ForwardPath, ReversePath
from senderproxy.mail.header import HeaderSection


class ReportKind(Enum):
    """Kind of a report. The values are stored in events and must not change."""

    FAILED = "failed"  # refused permanently
    EXPIRED = "expired"  # not delivered within the configured time
    DELAYED = "delayed"  # not delivered yet, still retried
    CANCELLED = "cancelled"  # removed from the queue by the operator


@dataclass(frozen=True, slots=True)
class DueReports:
    """The reports to send: their recipient, and the reported recipients for each kind."""

    to: Address
    reports: Mapping[ReportKind, tuple[ForwardPath, ...]]


@dataclass(frozen=True, slots=True)
class NoReport:
    """No report is sent, for this reason."""

    reason: str


NULL_PATH_REASON: Final = "its reverse-path is null: bounces and automatic replies are never bounced (RFC 5321 6.1)"
IS_REPORT_REASON: Final = "it is a report itself: no report is sent about a report (RFC 5321 6.1)"
AUTOMATIC_REASON: Final = "it is automatic mail: a delay is not reported (RFC 3834)"
ALREADY_REPORTED_REASON: Final = "the delay was already reported"


def due_reports(
    results: Mapping[ForwardPath, ReportKind],
    reverse_path: ReversePath,
    header: HeaderSection,
    *,
    report_on: str | None = None,
    delay_reported: Collection[ForwardPath] = (),
) -> DueReports | NoReport:
    """Return the reports due for the results of some recipients of one message.

    `report_on` marks the message as a report itself. `delay_reported` are the recipients with an earlier delay report.
    """
    if not isinstance(reverse_path, Address):
        return NoReport(NULL_PATH_REASON)
    if report_on is not None:
        return NoReport(IS_REPORT_REASON)
    automatic = is_automatic(header)
    reports: dict[ReportKind, tuple[ForwardPath, ...]] = {}
    for path, kind in results.items():
        if kind is ReportKind.DELAYED and (automatic or path in delay_reported):
            continue
        reports[kind] = (*reports.get(kind, ()), path)
    if results and not reports:
        return NoReport(AUTOMATIC_REASON if automatic else ALREADY_REPORTED_REASON)
    return DueReports(reverse_path, reports)


_BULK: Final = (b"bulk", b"junk", b"list")
# Values of Exchange: no delivery reports, no non-delivery reports ([MS-OXCMAIL], X-Auto-Response-Suppress).
_SUPPRESSED: Final = frozenset({b"all", b"dr", b"ndr"})


def is_automatic(header: HeaderSection) -> bool:
    """True for mail marked as automatic by Auto-Submitted (RFC 3834 section 5), Precedence or Exchange's own field."""
    if any(_token(value) != b"no" for value in header.values("Auto-Submitted")):
        return True
    if any(_token(value) in _BULK for value in header.values("Precedence")):
        return True
    suppressed = (value.lower() for value in header.values("X-Auto-Response-Suppress"))
    return any(word.strip() in _SUPPRESSED for value in suppressed for word in value.split(b","))


def _token(value: bytes) -> bytes:
    """The first word of the value, without parameters and comments."""
    return value.strip().lower().partition(b";")[0].partition(b"(")[0].strip()
