"""Where a test puts its peers: started in order, ended in reverse, and their logs shown when the test fails.

A conftest takes over both names: `from tests.peers.bench import bench, pytest_runtest_makereport`.
"""

import contextlib
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Protocol, Self, TypeVar

import pytest

from tests.peers.process import END_OF_LOG, reserved_ports


class ContextPeer(Protocol):
    """A peer that starts when entered."""

    name: str

    def log(self) -> str:
        """Return what the peer has written so far."""
        ...

    def __enter__(self) -> Self:
        """Start."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """End."""
        ...


P = TypeVar("P", bound=ContextPeer)


class Bench:
    """The peers of one test."""

    def __init__(self, things: contextlib.ExitStack) -> None:
        self._things = things
        self.peers: list[ContextPeer] = []

    def start(self, peer: P) -> P:
        """Start a peer that stays for the rest of the test."""
        self._things.enter_context(peer)
        self.peers.append(peer)
        return peer

    def port(self) -> int:
        """Return a free port that is ours for the rest of the test."""
        [port] = self._things.enter_context(reserved_ports(1))
        return port


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A place for the peers of this test."""
    with contextlib.ExitStack() as things:
        yield Bench(things)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the end of every peer's log below a failed test."""
    report = yield
    on_the_bench = getattr(item, "funcargs", {}).get("bench")
    if report.failed and call.when == "call" and isinstance(on_the_bench, Bench):
        for peer in on_the_bench.peers:
            report.sections.append((f"log of {peer.name}", peer.log()[-END_OF_LOG:]))
    return report
