"""probe_senders: which senders an upstream lets an account name, asked without a message.

Guarantees: on the session that is given, and no other; for each sender MAIL, RCPT where MAIL was taken, then RSET: DATA
is never sent. Ends early where the first one is not taken (what is said of the others would mean nothing then) and
where the upstream asks for less. The session is closed afterwards.
Not here: which senders are asked about and what follows from the answers (cli.check_senders), the login
(session). What an upstream looks at only at the end of DATA cannot be found out this way. RFC 5321 section 4.1.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from senderproxy.delivery.classify import Stage
from senderproxy.delivery.health import is_account_limit
from senderproxy.delivery.session import Broken, Session
from senderproxy.mail.address import ForwardPath, ReversePath
from senderproxy.mail.reply import Reply


@dataclass(frozen=True, slots=True)
class SenderAnswer:
    """What the upstream said of one sender; `at_mail`: to MAIL itself, so no recipient was named any more."""

    path: ReversePath
    said: Reply
    at_mail: bool = False


@dataclass(frozen=True, slots=True)
class Probed:
    """The answers, in the order of the questions; `ended` says why there are fewer of them."""

    smarthost: str
    mechanism: str
    answers: Sequence[SenderAnswer]
    ended: Reply | None = None


async def probe_senders(session: Session, senders: Sequence[ReversePath], recipient: ForwardPath) -> Probed:
    """Ask about each of the senders, and say good-bye."""
    answers: list[SenderAnswer] = []
    ended: Reply | None = None
    try:
        for path in senders:
            answer = await session.inquire(path, recipient)
            if isinstance(answer, Broken):
                ended = answer.reply
                break
            answers.append(SenderAnswer(path, answer.said, answer.stage is Stage.MAIL))
            if not answers[0].said.is_positive or is_account_limit(answer.said):
                break
    finally:
        await session.quit()
    return Probed(str(session.smarthost), session.mechanism, answers, ended)
