"""relay.ports.LearnedStore in memory. It keeps the same contract as the real one: tests/ports/test_learned.py."""

from collections.abc import Mapping, Sequence

from senderproxy.clock import Clock
from senderproxy.relay.ports import (
    LEARNED_KEY_LIMIT,
    LEARNED_OCTETS_LIMIT,
    LEARNED_ROWS_LIMIT,
    LEARNED_VALUE_LIMIT,
    LearnedRow,
    LearnedStore,
    SpoolError,
)


class MemoryLearned(LearnedStore):
    """Rows by key, the one written longest ago first. `fails`: the error of every call."""

    def __init__(self, clock: Clock) -> None:
        self.rows: dict[str, tuple[str, float]] = {}  # value, time of writing
        self.batches: list[Mapping[str, str | None]] = []
        self.fails: SpoolError | None = None
        self.calls = 0
        self._clock = clock

    async def read_learned(self) -> Sequence[LearnedRow]:
        self._check()
        now = self._clock.now().timestamp()
        return [LearnedRow(key, value, max(0.0, now - at)) for key, (value, at) in self.rows.items()]

    async def write_learned(self, rows: Mapping[str, str | None]) -> None:
        self._check()
        self.batches.append(dict(rows))
        for key, value in rows.items():
            assert len(key.encode()) <= LEARNED_KEY_LIMIT
            self.rows.pop(key, None)
            if value is not None:
                assert len(value) <= LEARNED_VALUE_LIMIT
                self.rows[key] = value, self._clock.now().timestamp()
        for kind in {key.partition("/")[0] for key in rows}:
            self._limit(f"{kind}/")

    def _limit(self, prefix: str) -> None:
        def of_kind() -> list[str]:
            return [key for key in self.rows if key.startswith(prefix)]

        def octets() -> int:
            return sum(len(key) + len(self.rows[key][0]) for key in of_kind())

        while len(of_kind()) > LEARNED_ROWS_LIMIT or octets() > LEARNED_OCTETS_LIMIT:
            del self.rows[of_kind()[0]]

    def _check(self) -> None:
        self.calls += 1
        if self.fails is not None:
            raise self.fails
