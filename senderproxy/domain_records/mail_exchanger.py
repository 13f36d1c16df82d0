"""MX: can replies and bounces come back to the domain? PURE.

Receivers refuse mail of a domain that can get none: RFC 7505 section 4.2 (null MX), RFC 5321 section 5.1 (no MX: the
address of the domain itself).
"""

from collections.abc import Iterator

from senderproxy.domain_records.judgement import Aspect, Judgement, RecordProblem, judge
from senderproxy.domain_records.lookups import Lookups


def judge_mail_exchanger(lookups: Lookups, domain: str) -> Iterator[Judgement]:
    """One judgement. Raises LookupFailed."""
    servers = lookups.records(domain, "MX")
    names = [name for name in servers if name.strip(".")]
    if names:
        yield judge(Aspect.MX, RecordProblem.MX_SERVER, ", ".join(sorted(names)), server=names[0])
    elif servers:
        yield judge(Aspect.MX, RecordProblem.MX_NULL, "0 .", domain=domain)
    elif lookups.has_address(domain):
        yield judge(Aspect.MX, RecordProblem.MX_IMPLICIT, domain=domain)
    else:
        yield judge(Aspect.MX, RecordProblem.MX_NONE, domain=domain)
