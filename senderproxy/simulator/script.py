"""Faults on purpose: at which stage, in which session, the simulator does what instead of answering as it should.

Guarantees: a Script counts what it did (`struck`), so a test can show that the fault it asked for did happen.
Not here: carrying the action out (simulator.dialogue).
"""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from senderproxy.simulator.phrases import Answer


class FaultStage(Enum):
    """Where a session stands when a fault strikes: in place of, or beside, the answer that is due there."""

    CONNECT = "connect"  # before anything, TLS included
    HANDSHAKE = "handshake"  # where the TLS handshake should begin, after STARTTLS was answered
    BANNER = "banner"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"  # the last answer of the exchange
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"  # the answer to the DATA command
    BODY = "body"  # while the content arrives
    DOT = "dot"  # the answer to the final dot
    RSET = "rset"
    NOOP = "noop"
    QUIT = "quit"


@dataclass(frozen=True, slots=True)
class Silence:
    """Say nothing more, but keep the connection until the client ends it. `after_storing`: the message was taken.

    What the client goes on to say is read and forgotten; in Stage.BODY it is not even read, so that it piles up.
    """

    after_storing: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """Cut the connection. `after_storing`: the message was taken, only the reply is lost."""

    after_storing: bool = False


@dataclass(frozen=True, slots=True)
class ReplyWith:
    """Another reply in place of the due one. A positive one has the due effect, a negative one has none."""

    answer: Answer
    then_drop: bool = False


@dataclass(frozen=True, slots=True)
class Raw:
    """Octets that may be no reply at all, in place of the due one; the command has no effect."""

    octets: bytes
    then_drop: bool = False


@dataclass(frozen=True, slots=True)
class Append:
    """The due reply, and further octets in the same breath: an unsolicited reply, or text smuggled before TLS."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Endless:
    """The same octets again and again until the client goes away."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Slow:
    """The due reply after a while; while the content arrives: a pause before each block that is read."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Trickle:
    """The due reply octet by octet."""

    seconds_each: float


Action: TypeAlias = Silence | Drop | ReplyWith | Raw | Append | Endless | Slow | Trickle


@dataclass(frozen=True, slots=True)
class Occasion:
    """The moment a fault may strike."""

    stage: FaultStage
    session: int  # from 1, over the simulator's life
    transaction: int  # from 1 within the session; 0 before the first MAIL
    login: str | None
    octets: int = 0  # of the content, so far


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens where. What is None does not matter; `after` moments are let pass, then `times` are struck."""

    stage: FaultStage
    action: Action
    session: int | None = None
    transaction: int | None = None
    login: str | None = None
    after: int = 0
    times: int | None = None
    at_octet: int = 0  # with Stage.BODY: only when so much of the content has arrived

    def fits(self, occasion: Occasion) -> bool:
        """Whether this is a moment for it, leaving counts aside."""
        return (
            self.stage is occasion.stage
            and self.session in (None, occasion.session)
            and self.transaction in (None, occasion.transaction)
            and self.login in (None, occasion.login)
            and occasion.octets >= self.at_octet
        )


class Script:
    """The faults of one simulator, and how often each was reached."""

    def __init__(self, *faults: Fault) -> None:
        self._faults = list(faults)
        self._reached: dict[int, int] = {}
        self.struck: list[tuple[Fault, Occasion]] = []

    def add(self, *faults: Fault) -> None:
        """Further faults; earlier ones go first."""
        self._faults += faults

    def clear(self) -> None:
        """From here on the simulator behaves. What was struck stays on record."""
        self._faults.clear()
        self._reached.clear()

    def strike(self, occasion: Occasion) -> Action | None:
        """The action for this moment, if any; counts the moment for every fault it fits."""
        chosen: Fault | None = None
        for place, fault in enumerate(self._faults):
            if not fault.fits(occasion):
                continue
            passed = self._reached.get(place, 0)
            self._reached[place] = passed + 1
            due = passed >= fault.after and (fault.times is None or passed < fault.after + fault.times)
            if due and chosen is None:
                chosen = fault
        if chosen is None:
            return None
        self.struck.append((chosen, occasion))
        return chosen.action
