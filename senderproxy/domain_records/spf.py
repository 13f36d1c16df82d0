"""SPF: does the domain's record let the provider's servers pass, within the limits that receivers have? PURE.

Guarantees: judged as for a message that leaves through the provider, by the terms up to the provider's; problems behind
them are an advice. Bounded: at most WALKED look-ups are followed. The addresses of this machine are not judged: mail
reaches receivers from the provider's servers.
Not here: the terms of a record (spf_record). RFC 7208, sections 4.6.4 and 5.
"""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Final, Never

from senderproxy.dns_client.errors import LookupFailed
from senderproxy.domain_records.judgement import Aspect, Judgement, RecordProblem, judge
from senderproxy.domain_records.lookups import Lookups
from senderproxy.domain_records.spf_record import (
    Network,
    SpfRecord,
    SpfSyntaxError,
    SpfTerm,
    expand,
    is_misspelt_spf,
    is_spf,
    parse_spf,
)

LOOKUPS: Final = 10  # terms that cause queries, RFC 7208 section 4.6.4; more are a permerror
VOID_LOOKUPS: Final = 2  # of those, without a result: same section
WALKED: Final = 25  # look-ups that are followed, to tell a record with too many from one without the provider
_LONG: Final = 450  # characters of a record, RFC 7208 section 3.4: then the reply fits into 512 octets
_CAUSES_LOOKUP: Final = frozenset(("include", "a", "mx", "ptr", "exists"))


def judge_spf(lookups: Lookups, domain: str, includes: Sequence[str]) -> Iterator[Judgement]:
    """The main judgement first, then advice. `includes`: any of these is the provider's. Raises LookupFailed."""
    texts = lookups.texts(domain)
    found = [text for text in texts if is_spf(text)]
    if not found:
        meant = next((text for text in texts if is_misspelt_spf(text)), "")
        problem = RecordProblem.SPF_MISSPELT if meant else RecordProblem.SPF_NONE
        yield _judge(problem, meant, domain=domain, include=includes[0])
        return
    if len(found) > 1:
        yield _judge(RecordProblem.SPF_SEVERAL, " | ".join(found), count=len(found))
        return
    record = parse_spf(found[0])
    if isinstance(record, SpfSyntaxError):
        yield _judge(RecordProblem.SPF_SYNTAX, found[0], term=record.term, place=record.place)
        return
    walk = _Walk(lookups, includes)
    walk.visit(domain, record)
    main = _main(walk, record, domain, includes)
    yield main
    if main.is_right:
        yield from _advice(walk, record)


def _judge(problem: RecordProblem, record: str = "", **values: object) -> Judgement:
    return judge(Aspect.SPF, problem, record, **values)


def _main(walk: "_Walk", record: SpfRecord, domain: str, includes: Sequence[str]) -> Judgement:
    text = record.text
    if walk.passed_at is not None:
        if walk.passed_at > LOOKUPS:
            return _judge(RecordProblem.SPF_TOO_MANY, text, count=walk.passed_at)
        return _judge(RecordProblem.SPF_INCLUDED, text)
    if walk.failure is not None:
        raise walk.failure
    if walk.error is not None:
        problem, values = walk.error
        return _judge(problem, text, **values)
    if walk.not_passed:
        return _judge(RecordProblem.SPF_NOT_PASSED, text, term=walk.not_passed, include=includes[0])
    if walk.macro:
        return _judge(RecordProblem.SPF_MACRO, text, term=walk.macro)
    if walk.networks and _lists_provider(walk.lookups, walk.networks, includes):
        return _judge(RecordProblem.SPF_LISTED, text, include=includes[0])
    if walk.after_all:
        return _judge(RecordProblem.SPF_AFTER_ALL, text, term=walk.after_all, domain=domain)
    if walk.count >= WALKED:
        return _judge(RecordProblem.SPF_TOO_MANY, text, count=walk.count)
    return _judge(RecordProblem.SPF_NOT_INCLUDED, text, include=includes[0])


def _advice(walk: "_Walk", record: SpfRecord) -> Iterator[Judgement]:
    if walk.error is not None or walk.count > LOOKUPS:
        what = walk.error[1]["name"] if walk.error is not None else f"{walk.count} > {LOOKUPS}"
        yield _judge(RecordProblem.SPF_OTHERS_FAIL, record.text, what=what)
    ends = [term for term in record.terms if term.name == "all"]
    if ends and ends[0].qualifier == "+":
        yield _judge(RecordProblem.SPF_ALL_PASS, record.text, term=ends[0].text)
    if not ends and record.redirect is None:
        yield _judge(RecordProblem.SPF_NO_ALL, record.text)
    if record.ignored:
        yield _judge(RecordProblem.SPF_IGNORED, record.text, term=record.ignored[0])
    if len(record.text) > _LONG:
        yield _judge(RecordProblem.SPF_LONG, record.text, count=len(record.text), limit=_LONG)


