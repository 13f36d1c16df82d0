"""Cause of a negative upstream reply: the recipient, the message, or us. PURE.

Guarantees: the stage of the reply and its enhanced status decide first, its reply code second, its words last. Each
cause has one row in `CONSEQUENCES`. A reply with a temporary code never suspends an account.
Not here: replies for clients (delivery.classify, delivery.open_failures), states of an account
(delivery.account_health), hints (delivery.hints). RFC 3463 section 3, RFC 4954 section 6, RFC 5321 section 4.2.
"""

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final, TypeAlias

from senderproxy.delivery import reply_words as words
from senderproxy.mail.reply import Reply
from senderproxy.translation import N_


class Stage(Enum):
    """The stages of a session. The value is the name in replies and logs, marked for translation."""

    LOOK_UP = N_("address look-up")
    CONNECT = N_("connection")
    HANDSHAKE = N_("TLS handshake")
    GREETING = N_("greeting")
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = N_("login")
    MAIL = "MAIL FROM"
    RCPT = "RCPT TO"
    DATA = "DATA"
    BODY = N_("message")
    FINAL_DOT = N_("end of message")
    RSET = "RSET"
    QUIT = "QUIT"
    IDLE = N_("between messages")


class Cause(Enum):
    """The causes of a negative reply. The value is the key in logs, in `status` and of conditions."""

    # in reply to AUTH
    PASSWORD = "password"
    PASSWORD_RETRY = "password-retry"
    LOCKED = "locked"  # the provider has locked the mailbox
    SMTP_OFF = "smtp-off"  # access by SMTP is switched off for the mailbox
    APP_PASSWORD = "app-password"
    PASSWORDS_OFF = "passwords-off"
    METHOD = "method"  # the mechanism was refused, not the password
    BACKEND = "login-server"  # the provider could not check the password
    CUT = "login-cut"  # no reply: a timeout, or the connection was closed
    LOGIN_LIMIT = "login-limit"  # too many logins
    TOKEN = "token"  # the authorization server gives no access token
    # about this server or session
    NO_TLS = "no-tls"  # the server wants TLS first
    EHLO_NAME = "ehlo-name"  # the server refuses our name
    ADDRESS_BLOCKED = "address-blocked"  # the server refuses this machine's IP address
    CONNECTIONS = "connections"  # too many connections at once
    CLOSING = "closing"  # 421: the server closes the session
    SESSION = "session"  # the session is too old, or its login is lost
    SESSION_LIMIT = "session-limit"  # too many messages on one session
    # about the account
    LIMIT = "limit"  # a rate or quota of the account
    OWN_MAILBOX = "own-mailbox"  # the mailbox of the account is full or disabled
    SENDER = "sender"  # the account may not send as this address
    # about the message
    RECIPIENT = "recipient"
    RECIPIENT_COUNT = "recipient-count"  # too many recipients in one transaction
    SIZE = "size"
    CONTENT = "content"
    TEMPORARY = "temporary"  # a temporary failure without a known cause


class Effect(Enum):
    """The effect of a cause on the account."""

    NONE = "none"
    PAUSE = "pause"  # for a minute at first, doubled each time
    RETRY = "retry"  # the login is tried again after 5, 15 and 60 minutes, then the account is suspended
    SUSPEND = "suspend"  # until the secret changes or the operator resumes the account


@dataclass(frozen=True, slots=True)
class Consequence:
    """The consequence of a cause.

    `is_ours`: the message or the recipient is not the reason, so that a 5xx becomes a 4xx for the client.
    """

    effect: Effect
    is_ours: bool


