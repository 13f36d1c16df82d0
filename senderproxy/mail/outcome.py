"""What one attempt meant for one recipient. An answer is a value; nothing here is raised."""

from dataclasses import dataclass
from typing import TypeAlias

from senderproxy.mail.reply import Reply


@dataclass(frozen=True, slots=True)
class Delivered:
    """The upstream took responsibility."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now. `maybe_taken`: the final dot was sent and no reply came, so the upstream may have the message."""

    reply: Reply
    maybe_taken: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Not ever, as it is."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Withheld:
    """The upstream would have taken it; the transaction was broken off because another recipient was not taken."""


Outcome: TypeAlias = Delivered | Deferred | Failed | Withheld
