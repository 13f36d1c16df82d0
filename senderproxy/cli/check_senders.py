"""What a provider's answers to four senders say about its rule, and which setting follows. PURE.

Guarantees: a setting is proposed only where the answers show it. Where nothing was refused before DATA, nothing is
concluded: the provider takes any sender, or it looks only when it has the whole message.
Not here: asking (delivery.login_check), whether a person agreed (cli.check).
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Final

from senderproxy.cli.findings import Finding, Level
from senderproxy.delivery.classify import is_sender_refused
from senderproxy.delivery.health import is_account_limit
from senderproxy.delivery.login_check import Probed, SenderAnswer
from senderproxy.mail.address import NULL_PATH, Address, ReversePath
from senderproxy.routing.account import Account
from senderproxy.routing.provider import Provider, SenderRule

_LOCAL_PART: Final = "senderproxy-probe"
_FOREIGN: Final = Address(_LOCAL_PART, "example.com")  # nobody's (RFC 2606), and it has an address in the DNS
_STRICTNESS: Final = (SenderRule.ANY, SenderRule.DOMAIN, SenderRule.ADDRESS)


class SenderKind(Enum):
    """The senders that are asked about; the value is what a person calls them."""

    OWN = "its own address"
    OTHER = "another address of its domain"
    FOREIGN = "an address of a foreign domain"
    NULL = "the null reverse-path"


def senders_to_ask(account: Account) -> Mapping[SenderKind, ReversePath]:
    """In the order in which they are asked about."""
    return {
        SenderKind.OWN: account.address,
        SenderKind.OTHER: Address(_LOCAL_PART, account.address.domain),
        SenderKind.FOREIGN: _FOREIGN,
        SenderKind.NULL: NULL_PATH,
    }


def question(accounts: Sequence[Account], recipient: Address | None) -> str:
    """What a person is asked before anything is."""
    lines = [
        f"  account {account.id} at {account.provider}, with the recipient {recipient or account.address}:"
        f" {', '.join(f'<{path}>' for path in senders_to_ask(account).values())}"
        for account in accounts
    ]
    return "\n".join(
        (
            "\nTo find out which senders a provider takes, senderproxy logs in once and names these to it:",
            *lines,
            "Each is taken back before DATA: no message is sent. The provider may write the refused ones down.",
            "Do that?",
        )
    )


def findings(account: Account, provider: Provider, recipient: Address, probed: Probed) -> Iterator[Finding]:
    """What was said, one by one, and what follows."""
    yield Finding(Level.OK, f"account {account.id}", f"the login works ({probed.smarthost}, {probed.mechanism})")
    what = f"senders of account {account.id}"
    answers = dict(zip(senders_to_ask(account), probed.answers, strict=False))
    for kind, answer in answers.items():
        yield Finding(_level(answer), what, f"{kind.value} <{answer.path}> {_in_words(answer)}")
    if missing := [kind.value for kind in SenderKind if kind not in answers]:
        reason = probed.ended.text if probed.ended else "what was said before stands in the way"
        yield Finding(Level.UNKNOWN, what, f"not asked about: {', '.join(missing)} ({reason})")
    own = answers.get(SenderKind.OWN)
    if own is None or not _taken(own):
        yield from _own_not_taken(account, recipient, own)
        return
    yield _rule_finding(provider, answers)
    yield _null_finding(provider, answers)
    yield _from_finding(account, provider)


def found_rule(answers: Mapping[SenderKind, SenderAnswer]) -> SenderRule | None:
    """The rule for the reverse-path that the answers show; None where they show none."""
    if _refused(answers.get(SenderKind.OTHER)):
        return SenderRule.ADDRESS
    if _taken(answers.get(SenderKind.OTHER)) and _refused_for_its_owner(answers.get(SenderKind.FOREIGN)):
        return SenderRule.DOMAIN
    return None


# ---- what follows ----


def _own_not_taken(account: Account, recipient: Address, own: SenderAnswer | None) -> Iterator[Finding]:
    what = f"senders of account {account.id}"
    if own is None or not _refused(own):
        return
    if own.at_mail or is_sender_refused(own.said):
        mend = f"Give the account the address that its mailbox has: senderproxy account show {account.id}"
        yield Finding(Level.WRONG, what, f"not even <{own.path}> is taken, so nothing of it goes out", mend)
    else:
        mend = "Name another address of yours: senderproxy check --probe --to ADDRESS"
        yield Finding(Level.UNKNOWN, what, f"the recipient <{recipient}> was refused, so nothing follows", mend)


def _rule_finding(provider: Provider, answers: Mapping[SenderKind, SenderAnswer]) -> Finding:
    what, has, found = f"sender_rule of {provider.name}", provider.sender_rule, found_rule(answers)
    if found is None:
        why = "the answers do not show it"
        if all(_taken(answers.get(kind)) for kind in (SenderKind.OTHER, SenderKind.FOREIGN)):
            why = "the provider takes any sender, or it looks only at the end of a message, and none was sent"
        return Finding(Level.UNKNOWN, what, f'{why}. It stays "{has.value}"')
    if found is has:
        return Finding(Level.OK, what, f'"{found.value}" is right')
    section = f"[providers.{provider.name}]"
    if _STRICTNESS.index(found) > _STRICTNESS.index(has):
        words = f'it is "{found.value}", and the configuration has "{has.value}": mail will be refused'
        return Finding(Level.WRONG, what, words, f'sender_rule = "{found.value}" in {section}')
    words = f'it is "{found.value}", and the configuration has "{has.value}": more is rewritten than need be'
    mend = f'sender_rule = "{found.value}" and, until that is known, from_rule = "{provider.from_rule.value}"'
    return Finding(Level.ADVICE, what, words, f"{mend} in {section}")


def _null_finding(provider: Provider, answers: Mapping[SenderKind, SenderAnswer]) -> Finding:
    what, has = f"takes_null_reverse_path of {provider.name}", provider.takes_null_reverse_path
    answer = answers.get(SenderKind.NULL)
    if _refused(answer):
        if not has:
            return Finding(Level.OK, what, "false is right")
        mend = f"takes_null_reverse_path = false in [providers.{provider.name}]"
        return Finding(Level.WRONG, what, "it takes none, so bounces and automatic replies will be refused", mend)
    # Taken means something only at a server that refuses other senders at the same place.
    if _taken(answer) and found_rule(answers) is not None:
        if has:
            return Finding(Level.OK, what, "true is right")
        mend = f"takes_null_reverse_path = true in [providers.{provider.name}]"
        return Finding(Level.ADVICE, what, "it takes one, so bounces and replies need no other", mend)
    return Finding(Level.UNKNOWN, what, f"the answers do not show it. It stays {str(has).lower()}")


def _from_finding(account: Account, provider: Provider) -> Finding:
    words = (
        "not asked about: From, and at some providers the sender as well, is looked at only at the end of a message,"
        f' and none was sent. It stays "{provider.from_rule.value}"'
    )
    mend = f"A test mail shows it: senderproxy send --from OTHER@{account.address.domain} --to {account.address}"
    return Finding(Level.UNKNOWN, f"from_rule of {provider.name}", words, mend)


# ---- one answer ----


def _taken(answer: SenderAnswer | None) -> bool:
    return answer is not None and not answer.at_mail and answer.said.is_positive


def _refused(answer: SenderAnswer | None) -> bool:
    """For good. The own address was taken with the same recipient a moment before: it is about the sender."""
    return answer is not None and answer.said.is_permanent and not is_account_limit(answer.said)


def _refused_for_its_owner(answer: SenderAnswer | None) -> bool:
    """And not because of something else that a foreign domain may lack."""
    return answer is not None and is_sender_refused(answer.said)


def _level(answer: SenderAnswer) -> Level:
    return Level.OK if _taken(answer) or _refused(answer) else Level.UNKNOWN


def _in_words(answer: SenderAnswer) -> str:
    if _taken(answer):
        return "is taken"
    verb = "is refused" if _refused(answer) else "is put off"
    said = f"{answer.said.code} {answer.said.status or ''}".strip()
    return f"{verb} at {'MAIL FROM' if answer.at_mail else 'RCPT TO'}: {said} {answer.said.text}"