_OURS: Final = Consequence(Effect.NONE, is_ours=True)
_THEIRS: Final = Consequence(Effect.NONE, is_ours=False)
CONSEQUENCES: Final[Mapping[Cause, Consequence]] = MappingProxyType(
    {
        Cause.PASSWORD: Consequence(Effect.SUSPEND, is_ours=True),
        Cause.PASSWORD_RETRY: Consequence(Effect.RETRY, is_ours=True),
        Cause.LOCKED: Consequence(Effect.SUSPEND, is_ours=True),
        Cause.SMTP_OFF: Consequence(Effect.SUSPEND, is_ours=True),
        Cause.APP_PASSWORD: Consequence(Effect.SUSPEND, is_ours=True),
        Cause.PASSWORDS_OFF: Consequence(Effect.SUSPEND, is_ours=True),
        Cause.TOKEN: Consequence(Effect.SUSPEND, is_ours=True),
        Cause.METHOD: Consequence(Effect.RETRY, is_ours=True),
        Cause.BACKEND: Consequence(Effect.RETRY, is_ours=True),
        Cause.CUT: Consequence(Effect.RETRY, is_ours=True),
        Cause.LOGIN_LIMIT: Consequence(Effect.RETRY, is_ours=True),
        Cause.NO_TLS: _OURS,
        Cause.EHLO_NAME: _OURS,
        Cause.ADDRESS_BLOCKED: Consequence(Effect.PAUSE, is_ours=True),
        Cause.CONNECTIONS: Consequence(Effect.PAUSE, is_ours=True),
        Cause.CLOSING: Consequence(Effect.PAUSE, is_ours=True),
        Cause.SESSION: _OURS,
        Cause.SESSION_LIMIT: _OURS,
        Cause.LIMIT: Consequence(Effect.PAUSE, is_ours=True),
        Cause.OWN_MAILBOX: Consequence(Effect.PAUSE, is_ours=True),
        Cause.SENDER: _THEIRS,  # the author has to know, and our own sentence says why
        Cause.RECIPIENT: _THEIRS,
        Cause.RECIPIENT_COUNT: _OURS,
        Cause.SIZE: _THEIRS,
        Cause.CONTENT: _THEIRS,
        Cause.TEMPORARY: _THEIRS,
    }
)

FAILED_LOGINS: Final[Set[Cause]] = frozenset(
    cause for cause, consequence in CONSEQUENCES.items() if consequence.effect in (Effect.SUSPEND, Effect.RETRY)
)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The circumstances of a reply.

    `reused`: the session has carried another message. `recipient_accepted`: the upstream has accepted a recipient of
    this transaction. `ours`: login, reverse-path and author; `theirs`: the recipients that the reply may be about.
    """

    stage: Stage
    reused: bool = False
    recipient_accepted: bool = False
    ours: Sequence[str] = ()
    theirs: Sequence[str] = ()


CauseOf: TypeAlias = Callable[[Reply, Circumstances], Cause]  # rules for the causes of negative replies (4xx or 5xx)


# --- rules ---------------------------------------------------------------------------------------------------------

_SENDER_STATUSES: Final = frozenset({(1, 7), (1, 8), (7, 60), *((2, detail) for detail in range(250, 260))})
_SIZE_STATUSES: Final = frozenset({(3, 4), (2, 3)})


@dataclass(frozen=True, slots=True)
class _Facts:
    """A reply, prepared for the rules."""

    code: int
    status: tuple[int, int] | None  # subject and detail
    text: str  # all lines, without addresses
    names_ours: bool
    names_theirs: bool

    @property
    def is_permanent(self) -> bool:
        return self.code >= 500

    @property
    def is_bare_552(self) -> bool:
        """True for a 552 without a status that says more. RFC 5321 section 4.2.3: exceeded storage allocation."""
        return self.code == 552 and (self.status is None or self.status[0] in (0, 3))

    def says(self, pattern: re.Pattern[str]) -> bool:
        return pattern.search(self.text) is not None


def cause_of(reply: Reply, circumstances: Circumstances) -> Cause:
    """Return the cause of a negative reply (4xx or 5xx)."""
    facts = _facts(reply, circumstances)
    match circumstances.stage:
        case Stage.AUTH:
            return _cause_at_auth(facts)
        case Stage.MAIL:
            return _cause_at_mail(facts, circumstances)
        case Stage.RCPT:
            return _cause_at_rcpt(facts, circumstances)
        case Stage.DATA | Stage.BODY | Stage.FINAL_DOT:
            return _cause_of_message(facts)
        case _:
            return _cause_before_login(facts, circumstances.stage)


@dataclass(frozen=True, slots=True)
class ClassifiedReply:
    """A negative reply of an upstream, and its cause."""

    reply: Reply
    cause: Cause


def is_temporary(reply: Reply) -> bool:
    """True if the reply is temporary by its code, or by an enhanced status that contradicts its code."""
    return reply.code < 500 or any(re.match(r"4\.\d{1,3}\.\d{1,3}\b", line) for line in reply.lines)


def effect_of(cause: Cause, reply: Reply) -> Effect:
    """Return the effect on the account. A temporary reply never suspends it."""
    effect = CONSEQUENCES[cause].effect
    return Effect.RETRY if effect is Effect.SUSPEND and is_temporary(reply) else effect


def is_about_sender_rule(reply: Reply) -> bool:
    """True if the reply says that this login may not use the sender, and no other fault of the sender's domain."""
    facts = _facts(reply, Circumstances(Stage.MAIL))
    if facts.status is not None and facts.status in _SENDER_STATUSES:
        return facts.status[0] != 1  # X.1.7 and X.1.8 are about the address itself
    return facts.says(words.SENDER) and not facts.says(words.NOT_OUR_SENDER) and not facts.says(words.UNKNOWN_DOMAIN)


