"""SmallSpool: what a person asks of a spool, in memory. Enough of relay.ports.Spool for the operator's tests."""

from collections.abc import Sequence
from dataclasses import replace

from senderproxy.mail.header import HeaderSection
from senderproxy.relay.ports import Arrival, Claim, SpoolFull, Totals, Verdict
from senderproxy.tracking.event import Event
from senderproxy.tracking.record import Fate, MessageRecord, Query


class SmallSpool:
    """Messages in the order in which they were put; `full` refuses whatever would be written."""

    def __init__(self) -> None:
        self.arrivals: dict[str, Arrival] = {}
        self.stories: dict[str, list[Event]] = {}
        self.faults: dict[str, int] = {}
        self.leased: set[str] = set()
        self.full = False

    def put(self, arrival: Arrival) -> None:
        self.arrivals[arrival.submission.id] = arrival
        self.stories[arrival.submission.id] = list(arrival.events)

    async def find(self, query: Query, *, limit: int, after: str | None = None) -> Sequence[MessageRecord]:
        records = [self._record(one) for one in self.arrivals.values()]
        if not query.unfinished:
            records.reverse()
        if after is not None:
            ids = [record.id for record in records]
            records = records[ids.index(after) + 1 :]
        return [record for record in records if self._fits(query, record)][:limit]

    @staticmethod
    def _fits(query: Query, record: MessageRecord) -> bool:
        fates = [state.fate for state in record.recipients.values()]
        return (
            query.id in (None, record.id, record.message_id)
            and query.account in (None, record.account)
            and query.sender in (None, record.author, record.reverse_path)
            and (query.recipient is None or query.recipient in map(str, record.recipients))
            and (query.fate is None or query.fate in fates)
            and not (query.unfinished and all(fate.is_final for fate in fates))
            and (query.since is None or record.received_at >= query.since)
            and (query.until is None or record.received_at < query.until)
        )

    def _record(self, arrival: Arrival) -> MessageRecord:
        one = arrival.submission
        return MessageRecord(
            one.id,
            one.received_at,
            str(one.client),
            one.listener,
            str(one.envelope.reverse_path),
            arrival.author,
            arrival.account,
            one.message.size,
            f"<{one.id}@firma.example>",
            one.report_on,
            arrival.states,
            leased=one.id in self.leased,
        )

    async def events(self, message_id: str) -> Sequence[Event]:
        return tuple(self.stories.get(message_id, ()))

    async def header(self, message_id: str) -> HeaderSection | None:
        states = self.arrivals[message_id].states.values()
        if all(state.fate.is_final for state in states):
            return None
        return self.arrivals[message_id].submission.message.header

    async def totals(self) -> Sequence[Totals]:
        accounts = sorted({one.account for one in self.arrivals.values()})
        return [self._total(account) for account in accounts]

    def _total(self, account: str) -> Totals:
        own = [self._record(one) for one in self.arrivals.values() if one.account == account]
        held = [r for r in own if any(state.fate is Fate.HELD for state in r.recipients.values())]
        size, oldest = sum(record.size for record in own), min(record.received_at for record in own)
        return Totals(account, len(own) - len(held), len(held), size, oldest, (len(own), *[0] * 8), {"why": len(own)})

    async def claim_one(self, message_id: str) -> Claim | None:
        arrival = self.arrivals.get(message_id)
        if arrival is None or message_id in self.leased:
            return None
        due = {path: state for path, state in arrival.states.items() if not state.fate.is_final}
        if not due:
            return None
        self.leased.add(message_id)
        return Claim(arrival.submission, arrival.account, arrival.author, due, self.faults.get(message_id, 0))

    async def settle(self, claim: Claim, verdict: Verdict) -> None:
        one = claim.submission.id
        assert one in self.leased
        if self.full and (verdict.states or verdict.reports):
            raise SpoolFull("There is no room.")
        self.leased.discard(one)
        self.faults[one] = verdict.faults
        arrival = self.arrivals[one]
        self.arrivals[one] = replace(arrival, states={**arrival.states, **verdict.states})
        self.stories[one] += verdict.events
        for report in verdict.reports:
            self.put(report)
