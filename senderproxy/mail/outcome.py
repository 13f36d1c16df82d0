"""Outcome of one attempt for one recipient. Values, never raised. PURE."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Final, TypeAlias

from senderproxy.mail.reply import Reply, reply
from senderproxy.value_class import value_class

FOOTER_ADDED: Final = "added"


class RefusedSenderField(Enum):
    """The place of the sender address that the upstream refuses for this account."""

    REVERSE_PATH = "reverse-path"
    FROM = "From"


class Unavailable(Enum):
    """The causes for the use of a fallback account. A closed list."""

    UNREACHABLE = "unreachable"  # no connection, no greeting, no TLS or no address, at any smarthost of its provider
    SUSPENDED = "suspended"  # its login was refused
    PAUSED = "paused"  # its provider reported a limit, or its login failed for another reason than the password
    LIMIT = "limit"  # its hourly limit is used up, or the provider said so


@dataclass(frozen=True, slots=True)
class Substitute:
    """The fallback account that made an attempt, and why the account of the message did not send. `reply`: of that.

    `sent_as`: its address, if the sender was replaced by it.
    """

    account: str
    cause: Unavailable
    reply: Reply
    sent_as: str = ""


@dataclass(frozen=True, slots=True)
class SentForm:
    """The form in which a message left, for the copy of it."""

    header: bytes  # section
    body: str = ""  # how its body is made from the received one, as JSON; empty: it is the received one
    before: bytes = field(default=b"", repr=False)  # the header section from which that begins


@value_class
class Delivered:
    """The upstream accepted the message.

    `by`: the fallback account that sent it; None: the account of the message. `footer`: FOOTER_ADDED, or the reason why
    the message left without its footer; empty if it has none. `sent`: for a message that is copied.
    """

    reply: Reply
    by: Substitute | None = None
    footer: str = ""
    sent: SentForm | None = field(default=None, repr=False, compare=False)


@value_class
class Deferred:
    """Temporary failure.

    `maybe_taken`: the final dot was sent and no reply came, so the upstream may have the message. `of_account`: the
    account cannot send at all now, so this applies to its other mail too, and the upstream was not asked about this
    one; of a way without a login, that its server cannot be reached. `remote`: the host that sent the reply; empty for
    a reply of our own. `handed_back`: this way does not take the message, and nothing was sent: the author's account
    sends it. `retry_after`: no attempt before that. `unavailable`: the account cannot send, and its upstream has
    certainly not accepted the message; None for every other cause. `by`: as in Delivered.
    """

    reply: Reply
    maybe_taken: bool = False
    of_account: bool = False
    remote: str = ""
    handed_back: bool = False
    retry_after: timedelta | None = None
    unavailable: Unavailable | None = None
    by: Substitute | None = None


@value_class
class Failed:
    """Permanent failure.

    `refused_sender`: the upstream refused the sender address in that place. `remote`, `by`: as in Deferred.
    """

    reply: Reply
    refused_sender: RefusedSenderField | None = None
    remote: str = ""
    by: Substitute | None = None


# The upstream offers no 8BITMIME, and nothing was sent: the content is to be re-encoded first (RFC 6152 section 3).
NEEDS_SEVEN_BIT: Final = Deferred(reply(451, "4.6.3", "The server does not accept 8-bit content; re-encoding it"))

Outcome: TypeAlias = Delivered | Deferred | Failed