# --- rules, in order, for each stage -------------------------------------------------------------------------------


def _cause_before_login(facts: _Facts, stage: Stage) -> Cause:
    if facts.status in ((7, 0), (7, 11)) and "starttls" in facts.text.lower():
        return Cause.NO_TLS
    if facts.says(words.CONNECTIONS):
        return Cause.CONNECTIONS
    if facts.says(words.BLOCKED):
        return Cause.ADDRESS_BLOCKED
    if stage is Stage.EHLO and facts.is_permanent and facts.code not in (500, 502, 503, 521):
        return Cause.EHLO_NAME
    if facts.says(words.EHLO_NAME) and not facts.says(words.EHLO_FIRST) and facts.code not in (500, 502, 503):
        return Cause.EHLO_NAME
    if facts.says(words.RATE):
        return Cause.LIMIT
    if facts.code == 421:
        return Cause.CLOSING
    return Cause.TEMPORARY if not facts.is_permanent else Cause.CONTENT


def _cause_at_auth(facts: _Facts) -> Cause:
    """RFC 4954 section 6. Statuses of Microsoft: 5.7.139 a switch, 5.7.30 no passwords; of Google: 5.7.9, 5.7.14."""
    if facts.code == 530 or (facts.code == 538 and "starttls" in facts.text.lower()):
        return Cause.NO_TLS
    if facts.says(words.LOGIN_LIMIT):
        return Cause.LOGIN_LIMIT
    if not facts.is_permanent:
        return Cause.CONNECTIONS if facts.says(words.CONNECTIONS) else Cause.BACKEND
    if facts.status == (5, 127):  # Microsoft: the access token is about to expire
        return Cause.PASSWORD
    if facts.status == (7, 30) or facts.says(words.PASSWORDS_OFF):
        return Cause.PASSWORDS_OFF
    if facts.status == (7, 14) or facts.says(words.APP_PASSWORD):
        return Cause.APP_PASSWORD
    if facts.says(words.METHOD):
        return Cause.METHOD
    if facts.says(words.WRONG_CREDENTIALS):
        return Cause.PASSWORD
    if facts.code in (500, 501, 502, 504):
        return Cause.METHOD
    if facts.status == (7, 139) or facts.says(words.SMTP_OFF):
        return Cause.SMTP_OFF
    if facts.code in (503, 534, 538) or (facts.status is not None and facts.status[0] == 5):
        return Cause.METHOD
    if facts.says(words.TEMPORARY):
        return Cause.BACKEND
    if facts.says(words.LOCKED):
        return Cause.LOCKED
    if facts.code in (526, 535) or (facts.status is not None and facts.status[0] == 7):
        return Cause.PASSWORD
    return Cause.BACKEND


def _cause_of_session(facts: _Facts) -> Cause | None:
    """Return the cause of a reply about the session, at any stage of a transaction."""
    if facts.says(words.SESSION_LIMIT):
        return Cause.SESSION_LIMIT
    if facts.says(words.EHLO_NAME) and not facts.says(words.EHLO_FIRST) and facts.code != 503:
        return Cause.EHLO_NAME
    if facts.is_permanent and facts.says(words.SENDER_OF_LOGIN):
        return None
    if facts.code in (503, 530, 535) or (facts.is_permanent and facts.status == (7, 57)):
        return Cause.SESSION
    if facts.code == 421:
        if facts.says(words.CONNECTIONS):
            return Cause.CONNECTIONS
        return Cause.LIMIT if facts.says(words.RATE) else Cause.CLOSING
    relays_for_us = facts.names_ours and not facts.names_theirs and facts.says(words.RELAY)
    if facts.is_permanent and facts.says(words.LOGIN_LOST) and not relays_for_us:
        return Cause.SESSION
    return None


def _cause_at_mail(facts: _Facts, circumstances: Circumstances) -> Cause:
    if (cause := _cause_of_session(facts)) is not None:
        return cause
    if facts.status in _SENDER_STATUSES:
        return Cause.SENDER
    if facts.status in _SIZE_STATUSES:
        return Cause.SIZE
    if facts.says(words.RATE):
        return Cause.LIMIT
    if facts.status is not None and facts.status[0] == 4 and circumstances.reused:
        return Cause.SESSION
    if facts.status == (4, 5):
        return Cause.LIMIT
    if facts.says(words.SESSION) and (circumstances.reused or not facts.is_permanent):
        return Cause.SESSION
    if facts.status is not None and facts.status[0] == 2:
        return Cause.OWN_MAILBOX
    if facts.says(words.SIZE):
        return Cause.SIZE
    if facts.says(words.CONNECTIONS) or facts.says(words.ANY_LIMIT):
        return Cause.LIMIT
    if facts.is_bare_552:
        return Cause.SIZE
    if facts.says(words.BLOCKED):
        return Cause.ADDRESS_BLOCKED
    return Cause.SENDER if facts.is_permanent else Cause.TEMPORARY


