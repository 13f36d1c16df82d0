"""Conditions of accounts, of their providers, and of the messages that wait for them. PURE.

Guarantees: messages that wait because an account cannot send are part of that account's condition, not another one.
Not here: the state of an account (delivery.account_health).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from senderproxy.log_events import Severity
from senderproxy.monitoring.facts import AccountSnapshot, AccountTrouble, Facts, LimitUse, QueueFacts, SpoolState
from senderproxy.monitoring.record import Affected, AffectedKind, Condition, ConditionKey
from senderproxy.tracking.timeline import format_time
from senderproxy.translation import _, joined, ngettext, translated

_T = TypeVar("_T")

SEPARATE: Final = 3  # conditions of one kind at one provider; more of them have one cause, and become one condition
_NAMED: Final = 5  # accounts that a sentence names
_LATE: Final = timedelta(hours=1)  # the age of a waiting message; a provider's pause or restart is over by then
_VERY_LATE: Final = timedelta(hours=4)  # RFC 5321 section 4.5.4.1: the first report on a delay comes about then
_NO_SESSION_ERROR: Final = timedelta(minutes=10)  # a restart of a provider's server takes less
_LOOK_UP_WARNING: Final = timedelta(days=1)  # the addresses are used for three days
_NEARLY: Final = 0.8  # of an hourly limit
_SMALL_LIMIT: Final = 5  # messages; four of five are no sign of anything


def account_conditions(facts: Facts) -> Iterator[Condition]:
    """Accounts that cannot send, or soon cannot; providers that refuse senders or cannot be looked up."""
    by_provider: dict[str, list[AccountSnapshot]] = {}
    for account in facts.accounts:
        by_provider.setdefault(account.provider, []).append(account)
    for provider, accounts in by_provider.items():
        yield from _suspended(facts, provider, _with(accounts, AccountTrouble.SUSPENDED))
        paused = _with(accounts, AccountTrouble.PAUSED)
        yield from _paused(facts, provider, [one for one in paused if one.until is None or one.until > facts.now])
        yield from _no_session(facts, provider, _with(accounts, AccountTrouble.NO_SESSION))
        yield from _wrong_certificate(facts, provider, _with(accounts, AccountTrouble.CERTIFICATE))
        yield from _hourly_limits(facts, provider, accounts)
    yield from _stricter_rules(facts)
    yield from _look_ups(facts)


def _suspended(facts: Facts, provider: str, accounts: Sequence[AccountSnapshot]) -> Iterator[Condition]:
    for some in grouped(accounts):
        if len(some) == 1:
            text = _("{provider} refuses the login of account {account}: {reply}")
            hint = translated(some[0].hint) or f"senderproxy account set-password {some[0].account}"
        else:
            text = _("{provider} refuses the logins of {accounts}: {reply}")
            hint = _(
                "Look into the customer menu of the provider: it may have switched off logins by SMTP. Then:"
                " senderproxy account verify"
            )
        cause = text.format(
            provider=provider, account=some[0].account, accounts=_accounts(some), reply=_most_frequent(some)
        )
        severity = _severity(some, Severity.ERROR)
        yield _condition(facts, ConditionKey.ACCOUNT_SUSPENDED, provider, some, severity, cause, hint)


def _paused(facts: Facts, provider: str, accounts: Sequence[AccountSnapshot]) -> Iterator[Condition]:
    for some in grouped(accounts):
        end = max((one.until for one in some if one.until is not None), default=None)
        text = _("Mail of {accounts} at {provider} waits until {time}: {reply}")
        if _sends_on(some):
            text = _("{provider} takes no mail of {accounts} until {time}: {reply}")
        cause = text.format(
            provider=provider,
            accounts=_accounts(some),
            time=format_time(end, None) if end else "?",
            reply=_most_frequent(some),
        )
        hint = translated(some[0].hint) or _(
            "The pause ends by itself. If it repeats, lower messages_per_hour in [providers.{provider}]."
        ).format(provider=provider)
        yield _condition(
            facts,
            ConditionKey.ACCOUNT_PAUSED,
            provider,
            some,
            _severity(some, Severity.WARNING),
            cause,
            hint,
        )


def _no_session(facts: Facts, provider: str, accounts: Sequence[AccountSnapshot]) -> Iterator[Condition]:
    if not accounts:
        return
    since = _since(facts, accounts)
    text = _("There is no session with {provider} for {accounts}: {reply}")
    cause = text.format(provider=provider, accounts=_accounts(accounts), reply=_most_frequent(accounts))
    hint = translated(accounts[0].hint) or _("Try it: senderproxy account verify {account}").format(
        account=accounts[0].account
    )
    severity = Severity.ERROR if facts.now - since >= _NO_SESSION_ERROR else Severity.WARNING
    yield Condition(
        ConditionKey.NO_SESSION,
        provider,
        _severity(accounts, severity),
        since,
        _with_waiting(facts, accounts, cause),
        hint,
        _affected(accounts),
    )


def _wrong_certificate(facts: Facts, provider: str, accounts: Sequence[AccountSnapshot]) -> Iterator[Condition]:
    if not accounts:
        return
    text = _("The certificate of {provider} is not accepted, so {accounts} cannot send: {reply}")
    cause = text.format(provider=provider, accounts=_accounts(accounts), reply=_most_frequent(accounts))
    hint = translated(accounts[0].hint) or _(
        "Check host and ca_file in [providers.{provider}], and the clock of this machine."
    ).format(provider=provider)
    yield Condition(
        ConditionKey.SMARTHOST_CERTIFICATE,
        provider,
        _severity(accounts, Severity.ERROR),
        _since(facts, accounts),
        _with_waiting(facts, accounts, cause),
        hint,
        _affected(accounts),
    )


def _hourly_limits(facts: Facts, provider: str, accounts: Sequence[AccountSnapshot]) -> Iterator[Condition]:
    used = {one.account: worst for one in accounts if (worst := _worst_use(one.hourly)) is not None}
    for some in grouped([one for one in accounts if one.account in used]):
        worst = max((used[one.account] for one in some), key=_share)
        limit = _describe_limit(worst)
        if len(some) > 1:
            text = _("{accounts} have used most of their hourly limits or reached them, the first one {limit}.")
        elif worst.used >= worst.limit and _sends_on(some):
            text = _("{accounts} has reached its limit of {limit}.")
        elif worst.used >= worst.limit:
            text = _("{accounts} has reached its limit of {limit}; further messages wait.")
        else:
            text = _("{accounts} has nearly reached its limit of {limit}.")
        severity = _severity(some, Severity.WARNING) if worst.used >= worst.limit else Severity.INFO
        if len(some) > 1:
            hint = _("If the provider allows more, raise {unit}_per_hour in [providers.{provider}].")
        else:
            hint = _("If the provider allows more: senderproxy account edit {account} --{unit}-per-hour N")
        yield _condition(
            facts,
            ConditionKey.HOURLY_LIMIT,
            provider,
            some,
            severity,
            text.format(accounts=_accounts(some), limit=limit),
            hint.format(unit=worst.unit, provider=provider, account=some[0].account),
            since=facts.now,
        )


def _describe_limit(use: LimitUse) -> str:
    if use.unit == "messages":
        text = ngettext("{limit} message an hour", "{limit} messages an hour", use.limit)
    else:
        text = ngettext("{limit} recipient an hour", "{limit} recipients an hour", use.limit)
    return text.format(limit=use.limit)


def _worst_use(hourly: Iterable[LimitUse]) -> LimitUse | None:
    near = [
        one for one in hourly if one.used >= one.limit or (one.limit > _SMALL_LIMIT and one.used >= _NEARLY * one.limit)
    ]
    return max(near, key=_share, default=None)


def _share(use: LimitUse) -> float:
    return use.used / max(1, use.limit)


def _stricter_rules(facts: Facts) -> Iterator[Condition]:
    for provider in dict.fromkeys(rule.provider for rule in facts.sender_rules):
        rules = [rule for rule in facts.sender_rules if rule.provider == provider]
        first = min(rules, key=lambda rule: rule.since)
        cause = joined("", (first.words, " (", first.reply, ")"))
        if len(rules) > 1:
            text = ngettext("{cause}; and {count} more sender", "{cause}; and {count} more senders", len(rules) - 1)
            cause = text.format(cause=cause, count=len(rules) - 1)
        yield Condition(
            ConditionKey.SENDER_RULE_STRICTER,
            provider,
            Severity.ERROR,
            first.since,
            cause,
            translated(first.hint),
            Affected(AffectedKind.SENDERS, tuple(rule.address for rule in rules)),
        )


def _look_ups(facts: Facts) -> Iterator[Condition]:
    hosts = facts.look_ups
    groups = [hosts] if len(hosts) > SEPARATE else [[one] for one in hosts]
    for some in groups:
        since = min(one.since for one in some)
        text = _("No address look-up of {host} succeeds since {since} ({why}); the addresses of {found} are used.")
        names = ", ".join(one.host for one in some[:_NAMED])
        yield Condition(
            ConditionKey.LOOK_UP_FAILING,
            some[0].host if len(some) == 1 else "",
            Severity.WARNING if facts.now - since >= _LOOK_UP_WARNING else Severity.INFO,
            since,
            text.format(
                host=names,
                since=format_time(since, None),
                why=some[0].why,
                found=format_time(min(one.found for one in some), None),
            ),
            _("Look for the cause: resolvectl query {host}").format(host=some[0].host),
        )


# ---- the queue ----


def queue_conditions(facts: Facts) -> Iterator[Condition]:
    """Messages that are held, and messages that wait too long for an account that could send."""
    if held := [queue for queue in facts.queues if queue.held]:
        count = sum(queue.held for queue in held)
        yield Condition(
            ConditionKey.MESSAGE_HELD,
            "",
            Severity.ERROR,
            facts.now,
            ngettext(
                "{count} message is held until an operator releases it.",
                "{count} messages are held until an operator releases them.",
                count,
            ).format(count=count),
            _("Look at the reason: senderproxy queue list --held"),
            _accounts_of(held),
        )
    if facts.spool is not None and facts.spool.state in (SpoolState.SILENT, SpoolState.LOST, SpoolState.BROKEN):
        return  # that is the cause
    if late := _late(facts):
        oldest = min(queue.oldest for queue in late)
        count = sum(queue.waiting for queue in late)
        text = ngettext(
            "{count} message waits for {accounts}, the oldest since {time}.",
            "{count} messages wait for {accounts}, the oldest since {time}.",
            count,
        )
        names = [queue.account for queue in late]
        yield Condition(
            ConditionKey.QUEUE_LATE,
            "",
            Severity.ERROR if facts.now - oldest >= _VERY_LATE else Severity.WARNING,
            oldest + _LATE,
            text.format(count=count, accounts=_named(names), time=format_time(oldest, None)),
            _("Look at the reason: senderproxy queue"),
            _accounts_of(late),
        )


def _late(facts: Facts) -> list[QueueFacts]:
    known = {one.account for one in facts.accounts if _is_blocked(one, facts.now)}
    return [
        queue
        for queue in facts.queues
        if queue.waiting and facts.now - queue.oldest >= _LATE and queue.account not in known
    ]


def _is_blocked(account: AccountSnapshot, now: datetime) -> bool:
    """True if the account has a condition of its own."""
    if account.trouble is AccountTrouble.PAUSED:
        return account.until is None or account.until > now
    return account.trouble is not AccountTrouble.NONE


# ---- parts of a condition ----


def _with(accounts: Sequence[AccountSnapshot], trouble: AccountTrouble) -> list[AccountSnapshot]:
    return [one for one in accounts if one.trouble is trouble]


def grouped(accounts: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """The facts of each account by themselves; all together if there are many."""
    if len(accounts) > SEPARATE:
        yield accounts
    else:
        yield from ([one] for one in accounts)


def _condition(
    facts: Facts,
    key: ConditionKey,
    provider: str,
    accounts: Sequence[AccountSnapshot],
    severity: Severity,
    cause: str,
    hint: str,
    since: datetime | None = None,
) -> Condition:
    """The condition of one account, or of many at one provider."""
    return Condition(
        key,
        accounts[0].account if len(accounts) == 1 else provider,
        severity,
        since or _since(facts, accounts),
        _with_waiting(facts, accounts, cause),
        hint,
        _affected(accounts),
    )


def _sends_on(accounts: Sequence[AccountSnapshot]) -> bool:
    """True if the mail of all these accounts is sent through their fallbacks."""
    return all(one.sends_through for one in accounts)


def _severity(accounts: Sequence[AccountSnapshot], usual: Severity) -> Severity:
    """One step less while the mail of all these accounts is sent through their fallbacks."""
    return Severity(usual - 10) if _sends_on(accounts) else usual


def _with_fallbacks(accounts: Sequence[AccountSnapshot], cause: str) -> str:
    """The cause, and a further sentence on the accounts with a working fallback, if there are any."""
    sent = [one for one in accounts if one.sends_through]
    if not sent:
        return cause
    fallbacks = _named(list(dict.fromkeys(one.sends_through for one in sent)))
    if len(accounts) == 1:
        text = _("Its mail is sent through {fallbacks} meanwhile.")
    elif len(sent) == len(accounts):
        text = _("Their mail is sent through {fallbacks} meanwhile.")
    else:
        text = _("Mail of {accounts} is sent through {fallbacks} meanwhile.")
    sentence = text.format(accounts=_accounts(sent), fallbacks=fallbacks)
    return joined(" " if cause.endswith(".") else ". ", (cause, sentence))


def _since(facts: Facts, accounts: Sequence[AccountSnapshot]) -> datetime:
    return min((one.since for one in accounts if one.since is not None), default=facts.now)


def _affected(accounts: Sequence[AccountSnapshot]) -> Affected:
    return Affected(AffectedKind.ACCOUNTS, tuple(one.account for one in accounts))


def _accounts_of(queues: Sequence[QueueFacts]) -> Affected:
    return Affected(AffectedKind.ACCOUNTS, tuple(queue.account for queue in queues))


def _accounts(accounts: Sequence[AccountSnapshot]) -> str:
    return _named([one.account for one in accounts])


def _named(names: Sequence[str]) -> str:
    """`account anna`, or `40 accounts (anna, bert, carl, dora, emil, …)`."""
    if len(names) == 1:
        return _("account {account}").format(account=names[0])
    shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    text = ngettext("{count} account ({names})", "{count} accounts ({names})", len(names))
    return text.format(count=len(names), names=shown)


def _with_waiting(facts: Facts, accounts: Sequence[AccountSnapshot], cause: str) -> str:
    """The cause, and further sentences on fallbacks and on the messages that wait for these accounts, if any do."""
    cause = _with_fallbacks(accounts, cause)
    names = {one.account for one in accounts}
    queues = [queue for queue in facts.queues if queue.waiting and queue.account in names]
    if not queues:
        return cause
    count = sum(queue.waiting for queue in queues)
    text = ngettext(
        "{count} message waits, the oldest since {time}.",
        "{count} messages wait, the oldest since {time}.",
        count,
    )
    oldest = format_time(min(queue.oldest for queue in queues), None)
    return joined(" " if cause.endswith(".") else ". ", (cause, text.format(count=count, time=oldest)))


def _most_frequent(accounts: Sequence[AccountSnapshot]) -> str:
    """The reply that most of the accounts got."""
    return Counter(one.words for one in accounts).most_common(1)[0][0]
