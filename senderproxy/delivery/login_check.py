"""Login check: try an account's login, and probe the senders that its provider accepts. No message is sent.

Guarantees: each check is one AUTH on one session of its own, which is closed afterwards. A probe sends MAIL for each
sender, RCPT if MAIL was accepted, then RSET; DATA is never sent. It ends early if the first sender is not accepted (the
replies to the others would mean nothing) or if the upstream reports a limit.
Not here: the senders to probe and the conclusions (cli.check_senders), the login itself (delivery.opening). An upstream
that checks the sender at the end of DATA only cannot be probed. RFC 5321 section 4.1.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final, TypeAlias

from senderproxy.delivery.account_health import without_fix
from senderproxy.delivery.causes import (
    CONSEQUENCES,
    Cause,
    Circumstances,
    Effect,
    Stage,
    cause_of,
    is_about_sender_rule,
)
from senderproxy.delivery.open_failures import OpenFailed
from senderproxy.delivery.opening import SessionOpener
from senderproxy.delivery.session import Interrupted, Session, SessionTimeouts
from senderproxy.mail.address import ForwardPath, ReversePath
from senderproxy.mail.reply import Reply
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.provider import Provider
from senderproxy.translation import _

_STAGE_TIMEOUT: Final = 20.0  # seconds; a person waits, and a server that takes longer is down in practice


@dataclass(frozen=True, slots=True)
class LoginOk:
    """The upstream accepted the login."""

    smarthost: str
    mechanism: str


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """The upstream refused the login. `hint`: the fix, without "To fix:"; `words`: the reply for the operator."""

    reply: Reply
    hint: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class LoginUnchecked:
    """The login was not tried or the result is unclear: no connection, no TLS, no supported AUTH, a limit.

    `hint`: the fix, without "To fix:"; empty if none is known. `words`: the reply for the operator.
    """

    reply: Reply
    hint: str = ""
    words: str = ""


LoginResult: TypeAlias = LoginOk | LoginRefused | LoginUnchecked


@dataclass(frozen=True, slots=True)
class SenderAnswer:
    """The upstream's reply to one sender.

    `at_mail`: the reply to MAIL itself; no RCPT followed. `cause`: of a negative reply.
    """

    path: ReversePath
    reply: Reply
    at_mail: bool = False
    cause: Cause | None = None

    @property
    def is_limit(self) -> bool:
        """True if the upstream reported a limit."""
        return self.cause is not None and CONSEQUENCES[self.cause].effect is Effect.PAUSE

    @property
    def is_sender_refused(self) -> bool:
        """True if the provider does not let this account use the sender."""
        return self.reply.is_permanent and not self.is_limit and is_about_sender_rule(self.reply)


@dataclass(frozen=True, slots=True)
class Probed:
    """The replies to the senders, in their order. `ended`: the reason why some are missing, if the session ended."""

    smarthost: str
    mechanism: str
    answers: Sequence[SenderAnswer]
    ended: Reply | None = None


async def check_login(
    opener: SessionOpener, account: Account, provider: Provider, credential: Credential
) -> LoginResult:
    """Log in once, and close the session."""
    result = await opener.open_for(account, provider, credential)
    if isinstance(result, OpenFailed):
        return _not_logged_in(result)
    await result.quit()
    return LoginOk(str(result.smarthost), result.mechanism)


async def probe_senders(
    opener: SessionOpener,
    account: Account,
    provider: Provider,
    credential: Credential,
    senders: Sequence[ReversePath],
    recipient: ForwardPath,
) -> Probed | LoginRefused | LoginUnchecked:
    """Log in once, and probe the senders on that session."""
    result = await opener.open_for(account, provider, credential)
    if isinstance(result, OpenFailed):
        return _not_logged_in(result)
    return await _probe(result, credential.login, senders, recipient)


async def _probe(session: Session, login: str, senders: Sequence[ReversePath], recipient: ForwardPath) -> Probed:
    answers: list[SenderAnswer] = []
    ended: Reply | None = None
    try:
        for path in senders:
            answer = await session.check_sender(path, recipient)
            if isinstance(answer, Interrupted):
                ended = answer.reply
                break
            cause = None
            if answer.reply.code >= 400:
                named = Circumstances(answer.stage, ours=(login, str(path)), theirs=(str(recipient),))
                cause = cause_of(answer.reply, named)
            answers.append(SenderAnswer(path, answer.reply, answer.stage is Stage.MAIL, cause))
            if not answers[0].reply.is_positive or answers[-1].is_limit:
                break
    finally:
        await session.quit()
    return Probed(str(session.smarthost), session.mechanism, answers, ended)


def _not_logged_in(result: OpenFailed) -> LoginRefused | LoginUnchecked:
    kind = LoginRefused if result.is_refused_login else LoginUnchecked
    return kind(result.reply, result.hint, result.words)


def short_timeouts() -> SessionTimeouts:
    """The timeouts of a session that a person waits for."""
    return SessionTimeouts(**{stage.name: _STAGE_TIMEOUT for stage in fields(SessionTimeouts)})


def describe(result: LoginResult) -> str:
    """The result as part of a sentence."""
    match result:
        case LoginOk(smarthost, mechanism):
            return _("the login works ({smarthost}, {mechanism})").format(smarthost=smarthost, mechanism=mechanism)
        case LoginRefused():
            return result.words or without_fix(result.reply.text)
        case LoginUnchecked():
            words = result.words or without_fix(result.reply.text)
            return _("the login could not be tried: {reply}").format(reply=words)


def login_hint(result: LoginRefused | LoginUnchecked, account: Account) -> str:
    """The fix for this failure; a general one for an unknown failure."""
    if result.hint:
        return result.hint
    return _(
        "Check this machine's network, DNS and firewall, and host, port and security in [providers.{provider}]."
    ).format(provider=account.provider)
