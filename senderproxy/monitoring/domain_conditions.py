"""Conditions of the DNS records of the own domains. PURE.

Guarantees: more than SEPARATE domains of one provider with the same kind of record are one condition.
Not here: the judgements and their words (domain_records), the looks (service.domain_watch).
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from senderproxy.domain_records.judgement import Aspect
from senderproxy.domain_records.own_key import words_of_look
from senderproxy.domain_records.wording import Words, subject_of, words_of
from senderproxy.log_events import Severity
from senderproxy.monitoring.account_conditions import SEPARATE
from senderproxy.monitoring.facts import DkimKeyFacts, DomainFacts, Facts
from senderproxy.monitoring.record import Affected, AffectedKind, Condition, ConditionKey
from senderproxy.tracking.timeline import format_time
from senderproxy.translation import _, joined, ngettext

_KEYS: Final[Mapping[Aspect, ConditionKey]] = MappingProxyType(
    {
        Aspect.SPF: ConditionKey.SPF_WRONG,
        Aspect.DKIM: ConditionKey.DKIM_WRONG,
        Aspect.DMARC: ConditionKey.DMARC_WRONG,
        Aspect.MX: ConditionKey.MX_WRONG,
    }
)


def domain_conditions(facts: Facts) -> Iterator[Condition]:
    """Records that are wrong, or no longer right."""
    for provider in dict.fromkeys(one.provider for one in facts.domains):
        for aspect, key in _KEYS.items():
            found = [
                one for one in facts.domains if one.provider == provider and one.trouble.judgement.aspect is aspect
            ]
            groups = [found] if len(found) > SEPARATE else [[one] for one in found]
            yield from (_condition(key, some, provider) for some in groups)


def dkim_conditions(facts: Facts) -> Iterator[Condition]:
    """Own DKIM keys with a missing or wrong DNS record; all of one domain are one condition."""
    for domain in dict.fromkeys(one.domain for one in facts.dkim_keys):
        some = [one for one in facts.dkim_keys if one.domain == domain]
        causes = [_dkim_cause(one) for one in some]
        yield Condition(
            ConditionKey.DKIM_RECORD,
            domain,
            Severity.WARNING,
            min(one.since for one in some),
            joined(" ", causes),
            _("Correct the DNS record; its text: senderproxy dkim show {domain}").format(domain=domain),
            Affected(AffectedKind.DOMAINS, (domain,)),
        )


def _dkim_cause(one: DkimKeyFacts) -> str:
    name = f"{one.selector}._domainkey.{one.domain}"
    problem = words_of_look(one.look, name, one.domain)
    if one.right_at is None:
        text = _("DKIM key {selector} of {domain} does not sign yet: {problem}.")
    elif one.signs:
        text = _("DKIM key {selector} of {domain} goes on signing, and receivers cannot verify it: {problem}.")
    else:
        text = _("DKIM key {selector} of {domain} signs no more: {problem}.")
    return text.format(selector=one.selector, domain=one.domain, problem=problem)


def _condition(key: ConditionKey, some: Sequence[DomainFacts], provider: str) -> Condition:
    words, cause = _sentence(some[0])
    if len(some) > 1:
        more = len(some) - 1
        text = ngettext(
            "{cause} The same holds for {count} more domain.", "{cause} The same holds for {count} more domains.", more
        )
        cause = text.format(cause=cause, count=more)
    return Condition(
        key,
        some[0].domain if len(some) == 1 else provider,
        Severity.WARNING,
        min(one.trouble.since for one in some),
        cause,
        words.hint,
        Affected(AffectedKind.DOMAINS, tuple(one.domain for one in some)),
    )


def _sentence(one: DomainFacts) -> tuple[Words, str]:
    """The words of the judgement, and the sentence; with the record that was right before, if there was one."""
    trouble = one.trouble
    words = words_of(trouble.judgement, one.domain, one.provider)
    subject = subject_of(trouble.judgement.aspect, one.domain)
    if trouble.right_at is None:
        return words, _("{record}: {problem}.").format(record=subject, problem=words.text)
    text = _("{record}: {problem}. It was right at {time}: {before}; now: {now}.")
    return words, text.format(
        record=subject,
        problem=words.text,
        time=format_time(trouble.right_at, None),
        before=trouble.right or "-",
        now=trouble.judgement.record or "-",
    )
