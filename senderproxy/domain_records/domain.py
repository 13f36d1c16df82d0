"""All records of one domain. PURE.

Guarantees: a failed look-up gives LOOKUP_FAILED for the record that it was about, and never a missing record.
"""

from collections.abc import Callable, Iterator

from senderproxy.dns_client.errors import LookupFailed
from senderproxy.domain_records.dkim import judge_dkim
from senderproxy.domain_records.dmarc import judge_dmarc
from senderproxy.domain_records.judgement import Aspect, Judgement, RecordProblem, judge
from senderproxy.domain_records.lookups import Lookups, Query
from senderproxy.domain_records.mail_exchanger import judge_mail_exchanger
from senderproxy.domain_records.provider_records import ProviderRecords
from senderproxy.domain_records.spf import judge_spf


def judge_domain(query: Query, domain: str, records: ProviderRecords) -> list[Judgement]:
    """SPF, DKIM, DMARC and MX, in this order; of each the main judgement first, then advice."""
    lookups = Lookups(query)
    spf = _judged(Aspect.SPF, lambda: judge_spf(lookups, domain, records.spf))
    dkim = _judged(Aspect.DKIM, lambda: judge_dkim(lookups, domain, records.dkim))
    dmarc = _judged(Aspect.DMARC, lambda: judge_dmarc(lookups, domain, _known(spf), _known(dkim)))
    exchanger = _judged(Aspect.MX, lambda: judge_mail_exchanger(lookups, domain))
    return [*spf, *dkim, *dmarc, *exchanger]


def main_judgements(judgements: list[Judgement]) -> dict[Aspect, Judgement]:
    """The first judgement of each kind of record."""
    found: dict[Aspect, Judgement] = {}
    for one in judgements:
        found.setdefault(one.aspect, one)
    return found


def _judged(aspect: Aspect, look: Callable[[], Iterator[Judgement]]) -> list[Judgement]:
    try:
        return list(look())
    except LookupFailed as error:
        return [judge(aspect, RecordProblem.LOOKUP_FAILED, error=error)]


def _known(judgements: list[Judgement]) -> Judgement | None:
    main = judgements[0]
    return None if main.problem in (RecordProblem.LOOKUP_FAILED, RecordProblem.SPF_MACRO) else main
