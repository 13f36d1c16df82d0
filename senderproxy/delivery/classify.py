"""Outcomes of upstream replies in a transaction, and the replies to clients about sessions that end. PURE.

Guarantees: only a reply about the message or a recipient becomes a 5xx; a reply about us becomes a 4xx. A refused
sender and a refused EHLO name carry a sentence of our own.
Not here: causes (delivery.causes), failures before the login (delivery.open_failures), the effect on the account
(delivery.account_state). RFC 3463 section 3, RFC 5321 section 4.2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from senderproxy.delivery.causes import (
    CONSEQUENCES,
    Cause,
    CauseOf,
    Circumstances,
    ClassifiedReply,
    Effect,
    Stage,
    cause_of,
)
from senderproxy.delivery.hints import Login, hint
from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome, RefusedSenderField, Unavailable
from senderproxy.mail.reply import EnhancedStatus, Reply, reply
from senderproxy.routing.provider import Smarthost
from senderproxy.translation import in_english


class SessionEnded(Exception):
    """The session cannot continue.

    `reply` is for clients, `upstream_reply` is the upstream's last one, if any, and `cause` its cause.
    """

    def __init__(self, reply: Reply, upstream_reply: Reply | None = None, cause: Cause | None = None) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.upstream_reply = upstream_reply
        self.cause = cause

    def copy(self) -> "SessionEnded":
        """Return the same exception without a traceback: the end of a session is raised at each of its waiters."""
        return SessionEnded(self.reply, self.upstream_reply, self.cause)


# --- the end of a session --------------------------------------------------------------------------------------------


def reply_timeout(smarthost: Smarthost, stage: Stage, seconds: float) -> Reply:
    """Reply for clients after a timeout (RFC 5321 section 4.5.3.2)."""
    return reply(451, "4.4.2", f"{smarthost} did not reply within {seconds:g} s (stage: {stage.value})")


def connection_closed(smarthost: Smarthost, stage: Stage, cause: BaseException | None) -> Reply:
    """Reply for clients after the connection closed."""
    why = f" ({cause.strerror})" if isinstance(cause, OSError) and cause.strerror else ""
    return reply(451, "4.4.2", f"{smarthost} closed the connection (stage: {stage.value}){why}")


def session_ended(smarthost: Smarthost, stage: Stage, upstream_reply: Reply) -> Reply:
    """Reply for clients after a reply that ends the session: see `ends_session`."""
    return reply(451, "4.4.2", f"{smarthost} ended the session (stage: {stage.value}): {upstream_reply}")


def outcome_unknown(why: Reply) -> Reply:
    """Reply for clients if the final dot was sent and no reply came."""
    text = (
        f"{why.text}, after the whole message had been sent. It is not known whether the message was accepted: "
        "a second attempt may deliver it twice"
    )
    return reply(451, "4.4.2", text)


_ENDS_SESSION: Final = frozenset({Cause.CLOSING, Cause.SESSION})


def ends_session(upstream_reply: Reply, cause: Cause) -> bool:
    """True for a reply about the session instead of the message.

    421 closes it. 535 means that the login is lost (530 too, unless it is about the sender), 503 that commands and
    replies are out of step.
    """
    return upstream_reply.code in (421, 503, 535) or cause in _ENDS_SESSION


# --- outcomes --------------------------------------------------------------------------------------------------------


def as_transient(upstream_reply: Reply) -> Reply:
    """Convert a reply that is about us and was sent as a 5xx into a 4xx: Gmail's 550 5.4.5 ends after a day."""
    if not upstream_reply.is_permanent:
        return upstream_reply
    status = upstream_reply.status or EnhancedStatus(5, 7, 1)
    return replace(upstream_reply, code=451, status=replace(status, klass=4))


def outcome(upstream_reply: Reply, circumstances: Circumstances, remote: str, cause_of: CauseOf = cause_of) -> Outcome:
    """Return the outcome of one reply for one recipient. `remote` is the host that replied."""
    stage = circumstances.stage
    match upstream_reply.code // 100:
        case 2 if stage is not Stage.DATA:
            return Delivered(upstream_reply.with_default_status(0, 0))
        case 4 | 5:
            return _negative_outcome(upstream_reply, cause_of(upstream_reply, circumstances), stage, remote)
        case _:
            text = f"Unexpected reply from the upstream (stage: {stage.value}): {upstream_reply}"
            return Deferred(reply(451, "4.5.0", text))


def _negative_outcome(upstream_reply: Reply, cause: Cause, stage: Stage, remote: str) -> Outcome:
    if ends_session(upstream_reply, cause):
        return Deferred(replace(as_transient(upstream_reply), code=451).with_default_status(3, 2))
    unavailable = unavailable_after(cause) if stage in _BEFORE_CONTENT else None
    match cause:
        case Cause.EHLO_NAME | Cause.ADDRESS_BLOCKED | Cause.OWN_MAILBOX:
            return Deferred(_explained(upstream_reply, cause, remote), remote=remote, unavailable=unavailable)
        case Cause.RECIPIENT_COUNT:
            return Deferred(replace(upstream_reply, code=452, status=EnhancedStatus(4, 5, 3)), remote=remote)
        case _ if CONSEQUENCES[cause].is_ours:
            ours = _with_status(as_transient(upstream_reply), cause, stage)
            return Deferred(ours, remote=remote, unavailable=unavailable)
        case _ if upstream_reply.is_permanent:
            return Failed(
                _with_status(upstream_reply, cause, stage), _refused_sender(upstream_reply, cause, stage), remote
            )
        case _:
            return Deferred(_with_status(upstream_reply, cause, stage), remote=remote)


