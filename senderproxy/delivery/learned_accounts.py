"""The learned facts about accounts: health and observed limits of each, and its use of the past hour.

Guarantees: a suspension is restored only for the secret and the servers that refused it; a fact about an account that
does not exist is not restored. A restored use is added to that of messages sent since the start.
Not here: the form of each fact, which is beside its state (delivery.account_health, delivery.observed_limits,
delivery.quota).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from senderproxy.delivery.account_health import (
    Health,
    Healthy,
    Paused,
    Suspended,
    health_fact,
    read_health,
)
from senderproxy.delivery.account_state import AccountState, ProvenLogin
from senderproxy.delivery.causes import FAILED_LOGINS
from senderproxy.learned import Fact, Instant, LearnedSource, SharedLearnedSource, duration
from senderproxy.routing.provider import Provider

STATE: Final = "account"  # kinds of facts; the subject is the account's id
USE: Final = "hourly-use"
_RECOVERED: Final = 3600.0  # seconds in which other instances are told that an account can send again


class AccountFacts(SharedLearnedSource):
    """Health and observed limits of each account. `is_shared`: other instances follow them."""

    def __init__(
        self,
        known: Callable[[str], AccountState | None],
        create: Callable[[str], AccountState | None],
        version: Callable[[str], str | None],
        provider: Callable[[str], Provider | None],
    ) -> None:
        """`known` returns the state of an account by its id; `create` makes it first, for an account of the vault.

        `version` returns the version of the account's current secret, `provider` a provider by its name. Each returns
        None if there is none.
        """
        self._provider = provider
        self._known = known
        self._create = create
        self._version = version
        self.is_shared = False

    def fact(self, subject: str, at: Instant) -> Fact | None:
        """See learned.LearnedSource."""
        state = self._known(subject)
        if state is None:
            return None
        health = health_fact(state.health, at)
        facts = {
            "health": health,
            "way_in": self._way_in(state) if health is not None else None,
            "limits": state.pool.observed.fact(at),
            "recipients_per_message": state.observed_recipient_limit.fact(at),
            "proven": None if state.proven is None else state.proven.fact(at),
        }
        if self.is_shared and isinstance(state.health, Healthy) and state.health.since is not None:
            age = at.age(state.health.since)
            facts["recovered"] = {"age": age, "version": self._version(subject)} if age < _RECOVERED else None
        return {name: fact for name, fact in facts.items() if fact is not None} or None

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource."""
        state = self._create(subject)
        if state is None:
            return False
        health = read_health(fact["health"], written) if "health" in fact else state.health
        is_of_secret = not isinstance(health, Suspended) or health.version == self._version(subject)
        if is_of_secret and fact.get("way_in") in (None, self._way_in(state)):
            state.health = health
        state.pool.observed.restore(fact.get("limits", {}), written)
        state.observed_recipient_limit.restore(fact.get("recipients_per_message"), written)
        if "proven" in fact:
            state.proven = ProvenLogin.read(fact["proven"], written)
        return self.fact(subject, written) is not None

    def follow(self, subject: str, fact: Fact, written: Instant) -> None:
        """See learned.SharedLearnedSource."""
        state = self._create(subject)
        if state is None:
            return
        state.pool.observed.follow(fact.get("limits", {}), written)
        state.observed_recipient_limit.follow(fact.get("recipients_per_message"), written)
        if "proven" in fact:
            proven = ProvenLogin.read(fact["proven"], written)
            if proven.version == self._version(subject) and (state.proven is None or state.proven.at < proven.at):
                state.proven = proven
        self._follow_health(state, fact, written)

    def _follow_health(self, state: AccountState, fact: Fact, written: Instant) -> None:
        health: Health = Healthy()
        if "health" in fact:
            health, version = read_health(fact["health"], written), fact["health"].get("version")
        elif "recovered" in fact:
            health = Healthy(written.before(duration(fact["recovered"], "age", _RECOVERED)).now)
            version = fact["recovered"]["version"]
        own_version = self._version(state.account.id)
        if own_version is None or fact.get("way_in") not in (None, self._way_in(state)):
            return
        if health.since is None or (state.health.since is not None and state.health.since >= health.since):
            return
        if version == own_version:
            state.follow(health)
        elif _is_of_any_secret(health) and _is_of_any_secret(state.health):  # the version is one of another vault
            state.follow(replace(health, version=own_version) if isinstance(health, Paused) else health)

    def _way_in(self, state: AccountState) -> str | None:
        provider = self._provider(state.account.provider)
        return None if provider is None else way_in(provider)


def _is_of_any_secret(health: Health) -> bool:
    """True unless it tells something about a secret."""
    return isinstance(health, Healthy) or (isinstance(health, Paused) and health.cause not in FAILED_LOGINS)


def way_in(provider: Provider) -> str:
    """The servers and logins of a provider; with others, what it refused may be accepted."""
    servers = (f"{server} {server.security.value}" for server in provider.smarthosts)
    return ", ".join((*servers, *provider.mechanisms, provider.login_form.value))


class HourlyUse(LearnedSource):
    """The messages and recipients that each account has sent in the past hour."""

    def __init__(
        self, known: Callable[[str], AccountState | None], create: Callable[[str], AccountState | None]
    ) -> None:
        """The arguments of AccountFacts."""
        self._known = known
        self._create = create

    def fact(self, subject: str, at: Instant) -> Fact | None:
        """See learned.LearnedSource."""
        state = self._known(subject)
        return state.quota.fact(at) if state is not None else None

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource."""
        state = self._create(subject)
        return state is not None and state.quota.restore(fact, written)
