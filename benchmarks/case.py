"""The cases of the benchmark, as plain values.

Guarantees: a case has everything that a run depends on, so the same case is the same work for each relay.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

SMALL: Final = 4_000
MEGABYTE: Final = 1_000_000


class Kind(Enum):
    """Procedure of a case."""

    THROUGH = "through"  # send the load and wait for it at the smarthost
    HELD = "held"  # connections stay idle
    IDLE = "idle"  # no traffic
    WAITING = "waiting"  # fill the spool, restart the relay, drain the spool


@dataclass(frozen=True)
class Flow:
    """Messages of one kind over their own connections; with `beside` it continues until the other flows have ended."""

    name: str
    connections: int
    messages: int
    size: int = SMALL
    senders: int = 20
    recipients: int = 1
    beside: bool = False
    each: bool = False  # a new connection for each message


@dataclass(frozen=True)
class Case:
    """One case of the benchmark."""

    name: str
    flows: tuple[Flow, ...]
    kind: Kind = Kind.THROUGH
    rtt: float = 0.0
    pipelining: bool = False
    per_account: int = 8  # connections upstream that a relay may have for one account
    warm_up: int = 0  # uncounted messages before the measurement
    quick: bool = False
    counted: bool = False  # calls, system calls, tasks and futures, too
    compared: bool = False  # measured in turn with the other compared cases
    too_much_for: tuple[str, ...] = ()

    @property
    def senders(self) -> int:
        """Number of accounts."""
        return max(flow.senders for flow in self.flows)

    @property
    def connections(self) -> int:
        """Number of simultaneous clients."""
        return sum(flow.connections for flow in self.flows)

    def scaled(self, factor: float) -> "Case":
        """Return the case with fewer or more messages, at least one for each connection."""
        flows = (
            replace(flow, messages=max(flow.connections, round(flow.messages * factor))) if flow.messages else flow
            for flow in self.flows
        )
        return replace(self, flows=tuple(flows))


def _small(
    connections: int,
    *,
    rtt: int = 0,
    pipelining: bool = False,
    messages: int = 0,
    per_account: int = 8,
    quick: bool = False,
) -> Case:
    """Return the everyday case: 20 senders, 4 KB."""
    name = f"small-{connections}" + (f"-rtt{rtt}" if rtt else "") + ("-pipelining" if pipelining else "")
    if per_account != 8:
        name += f"-by{per_account}"
    if not messages:
        # near: some seconds of a fast relay's work; far: so many that a slow one is done in half a minute
        messages = (2_000 if connections == 1 else 6_000) if not rtt else 40 * connections
    flow = Flow("small", connections, messages)
    return Case(
        name,
        (flow,),
        rtt=rtt / 1000,
        pipelining=pipelining,
        per_account=per_account,
        warm_up=max(200, 8 * 20),
        quick=quick,
        counted=quick,
    )


def _each(connections: int) -> Case:
    """Return the case of clients that connect for each message."""
    flow = Flow("small", connections, 2_000, each=True)
    return Case(
        f"each-{connections}", (flow,), warm_up=200, quick=connections == 10, counted=True, too_much_for=("straight",)
    )  # its handshakes would be no limit of the others


CASES: Final = (
    *(
        _small(connections, rtt=rtt, pipelining=pipelining, quick=not rtt and not pipelining)
        for rtt in (0, 20, 40)
        for pipelining in (False, True)
        for connections in (1, 10, 50)
    ),
    replace(_small(50, rtt=40, per_account=2, messages=1_000), quick=True),
    _small(50, rtt=20, per_account=2, messages=1_000),
    _each(10),
    _each(50),
    Case("senders-200", (Flow("small", 10, 6_000, senders=200),), warm_up=400),
    Case("recipients-50", (Flow("small", 10, 600, recipients=50),), warm_up=40),
    Case("large-25", (Flow("large", 1, 4, size=25 * MEGABYTE),), warm_up=20, quick=True),
    Case("large-150", (Flow("large", 1, 2, size=150 * MEGABYTE),), warm_up=20),
    Case(
        "large-50-at-once",
        (Flow("large", 50, 50, size=25 * MEGABYTE), Flow("small", 2, 0, beside=True)),
        warm_up=20,
        quick=True,
        too_much_for=("floor", "floor-c", "msmtpd"),  # 5 GB of memory, minutes
    ),
    Case("held-1000", (Flow("held", 1_000, 0),), kind=Kind.HELD, quick=True),
    Case("idle", (Flow("small", 1, 0),), kind=Kind.IDLE, quick=True),
    Case(
        "waiting-10000",
        (Flow("small", 20, 10_000),),
        kind=Kind.WAITING,
        per_account=2,
        too_much_for=("straight", "senderproxy", "floor", "floor-c", "haraka", "msmtpd", "exim", "opensmtpd"),
    ),  # relays without a queue, or with a fixed retry pause
    # each with ten times as much of one thing; the base is longer than a second, to include the history
    Case("linear-base", (Flow("small", 10, 1_500),), warm_up=200, compared=True),
    Case("linear-messages", (Flow("small", 10, 15_000),), warm_up=200, compared=True),
    Case("linear-senders", (Flow("small", 10, 1_500, senders=200),), warm_up=400, compared=True),
    Case("linear-recipients", (Flow("small", 10, 1_500, recipients=10),), warm_up=200, compared=True),
)
