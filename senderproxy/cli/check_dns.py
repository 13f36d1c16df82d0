"""DNS records of the accounts' domains as findings. PURE.

Guarantees: the judgements are those of the running service; a name server that does not reply is one finding for each
domain, and only SILENT domains are tried.
Not here: the judgements and their words (domain_records), the queries, which are an argument (dns_client).
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from senderproxy.cli.findings import Finding, Level
from senderproxy.dns_client.errors import LookupFailed
from senderproxy.domain_records.domain import judge_domain
from senderproxy.domain_records.judgement import Aspect, Judgement, RecordProblem, Weight
from senderproxy.domain_records.lookups import Query
from senderproxy.domain_records.provider_records import ProviderRecords
from senderproxy.domain_records.wording import subject_of, words_of
from senderproxy.translation import _, ngettext

SILENT: Final = 2  # domains in a row without any reply; then the network or the name server is at fault

_LEVELS: Final = {
    Weight.OK: Level.OK,
    Weight.ADVICE: Level.ADVICE,
    Weight.UNKNOWN: Level.UNKNOWN,
    Weight.WRONG: Level.WRONG,
}


def check_domains(
    new_query: Callable[[], Query],
    domains: Iterable[tuple[str, str, ProviderRecords]],
    progress: Callable[[str], None],
    aspects: Collection[Aspect] = tuple(Aspect),
) -> Iterator[Finding]:
    """Check domains, each with its provider and the provider's records.

    `new_query` makes a query for one domain, and may raise LookupFailed; `progress` is called before each domain;
    `aspects`: only findings about these records.
    """
    left, silent = list(domains), 0
    while left:
        if silent >= SILENT:
            text = ngettext("{count} more domain was not tried", "{count} more domains were not tried", len(left))
            yield Finding(Level.UNKNOWN, "DNS", text.format(count=len(left)), _name_server_hint())
            return
        domain, provider, records = left.pop(0)
        progress(domain)
        try:
            judgements = judge_domain(new_query(), domain, records)
        except LookupFailed as error:
            yield Finding(Level.UNKNOWN, "DNS", _failed(error), _name_server_hint())
            return
        failed = [one for one in judgements if one.problem is RecordProblem.LOOKUP_FAILED]
        silent = silent + 1 if len(failed) == len(judgements) else 0
        if silent:
            subject = _("DNS of {domain}").format(domain=domain)
            yield Finding(Level.UNKNOWN, subject, words_of(failed[0], domain, provider).text, _name_server_hint())
        else:
            yield from (_finding(one, domain, provider) for one in judgements if one.aspect in aspects)


def _finding(one: Judgement, domain: str, provider: str) -> Finding:
    words = words_of(one, domain, provider)
    message = words.text
    return Finding(_LEVELS[one.weight], subject_of(one.aspect, domain), message, words.hint)


def _failed(error: LookupFailed) -> str:
    return _("DNS lookup failed: {error}").format(error=error)


def _name_server_hint() -> str:
    return _("Check the network and the name servers of this machine.")
