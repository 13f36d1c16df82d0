"""Findings of `check` about fallback accounts: the senders that they may use, and the DNS records for them.

Not here: the logins of the accounts, which are checked as all others (cli.check); the judgements (domain_records).
"""

from collections.abc import Callable, Collection, Iterator
from typing import Final

from senderproxy.cli.account_fallback import notes_on_senders
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
        if not (notes := notes_on_senders(account, fallback)):
            text = _("account {fallback} at {provider} may use the same senders")
            message = text.format(fallback=fallback.account.id, provider=fallback.provider.name)
            yield Finding(Level.OK, subject, message)
            continue
        is_useless = not fallback.rewrites and len(list(replaced_senders(account, fallback))) == len(account.carries)
        hint = ""
        if not fallback.rewrites:
            text = _("senderproxy account edit {id} --fallback {fallback} --fallback-rewrites, or another fallback")
            hint = text.format(id=account.id, fallback=fallback.account.id)
        yield Finding(Level.WRONG if is_useless else Level.ADVICE, subject, notes[0], hint)


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
