"""DMARC: is there a policy that receivers can use, and does mail through the provider meet it? PURE.

Guarantees: the record of a parent domain counts as receivers find it, by the DNS Tree Walk, without a list of public
suffixes. Bounded: eight names.
Not here: reports, alignment of a message: envelope and author have the domain of the account.
RFC 7489 sections 6.3 and 6.6.3; draft-ietf-dmarc-dmarcbis section 4.10 (tree walk).
"""

from collections.abc import Iterator, Mapping
from typing import Final

from senderproxy.domain_records.judgement import Aspect, Judgement, RecordProblem, judge
from senderproxy.domain_records.lookups import Lookups
from senderproxy.domain_records.tag_list import TagListError, has_version, parse_tags

_VERSION: Final = "DMARC1"
_POLICIES: Final = ("none", "quarantine", "reject")
_WALKED: Final = 7  # labels of a parent domain at most, so that eight names are asked: draft section 4.10


def judge_dmarc(lookups: Lookups, domain: str, spf: Judgement | None, dkim: Judgement | None) -> Iterator[Judgement]:
    """The main judgement first, then advice. `spf`, `dkim`: those of the domain; None: not known.

    Raises LookupFailed.
    """
    name, texts = _find(lookups, domain)
    if not texts:
        meant = next((text for text in lookups.texts(f"_dmarc.{domain}") if "dmarc" in text[:40].lower()), "")
        yield _judge(RecordProblem.DMARC_MISSPELT if meant else RecordProblem.DMARC_NONE, meant, domain=domain)
        return
    if len(texts) > 1:
        yield _judge(RecordProblem.DMARC_SEVERAL, " | ".join(texts), name=name, count=len(texts))
        return
    text = texts[0]
    try:
        tags = parse_tags(text)
    except TagListError as error:
        yield _judge(RecordProblem.DMARC_SYNTAX, text, name=name, part=error.args[0])
        return
    policy = _policy(tags, is_parent=name != f"_dmarc.{domain}")
    if policy is None:
        yield _judge(RecordProblem.DMARC_NO_POLICY, text, name=name, policy=tags.get("p", ""))
        return
    yield _judge(RecordProblem.DMARC_POLICY, text, name=name, policy=policy)
    if policy == "none" or dkim is None or dkim.is_right:
        return
    if spf is not None and not spf.is_right:
        yield _judge(RecordProblem.DMARC_NOTHING_PASSES, text, policy=policy)
    else:
        yield _judge(RecordProblem.DMARC_FORWARDED, text, policy=policy)


def _judge(problem: RecordProblem, record: str, **values: object) -> Judgement:
    return judge(Aspect.DMARC, problem, record, **values)


def _records(lookups: Lookups, name: str) -> list[str]:
    return [text for text in lookups.texts(name) if has_version(text, _VERSION)]


def _find(lookups: Lookups, domain: str) -> tuple[str, list[str]]:
    """The name with the domain's record, and its records: its own, else that of its organizational domain."""
    own = f"_dmarc.{domain}"
    if found := _records(lookups, own):
        return own, found
    labels = domain.split(".")[1:]
    parent: tuple[str, list[str]] = own, []
    for begin in range(max(0, len(labels) - _WALKED), len(labels) - 1):
        name = f"_dmarc.{'.'.join(labels[begin:])}"
        found = _records(lookups, name)
        if found and not any(_is_public_suffix(text) for text in found):
            parent = name, found  # the one with the fewest labels is that of the organization
    return parent


def _is_public_suffix(text: str) -> bool:
    try:
        return parse_tags(text).get("psd") == "y"
    except TagListError:
        return False


def _policy(tags: Mapping[str, str], *, is_parent: bool) -> str | None:
    """The policy for the domain; None: receivers ignore the record."""
    policy = tags.get("p", "").lower()
    if policy not in _POLICIES:
        # RFC 7489 section 6.6.3: with an address for reports, as if it were `none`.
        return "none" if "mailto:" in tags.get("rua", "").lower() and "p" not in tags else None
    for_subdomains = tags.get("sp", "").lower()
    return for_subdomains if is_parent and for_subdomains in _POLICIES else policy
