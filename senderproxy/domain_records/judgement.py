"""Judgement: the result for one record of a domain, without words. PURE.

Guarantees: it survives JSON, so that the service remembers it; its record and values have no control characters and are
bounded in length.
Not here: the judgements (spf, dkim, dmarc, mail_exchanger), their words (wording).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any, Final

_SHOWN: Final = 300  # characters of a record or a value; a usual SPF record has a third


class Aspect(StrEnum):
    """The kind of record."""

    SPF = "spf"
    DKIM = "dkim"
    DMARC = "dmarc"
    MX = "mx"


class Weight(Enum):
    """The weight of a problem."""

    OK = "ok"
    ADVICE = "advice"  # mail passes, and it could be better
    UNKNOWN = "unknown"  # no reply, or it depends on the message
    WRONG = "wrong"  # receivers refuse mail or sort it out


class RecordProblem(StrEnum):
    """The result for a record. The values are stored: they do not change."""

    LOOKUP_FAILED = "lookup_failed"

    SPF_INCLUDED = "spf_included"
    SPF_LISTED = "spf_listed"  # by addresses, not by include
    SPF_NONE = "spf_none"
    SPF_MISSPELT = "spf_misspelt"
    SPF_SEVERAL = "spf_several"
    SPF_SYNTAX = "spf_syntax"
    SPF_NOT_INCLUDED = "spf_not_included"
    SPF_AFTER_ALL = "spf_after_all"
    SPF_NOT_PASSED = "spf_not_passed"
    SPF_TOO_MANY = "spf_too_many"
    SPF_TOO_MANY_VOID = "spf_too_many_void"
    SPF_TARGET_INVALID = "spf_target_invalid"
    SPF_MACRO = "spf_macro"
    # Not about the provider's servers:
    SPF_OTHERS_FAIL = "spf_others_fail"
    SPF_ALL_PASS = "spf_all_pass"
    SPF_NO_ALL = "spf_no_all"
    SPF_LONG = "spf_long"
    SPF_IGNORED = "spf_ignored"

    DKIM_KEY = "dkim_key"
    DKIM_NONE = "dkim_none"
    DKIM_DANGLING = "dkim_dangling"
    DKIM_REVOKED = "dkim_revoked"
    DKIM_INVALID = "dkim_invalid"
    DKIM_SHORT = "dkim_short"
    DKIM_SEVERAL = "dkim_several"
    DKIM_TESTING = "dkim_testing"
    DKIM_OTHER_INVALID = "dkim_other_invalid"

    DMARC_POLICY = "dmarc_policy"
    DMARC_NONE = "dmarc_none"
    DMARC_MISSPELT = "dmarc_misspelt"
    DMARC_SEVERAL = "dmarc_several"
    DMARC_SYNTAX = "dmarc_syntax"
    DMARC_NO_POLICY = "dmarc_no_policy"
    DMARC_FORWARDED = "dmarc_forwarded"
    DMARC_NOTHING_PASSES = "dmarc_nothing_passes"

    MX_SERVER = "mx_server"
    MX_IMPLICIT = "mx_implicit"
    MX_NULL = "mx_null"
    MX_NONE = "mx_none"


_OK: Final = {RecordProblem.SPF_INCLUDED, RecordProblem.DKIM_KEY, RecordProblem.DMARC_POLICY, RecordProblem.MX_SERVER}
_UNKNOWN: Final = {RecordProblem.LOOKUP_FAILED, RecordProblem.SPF_MACRO}
_FINE: Final = {  # advice about a record that works
    RecordProblem.SPF_LISTED,
    RecordProblem.SPF_OTHERS_FAIL,
    RecordProblem.SPF_ALL_PASS,
    RecordProblem.SPF_NO_ALL,
    RecordProblem.SPF_LONG,
    RecordProblem.SPF_IGNORED,
    RecordProblem.DKIM_TESTING,
    RecordProblem.DKIM_OTHER_INVALID,
    RecordProblem.DMARC_FORWARDED,
    RecordProblem.MX_IMPLICIT,
}
_MISSING: Final = {
    RecordProblem.DKIM_NONE,
    RecordProblem.DKIM_DANGLING,
    RecordProblem.DKIM_REVOKED,
    RecordProblem.DMARC_NONE,
}


def _weight(problem: RecordProblem) -> Weight:
    if problem in _OK:
        return Weight.OK
    if problem in _UNKNOWN:
        return Weight.UNKNOWN
    return Weight.ADVICE if problem in _FINE or problem in _MISSING else Weight.WRONG


WEIGHTS: Final[Mapping[RecordProblem, Weight]] = MappingProxyType(
    {problem: _weight(problem) for problem in RecordProblem}
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result for one record. `values`: what the words name; `record`: the record as published, or empty."""

    aspect: Aspect
    problem: RecordProblem
    values: Mapping[str, str] = field(default_factory=dict)
    record: str = ""

    @property
    def weight(self) -> Weight:
        """The weight of the problem."""
        return WEIGHTS[self.problem]

    @property
    def is_right(self) -> bool:
        """True if the record works; there may be an advice about it."""
        return self.problem in _OK or self.problem in _FINE

    def to_json(self) -> dict[str, Any]:
        """The judgement in values for JSON."""
        return {"problem": self.problem.value, "values": dict(self.values), "record": self.record}

    @classmethod
    def from_json(cls, aspect: Aspect, entry: Mapping[str, Any]) -> "Judgement":
        """The judgement of a `to_json`. Raises KeyError, TypeError or ValueError for another value."""
        values = {str(name): shown(str(value)) for name, value in dict(entry["values"]).items()}
        return cls(aspect, RecordProblem(entry["problem"]), values, shown(str(entry["record"])))


def judge(aspect: Aspect, problem: RecordProblem, record: str = "", **values: object) -> Judgement:
    """A judgement, with everything from the DNS made safe to show."""
    return Judgement(aspect, problem, {name: shown(str(value)) for name, value in values.items()}, shown(record))


def shown(text: str) -> str:
    """A text from the DNS for people: without control characters, and cut off after some hundred characters."""
    cut = text[:_SHOWN]
    safe = cut if cut.isprintable() else "".join(c if c.isprintable() else "?" for c in cut)
    return safe if len(text) <= _SHOWN else safe[: _SHOWN - 1] + "…"
