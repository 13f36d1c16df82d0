"""Whatever is done in whatever order, and however often the process starts anew: the spool and its model agree."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from senderproxy.mail.reply import reply
from senderproxy.relay.ports import Arrival, Claim, SpoolError, SpoolUpdate
from senderproxy.spool.sqlite.limits import SpoolLimits
from senderproxy.spool.sqlite.store import SqliteSpool, Tuning
from senderproxy.tracking.record import Event, EventKind, Lane, Query, RecipientState, RecipientStatus
from tests.fakes.arrivals import arrival
from tests.fakes.memory_spool import MemorySpool
from tests.fakes.still_clock import StillClock
from tests.senderproxy.spool.sqlite.open_spool import HISTORY, sql, written

ACCOUNTS = ("anna", "bert")
PEOPLE = ("carl@elsewhere.example", "dora@elsewhere.example", "emil@other.example")
MINUTE = timedelta(minutes=1)
TUNING = Tuning(row_limit=64, wal_pages=60, wal_limit=400, cache_size=10_000)

minutes = st.integers(-30, 90).map(lambda n: n * MINUTE)
some_states = st.builds(
    RecipientState,
    st.sampled_from([RecipientStatus.WAITING] * 3 + list(RecipientStatus)),
    minutes,
    st.integers(0, 3),
    st.sampled_from([None, reply(451, "4.7.1", "busy"), reply(250, "2.0.0", "queued as A1B2C3")]),
    st.sampled_from(["", "three faults"]),
    st.booleans(),
).map(lambda state: state if state.status is RecipientStatus.WAITING else replace(state, due_in=None))


class Machine(RuleBasedStateMachine):
    """One event loop, one folder, the real spool and the model beside it."""

    claims = Bundle("claims")

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.base = tempfile.TemporaryDirectory()
        self.folder = Path(self.base.name) / "spool"
        self.clock = StillClock()
        self.model = MemorySpool(self.clock, HISTORY)
        self.count = 0
        self.generation = 0
        self.spool = self.open()

    def open(self) -> SqliteSpool:
        return SqliteSpool.open(
            self.folder, self.clock, SpoolLimits(HISTORY, longest_wait=timedelta(days=999)), tuning=TUNING
        )

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(call, 30))

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.run(self.spool.close())
            assert sql(self.folder, "PRAGMA integrity_check") == [("ok",)]
            self.loop.close()
            self.base.cleanup()

    def arrive(self, account: str, states: list[RecipientState], large: bool) -> Arrival:
        self.count += 1
        people = dict(zip(PEOPLE, states, strict=False))
        body = b"x" * 3000 if large else b"kurz\r\n"
        at = self.clock.now() - self.count % 5 * MINUTE
        return arrival(f"m{self.count}", *people, account=account, states=people, body=body, at=at)

    @rule(account=st.sampled_from(ACCOUNTS), states=st.lists(some_states, min_size=1, max_size=3), large=st.booleans())
    def accept(self, account: str, states: list[RecipientState], large: bool) -> None:
        given = self.arrive(account, states, large)
        self.run(self.spool.accept(given))
        self.run(self.model.accept(given))

    @rule(target=claims, account=st.sampled_from(ACCOUNTS), large=st.booleans())
    def accept_leased(self, account: str, large: bool) -> Any:
        given = self.arrive(account, [RecipientState(RecipientStatus.WAITING)], large)
        (real,) = self.run(self.spool.accept(given, leased=True))
        (model,) = self.run(self.model.accept(given, leased=True))
        return self.generation, real, model

    @rule()
    def note(self) -> None:
        given = self.arrive("anna", [RecipientState(RecipientStatus.DELIVERED)], False)
        self.model.note(given)

        async def told() -> None:
            self.spool.note(given)
            await written(self.spool)

        self.run(told())

    def both(self, call: Callable[[Any], Coroutine[Any, Any, Sequence[Claim]]]) -> Any:
        real, model = self.run(call(self.spool)), self.run(call(self.model))
        assert len(real) == len(model)
        return multiple(*(self.same(one, other) for one, other in zip(real, model, strict=True)))

    def same(self, real: Claim, model: Claim) -> Any:
        assert self.spool.age(real) == self.model.age(model)
        assert real.submission.id == model.submission.id
        assert real.due == model.due
        assert (real.account, real.author, real.faults) == (model.account, model.author, model.faults)
        assert (real.submission.envelope, real.submission.received_at) == (
            model.submission.envelope,
            model.submission.received_at,
        )
        assert b"".join(real.submission.message.blocks()) == b"".join(model.submission.message.blocks())
        return self.generation, real, model

    @rule(minutes=st.integers(0, 90))
    def pass_time(self, minutes: int) -> None:
        self.clock.pass_by(minutes * MINUTE)

    @rule(target=claims, account=st.sampled_from(ACCOUNTS), limit=st.integers(1, 3))
    def claim(self, account: str, limit: int) -> Any:
        return self.both(lambda spool: spool.claim(Lane.of_account(account), limit))

    @rule(target=claims, account=st.sampled_from(ACCOUNTS), age=minutes, limit=st.integers(1, 3))
    def claim_expired(self, account: str, age: timedelta, limit: int) -> Any:
        return self.both(lambda spool: spool.claim_expired(Lane.of_account(account), age, limit))

    @rule(target=claims, age=minutes, limit=st.integers(1, 3))
    def claim_undelayed(self, age: timedelta, limit: int) -> Any:
        return self.both(lambda spool: spool.claim_undelayed(age, limit))

    @rule(target=claims, number=st.integers(1, 12))
    def claim_one(self, number: int) -> Any:
        async def one(spool: Any) -> list[Claim]:
            claim = await spool.claim_one(f"m{number}")
            return [] if claim is None else [claim]

        return self.both(one)

    @rule(
        claim=consumes(claims),
        states=st.lists(some_states, min_size=3, max_size=3),
        account=st.sampled_from([None, *ACCOUNTS]),
        faults=st.integers(0, 3),
        reports=st.integers(0, 2),
        spoilt=st.booleans(),
    )
    def settle(
        self,
        claim: tuple[int, Claim, Claim],
        states: list[RecipientState],
        account: str | None,
        faults: int,
        reports: int,
        spoilt: bool,
    ) -> None:
        generation, real, model = claim
        if generation != self.generation:  # of a process that is gone
            return
        changes = dict(zip(real.due, states, strict=False))
        event = Event(self.clock.now(), EventKind.ATTEMPTED, tuple(map(str, changes)), {"n": str(self.count)})
        given = [
            self.arrive("bert", [RecipientState(RecipientStatus.WAITING)], number == 1) for number in range(reports)
        ]
        if spoilt and given:  # a report with an id that is taken: nothing of the verdict may be done
            given[-1] = replace(given[-1], submission=replace(given[-1].submission, id=real.submission.id))
        verdict = SpoolUpdate(changes, (event,) if changes else (), given, account, faults)
        outcomes = []
        for spool, mine in ((self.spool, real), (self.model, model)):
            try:
                self.run(spool.settle(mine, verdict))
                outcomes.append("done")
            except SpoolError:
                outcomes.append("refused")
                self.run(spool.settle(mine, SpoolUpdate({})))
        assert outcomes[0] == outcomes[1]

    @rule(hours=st.integers(-30, 30))
    def shift(self, hours: int) -> None:
        self.clock.time += timedelta(hours=hours)  # the next calls find it out

    @rule(days=st.integers(0, 40))
    def sweep(self, days: int) -> None:
        self.clock.pass_by(timedelta(hours=days))
        for spool in (self.spool, self.model):
            self.run(spool.sweep(self.clock.now() + timedelta(days=days)))

    @rule()
    def start_again(self) -> None:
        self.run(self.spool.close())
        self.spool = self.open()
        self.model.restart()
        self.generation += 1

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "spool"):
            return
        found = [self.run(spool.find(Query(), limit=1000)) for spool in (self.spool, self.model)]
        assert found[0] == found[1]
        assert self.run(self.spool.due()) == self.run(self.model.due())
        assert self.run(self.spool.totals()) == self.run(self.model.totals())
        for record in found[0]:
            assert self.run(self.spool.events(record.id)) == self.run(self.model.events(record.id))
            assert self.run(self.spool.header(record.id)) == self.run(self.model.header(record.id))


Machine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestWhateverIsDoneTheSpoolAndItsModelAgree = pytest.mark.slow(Machine.TestCase)
