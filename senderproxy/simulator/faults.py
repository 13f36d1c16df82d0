"""Scripted faults: at which stage and in which session the simulator deviates from its normal replies.

Guarantees: a FaultScript records the faults that it applied, so a test can show that its fault occurred.

Not here: the execution of an action (simulator.scripted_replies).
"""

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from senderproxy.simulator.provider_replies import ServerReply


class FaultStage(Enum):
    """Stage of a session at which a fault can occur."""

    CONNECT = "connect"  # before everything, TLS included
    HANDSHAKE = "handshake"  # before the TLS handshake, after the reply to STARTTLS
    BANNER = "banner"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"  # the last reply of the exchange
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"  # the reply to the DATA command
    BODY = "body"  # while the content arrives
    DOT = "dot"  # the reply to the final dot
    RSET = "rset"
    NOOP = "noop"
    QUIT = "quit"


@dataclass(frozen=True, slots=True)
class Silence:
    """Send nothing more, but keep the connection until the client closes it.

    `after_storing`: the message was accepted before. Further input is read and discarded; in FaultStage.BODY it is not
    read at all, so that the client blocks.
    """

    after_storing: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """Abort the connection. `after_storing`: the message was accepted, only the reply is lost."""

    after_storing: bool = False


@dataclass(frozen=True, slots=True)
class ReplyWith:
    """Send another reply. A positive one has the effect of the command, a negative one has none."""

    reply: ServerReply
    then_drop: bool = False


@dataclass(frozen=True, slots=True)
class RawOctets:
    """Send octets, valid or not, in place of the reply. The command has no effect."""

    octets: bytes
    then_drop: bool = False


@dataclass(frozen=True, slots=True)
class AppendOctets:
    """Send the due reply and further octets in one write: an unsolicited reply, or text injected before TLS."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class RepeatForever:
    """Send the same octets again and again until the client closes."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Delay:
    """Send the due reply after a delay. In FaultStage.BODY: a delay before each block that is read."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Send the due reply when the event is set."""

    released: asyncio.Event


@dataclass(frozen=True, slots=True)
class OctetByOctet:
    """Send the due reply octet by octet."""

    seconds_each: float


FaultAction: TypeAlias = (
    Silence | Drop | ReplyWith | RawOctets | AppendOctets | RepeatForever | Delay | Hold | OctetByOctet
)


@dataclass(frozen=True, slots=True)
class FaultPoint:
    """A point in a session at which a fault can occur."""

    stage: FaultStage
    session: int  # from 1, over the life of the simulator
    transaction: int  # from 1 within the session; 0 before the first MAIL
    login: str | None
    octets: int = 0  # of the content received so far


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and its conditions. None matches everything.

    The first `after` matching points are skipped, then the fault occurs `times` times (None: always).
    """

    stage: FaultStage
    action: FaultAction
    session: int | None = None
    transaction: int | None = None
    login: str | None = None
    after: int = 0
    times: int | None = None
    at_octet: int = 0  # with FaultStage.BODY: only after that many octets of the content

    def matches(self, point: FaultPoint) -> bool:
        """True if the conditions match, without the counts."""
        return (
            self.stage is point.stage
            and self.session in (None, point.session)
            and self.transaction in (None, point.transaction)
            and self.login in (None, point.login)
            and point.octets >= self.at_octet
        )


class FaultScript:
    """The faults of one simulator, with a count of the matching points of each."""

    def __init__(self, *faults: Fault) -> None:
        self._faults = list(faults)
        self._matched: dict[int, int] = {}
        self.applied: list[tuple[Fault, FaultPoint]] = []

    def add(self, *faults: Fault) -> None:
        """Add faults. Of several that match, the earliest added applies."""
        self._faults += faults

    def clear(self) -> None:
        """Remove all faults. The record of applied ones stays."""
        self._faults.clear()
        self._matched.clear()

    def next_action(self, point: FaultPoint) -> FaultAction | None:
        """Return the action for this point, None for normal behaviour. Counts the point for every matching fault."""
        chosen: Fault | None = None
        for place, fault in enumerate(self._faults):
            if not fault.matches(point):
                continue
            count = self._matched.get(place, 0)
            self._matched[place] = count + 1
            due = count >= fault.after and (fault.times is None or count < fault.after + fault.times)
            if due and chosen is None:
                chosen = fault
        if chosen is None:
            return None
        self.applied.append((chosen, point))
        return chosen.action
