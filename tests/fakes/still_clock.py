"""Clock that a test sets; message ids are counted."""

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)


class StillClock:
    """senderproxy.clock.Clock for tests."""

    def __init__(self, now: datetime = START) -> None:
        self.time = now
        self.passed = 0.0
        self._ids = 0

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.passed

    def new_id(self) -> str:
        self._ids += 1
        return f"id{self._ids:010}"

    def chance(self) -> float:
        return 0.5

    def pass_by(self, step: timedelta) -> None:
        """Advance both clocks."""
        self.time += step
        self.passed += step.total_seconds()
