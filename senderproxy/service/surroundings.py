"""Surroundings of the running service: the DNS records of its domains and DKIM keys, and the gaps in its mail.

Guarantees: the settings of `[watch]` are in force after a reload. `tick` costs nothing while nothing changed.
Not here: the looks (service.domain_watch, service.dkim_watch), what is usual (monitoring.mail_gaps).
"""

from collections.abc import Callable

from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.clock import Clock
from senderproxy.config.model import Config
from senderproxy.dkim.choice import KeyRing
from senderproxy.domain_records.provider_records import records_of_domains
from senderproxy.monitoring import mail_gaps
from senderproxy.monitoring.facts import MailGapFacts
from senderproxy.monitoring.mail_gaps import MailGaps
from senderproxy.relay.learned_state import LearnedState
from senderproxy.service import dkim_watch, domain_watch
from senderproxy.service.dkim_watch import DkimWatch
from senderproxy.service.domain_watch import DomainWatch, NewClient
from senderproxy.service.listeners import Listeners


class Surroundings:
    """The observations of one service beside its messages. `config` is set by the service."""

    def __init__(
        self,
        config: Config,
        accounts: VaultAccounts,
        listeners: Listeners,
        clock: Clock,
        new_dns_client: NewClient,
        use_keys: Callable[[KeyRing | None], None],
    ) -> None:
        self.config = config
        self.domains = DomainWatch(clock, new_dns_client)
        self.dkim = DkimWatch(clock, new_dns_client, use_keys)
        self.gaps = MailGaps()
        self._accounts = accounts
        self._listeners = listeners
        self._clock = clock
        self._watched_for: tuple[Config, int] | None = None

    def register(self, learned: LearnedState) -> None:
        """Register the learned facts, so that they outlive a restart."""
        self.domains.changed = learned.register(domain_watch.LEARNED_KIND, self.domains)
        self.dkim.changed = learned.register(dkim_watch.LEARNED_KIND, self.dkim)
        self.gaps.changed = learned.register(mail_gaps.LEARNED_KIND, self.gaps)

    def watch_keys(self) -> None:
        """Use the DKIM keys of the vault as it is now."""
        self.dkim.watch(self._accounts.dkim_keys())

    def tick(self) -> None:
        """Look at the next domain if one is due, and count the messages."""
        current = self.config, self._accounts.generation
        if self._watched_for != current:
            self._watched_for = current
            accounts = self._accounts.directory().accounts if self.config.watch.dns else ()
            self.domains.watch(records_of_domains(accounts, self.config.preset_of))
        self.domains.tick()
        self.dkim.tick()
        count = sum(listener.counters.accepted for listener in self._listeners.open)
        self.gaps.observe(count, self._clock.now(), self._clock.monotonic())

    def mail_gap(self) -> MailGapFacts | None:
        """The time without mail, if it is unusual and to be reported."""
        settings = self.config.watch
        if not settings.no_mail:
            return None
        fixed = settings.no_mail_hours * 3600 if settings.no_mail_hours else None
        return self.gaps.unusual(self._clock.monotonic(), fixed)

    def stop(self) -> None:
        """Begin no more looks, and have the learned facts written."""
        self.domains.stop()
        self.dkim.stop()
        self.gaps.stop()
