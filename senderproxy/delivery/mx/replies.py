"""Causes of the replies of a recipient's server, and the replies that make the account send instead. PURE.

A recipient's server knows no account of ours: a refusal is about the message or a recipient, and final if its code is,
also where the reply names our address or our reverse-path. Not here: outcomes (delivery.classify), replies of a
provider's submission server (delivery.causes).
RFC 5321 sections 4.2, 4.2.3 and 4.5.3.1.10, RFC 3463.
"""

import re
from datetime import timedelta
from typing import Final

from senderproxy.delivery import causes
from senderproxy.delivery import reply_words as words
from senderproxy.delivery.causes import Cause, Circumstances, Stage
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import Reply

_SIZES: Final = frozenset({(3, 4), (2, 3)})
_ABOUT_RECIPIENT: Final = frozenset({Cause.RECIPIENT, Cause.RECIPIENT_COUNT})
_AT_RCPT: Final = Circumstances(Stage.RCPT)
_GREYLISTED: Final = re.compile(r"\bgr[ae]y[- ]?list", re.IGNORECASE)
_WAIT: Final = re.compile(
    r"\b(?:in|for|after) (?:about |another )?(\d{1,4}) ?(s|sec|secs|seconds?|m|min|mins|minutes?)\b", re.IGNORECASE
)


def cause_of(reply: Reply, circumstances: Circumstances) -> Cause:
    """The cause of a negative reply (4xx or 5xx) in a transaction."""
    status = None if reply.status is None else (reply.status.subject, reply.status.detail)
    text = _text(reply)
    if reply.code == 421:
        return Cause.CLOSING
    if reply.code == 530 and "starttls" in text.lower():
        return Cause.SESSION  # the handshake failed before: another server, or later
    if circumstances.stage is Stage.RCPT:
        about_count = status == (5, 3) or (reply.code in (452, 552) and words.MANY_RECIPIENTS.search(text) is not None)
        if about_count and circumstances.recipient_accepted:
            return Cause.RECIPIENT_COUNT
        return Cause.RECIPIENT
    if status in _SIZES or (reply.code == 552 and status is None):
        return Cause.SIZE
    return Cause.CONTENT if reply.is_permanent else Cause.TEMPORARY


def goes_back(outcome: Outcome) -> bool:
    """True for a refusal at MAIL or RCPT that makes the author's account send the message.

    It is about us: our address, our reverse-path, the policy of the server; the account sends from another address,
    with a login. A refusal of the recipient would be the same there. For outcomes from before the message was sent.
    """
    if isinstance(outcome, Delivered) or (isinstance(outcome, Deferred) and outcome.maybe_taken):
        return False
    status = outcome.reply.status
    if isinstance(outcome, Failed) and status is not None and status.subject == 7:
        return True
    return causes.cause_of(outcome.reply, _AT_RCPT) not in _ABOUT_RECIPIENT


def is_of_server(outcome: Outcome) -> bool:
    """True for a deferral because of the state of the server: another one of the domain may take the message now."""
    if not isinstance(outcome, Deferred) or outcome.maybe_taken or not outcome.remote or outcome.reply.status is None:
        return False
    return outcome.reply.status.subject in (3, 4) and not _GREYLISTED.search(_text(outcome.reply))


def asked_wait(outcome: Deferred, longest: timedelta) -> timedelta | None:
    """The wait that the server asks for; None if it names none, or one above `longest`."""
    if (found := _WAIT.search(_text(outcome.reply))) is None:
        return None
    seconds = int(found[1]) * (60 if found[2].lower().startswith("m") else 1)
    return timedelta(seconds=seconds) if 0 < seconds <= longest.total_seconds() else None


def is_greylisting(outcome: Outcome) -> bool:
    """True for a deferral that says to come back a little later: by its words, or 4.7.x for a recipient."""
    if not isinstance(outcome, Deferred) or outcome.maybe_taken or outcome.of_account or not outcome.remote:
        return False
    status = outcome.reply.status
    return _GREYLISTED.search(_text(outcome.reply)) is not None or (status is not None and status.subject == 7)


def _text(reply: Reply) -> str:
    return " ".join(reply.lines)[: words.TEXT_LIMIT]
