"""Conclusions from a provider's replies to four senders: its rule, and the settings that follow. PURE.

Guarantees: a setting is proposed only if the replies prove it. If nothing was refused before DATA, nothing is
concluded: the provider accepts any sender, or checks only the complete message.
Not here: the probe (delivery.login_check), the confirmation (cli.check).
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Final

from senderproxy.cli.findings import Finding, Level
from senderproxy.delivery.login_check import Probed, SenderAnswer
from senderproxy.mail.address import NULL_PATH, Address, ReversePath
from senderproxy.routing.account import Account
from senderproxy.routing.provider import Provider, SenderRule
from senderproxy.translation import N_, _

_LOCAL_PART: Final = "senderproxy-probe"
_FOREIGN: Final = Address(_LOCAL_PART, "example.com")  # reserved (RFC 2606), and it has an address in the DNS
_STRICTNESS: Final = (SenderRule.ANY, SenderRule.DOMAIN, SenderRule.ADDRESS)


class SenderKind(Enum):
    """The senders of a probe; the value is the name in a finding."""

    OWN = N_("its own address")
    OTHER = N_("another address of its domain")
    FOREIGN = N_("an address of a foreign domain")
    NULL = N_("the null reverse-path")


def senders_to_probe(account: Account) -> Mapping[SenderKind, ReversePath]:
    """The senders, in the order of the probe."""
    return {
        SenderKind.OWN: account.address,
        SenderKind.OTHER: Address(_LOCAL_PART, account.address.domain),
        SenderKind.FOREIGN: _FOREIGN,
        SenderKind.NULL: NULL_PATH,
    }


def question(accounts: Sequence[Account], recipient: Address | None) -> str:
    """The question to the operator before a probe."""
    line = _("  account {id} at {provider}, recipient {recipient}: {senders}")
    lines = [
        line.format(
            id=account.id,
            provider=account.provider,
            recipient=recipient or account.address,
            senders=", ".join(f"<{path}>" for path in senders_to_probe(account).values()),
        )
        for account in accounts
    ]
    return "\n".join(
        (
            "\n" + _("To find the senders that a provider accepts, senderproxy logs in once and tries these:"),
            *lines,
            _("Each transaction ends before DATA: no message is sent. The provider may log the refused senders."),
            _("Continue?"),
        )
    )


def findings(account: Account, provider: Provider, recipient: Address, probed: Probed) -> Iterator[Finding]:
    """One finding for each reply, then the conclusions."""
    text = _("the login works ({smarthost}, {mechanism})")
    subject = _("account {id}").format(id=account.id)
    yield Finding(Level.OK, subject, text.format(smarthost=probed.smarthost, mechanism=probed.mechanism))
    subject = _senders_of(account)
    answers = dict(zip(senders_to_probe(account), probed.answers, strict=False))
    for kind, answer in answers.items():
        yield Finding(_level(answer), subject, f"{_(kind.value)} <{answer.path}> {_describe(answer)}")
    if missing := [_(kind.value) for kind in SenderKind if kind not in answers]:
        reason = probed.ended.reason if probed.ended else _("an earlier reply prevents it")
        text = _("not probed: {senders} ({reason})").format(senders=", ".join(missing), reason=reason)
        yield Finding(Level.UNKNOWN, subject, text)
    own = answers.get(SenderKind.OWN)
    if own is None or not _accepted(own):
        yield from _own_address_findings(account, recipient, own)
        return
    yield _rule_finding(provider, answers)
    yield _null_finding(provider, answers)
    yield _from_finding(account, provider)


def found_rule(answers: Mapping[SenderKind, SenderAnswer]) -> SenderRule | None:
    """The rule for the reverse-path that the replies prove; None if they prove none."""
    if _refused(answers.get(SenderKind.OTHER)):
        return SenderRule.ADDRESS
    if _accepted(answers.get(SenderKind.OTHER)) and _refused_as_sender(answers.get(SenderKind.FOREIGN)):
        return SenderRule.DOMAIN
    return None


# ---- conclusions ----


def _senders_of(account: Account) -> str:
    return _("senders of account {id}").format(id=account.id)


def _own_address_findings(account: Account, recipient: Address, own: SenderAnswer | None) -> Iterator[Finding]:
    if own is None or not _refused(own):
        return
    if own.at_mail or own.is_sender_refused:
        yield Finding(
            Level.WRONG,
            _senders_of(account),
            _("its own address <{address}> is refused, so it cannot send").format(address=own.path),
            _("Give the account the address of its mailbox: senderproxy account show {id}").format(id=account.id),
        )
    else:
        yield Finding(
            Level.UNKNOWN,
            _senders_of(account),
            _("the recipient <{address}> was refused, so the replies prove nothing").format(address=recipient),
            _("Name another recipient of yours: senderproxy check --probe --to ADDRESS"),
        )


def _rule_finding(provider: Provider, answers: Mapping[SenderKind, SenderAnswer]) -> Finding:
    subject = _("sender_rule of {provider}").format(provider=provider.name)
    configured, found = provider.sender_rule, found_rule(answers)
    if found is None:
        if all(_accepted(answers.get(kind)) for kind in (SenderKind.OTHER, SenderKind.FOREIGN)):
            reason = _("the provider accepts any sender, or checks only the complete message, and none was sent")
        else:
            reason = _("the replies do not prove it")
        return Finding(Level.UNKNOWN, subject, _unchanged(reason, f'"{configured.value}"'))
    if found is configured:
        return Finding(Level.OK, subject, _("{value} is right").format(value=f'"{found.value}"'))
    section = f"[providers.{provider.name}]"
    if _STRICTNESS.index(found) > _STRICTNESS.index(configured):
        text = _('it is "{found}", and the configuration has "{configured}": mail will be refused')
        hint = f'sender_rule = "{found.value}" in {section}'
        level = Level.WRONG
    else:
        text = _('it is "{found}", and the configuration has "{configured}": more is rewritten than necessary')
        hint = _('sender_rule = "{rule}" and, until that is known, from_rule = "{from_rule}" in {section}').format(
            rule=found.value, from_rule=provider.from_rule.value, section=section
        )
        level = Level.ADVICE
    return Finding(level, subject, text.format(found=found.value, configured=configured.value), hint)


def _null_finding(provider: Provider, answers: Mapping[SenderKind, SenderAnswer]) -> Finding:
    subject = _("takes_null_reverse_path of {provider}").format(provider=provider.name)
    configured, answer = provider.takes_null_reverse_path, answers.get(SenderKind.NULL)
    accepts: bool | None = None
    if _refused(answer):
        accepts = False
    elif _accepted(answer) and found_rule(answers) is not None:
        # Proof only at a server that refuses other senders at the same stage.
        accepts = True
    if accepts is None:
        return Finding(Level.UNKNOWN, subject, _unchanged(_("the replies do not prove it"), str(configured).lower()))
    if accepts is configured:
        return Finding(Level.OK, subject, _("{value} is right").format(value=str(accepts).lower()))
    hint = f"takes_null_reverse_path = {str(accepts).lower()} in [providers.{provider.name}]"
    if accepts:
        text = _("the provider accepts it, so bounces and automatic replies can keep it")
        return Finding(Level.ADVICE, subject, text, hint)
    text = _("the provider refuses it, so it will refuse bounces and automatic replies")
    return Finding(Level.WRONG, subject, text, hint)


def _from_finding(account: Account, provider: Provider) -> Finding:
    reason = _("not probed: providers check From only in the complete message, and none was sent")
    return Finding(
        Level.UNKNOWN,
        _("from_rule of {provider}").format(provider=provider.name),
        _unchanged(reason, f'"{provider.from_rule.value}"'),
        _("A test message shows it: senderproxy send --from OTHER@{domain} --to {address}").format(
            domain=account.address.domain, address=account.address
        ),
    )


def _unchanged(reason: str, value: str) -> str:
    return _("{reason}. It stays {value}").format(reason=reason, value=value)


# ---- one reply ----


def _accepted(answer: SenderAnswer | None) -> bool:
    return answer is not None and not answer.at_mail and answer.reply.is_positive


def _refused(answer: SenderAnswer | None) -> bool:
    """Permanently. The own address was accepted with the same recipient before, so the reply is about the sender."""
    return answer is not None and answer.reply.is_permanent and not answer.is_limit


def _refused_as_sender(answer: SenderAnswer | None) -> bool:
    """Refused because the login may not use it, and not for another fault of a foreign domain."""
    return answer is not None and answer.is_sender_refused


def _level(answer: SenderAnswer) -> Level:
    return Level.OK if _accepted(answer) or _refused(answer) else Level.UNKNOWN


def _describe(answer: SenderAnswer) -> str:
    if _accepted(answer):
        return _("is accepted")
    stage = "MAIL FROM" if answer.at_mail else "RCPT TO"
    reply = f"{answer.reply.code} {answer.reply.status or ''}".strip() + f" {answer.reply.reason}"
    text = _("is refused at {stage}: {reply}") if _refused(answer) else _("is deferred at {stage}: {reply}")
    return text.format(stage=stage, reply=reply)
