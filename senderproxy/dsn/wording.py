"""Texts of a report for people, in German and English, and the cause that selects them. PURE.

Guarantees: the cause is determined by the enhanced status of the upstream's reply, then by its text. An unknown cause
gets a text that refers to the reply itself. Each cause has an explanation and an advice in both languages.

Not here: the layout of a report (dsn.compose).

RFC 3463 section 3.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from senderproxy.dsn.report_policy import ReportKind
from senderproxy.mail.reply import EnhancedStatus, Reply


class ReportCause(Enum):
    """Cause of a failure or delay; one for each advice."""

    UNKNOWN_ADDRESS = auto()
    UNKNOWN_DOMAIN = auto()
    MAILBOX_FULL = auto()
    MAILBOX_OFF = auto()
    TOO_LARGE = auto()
    SENDER_REFUSED = auto()
    NO_ACCOUNT = auto()
    PASSWORD = auto()
    UNSAFE = auto()
    LIMIT = auto()
    POLICY = auto()
    CONTENT = auto()
    LOOP = auto()
    UNREACHABLE = auto()
    MAYBE_TAKEN = auto()
    NOT_NOW = auto()
    CANCELLED = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Bilingual:
    """One text in both languages."""

    german: str
    english: str


@dataclass(frozen=True, slots=True)
class CauseText:
    """Explanation of a cause, and advice to the author."""

    explanation: Bilingual
    advice: Bilingual


# ---- the cause ----

# Specific details only: servers (and this program) use x.0, 1.0, 6.0 and 7.1 for everything else.
_BY_STATUS: Final[Mapping[tuple[int, int], ReportCause]] = {
    (1, 1): ReportCause.UNKNOWN_ADDRESS,
    (1, 2): ReportCause.UNKNOWN_DOMAIN,
    (1, 3): ReportCause.UNKNOWN_ADDRESS,
    (1, 6): ReportCause.UNKNOWN_ADDRESS,
    (1, 7): ReportCause.SENDER_REFUSED,
    (1, 8): ReportCause.SENDER_REFUSED,
    (1, 10): ReportCause.UNKNOWN_ADDRESS,  # Microsoft: no such recipient; RFC 7505: a domain without mail
    (2, 1): ReportCause.MAILBOX_OFF,
    (2, 2): ReportCause.MAILBOX_FULL,
    (2, 3): ReportCause.TOO_LARGE,
    (2, 252): ReportCause.SENDER_REFUSED,  # Microsoft: SendAsDenied
    (3, 4): ReportCause.TOO_LARGE,
    (4, 1): ReportCause.UNREACHABLE,
    (4, 2): ReportCause.UNREACHABLE,
    (4, 3): ReportCause.UNREACHABLE,
    (4, 6): ReportCause.LOOP,
    (5, 3): ReportCause.LIMIT,
    (7, 4): ReportCause.UNSAFE,
    (7, 5): ReportCause.UNSAFE,
    (7, 8): ReportCause.PASSWORD,
    (7, 60): ReportCause.SENDER_REFUSED,  # Microsoft: no permission to send as this sender
}


def _pattern(cause: ReportCause, *phrases: str) -> tuple[re.Pattern[str], ReportCause]:
    return re.compile("|".join(phrases), re.IGNORECASE), cause


# Our own reply to a message that may have been accepted (delivery.classify); the second text is an older one.
_MAYBE_TAKEN: Final = re.compile(
    r"not known whether the message was accepted|whether it was taken is not known", re.IGNORECASE
)

# Texts of this program and of known servers. The first match applies, so specific patterns come first.
_BY_WORDS: Final = (
    _pattern(ReportCause.NO_ACCOUNT, r"no account here may send as", r"is at provider .{1,80} does not know"),
    _pattern(
        ReportCause.SENDER_REFUSED,
        *(r"sender address is not allowed", r"envelope sender not allowed", r"not owned by", r"sendasdenied"),
        *(r"permissions? to send as", r"header from does not match", r"from header address rejected"),
        *(r"invalid mail from", r"does not let login", r"the from field names", r"null reverse-path"),
    ),
    _pattern(
        ReportCause.NOT_NOW,
        *(
            r"could not check the login",
            r"gave no reply to the login",
            r"the login, which worked",
            r"limits the logins",
        ),
        r"^logins at .{1,200} wait",
    ),
    _pattern(
        ReportCause.PASSWORD,
        *(r"refused the login", r"credentials? invalid", r"authentication (?:failed|unsuccessful)"),
    ),
    _pattern(
        ReportCause.LIMIT,
        *(r"(?:send|sending|submission|rate)[ -]*(?:limit|quota)", r"(?:hourly|daily) .{0,40}(?:limit|quota)"),
        *(r"too many (?:messages|mails|e-?mails|connections|recipients)", r"asked for less", r"throttl"),
    ),
    _pattern(
        ReportCause.TOO_LARGE,
        *(r"too (?:large|big)", r"(?:message|mail) size", r"size (?:limit|exceed)", r"maximum size", r"takes at most"),
    ),
    _pattern(
        ReportCause.MAILBOX_FULL,
        *(r"quota", r"mailbox (?:is )?full", r"exceeded storage", r"not enough (?:space|storage)"),
    ),
    _pattern(
        ReportCause.UNKNOWN_DOMAIN,
        *(r"invalid dns", r"no such domain", r"unrouteable", r"domain .{0,60}not (?:found|exist)"),
        *(r"host .{0,60}not found", r"no mx\b", r"null ?mx", r"does not accept mail"),
    ),
    _pattern(
        ReportCause.UNKNOWN_ADDRESS,
        r"(?:unknown|no such|invalid|bad) (?:local )?(?:user|recipient|mailbox|address|account|person)",
        r"(?:user|recipient|mailbox|address|account)\b.{0,60}\b(?:unknown|not found|not exist|doesn't exist|not known)",
        r"no mailbox",
    ),
    _pattern(ReportCause.MAILBOX_OFF, r"(?:disabled|inactive|deactivated|suspended)\b"),
    _pattern(ReportCause.LOOP, r"mail loop", r"too many hops", r"more than \d+ servers"),
    _pattern(ReportCause.UNSAFE, r"certificate", r"starttls", r"offers no (?:auth|tls)", r"no tls with"),
    _pattern(
        ReportCause.POLICY,
        *(r"spam", r"policy", r"block ?list", r"black ?list", r"\bblocked\b", r"reputation", r"virus", r"malware"),
        *(r"\bspf\b", r"\bdkim\b", r"\bdmarc\b"),
    ),
    _pattern(
        ReportCause.NOT_NOW,
        *(r"gr[ea]y ?list", r"try (?:again )?later", r"temporar", r"deferred", r"local error in processing"),
    ),
    _pattern(
        ReportCause.UNREACHABLE,
        *(r"no connection to", r"no route to", r"closed the connection", r"did not (?:answer|reply)"),
        r"timed? ?out",
    ),
)

_BY_SUBJECT: Final[Mapping[int, ReportCause]] = {
    4: ReportCause.UNREACHABLE,
    6: ReportCause.CONTENT,
    7: ReportCause.POLICY,
}


def find_cause(kind: ReportKind, reply: Reply | None) -> ReportCause:
    """Find the cause of a failure or delay in the last reply for a recipient."""
    if kind is ReportKind.CANCELLED:
        return ReportCause.CANCELLED
    if reply is None:
        return ReportCause.NOT_NOW if kind is ReportKind.DELAYED else ReportCause.OTHER
    # The line that gives the reason comes first, then all lines, because others may be more specific. Our own text for
    # an unknown outcome takes precedence.
    texts = (reply.reason, " ".join(reply.lines))
    if _MAYBE_TAKEN.search(texts[1]):
        return ReportCause.MAYBE_TAKEN
    if reply.status is not None and (found := _BY_STATUS.get((reply.status.subject, reply.status.detail))):
        return found
    for text in texts:
        for pattern, cause in _BY_WORDS:
            if pattern.search(text):
                return cause
    if reply.status is not None and reply.status.subject in _BY_SUBJECT:
        return _BY_SUBJECT[reply.status.subject]
    if reply.code == 552:  # RFC 5321 section 4.2.3
        return ReportCause.MAILBOX_FULL
    return ReportCause.NOT_NOW if reply.is_transient else ReportCause.OTHER


_STATUS_OF: Final[Mapping[ReportCause, tuple[int, int]]] = {
    ReportCause.UNKNOWN_ADDRESS: (1, 1),
    ReportCause.UNKNOWN_DOMAIN: (1, 2),
    ReportCause.MAILBOX_FULL: (2, 2),
    ReportCause.MAILBOX_OFF: (2, 1),
    ReportCause.TOO_LARGE: (3, 4),
    ReportCause.SENDER_REFUSED: (7, 1),
    ReportCause.NO_ACCOUNT: (7, 1),
    ReportCause.LOOP: (4, 6),
    ReportCause.UNREACHABLE: (4, 1),
    ReportCause.UNSAFE: (7, 5),
    ReportCause.PASSWORD: (7, 8),
    ReportCause.POLICY: (7, 1),
}
_UNSPECIFIC: Final = frozenset({(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0)})
_EXPIRED: Final = (4, 7)


def report_status(kind: ReportKind, reply: Reply | None) -> EnhancedStatus:
    """Value of the Status field: the class by the kind of report, the rest from the upstream or from the cause.

    An expired message keeps class 4: it "has caused abandonment of attempts" and "sending in the future may be
    successful" (RFC 3463 section 2). A specific status takes precedence over x.4.7 (section 3.5).
    """
    if kind is ReportKind.CANCELLED:
        return EnhancedStatus(5, 0, 0)
    class_ = 5 if kind is ReportKind.FAILED else 4
    detail = (reply.status.subject, reply.status.detail) if reply is not None and reply.status is not None else (0, 0)
    if detail in _UNSPECIFIC:
        detail = _STATUS_OF.get(find_cause(kind, reply), detail)
    if kind is ReportKind.EXPIRED and detail in _UNSPECIFIC:
        detail = _EXPIRED
    return EnhancedStatus(class_, *detail)


# ---- the texts ----

_ADMIN: Final = Bilingual(
    "Bitte leiten Sie diesen Bericht an die Person weiter, die Ihren Mailserver betreut.",
    "Please forward this report to the person who looks after your mail server.",
)

CAUSE_TEXTS: Final[Mapping[ReportCause, CauseText]] = {
    ReportCause.UNKNOWN_ADDRESS: CauseText(
        Bilingual("Diese Adresse gibt es nicht (mehr).", "This address does not exist (any more)."),
        Bilingual(
            "Bitte prüfen Sie die Schreibweise, oder erfragen Sie die Adresse des Empfängers auf anderem Weg.",
            "Please check the spelling, or ask the recipient for the correct address by other means.",
        ),
    ),
    ReportCause.UNKNOWN_DOMAIN: CauseText(
        Bilingual(
            "Die Domain hinter dem @ nimmt keine E-Mail an.",
            "The domain after the @ does not accept mail.",
        ),
        Bilingual(
            "Bitte prüfen Sie, ob der Teil hinter dem @ richtig geschrieben ist.",
            "Please check the spelling of the part after the @.",
        ),
    ),
    ReportCause.MAILBOX_FULL: CauseText(
        Bilingual("Das Postfach des Empfängers ist voll.", "The recipient's mailbox is full."),
        Bilingual(
            "Bitte senden Sie die Nachricht später erneut, oder informieren Sie den Empfänger auf anderem Weg.",
            "Please send it again later, or inform the recipient by other means.",
        ),
    ),
    ReportCause.MAILBOX_OFF: CauseText(
        Bilingual(
            "Das Postfach des Empfängers ist deaktiviert und nimmt keine Nachrichten an.",
            "The recipient's mailbox is disabled and does not accept messages.",
        ),
        Bilingual(
            "Bitte erfragen Sie beim Empfänger auf anderem Weg eine gültige Adresse.",
            "Please ask the recipient for a valid address by other means.",
        ),
    ),
    ReportCause.TOO_LARGE: CauseText(
        Bilingual("Die Nachricht ist zu groß.", "The message is too large."),
        Bilingual(
            "Bitte senden Sie kleinere Anhänge, mehrere Nachrichten oder einen Link zum Herunterladen. "
            "Anhänge werden beim Versand um ein Drittel größer.",
            "Please send smaller attachments, several messages, or a link for downloading. "
            "Attachments become a third larger when they are sent.",
        ),
    ),
    ReportCause.SENDER_REFUSED: CauseText(
        Bilingual(
            "Der Anbieter lässt diese Absenderadresse für das Postfach, über das gesendet wird, nicht zu.",
            "The provider does not permit this sender address for the mailbox that is used for sending.",
        ),
        _ADMIN,
    ),
    ReportCause.NO_ACCOUNT: CauseText(
        Bilingual(
            "Für die Absenderadresse ist hier kein Postfach (mehr) eingerichtet.",
            "No mailbox is set up here for the sender address (any more).",
        ),
        _ADMIN,
    ),
    ReportCause.PASSWORD: CauseText(
        Bilingual(
            "Der Anbieter hat die Anmeldung am Postfach abgelehnt, vermutlich wegen eines geänderten Kennworts.",
            "The provider refused the login to the mailbox, probably because its password was changed.",
        ),
        _ADMIN,
    ),
    ReportCause.UNSAFE: CauseText(
        Bilingual(
            "Die Verbindung zum Anbieter konnte nicht gesichert werden; deshalb wurde nichts übertragen.",
            "The connection to the provider could not be secured, so nothing was sent.",
        ),
        _ADMIN,
    ),
    ReportCause.LIMIT: CauseText(
        Bilingual(
            "Der Anbieter nimmt von diesem Postfach zurzeit keine weiteren Nachrichten an: Ein Limit ist erreicht.",
            "The provider does not accept more mail from this mailbox at present, because a limit is reached.",
        ),
        Bilingual(
            "Bitte senden Sie die Nachricht später erneut, und zwar an weniger Empfänger auf einmal.",
            "Please send it again later, to fewer recipients at a time.",
        ),
    ),
    ReportCause.POLICY: CauseText(
        Bilingual(
            "Der empfangende Mailserver oder der Anbieter lehnt die Nachricht aufgrund seiner Regeln ab, "
            "zum Beispiel als Spam oder wegen eines Anhangs.",
            "The receiving mail server or the provider refuses the message because of its rules, "
            "for instance as spam or because of an attachment.",
        ),
        Bilingual(
            "Bitte versuchen Sie es mit einem anderen Betreff, ohne Anhänge und Links. Ist jede Nachricht betroffen, "
            "leiten Sie diesen Bericht bitte an die Person weiter, die Ihren Mailserver betreut.",
            "Please try another subject, without attachments and links. If every message is affected, "
            "please forward this report to the person who looks after your mail server.",
        ),
    ),
    ReportCause.CONTENT: CauseText(
        Bilingual(
            "Der Mailserver nimmt die Nachricht in dieser Form nicht an.",
            "The mail server does not accept the message in this form.",
        ),
        _ADMIN,
    ),
    ReportCause.LOOP: CauseText(
        Bilingual(
            "Die Nachricht wurde im Kreis weitergeleitet.",
            "The message was forwarded in a loop.",
        ),
        Bilingual(
            "Weiterleitungen verweisen aufeinander. Der Betreiber des Mailservers des Empfängers kann das beheben.",
            "Forwarding rules refer to each other. The operator of the recipient's mail server can correct them.",
        ),
    ),
    ReportCause.UNREACHABLE: CauseText(
        Bilingual(
            "Der nächste Mailserver war nicht erreichbar.",
            "The next mail server could not be reached.",
        ),
        Bilingual(
            "Werden auch andere Nachrichten nicht versendet, ist vermutlich die Internetverbindung gestört. "
            "Andernfalls senden Sie die Nachricht bitte später erneut, oder informieren Sie den Empfänger auf anderem "
            "Weg.",
            "If other mail is not sent either, the internet connection is probably down. "
            "Otherwise please send it again later, or inform the recipient by other means.",
        ),
    ),
    ReportCause.MAYBE_TAKEN: CauseText(
        Bilingual(
            "Die Nachricht wurde vollständig übertragen, aber ihr Empfang wurde nicht bestätigt. "
            "Möglicherweise ist sie trotzdem angekommen.",
            "The whole message was sent, but no confirmation was received. It may have arrived nevertheless.",
        ),
        Bilingual(
            "Bitte fragen Sie den Empfänger, bevor Sie die Nachricht erneut senden.",
            "Please ask the recipient before you send it again.",
        ),
    ),
    ReportCause.NOT_NOW: CauseText(
        Bilingual(
            "Der Mailserver nimmt die Nachricht zurzeit nicht an.",
            "The mail server does not accept the message at present.",
        ),
        Bilingual(
            "Bitte senden Sie die Nachricht später erneut, oder informieren Sie den Empfänger auf anderem Weg.",
            "Please send it again later, or inform the recipient by other means.",
        ),
    ),
    ReportCause.CANCELLED: CauseText(
        Bilingual(
            "Die Person, die den Mailserver betreut, hat die Nachricht aus der Warteschlange entfernt.",
            "The person who looks after the mail server removed the message from the queue.",
        ),
        Bilingual(
            "Bei Fragen wenden Sie sich bitte an diese Person.",
            "If you have questions, please ask that person.",
        ),
    ),
    ReportCause.OTHER: CauseText(
        Bilingual(
            "Der Mailserver hat die Nachricht abgelehnt.",
            "The mail server refused the message.",
        ),
        Bilingual(
            "Der Grund steht in seiner Antwort. Hilft sie nicht weiter, leiten Sie diesen Bericht bitte an die Person "
            "weiter, die Ihren Mailserver betreut.",
            "Its reply gives the reason. If that does not help, please forward this report to the person who looks "
            "after your mail server.",
        ),
    ),
}

_URGENT: Final = Bilingual(
    "Wenn es eilt, informieren Sie den Empfänger bitte auf anderem Weg.",
    "If it is urgent, please inform the recipient by other means.",
)


def advice_for(kind: ReportKind, cause: ReportCause) -> Bilingual:
    """Advice for a recipient. During a delay none that would make the author send the message twice."""
    advice = CAUSE_TEXTS[cause].advice
    return _URGENT if kind is ReportKind.DELAYED and advice is not _ADMIN else advice


# Texts of the whole report. Placeholders: {subject} and {sent} of the original, {until}, {waited}.
SUBJECTS: Final[Mapping[ReportKind, str]] = {
    ReportKind.FAILED: "Nicht zugestellt / Not delivered",
    ReportKind.EXPIRED: "Nicht zugestellt / Not delivered",
    ReportKind.DELAYED: "Verzögert / Delayed",
    ReportKind.CANCELLED: "Nicht gesendet / Not sent",
}

OPENINGS: Final[Mapping[ReportKind, Bilingual]] = {
    ReportKind.FAILED: Bilingual(
        "Ihre Nachricht{subject} vom {sent} konnte nicht zugestellt werden an:",
        "Your message{subject} of {sent} could not be delivered to:",
    ),
    ReportKind.EXPIRED: Bilingual(
        "Ihre Nachricht{subject} vom {sent} konnte innerhalb von {waited} nicht zugestellt werden an:",
        "Your message{subject} of {sent} could not be delivered within {waited} to:",
    ),
    ReportKind.DELAYED: Bilingual(
        "Ihre Nachricht{subject} vom {sent} wartet seit {waited} und ist noch nicht zugestellt an:",
        "Your message{subject} of {sent} has been waiting for {waited} and is not yet delivered to:",
    ),
    ReportKind.CANCELLED: Bilingual(
        "Ihre Nachricht{subject} vom {sent} wurde nicht gesendet an:",
        "Your message{subject} of {sent} was not sent to:",
    ),
}

CLOSINGS: Final[Mapping[ReportKind, Bilingual]] = {
    ReportKind.FAILED: Bilingual(
        "Es folgen keine weiteren Zustellversuche. Dieser Bericht betrifft nur die hier genannten Empfänger.",
        "There are no further delivery attempts. This report is only about the recipients named here.",
    ),
    ReportKind.EXPIRED: Bilingual(
        "Es folgen keine weiteren Zustellversuche. Dieser Bericht betrifft nur die hier genannten Empfänger.",
        "There are no further delivery attempts. This report is only about the recipients named here.",
    ),
    ReportKind.DELAYED: Bilingual(
        "Sie müssen nichts tun und sollten die Nachricht nicht erneut senden: Die Zustellung wird bis {until} weiter "
        "versucht. Gelingt sie bis dahin nicht, erhalten Sie einen weiteren Bericht.",
        "You need not do anything and should not send it again: delivery is retried until {until}. "
        "If it does not succeed by then, you will receive another report.",
    ),
    ReportKind.CANCELLED: Bilingual(
        "Es folgen keine weiteren Zustellversuche. Dieser Bericht betrifft nur die hier genannten Empfänger.",
        "There are no further delivery attempts. This report is only about the recipients named here.",
    ),
}

ADVICE_TITLE: Final = Bilingual("Was Sie tun können", "What you can do")
REPLY_TITLE: Final = Bilingual("Antwort von {host}", "Reply of {host}")
OWN_REPLY_TITLE: Final = Bilingual("Einzelheiten", "Details")
RETURNED_WHOLE: Final = Bilingual("Ihre Nachricht ist angehängt.", "Your message is attached.")
RETURNED_HEADER: Final = Bilingual(
    "Die Kopfzeilen Ihrer Nachricht sind angehängt, ihr Text und ihre Anhänge nicht.",
    "The header of your message is attached; its text and attachments are not.",
)
SIGNATURE: Final = Bilingual(
    "Dieser Bericht wurde automatisch von {host} erstellt.",
    "This report was generated automatically by {host}.",
)


def format_duration(seconds: float) -> Bilingual:
    """A duration in minutes below two hours, hours below two days, else days. The German text is in the dative."""
    minutes = max(1, round(seconds / 60))
    if minutes < 120:
        return Bilingual(f"{minutes} {_of(minutes, 'Minute')}", f"{minutes} minute{'' if minutes == 1 else 's'}")
    hours = round(minutes / 60)
    if hours < 48:
        return Bilingual(f"{hours} {_of(hours, 'Stunde')}", f"{hours} hours")
    days = round(hours / 24)
    return Bilingual(f"{days} Tagen", f"{days} days")


def _of(count: int, word: str) -> str:
    return word if count == 1 else f"{word}n"