def _cause_at_rcpt(facts: _Facts, circumstances: Circumstances) -> Cause:
    if facts.status in _SENDER_STATUSES:
        return Cause.SENDER
    if facts.status is not None and (facts.status[0] == 2 or (facts.status[0] == 1 and facts.status[1] != 0)):
        return Cause.RECIPIENT  # RFC 3463 section 3.2 and 3.3
    if (cause := _cause_of_session(facts)) is not None:
        return cause
    if facts.says(words.ASKED_ELSEWHERE):
        return Cause.SENDER if facts.says(words.SENDER_REJECTED) else Cause.RECIPIENT
    about_count = facts.status == (5, 3) or facts.says(words.MANY_RECIPIENTS)
    if facts.says(words.RATE) and not (facts.status == (5, 3) and facts.says(words.MANY_RECIPIENTS)):
        about_count = False  # RFC 3463 gives X.5.3 to recipients, some servers give it to messages
    if about_count:
        return Cause.RECIPIENT_COUNT if circumstances.recipient_accepted else Cause.RECIPIENT
    if facts.says(words.RATE) and not (facts.says(words.ABOUT_RECIPIENT) and not facts.names_ours):
        return Cause.LIMIT
    if facts.says(words.CONNECTIONS) and not facts.says(words.ABOUT_RECIPIENT):
        return Cause.LIMIT
    if facts.names_ours and not facts.names_theirs:
        return Cause.LIMIT if facts.says(words.ANY_LIMIT) else Cause.SENDER
    if facts.status == (4, 5) and facts.is_permanent:
        return Cause.LIMIT
    if facts.says(words.BLOCKED):
        return Cause.ADDRESS_BLOCKED
    if facts.says(words.SENDER) and not facts.says(words.NOT_OUR_SENDER) and not facts.names_theirs:
        return Cause.SENDER
    return Cause.RECIPIENT


def _cause_of_message(facts: _Facts) -> Cause:
    if (cause := _cause_of_session(facts)) is not None:
        return cause
    if facts.status in _SENDER_STATUSES:
        return Cause.SENDER
    if facts.status in _SIZE_STATUSES:
        return Cause.SIZE
    about_recipient = facts.says(words.ABOUT_RECIPIENT) and "storedrv.submission" not in facts.text.lower()
    if facts.says(words.RATE) and not about_recipient:
        return Cause.LIMIT
    if facts.status is not None and facts.status[0] == 2:
        about_us = "submission" in facts.text.lower() or facts.says(words.SENDER)
        return (Cause.OWN_MAILBOX if facts.says(words.FULL) else Cause.SENDER) if about_us else Cause.RECIPIENT
    if facts.says(words.SIZE):
        return Cause.SIZE
    if facts.status == (4, 5):
        return Cause.LIMIT
    if facts.is_bare_552 and not facts.says(words.FULL):
        return Cause.SIZE
    if (facts.says(words.CONNECTIONS) or facts.says(words.ANY_LIMIT)) and not about_recipient and facts.code != 552:
        return Cause.LIMIT
    if facts.names_ours and not facts.names_theirs and facts.is_permanent:
        return Cause.SENDER
    if facts.is_bare_552:
        return Cause.SIZE
    if facts.says(words.BLOCKED) and re.search(r"\bip\b|client host|reverse dns|\bptr\b", facts.text, re.IGNORECASE):
        return Cause.ADDRESS_BLOCKED
    if facts.says(words.SENDER) and not facts.says(words.NOT_OUR_SENDER) and facts.is_permanent:
        return Cause.SENDER
    return Cause.CONTENT if facts.is_permanent else Cause.TEMPORARY


# --- preparation ---------------------------------------------------------------------------------------------------


def _facts(reply: Reply, circumstances: Circumstances) -> _Facts:
    whole = " ".join(reply.telling_lines)[: words.TEXT_LIMIT]
    lowered = whole.lower()
    ours = {address.lower() for address in circumstances.ours if address}
    theirs = {address.lower() for address in circumstances.theirs}  # an address of both says nothing
    status = None if reply.status is None else (reply.status.subject, reply.status.detail)
    return _Facts(
        reply.code,
        status,
        words.RECIPIENT_PREFIX.sub("", words.ADDRESS.sub("<>", whole)),
        any(address in lowered for address in ours - theirs),
        any(address in lowered for address in theirs - ours),
    )
