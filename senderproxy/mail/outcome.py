"""What one attempt meant for one recipient. An answer is a value; nothing here is raised."""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from senderproxy.mail.reply import Reply


class RefusedSenderField(Enum):
    """Where the sender stood that the upstream does not let this account name."""

    REVERSE_PATH = "reverse-path"
    FROM = "From"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The upstream took responsibility."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now.

    `maybe_taken`: the final dot was sent and no reply came, so the upstream may have the message. `of_account`: the
    account cannot send at all just now, so the same holds for its other mail; about this one nobody was asked.
    `remote`: the host whose words the reply has; empty where they are our own.
    """

    reply: Reply
    maybe_taken: bool = False
    of_account: bool = False
    remote: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """Not ever, as it is. `refused_sender`: because of whom the message names as its sender, and where.

    `remote` as above.
    """

    reply: Reply
    refused_sender: RefusedSenderField | None = None
    remote: str = ""


Outcome: TypeAlias = Delivered | Deferred | Failed
