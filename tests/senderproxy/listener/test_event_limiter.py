"""Equal log events within a minute are one line and one count."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from senderproxy import log_events
from senderproxy.listener.event_limiter import EventLimiter


class Lines(logging.Handler):
    """The events as (key, fields)."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def emit(self, record: Any) -> None:
        self.lines.append((record.senderproxy_event, record.senderproxy_fields))


@contextmanager
def listener_log() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    handler, logger = Lines(), logging.getLogger("senderproxy.listener")
    logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)


class StillLoop:
    """The clock of the running loop, moved by the test alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self._now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: self._now)

    async def pass_by(self, seconds: float) -> None:
        """Move the clock, and let its timers run."""
        self._now += seconds
        for _ in range(3):
            await asyncio.sleep(0)


async def test_the_first_event_is_logged_and_the_equal_ones_of_its_minute_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limiter, clock = EventLimiter(period=6), StillLoop(monkeypatch)
    with listener_log() as lines:
        for _ in range(5):
            limiter.log(log_events.CLIENT_EVICTED, client="192.0.2.1")
        limiter.log(log_events.CLIENT_EVICTED, client="192.0.2.2")
        assert [fields["client"] for _, fields in lines] == ["192.0.2.1", "192.0.2.2"]
        await clock.pass_by(3)
        assert len(lines) == 2
        await clock.pass_by(3.1)
        assert lines[2:] == [("client_evicted", {"client": "192.0.2.1", "repeated": 4})]
        limiter.log(log_events.CLIENT_EVICTED, client="192.0.2.1")
        assert len(lines) == 4, "in the next minute it is logged again"
        limiter.flush()
    assert len(limiter) == 0


async def test_events_of_different_minutes_end_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, clock = EventLimiter(period=6), StillLoop(monkeypatch)
    with listener_log() as lines:
        for client in ("192.0.2.1", "192.0.2.2"):
            limiter.log(log_events.CLIENT_EVICTED, client=client)
            limiter.log(log_events.CLIENT_EVICTED, client=client)
            await clock.pass_by(4)
        assert [fields for _, fields in lines[2:]] == [{"client": "192.0.2.1", "repeated": 1}]
        await clock.pass_by(2.1)
        assert [fields for _, fields in lines[3:]] == [{"client": "192.0.2.2", "repeated": 1}]
    assert len(limiter) == 0


async def test_what_was_counted_is_logged_at_the_stop() -> None:
    limiter = EventLimiter()
    with listener_log() as lines:
        for _ in range(3):
            limiter.log(log_events.CLIENT_MESSAGE_RATE, client="192.0.2.1", limit=600)
        limiter.flush()
        limiter.flush()
    assert [fields.get("repeated") for _, fields in lines] == [None, 2]


async def test_many_different_events_do_not_fill_the_memory() -> None:
    limiter = EventLimiter()
    with listener_log() as lines:
        for number in range(5_000):
            limiter.log(log_events.CLIENT_EVICTED, client=f"client {number}")
            limiter.log(log_events.CLIENT_EVICTED, client=f"client {number}")
        assert len(limiter) == 1_000
        limiter.flush()
    assert len(lines) == 10_000, "none is lost"
