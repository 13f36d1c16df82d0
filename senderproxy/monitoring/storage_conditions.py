"""Conditions of the spool, its disk, and the vault. PURE.

Not here: refusals of the spool (spool.sqlite.disk_health), the reading of the vault (accounts.vault_accounts).
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from senderproxy.log_events import Severity
from senderproxy.monitoring.facts import AccountsFacts, Facts, SpoolFacts, SpoolState
from senderproxy.monitoring.record import Affected, AffectedKind, Condition, ConditionKey
from senderproxy.translation import N_, _, ngettext, translated

LOW_SHARE: Final = 2  # times min_free; below that no history is stored

_STATES: Final[Mapping[SpoolState, tuple[ConditionKey, Severity]]] = MappingProxyType(
    {
        SpoolState.CLOSED: (ConditionKey.SPOOL_CLOSED, Severity.ERROR),
        SpoolState.FULL: (ConditionKey.DISK_FULL, Severity.ERROR),
        SpoolState.SILENT: (ConditionKey.DISK_SILENT, Severity.ERROR),
        SpoolState.LOST: (ConditionKey.SPOOL_FILE_LOST, Severity.CRITICAL),
        SpoolState.BROKEN: (ConditionKey.DISK_BROKEN, Severity.CRITICAL),
    }
)


def spool_conditions(facts: Facts) -> Iterator[Condition]:
    """A spool that stores no message, or soon will not."""
    spool = facts.spool
    if spool is None:
        return
    if spool.state is SpoolState.OPEN:
        yield from _low_disk(facts, spool)
        return
    key, severity = _STATES[spool.state]
    if spool.state is SpoolState.CLOSED:
        text = _("The queue is unavailable: {why}")
    else:
        text = _("New mail for the queue is deferred: {why}")
    yield Condition(key, "", severity, facts.now, text.format(why=spool.why), translated(spool.hint))


def _low_disk(facts: Facts, spool: SpoolFacts) -> Iterator[Condition]:
    if spool.free is None or spool.free >= LOW_SHARE * spool.min_free:
        return
    text = _(
        "{free} MiB are free on the disk of the spool: no history is stored below {low} MiB, no message is queued below"
        " {min_free} MiB."
    )
    cause = text.format(free=spool.free >> 20, low=LOW_SHARE * spool.min_free >> 20, min_free=spool.min_free >> 20)
    hint = _("Free some space, or change min_free in section [spool].")
    yield Condition(ConditionKey.DISK_LOW, "", Severity.WARNING, facts.now, cause, hint)


ROLLED_BACK_HINT: Final = N_(
    "If you restored a backup, enter what changed since again, then: senderproxy vault accept-rollback. If not, find"
    " out who can write to the vault's folder, or to its database, and restore the newest backup."
)


def vault_conditions(facts: Facts) -> Iterator[Condition]:
    """A vault that cannot be read or is an older copy; records and settings that cannot be used."""
    vault = facts.vault
    if vault is None:
        return
    if vault.problem:
        text = _("The accounts in memory stay in force: {problem}").format(problem=vault.problem)
        yield Condition(ConditionKey.VAULT_UNREADABLE, "", Severity.ERROR, facts.now, text, translated(vault.hint))
    if vault.rolled_back:
        hint = _(ROLLED_BACK_HINT)
        cause = translated(vault.rolled_back)
        yield Condition(ConditionKey.VAULT_ROLLED_BACK, "", Severity.ERROR, facts.now, cause, hint, EVERY_ACCOUNT)
    if vault.unusable:
        yield Condition(
            ConditionKey.VAULT_RECORD_UNUSABLE,
            "",
            Severity.ERROR,
            facts.now,
            _and_more(vault.unusable),
            _("Remove the account and add it again: senderproxy account --help"),
        )
    if not vault.accounts and not vault.problem:
        yield Condition(
            ConditionKey.NO_ACCOUNT,
            "",
            Severity.ERROR,
            facts.now,
            _("There is no account yet."),
            _("Add one: senderproxy account add ADDRESS --provider NAME"),
        )
    yield from _references(facts, vault)


EVERY_ACCOUNT: Final = Affected(AffectedKind.ACCOUNTS)


def _and_more(texts: Sequence[str]) -> str:
    """The first text, and the number of the others."""
    if len(texts) == 1:
        return translated(texts[0])
    more = ngettext("{text} And {count} more record.", "{text} And {count} more records.", len(texts) - 1)
    return more.format(text=texts[0], count=len(texts) - 1)


def _references(facts: Facts, vault: AccountsFacts) -> Iterator[Condition]:
    """Providers that accounts name, and accounts that settings name."""
    for provider in dict.fromkeys(provider for _account, provider in vault.unknown_providers):
        accounts = tuple(account for account, name in vault.unknown_providers if name == provider)
        text = ngettext(
            "{count} account ({account}) is at provider {provider}, which the configuration does not know.",
            "{count} accounts ({account}, …) are at provider {provider}, which the configuration does not know.",
            len(accounts),
        )
        yield Condition(
            ConditionKey.UNKNOWN_PROVIDER,
            provider,
            Severity.ERROR,
            facts.now,
            text.format(count=len(accounts), account=accounts[0], provider=provider),
            _("Add [providers.{provider}] to the configuration.").format(provider=provider),
            Affected(AffectedKind.ACCOUNTS, accounts),
        )
    for setting, account in vault.unknown_accounts:
        yield Condition(
            ConditionKey.UNKNOWN_ACCOUNT,
            setting,
            Severity.ERROR,
            facts.now,
            _("The account {id} that {setting} names does not exist.").format(id=account, setting=setting),
            _("Correct {setting}, or: senderproxy account add ADDRESS --id {id}").format(setting=setting, id=account),
        )
