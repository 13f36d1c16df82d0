"""The selector in place of asyncio's: the same answers, with few calls."""

import gc
import math
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from senderproxy.service.measured_selector import MeasuredSelector

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
Pair = tuple[socket.socket, socket.socket]


def nothing(*_: object) -> None:
    """Called for a long pass, or for an event while parked."""


@pytest.fixture
def selector() -> Iterator[MeasuredSelector]:
    with MeasuredSelector(time.monotonic, nothing, nothing) as selector:
        yield selector


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def silent(_ours: socket.socket, _theirs: socket.socket) -> None:
    pass


def sent(_ours: socket.socket, theirs: socket.socket) -> None:
    theirs.send(b"x")


def half_closed(_ours: socket.socket, theirs: socket.socket) -> None:
    theirs.shutdown(socket.SHUT_WR)


def closed(_ours: socket.socket, theirs: socket.socket) -> None:
    theirs.close()


def reset(ours: socket.socket, theirs: socket.socket) -> None:
    """The other end closes with our octets unread: an error of the socket."""
    ours.send(b"x")
    theirs.close()


@pytest.mark.parametrize("happened", [silent, sent, half_closed, closed, reset])
@pytest.mark.parametrize("events", [READ, WRITE, READ | WRITE])
def test_it_answers_as_the_standard_library_does(
    selector: MeasuredSelector, pair: Pair, events: int, happened: Callable[[socket.socket, socket.socket], None]
) -> None:
    happened(*pair)
    with selectors.EpollSelector() as standard:
        for one in (selector, standard):
            one.register(pair[0], events, "data")
        assert selector.select(0) == standard.select(0)


def test_changes_of_a_file_take_effect_at_once(selector: MeasuredSelector, pair: Pair) -> None:
    pair[1].send(b"x")
    selector.register(pair[0], READ, "first")
    assert [(key.data, events) for key, events in selector.select(0)] == [("first", READ)]
    selector.modify(pair[0], READ | WRITE, "second")
    assert [(key.data, events) for key, events in selector.select(0)] == [("second", READ | WRITE)]
    selector.modify(pair[0], READ | WRITE, "third")
    assert [(key.data, events) for key, events in selector.select(0)] == [("third", READ | WRITE)]
    selector.unregister(pair[0])
    assert selector.select(0) == []


def test_one_call_returns_a_bounded_number_of_events_and_no_file_waits_for_ever(selector: MeasuredSelector) -> None:
    pairs = [socket.socketpair() for _ in range(300)]
    for ours, theirs in pairs:
        theirs.send(b"x")
        selector.register(ours, READ)
    found = [selector.select(0) for _ in range(5)]
    seen = {key.fd for events in found for key, _events in events}
    for ours, theirs in pairs:
        selector.unregister(ours)
        ours.close()
        theirs.close()
    assert [len(events) for events in found] == [64] * 5
    assert len(seen) == 300


def test_a_wait_ends_at_its_time_and_not_before(selector: MeasuredSelector) -> None:
    for seconds in (0.0004, 0.0015):
        began = time.monotonic()
        assert selector.select(seconds) == []
        assert time.monotonic() - began >= seconds


def test_the_time_that_the_loop_waits_is_no_pass(pair: Pair) -> None:
    passes: list[tuple[float, float]] = []
    times = iter([1.0, 2.0, 7.0, 8.0, 9.0])
    with MeasuredSelector(lambda: next(times), lambda *found: passes.append(found), nothing) as selector:
        selector.limit = 0.5
        selector.register(pair[0], READ)
        pair[1].send(b"x")
        selector.select(None)  # from 1 to 2
        selector.select(0)  # at 7, the end of one pass and the start of the next
        selector.select(5.0)  # from 8 to 9
        assert selector.pass_started == 9.0
    assert passes == [(2.0, 7.0), (7.0, 8.0)]


def test_without_a_limit_no_pass_is_long() -> None:
    times = iter([1.0, 1e9, 2e9])
    passes: list[tuple[float, float]] = []
    with MeasuredSelector(lambda: next(times), lambda *found: passes.append(found), nothing) as selector:
        for _ in range(3):
            selector.select(0)
        assert selector.limit == math.inf
    assert passes == []


def test_it_makes_few_calls(selector: MeasuredSelector, pair: Pair) -> None:
    """asyncio selects a dozen times for each message: a call here costs a thousandth of the message.

    Python 3.11's own selector makes eight for one file that is ready, without a measurement.
    """
    pair[1].send(b"x")
    selector.register(pair[0], READ)
    selector.limit = 1.0
    assert calls(selector, 0) <= 6
    assert calls(selector, None) <= 7


def calls(selector: selectors.BaseSelector, timeout: float | None) -> int:
    """Python and C functions called by one `select`, and the one that ends the count."""
    found = 0

    def count(_frame: FrameType, what: str, _argument: object) -> None:
        nonlocal found
        found += what in ("call", "c_call")

    gc.disable()  # a collection calls the finalizers of what earlier tests left
    sys.setprofile(count)
    try:
        selector.select(timeout)
    finally:
        sys.setprofile(None)
        gc.enable()
    return found