class _Ended(Exception):
    """The walk ends: a receiver would end its evaluation with an error here, or the bound is reached."""


class _Walk:
    """The evaluation of a record and of those that it includes, in order, for a client that no term matches."""

    def __init__(self, lookups: Lookups, includes: Iterable[str]) -> None:
        self.lookups = lookups
        self.count = 0  # terms so far that cause look-ups
        self.passed_at: int | None = None  # the count behind the provider's include and all that it includes
        self.error: tuple[RecordProblem, dict[str, object]] | None = None  # a permerror
        self.failure: LookupFailed | None = None
        self.not_passed = ""  # a term with the provider that gives no pass
        self.after_all = ""  # a term with the provider that is ignored
        self.macro = ""  # an include that depends on the message
        self.networks: list[Network] = []  # that pass
        self._includes = frozenset(includes)
        self._void = 0

    def visit(self, domain: str, record: SpfRecord) -> None:
        """Evaluate the domain's record."""
        try:
            self._visit(domain, record, passes=True)
        except _Ended:
            pass
        except LookupFailed as error:
            self.failure = error

    def _visit(self, domain: str, record: SpfRecord, *, passes: bool) -> None:
        for place, term in enumerate(record.terms):
            if term.name == "all":
                if passes:
                    self._note_ignored(record.terms[place + 1 :])
                return
            passing = passes and term.qualifier == "+"
            if term.network is not None and passing:
                self.networks.append(term.network)
            if term.name in _CAUSES_LOOKUP:
                self._count()
                self._evaluate(domain, term, passes=passing)
        if record.redirect is not None:
            self._count()
            self._follow(domain, record.redirect, passes=passes)

    def _evaluate(self, domain: str, term: SpfTerm, *, passes: bool) -> None:
        if term.name == "include":
            self._follow(domain, term, passes=passes)
            return
        if term.name == "ptr":
            return
        name = expand(term.target, domain) if term.target else domain
        if name is None:
            return
        try:
            is_void = not (self.lookups.records(name, "MX") if term.name == "mx" else self.lookups.has_address(name))
        except LookupFailed:
            return  # a receiver may have more luck, and the term is not the provider's
        self._void += is_void
        if is_void and self._void > VOID_LOOKUPS:
            self._fail(RecordProblem.SPF_TOO_MANY_VOID, name=name)

    def _follow(self, domain: str, term: SpfTerm, *, passes: bool) -> None:
        """Evaluate the record of an include or redirect."""
        target = expand(term.target, domain)
        if target is None:
            self.macro = self.macro or term.text
            return
        is_provider = target in self._includes
        if is_provider and not passes:
            self.not_passed = self.not_passed or term.text
        found = [text for text in self.lookups.texts(target) if is_spf(text)]
        record = parse_spf(found[0]) if len(found) == 1 else None
        if record is None or isinstance(record, SpfSyntaxError):
            self._fail(RecordProblem.SPF_TARGET_INVALID, name=target, term=term.text)
        self._visit(target, record, passes=passes)
        if is_provider and passes and self.passed_at is None:
            self.passed_at = self.count

    def _count(self) -> None:
        if self.count >= WALKED:
            raise _Ended
        self.count += 1

    def _fail(self, problem: RecordProblem, **values: object) -> Never:
        self.error = problem, values
        raise _Ended

    def _note_ignored(self, terms: Iterable[SpfTerm]) -> None:
        for term in terms:
            if term.name == "include" and term.target.lower().rstrip(".") in self._includes:
                self.after_all = self.after_all or term.text


# ---- records with the provider's addresses in place of its include ----


def _lists_provider(lookups: Lookups, networks: Sequence[Network], includes: Sequence[str]) -> bool:
    """True if the networks contain all those of one of the provider's records. Raises LookupFailed."""
    own = _prefixes(networks)
    for include in includes:
        found = [text for text in lookups.texts(include) if is_spf(text)]
        record = parse_spf(found[0]) if len(found) == 1 else None
        if record is None or isinstance(record, SpfSyntaxError):
            continue
        walk = _Walk(lookups, ())
        walk.visit(include, record)
        if walk.networks and walk.failure is None and all(_is_within(one, own) for one in walk.networks):
            return True
    return False


def _prefixes(networks: Sequence[Network]) -> frozenset[Network]:
    """The networks, neighbours merged."""
    four = collapse_addresses(one for one in networks if isinstance(one, IPv4Network))
    six = collapse_addresses(one for one in networks if isinstance(one, IPv6Network))
    return frozenset((*four, *six))


def _is_within(network: Network, own: frozenset[Network]) -> bool:
    """True if one of the networks contains it: it or one of its supernets is among them."""
    return any(network.supernet(new_prefix=length) in own for length in range(network.prefixlen, -1, -1))
