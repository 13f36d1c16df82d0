"""The learned facts about accounts: health and observed limits of each, and its use of the past hour.

Guarantees: a suspension is restored only for the secret and the servers that refused it; a fact about an account that
does not exist is not restored. A restored use is added to that of messages sent since the start.
Not here: the form of each fact, which is beside its state (delivery.account_health, delivery.observed_limits,
delivery.quota).
"""

from collections.abc import Callable
from typing import Final

from senderproxy.delivery.account_health import Suspended, health_fact, read_health
from senderproxy.delivery.account_state import AccountState, ProvenLogin
from senderproxy.learned import Fact, Instant, LearnedSource
from senderproxy.routing.provider import Provider

STATE: Final = "account"  # kinds of facts; the subject is the account's id
USE: Final = "hourly-use"


class AccountFacts(LearnedSource):
    """Health and observed limits of each account."""

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

    def _way_in(self, state: AccountState) -> str | None:
        provider = self._provider(state.account.provider)
        return None if provider is None else way_in(provider)


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
