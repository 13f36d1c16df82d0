"""A courier for tests, with accounts in memory and a clock that the test moves."""

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from senderproxy.delivery.courier import SmtpCourier
from senderproxy.delivery.session import SessionTimeouts
from senderproxy.mail.address import AddressPattern, parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import Outcome
from senderproxy.relay.ports import NoToken
from senderproxy.rewriting.srs import SigningKeys
from senderproxy.routing.account import AccessToken, Account, Credential
from senderproxy.routing.directory import AccountDirectory, MatchTier
from senderproxy.routing.provider import Limits, Provider, Smarthost
from senderproxy.routing.route import AddressSource, Route
from tests.senderproxy.delivery.messages import ANNA, BERT, BERTS_SECRET, HOSTNAME, SECRET, make_message, to


class MovedClock:
    """The machine's clock plus an offset. Timers of the event loop are not affected."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def new_id(self) -> str:
        return "23456789ABCD"

    def chance(self) -> float:
        return 0.5


def account_of(account_id: str, login: str, **more: Any) -> Account:
    address = parse_address(login)
    pattern = AddressPattern(address.local_part, address.domain)
    return Account(account_id, login, "simulator", address, (pattern,), **more)


class MemoryAccounts:
    """relay.ports.Accounts and relay.ports.AccessTokens in memory."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.tokens: dict[str, AccessToken | NoToken] = {}  # of accounts with a grant
        self.renewed: dict[str, AccessToken] = {}  # the token after one that the smarthost refused
        self.asked_for_token: list[str] = []
        self._secrets: dict[str, tuple[str, str, str]] = {}
        self._versions = 0
        self.keys: SigningKeys | None = None
        self._directory = AccountDirectory(())
        self.new_directory: Callable[[Iterable[Account]], AccountDirectory] = AccountDirectory

    def add(self, account_id: str, login: str, secret: str, **more: Any) -> Account:
        account = self.accounts[account_id] = account_of(account_id, login, **more)
        self.set_password(account_id, secret)
        return account

    def set_password(self, account_id: str, secret: str) -> None:
        self._versions += 1
        self._secrets[account_id] = (secret, f"v{self._versions}", "")

    def set_grant(self, account_id: str, version: str) -> None:
        """From now on the account has no password, but a grant of this version."""
        self._secrets[account_id] = ("", version, "office")

    def remove(self, account_id: str) -> None:
        del self.accounts[account_id], self._secrets[account_id]

    def directory(self) -> AccountDirectory:
        if self._directory.accounts != tuple(self.accounts.values()):
            self._directory = self.new_directory(self.accounts.values())
        return self._directory

    def credential(self, account: Account) -> Credential | None:
        current = self.accounts.get(account.id)
        return None if current is None else Credential(current.login, *self._secrets[account.id])

    async def token(self, account: Account) -> AccessToken | NoToken:
        self.asked_for_token.append(account.id)
        return self.tokens[account.id]

    def refused(self, account: Account, token: AccessToken) -> bool:
        if (renewed := self.renewed.pop(account.id, None)) is None:
            return False
        self.tokens[account.id] = renewed
        return True

    def signing_keys(self) -> SigningKeys | None:
        return self.keys


@dataclass
class Office:
    """One courier and its surroundings."""

    courier: SmtpCourier
    accounts: MemoryAccounts
    clock: MovedClock
    provider: Provider
    sent: int = field(default=0)

    def route(self, account_id: str = "anna") -> Route:
        account = self.accounts.accounts[account_id]
        return Route(account, self.provider, account.address, AddressSource.FROM, MatchTier.EXACT)

    async def send(
        self, account_id: str = "anna", envelope: Envelope | None = None, message: Message | None = None
    ) -> list[Outcome]:
        """Send one message from the account's own address. Returns the outcomes in the recipients' order."""
        route = self.route(account_id)
        envelope = envelope or replace(to(), reverse_path=route.account.address)
        self.sent += 1
        outcomes = await self.courier.deliver(route, envelope, message or make_message(), tag=f"m{self.sent}")
        assert list(outcomes) == list(envelope.recipients)
        return list(outcomes.values())

    async def send_one(self, account_id: str = "anna", text: str | None = None) -> Outcome:
        """Send one message to one recipient."""
        message = make_message(text.encode() + b"\r\n") if text else None
        (outcome,) = await self.send(account_id, message=message)
        return outcome


@asynccontextmanager
async def office(
    *smarthosts: Smarthost, timeouts: SessionTimeouts | None = None, grace: float = 5.0, **limits: object
) -> AsyncIterator[Office]:
    """Anna and Bert, with one provider."""
    accounts, clock = MemoryAccounts(), MovedClock()
    accounts.add("anna", ANNA, SECRET)
    accounts.add("bert", BERT, BERTS_SECRET)
    provider = Provider("simulator", smarthosts, limits=Limits(**limits))  # type: ignore[arg-type]
    courier = SmtpCourier(accounts, timeouts or SessionTimeouts(), HOSTNAME, clock, tokens=accounts)
    try:
        yield Office(courier, accounts, clock, provider)
    finally:
        await courier.close(grace)
