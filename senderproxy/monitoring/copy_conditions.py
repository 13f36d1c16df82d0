"""Conditions of copies in Sent folders. PURE.

Guarantees: no condition says that mail waits: it has left. One for each account; many accounts together are one.
Not here: the work on the copies (sent_copy.runner).
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from senderproxy.log_events import Severity
from senderproxy.monitoring.account_conditions import grouped
from senderproxy.monitoring.facts import CopyFacts, Facts
from senderproxy.monitoring.record import Affected, AffectedKind, Condition, ConditionKey
from senderproxy.translation import _, ngettext, translated

_LATE: Final = timedelta(hours=4)  # of a failure that passes by itself; a restart or a maintenance takes less
_REMEMBERED: Final = timedelta(days=1)  # that copies were given up


def copy_conditions(facts: Facts) -> Iterator[Condition]:
    """Accounts with copies that wait for somebody to act, or for too long; copies that were given up."""
    waiting = [
        one for one in facts.copies if one.since is not None and (one.is_refusal or facts.now - one.since >= _LATE)
    ]
    for some in grouped(sorted(waiting, key=lambda one: -one.waiting)):
        yield _waiting(some, facts)
    given_up = [
        one for one in facts.copies if one.given_up_at is not None and facts.now - one.given_up_at < _REMEMBERED
    ]
    for some in grouped(sorted(given_up, key=lambda one: -one.given_up)):
        yield _given_up(some, facts)


def _waiting(some: Sequence[CopyFacts], facts: Facts) -> Condition:
    first = some[0]
    text = ngettext(
        "The mail of account {account} was sent; {count} copy for its Sent folder waits: {why}.",
        "The mail of account {account} was sent; {count} copies for its Sent folder wait: {why}.",
        first.waiting,
    )
    cause = text.format(account=first.account, count=first.waiting, why=_without_period(first.words))
    hint = translated(first.hint) or _("Try it: senderproxy account verify {account}").format(account=first.account)
    return _condition(ConditionKey.SENT_COPY_WAITING, some, min(one.since or facts.now for one in some), cause, hint)


def _given_up(some: Sequence[CopyFacts], facts: Facts) -> Condition:
    first = some[0]
    text = ngettext(
        "The mail of account {account} was sent; {count} copy for its Sent folder was given up: {why}.",
        "The mail of account {account} was sent; {count} copies for its Sent folder were given up: {why}.",
        first.given_up,
    )
    cause = text.format(account=first.account, count=first.given_up, why=_without_period(first.given_up_why))
    hint = _("Remove the cause; those messages get no copy any more. Which they are: senderproxy track")
    since = min(one.given_up_at or facts.now for one in some)
    return _condition(ConditionKey.SENT_COPY_GIVEN_UP, some, since, cause, hint)


def _condition(key: ConditionKey, some: Sequence[CopyFacts], since: datetime, cause: str, hint: str) -> Condition:
    """The condition of one account, or of many; `cause` is about the first."""
    accounts = tuple(one.account for one in some)
    subject = accounts[0] if len(accounts) == 1 else ""
    affected = Affected(AffectedKind.ACCOUNTS, accounts)
    return Condition(key, subject, Severity.WARNING, since, _with_others(cause, some), hint, affected)


def _without_period(words: str) -> str:
    """The words in the language in force; those of a server may end in a period of their own."""
    return translated(words).rstrip(". ")


def _with_others(cause: str, some: Sequence[CopyFacts]) -> str:
    if len(some) == 1:
        return cause
    more = len(some) - 1
    text = ngettext(
        "{cause} The same holds for {count} more account.", "{cause} The same holds for {count} more accounts.", more
    )
    return text.format(cause=cause, count=more)
