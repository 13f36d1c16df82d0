"""Words for judgements, in the reader's language. PURE.

Guarantees: a sentence begins in lower case, as it follows `SPF of firma.example: `. Each judgement that is wrong or an
advice has a hint.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from types import MappingProxyType
from typing import Final

from senderproxy.domain_records.judgement import Aspect, Judgement, RecordProblem
from senderproxy.translation import N_, _


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a judgement, and its fix; empty if there is nothing to fix."""

    text: str
    hint: str = ""


_SUBJECTS: Final[Mapping[Aspect, str]] = MappingProxyType(
    {
        Aspect.SPF: N_("SPF of {domain}"),
        Aspect.DKIM: N_("DKIM of {domain}"),
        Aspect.DMARC: N_("DMARC of {domain}"),
        Aspect.MX: N_("MX of {domain}"),
    }
)

_ENABLE_DKIM: Final = N_(
    "Enable DKIM at {provider}. If the DNS is hosted elsewhere, enter the records that it shows: {names}"
)
_WORDS: Final[Mapping[RecordProblem, Words]] = MappingProxyType(
    {
        RecordProblem.LOOKUP_FAILED: Words(
            N_("DNS lookup failed: {error}"), N_("Check the network and the name servers of this machine.")
        ),
        # ---- SPF ----
        RecordProblem.SPF_INCLUDED: Words(N_("includes the servers of {provider}")),
        RecordProblem.SPF_LISTED: Words(
            N_("lists the addresses of {provider}'s servers, and misses each new server"),
            N_("Use include:{include} in place of the addresses."),
        ),
        RecordProblem.SPF_NONE: Words(
            N_("there is no SPF record: receivers cannot tell your mail from forged mail"),
            N_('Add a TXT record to {domain}: "v=spf1 include:{include} ~all"'),
        ),
        RecordProblem.SPF_MISSPELT: Words(
            N_("receivers do not see an SPF record in this text: {record}"),
            N_('Let it begin with "v=spf1" and a blank, without quotes of its own.'),
        ),
        RecordProblem.SPF_SEVERAL: Words(
            N_("there is more than one record ({count}), so none is valid"),
            N_("Merge them: put all include: parts into a single record."),
        ),
        RecordProblem.SPF_SYNTAX: Words(
            N_("term {place} is invalid, so receivers ignore the whole record: {term}"),
            N_("Correct or remove the term {term} in the record: {record}"),
        ),
        RecordProblem.SPF_NOT_INCLUDED: Words(
            N_("does not include the servers of {provider}"), N_("Add include:{include} to the record: {record}")
        ),
        RecordProblem.SPF_AFTER_ALL: Words(
            N_("receivers ignore {term}, because it stands behind the term all"),
            N_("Move it before the term all: {record}"),
        ),
        RecordProblem.SPF_NOT_PASSED: Words(
            N_("names the servers of {provider} and does not let them pass: {term}"),
            N_("Write include:{include} without a sign before it, also in records that include it."),
        ),
        RecordProblem.SPF_TOO_MANY: Words(
            N_("needs {count} look-ups until the servers of {provider} pass; receivers allow 10"),
            N_("Remove includes that are not needed, or put the one of {provider} first: {record}"),
        ),
        RecordProblem.SPF_TOO_MANY_VOID: Words(
            N_("refers to more than two names without an address, such as {name}: receivers end with an error"),
            N_("Remove the terms with names that do not exist: {record}"),
        ),
        RecordProblem.SPF_TARGET_INVALID: Words(
            N_("refers to {name}, which has no valid SPF record: receivers end with an error"),
            N_("Correct or remove the term {term} in the record: {record}"),
        ),
        RecordProblem.SPF_MACRO: Words(
            N_("depends on the message ({term}), so it cannot be judged here"),
            N_("Look into the service that the record belongs to."),
        ),
        RecordProblem.SPF_OTHERS_FAIL: Words(
            N_("mail through {provider} passes; for all other mail receivers end with an error ({what})"),
            N_("Remove terms that are not needed: {record}"),
        ),
        RecordProblem.SPF_ALL_PASS: Words(
            N_("lets every server on the Internet pass: {term}"), N_("Write ~all in place of {term}.")
        ),
        RecordProblem.SPF_NO_ALL: Words(
            N_("says nothing about other servers, so forged mail is not recognised"),
            N_("Add ~all at the end: {record}"),
        ),
        RecordProblem.SPF_LONG: Words(
            N_("has {count} characters; above {limit} some receivers do not get it"),
            N_("Remove terms that are not needed."),
        ),
        RecordProblem.SPF_IGNORED: Words(
            N_("receivers ignore {term}"), N_("Write a colon in place of the equals sign: {record}")
        ),
        # ---- DKIM ----
        RecordProblem.DKIM_KEY: Words(N_("has the key {selector} of {provider}")),
        RecordProblem.DKIM_NONE: Words(
            N_("no key of {provider} found: mail is sent without a valid signature"), _ENABLE_DKIM
        ),
        RecordProblem.DKIM_DANGLING: Words(
            N_("{name} points to {target}, which has no key: mail is sent without a valid signature"), _ENABLE_DKIM
        ),
        RecordProblem.DKIM_REVOKED: Words(
            N_("the key {name} is revoked: mail is sent without a valid signature"), _ENABLE_DKIM
        ),
        RecordProblem.DKIM_INVALID: Words(
            N_("the key {name} cannot be used ({part}): signatures of {provider} fail"), _ENABLE_DKIM
        ),
        RecordProblem.DKIM_SHORT: Words(
            N_("the key {name} has {bits} bits; receivers ignore RSA keys below {minimum}"),
            N_("Have {provider} make a new key, and enter the records that it shows: {names}"),
        ),
        RecordProblem.DKIM_SEVERAL: Words(
            N_("{name} has more than one key ({count}): receivers take any of them"),
            N_("Remove all but the one that {provider} shows."),
        ),
        RecordProblem.DKIM_TESTING: Words(
            N_("the key {name} has the flag t=y: receivers treat mail as if it had no signature"),
            N_("Have {provider} end the test of DKIM, or remove t=y."),
        ),
        RecordProblem.DKIM_OTHER_INVALID: Words(
            N_("the key {name} cannot be used; another one can"),
            N_("Enter the record that {provider} shows for it, before {provider} changes to that key."),
        ),
        # ---- DMARC ----
        RecordProblem.DMARC_POLICY: Words(N_("has the policy {policy}, in {name}")),
        RecordProblem.DMARC_NONE: Words(
            N_("there is no DMARC record; large receivers expect one"),
            N_('Add a TXT record to _dmarc.{domain}: "v=DMARC1; p=none;"'),
        ),
        RecordProblem.DMARC_MISSPELT: Words(
            N_("receivers do not see a DMARC record in this text: {record}"),
            N_('Let it begin with "v=DMARC1;" in capital letters, without quotes of its own.'),
        ),
        RecordProblem.DMARC_SEVERAL: Words(
            N_("{name} has more than one record ({count}), so receivers ignore all"), N_("Remove all but one.")
        ),
        RecordProblem.DMARC_SYNTAX: Words(
            N_("a part of {name} is invalid, so receivers ignore the record: {part}"),
            N_("Separate the parts by semicolons, each as name=value: {record}"),
        ),
        RecordProblem.DMARC_NO_POLICY: Words(
            N_('{name} has no valid policy (p="{policy}"), so receivers ignore the record'),
            N_("Add p=none, p=quarantine or p=reject: {record}"),
        ),
        RecordProblem.DMARC_FORWARDED: Words(
            N_(
                "the policy is {policy} and no key of {provider} was found: your mail that a recipient forwards to"
                " another mailbox is refused or sorted out there"
            ),
            N_("Enable DKIM at {provider}, or use p=none until then."),
        ),
        RecordProblem.DMARC_NOTHING_PASSES: Words(
            N_("the policy is {policy}, and neither SPF nor DKIM is right: receivers refuse your mail or sort it out"),
            N_("Fix SPF at once; see the other lines on this domain."),
        ),
        # ---- MX ----
        RecordProblem.MX_SERVER: Words(N_("replies and bounces go to {server}")),
        RecordProblem.MX_IMPLICIT: Words(
            N_("there is no MX record: replies and bounces go to the address of {domain} itself"),
            N_("Add an MX record with the server that receives mail for {domain}."),
        ),
        RecordProblem.MX_NULL: Words(
            N_("says that the domain receives no mail: receivers refuse mail from it, and bounces are lost"),
            N_("Replace the MX record of {domain} by one with the server that receives its mail."),
        ),
        RecordProblem.MX_NONE: Words(
            N_("has neither an MX record nor an address: receivers refuse mail from it, and bounces are lost"),
            N_("Add an MX record with the server that receives mail for {domain}."),
        ),
    }
)


def subject_of(aspect: Aspect, domain: str) -> str:
    """The name of a record of a domain."""
    return _(_SUBJECTS[aspect]).format(domain=domain)


def words_of(judgement: Judgement, domain: str, provider: str) -> Words:
    """The words of the judgement, and its fix."""
    words = _WORDS[judgement.problem]
    values = dict(judgement.values) | {"domain": domain, "provider": provider, "record": judgement.record}
    return Words(_filled(words.text, values), _filled(words.hint, values) if words.hint else "")


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The text with its values; one that is missing, as in a fact of another version, is a question mark."""
    names = {name for _literal, name, _layout, _conversion in Formatter().parse(template) if name}
    return _(template).format(**{name: values.get(name, "?") for name in names})
