"""Findings of `check` about fallback accounts: the senders that they may use, and the DNS records for them.

Not here: the logins of the accounts, which are checked as all others (cli.check); the judgements (domain_records).
"""

from collections.abc import Callable, Collection, Iterator
from typing import Final

from senderproxy.cli.account_fallback import some_of
from senderproxy.cli.check_dns import check_domains
from senderproxy.cli.findings import Finding, Level
from senderproxy.config.model import Config
from senderproxy.domain_records.judgement import Aspect
from senderproxy.domain_records.lookups import Query
from senderproxy.domain_records.provider_records import records_of_fallbacks
from senderproxy.domain_records.wording import subject_of
from senderproxy.routing.account import Account
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.fallback import Fallback, fallback_of, replaced_senders
from senderproxy.translation import _

_ASPECTS: Final = (Aspect.SPF, Aspect.DKIM, Aspect.DMARC)  # the MX is the same, whoever sends


def check_fallbacks(config: Config, directory: AccountDirectory) -> Iterator[Finding]:
    """One finding for each account with a fallback: does its mail leave with the same sender?"""
    for account, fallback in _fallbacks(config, directory):
        subject = _("fallback of account {id}").format(id=account.id)
        replaced = list(replaced_senders(account, fallback))
        names = {"addresses": some_of(replaced), "own": fallback.account.address, "provider": fallback.provider.name}
        if not replaced:
            text = _("account {fallback} at {provider} may use the same senders")
            yield Finding(Level.OK, subject, text.format(fallback=fallback.account.id, provider=fallback.provider.name))
        elif fallback.rewrites:
            message = _("mail of {addresses} is sent as {own}, because {provider} does not permit its sender")
            hint = _("Take a mailbox of the same domain as fallback if the sender has to stay.")
            yield Finding(Level.ADVICE, subject, message.format_map(names), hint)
        else:
            level = Level.WRONG if len(replaced) == len(account.carries) else Level.ADVICE
            message = _("mail of {addresses} waits, because {provider} does not permit its sender")
            text = _("senderproxy account edit {id} --fallback {fallback} --fallback-rewrites, or another fallback")
            hint = text.format(id=account.id, fallback=fallback.account.id)
            yield Finding(level, subject, message.format_map(names), hint)


def check_dns_of_fallbacks(
    config: Config,
    directory: AccountDirectory,
    known: Collection[tuple[str, str]],
    new_query: Callable[[], Query],
    progress: Callable[[str], None],
) -> Iterator[Finding]:
    """SPF, DKIM and DMARC of the accounts' domains for the providers of their fallbacks.

    `known`: domains and providers that are checked already; else as cli.check_dns.check_domains.
    """
    wanted = records_of_fallbacks(_fallbacks(config, directory), config.preset_of)
    left = {key: records for key, records in wanted.items() if key not in known}
    domains = [(domain, provider, records) for (domain, provider), records in left.items() if records is not None]
    yield from check_domains(new_query, domains, progress, _ASPECTS)
    for domain, provider in (key for key, records in left.items() if records is None):
        text = _("the records of {provider}, the provider of a fallback, are not known here")
        hint = _("Ask {provider} for its SPF include and DKIM records, and add them to those of {domain}.")
        yield Finding(
            Level.UNKNOWN,
            subject_of(Aspect.SPF, domain),
            text.format(provider=provider),
            hint.format(domain=domain, provider=provider),
        )


def _fallbacks(config: Config, directory: AccountDirectory) -> Iterator[tuple[Account, Fallback]]:
    providers = config.provider_table()
    for account in directory.accounts:
        if (fallback := fallback_of(account, directory, providers)) is not None:
            yield account, fallback