_BEFORE_CONTENT: Final = (Stage.MAIL, Stage.RCPT, Stage.DATA)  # nothing of the message was sent


def unavailable_after(cause: Cause) -> Unavailable | None:
    """Return what another account may send for after a reply with this cause; None unless it pauses the account."""
    if CONSEQUENCES[cause].effect is not Effect.PAUSE:
        return None
    return Unavailable.LIMIT if cause is Cause.LIMIT else Unavailable.PAUSED


def _explained(upstream_reply: Reply, cause: Cause, remote: str) -> Reply:
    """Return a 4xx with the subject of the upstream's reply, and the fix."""
    words = {
        Cause.EHLO_NAME: "refuses the name of this machine",
        Cause.ADDRESS_BLOCKED: "blocks the IP address of this machine",
        Cause.OWN_MAILBOX: "reports that the mailbox of the account is full or disabled",
    }
    fix = hint(cause, Login("", "", "NAME", remote))
    return reply(451, "4.7.0", f"{remote} {words[cause]}: {upstream_reply}. To fix: {in_english(fix)}")


def _refused_sender(upstream_reply: Reply, cause: Cause, stage: Stage) -> RefusedSenderField | None:
    """Return which sender the provider refused; None if the reply has another cause."""
    if cause is not Cause.SENDER:
        return None
    about_from = stage in (Stage.BODY, Stage.FINAL_DOT) or any(
        "header" in line.lower() for line in upstream_reply.lines
    )
    return RefusedSenderField.FROM if about_from else RefusedSenderField.REVERSE_PATH


_DEFAULT_STATUSES: Final[Mapping[Stage, tuple[int, int]]] = {
    Stage.MAIL: (1, 0),
    Stage.RCPT: (1, 0),
    Stage.FINAL_DOT: (6, 0),
}


def _with_status(upstream_reply: Reply, cause: Cause, stage: Stage) -> Reply:
    if cause is Cause.SENDER:
        return upstream_reply.with_default_status(7, 1)
    if cause is Cause.SIZE:
        return upstream_reply.with_default_status(3, 4)
    return upstream_reply.with_default_status(*_DEFAULT_STATUSES.get(stage, (0, 0)))


def is_over_limit(answer: Outcome) -> bool:
    """True if the upstream reached its limit of recipients at this one. RFC 5321 section 4.5.3.1.10."""
    return isinstance(answer, Deferred) and answer.reply.code == 452 and answer.reply.status == EnhancedStatus(4, 5, 3)


def recipients_over_limit(outcomes: Mapping[ForwardPath, Outcome]) -> Sequence[ForwardPath]:
    """Return the recipients that need another transaction; none if no recipient was delivered to."""
    if not any(isinstance(result, Delivered) for result in outcomes.values()):
        return ()
    return [path for path, result in outcomes.items() if is_over_limit(result)]


def rejected_recipients(
    recipients: Sequence[ForwardPath],
    mail: Reply,
    rcpts: Sequence[Reply],
    base: Circumstances,
    remote: str,
    cause_of: CauseOf = cause_of,
) -> tuple[Mapping[ForwardPath, Outcome], Sequence[ClassifiedReply]]:
    """Return the outcomes of the recipients that the upstream rejected, and the replies: all if it rejected MAIL.

    `mail` and `rcpts` are the replies to MAIL and to each RCPT, `base` the circumstances without a stage of their own.
    """
    if mail.code // 100 != 2:
        at_mail = replace(base, stage=Stage.MAIL)
        rejected = dict.fromkeys(recipients, outcome(mail, at_mail, remote, cause_of))
        return rejected, _classified(mail, at_mail, cause_of)
    outcomes: dict[ForwardPath, Outcome] = {}
    replies: list[ClassifiedReply] = []
    accepted = False
    for path, rcpt in zip(recipients, rcpts, strict=True):
        if rcpt.code // 100 == 2:
            accepted = True
            continue
        at_rcpt = replace(base, stage=Stage.RCPT, recipient_accepted=accepted, theirs=(str(path),))
        outcomes[path] = outcome(rcpt, at_rcpt, remote, cause_of)
        replies += _classified(rcpt, at_rcpt, cause_of)
    return outcomes, replies


def _classified(upstream_reply: Reply, circumstances: Circumstances, cause_of: CauseOf) -> list[ClassifiedReply]:
    if upstream_reply.code < 400:
        return []
    return [ClassifiedReply(upstream_reply, cause_of(upstream_reply, circumstances))]


def limit_in(replies: Sequence[ClassifiedReply]) -> ClassifiedReply | None:
    """Return the first reply that pauses the account."""
    return next((each for each in replies if CONSEQUENCES[each.cause].effect is Effect.PAUSE), None)


# --- before a session ------------------------------------------------------------------------------------------------


def too_large(size: int, limit: int, name: str) -> Reply:
    """Reply for clients to a message over the limit of `name`, in octets. Both sizes: the author has to reduce one."""
    return reply(
        552,
        "5.3.4",
        f"Message size {format_size(size)} exceeds the limit of {name}, {format_size(limit)} "
        "(attachments grow by a third)",
    )


def format_size(octets: int) -> str:
    """Format a size for a person: 1.5 kB, 141.6 MB."""
    return f"{octets / 1_000_000:.1f} MB" if octets >= 100_000 else f"{octets / 1000:.1f} kB"
