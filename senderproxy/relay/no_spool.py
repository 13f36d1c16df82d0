"""NoSpool: in the spool's place while it cannot be opened.

Guarantees: whatever is asked is answered with the reason, so nothing is acknowledged and nothing is lost; what passes
through goes on, without its story.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NoReturn

from senderproxy.mail.header import HeaderSection
from senderproxy.relay.ports import Arrival, Claim, Spool, SpoolError, SpoolUpdate, Totals
from senderproxy.tracking.record import Event, MessageRecord, Query


class NoSpool(Spool):
    """relay.ports.Spool that says why there is none."""

    def __init__(self, why: SpoolError) -> None:
        self._why = why

    async def accept(self, *arrivals: Arrival, leased: bool = False) -> Sequence[Claim]:
        self._say()

    def note(self, arrival: Arrival) -> None:
        """Not kept."""

    async def claim(self, account: str, now: datetime) -> Claim | None:
        self._say()

    async def claim_expired(self, account: str, received_before: datetime) -> Claim | None:
        self._say()

    async def claim_undelayed(self, received_before: datetime) -> Claim | None:
        self._say()

    async def claim_one(self, message_id: str) -> Claim | None:
        self._say()

    async def settle(self, claim: Claim, verdict: SpoolUpdate) -> None:
        self._say()

    async def due(self, account: str | None = None) -> Mapping[str, datetime]:
        self._say()

    async def shift(self, step: timedelta) -> None:
        self._say()

    async def find(self, query: Query, *, limit: int, after: str | None = None) -> Sequence[MessageRecord]:
        self._say()

    async def events(self, message_id: str) -> Sequence[Event]:
        self._say()

    async def header(self, message_id: str) -> HeaderSection | None:
        self._say()

    async def totals(self) -> Sequence[Totals]:
        self._say()

    def _say(self) -> NoReturn:
        raise type(self._why)(self._why.message, hint=self._why.hint)
