"""What the relay needs from the outer rooms, and nothing about how they do it."""

from collections.abc import Mapping
from typing import Protocol

from senderproxy.mail.address import ForwardPath
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import Outcome
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Submission
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.route import Route


class Accounts(Protocol):
    """The accounts in the vault, as they are at this moment."""

    def directory(self) -> AccountDirectory:
        """Who carries what. Notices by itself when the vault changed on disk; cheap, called for each message.

        Never raises: a vault that cannot be read leaves what was read before in force.
        """
        ...

    def credential(self, account: Account) -> Credential | None:
        """The account's login and secret of this moment; None where the account is gone."""
        ...


class Courier(Protocol):
    """Takes one message to one account's upstream."""

    async def deliver(
        self, route: Route, envelope: Envelope, message: Message, *, tag: str
    ) -> Mapping[ForwardPath, Outcome]:
        """Offer the message to all recipients or to none; one outcome for each of them.

        Where the upstream refuses or defers some recipients the transaction is broken off before DATA and the others
        are Withheld. Never raises for what the network or the upstream does. `tag` is the message's id, for the log.
        May be cancelled before the final dot is written; from then on the caller must wait for it.
        """
        ...


class Intake(Protocol):
    """What the listener hands a complete message to."""

    async def accept(self, submission: Submission) -> Reply:
        """The answer to the final dot. Never raises for what a message contains."""
        ...
