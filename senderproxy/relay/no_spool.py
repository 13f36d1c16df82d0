"""Placeholder for a spool that cannot be opened.

Guarantees: every method raises the SpoolError of the opening, so no message is acknowledged and none is lost.
Pass-through continues, without a history.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NoReturn

from senderproxy.mail.header import HeaderSection
from senderproxy.relay.ports import Arrival, Claim, JobClaim, JobTotals, Spool, SpoolError, SpoolUpdate, Totals
from senderproxy.tracking.record import Event, HourCount, Lane, MessageRecord, Query


class NoSpool(Spool):
    """relay.ports.Spool that raises the reason why there is none."""

    def __init__(self, why: SpoolError) -> None:
        self._why = why

    async def accept(self, *arrivals: Arrival, leased: bool = False) -> Sequence[Claim]:
        self._fail()

    def note(self, arrival: Arrival) -> None:
        """Discarded: the history of a message that was passed through."""

    def on_wake(self, wake: Callable[[Lane | None], None]) -> None:
        """Nothing is ever due."""

    async def claim(self, lane: Lane, limit: int) -> Sequence[Claim]:
        self._fail()

    async def claim_expired(self, lane: Lane, age: timedelta, limit: int) -> Sequence[Claim]:
        self._fail()

    async def claim_undelayed(self, age: timedelta, limit: int) -> Sequence[Claim]:
        self._fail()

    async def claim_one(self, message_id: str) -> Claim | None:
        self._fail()

    async def settle(self, claim: Claim, update: SpoolUpdate) -> None:
        self._fail()

    def age(self, claim: Claim) -> timedelta | None:
        """Uncertain: nothing expires."""
        return None

    async def due(self, lane: Lane | None = None) -> Mapping[Lane, timedelta]:
        self._fail()

    async def claim_jobs(self, kind: str, lane: Lane, limit: int) -> Sequence[JobClaim]:
        self._fail()

    async def settle_job(
        self, claim: JobClaim, *, retry_in: timedelta | None = None, why: str = "", events: Sequence[Event] = ()
    ) -> None:
        self._fail()

    async def due_jobs(self, kind: str) -> Mapping[Lane, timedelta]:
        self._fail()

    async def job_totals(self) -> Sequence[JobTotals]:
        self._fail()

    async def find(self, query: Query, *, limit: int, after: str | None = None) -> Sequence[MessageRecord]:
        self._fail()

    async def events(self, message_id: str) -> Sequence[Event]:
        self._fail()

    async def header(self, message_id: str) -> HeaderSection | None:
        self._fail()

    async def totals(self) -> Sequence[Totals]:
        self._fail()

    async def counts_by_hour(self, since: datetime) -> Sequence[HourCount]:
        self._fail()

    def _fail(self) -> NoReturn:
        raise type(self._why)(self._why.message, hint=self._why.hint)
