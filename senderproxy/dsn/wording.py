"""The sentences a person reads in a report, in German and in English. PURE.

Guarantees: the cause is told apart by what the upstream said, its enhanced status first and then its words, and what
nobody understands is called by no name: the sentence then points to the answer itself. Each cause has what happened
and what to do in both languages.
Not here: how a report is laid out (dsn.compose).
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
    """Why a recipient was not reached, as far as what to do about it differs."""

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
    """One thing said twice."""

    german: str
    english: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened, and what to do."""

    what: Bilingual
    do: Bilingual


# ---- which cause it is ----

# Details that say something; x.0, 1.0, 6.0 and 7.1 are what servers (and we) give where they say no more.
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


def _heard(cause: ReportCause, *phrases: str) -> tuple[re.Pattern[str], ReportCause]:
    return re.compile("|".join(phrases), re.IGNORECASE), cause


# Our own reply to a message that may have been accepted (delivery.classify); the second text is an older one.
_MAYBE_TAKEN: Final = re.compile(
    r"not known whether the message was accepted|whether it was taken is not known", re.IGNORECASE
)

# What our own rooms and the servers we know say. The first that is found holds: narrow ones stand before wide ones.
_BY_WORDS: Final = (
    _heard(ReportCause.NO_ACCOUNT, r"no account here may send as", r"is at provider .{1,80} does not know"),
    _heard(
        ReportCause.SENDER_REFUSED,
        *(r"sender address is not allowed", r"envelope sender not allowed", r"not owned by", r"sendasdenied"),
        *(r"permissions? to send as", r"header from does not match", r"from header address rejected"),
        *(r"invalid mail from", r"does not let login", r"the from field names", r"null reverse-path"),
    ),
    _heard(
        ReportCause.PASSWORD,
        *(r"refused the login", r"credentials? invalid", r"authentication (?:failed|unsuccessful)"),
    ),
    _heard(
        ReportCause.LIMIT,
        *(r"(?:send|sending|submission|rate)[ -]*(?:limit|quota)", r"(?:hourly|daily) .{0,40}(?:limit|quota)"),
        *(r"too many (?:messages|mails|e-?mails|connections|recipients)", r"asked for less", r"throttl"),
    ),
    _heard(
        ReportCause.TOO_LARGE,
        *(r"too (?:large|big)", r"(?:message|mail) size", r"size (?:limit|exceed)", r"maximum size", r"takes at most"),
    ),
    _heard(
        ReportCause.MAILBOX_FULL,
        *(r"quota", r"mailbox (?:is )?full", r"exceeded storage", r"not enough (?:space|storage)"),
    ),
    _heard(
        ReportCause.UNKNOWN_DOMAIN,
        *(r"invalid dns", r"no such domain", r"unrouteable", r"domain .{0,60}not (?:found|exist)"),
        *(r"host .{0,60}not found", r"no mx\b", r"null ?mx", r"does not accept mail"),
    ),
    _heard(
        ReportCause.UNKNOWN_ADDRESS,
        r"(?:unknown|no such|invalid|bad) (?:local )?(?:user|recipient|mailbox|address|account|person)",
        r"(?:user|recipient|mailbox|address|account)\b.{0,60}\b(?:unknown|not found|not exist|doesn't exist|not known)",
        r"no mailbox",
    ),
    _heard(ReportCause.MAILBOX_OFF, r"(?:disabled|inactive|deactivated|suspended)\b"),
    _heard(ReportCause.LOOP, r"mail loop", r"too many hops", r"more than \d+ servers"),
    _heard(ReportCause.UNSAFE, r"certificate", r"starttls", r"offers no (?:auth|tls)", r"no tls with"),
    _heard(
        ReportCause.POLICY,
        *(r"spam", r"policy", r"block ?list", r"black ?list", r"\bblocked\b", r"reputation", r"virus", r"malware"),
        *(r"\bspf\b", r"\bdkim\b", r"\bdmarc\b"),
    ),
    _heard(
        ReportCause.NOT_NOW,
        *(r"gr[ea]y ?list", r"try (?:again )?later", r"temporar", r"deferred", r"local error in processing"),
    ),
    _heard(
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


def cause_of(kind: ReportKind, said: Reply | None) -> ReportCause:
    """Why a recipient was not reached, from the last that was said about it."""
    if kind is ReportKind.CANCELLED:
        return ReportCause.CANCELLED
    if said is None:
        return ReportCause.NOT_NOW if kind is ReportKind.DELAYED else ReportCause.OTHER
    # The last line decides, but the others may say what it leaves out; our own mark of an unknown fate goes first.
    spoken = (said.text, " ".join(said.lines))
    if _MAYBE_TAKEN.search(spoken[1]):
        return ReportCause.MAYBE_TAKEN
    if said.status is not None and (found := _BY_STATUS.get((said.status.subject, said.status.detail))):
        return found
    for text in spoken:
        for pattern, cause in _BY_WORDS:
            if pattern.search(text):
                return cause
    if said.status is not None and said.status.subject in _BY_SUBJECT:
        return _BY_SUBJECT[said.status.subject]
    if said.code == 552:  # RFC 5321 section 4.2.3
        return ReportCause.MAILBOX_FULL
    return ReportCause.NOT_NOW if said.is_transient else ReportCause.OTHER


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
_SAYS_LITTLE: Final = frozenset({(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0)})
_EXPIRED: Final = (4, 7)


def status_of(kind: ReportKind, said: Reply | None) -> EnhancedStatus:
    """The Status field: the class is ours to give, the rest is the upstream's, and where it says little, the cause's.

    What expired keeps class 4: it "has caused abandonment of attempts" and "sending in the future may be successful"
    (RFC 3463 section 2); the actual problem goes before x.4.7 (section 3.5).
    """
    if kind is ReportKind.CANCELLED:
        return EnhancedStatus(5, 0, 0)
    klass = 5 if kind is ReportKind.FAILED else 4
    given = (said.status.subject, said.status.detail) if said is not None and said.status is not None else (0, 0)
    if given in _SAYS_LITTLE:
        given = _STATUS_OF.get(cause_of(kind, said), given)
    if kind is ReportKind.EXPIRED and given in _SAYS_LITTLE:
        given = _EXPIRED
    return EnhancedStatus(klass, *given)


# ---- what is said about it ----

_ADMIN: Final = Bilingual(
    "Bitte leiten Sie diese Nachricht an die Person weiter, die Ihren Mailserver betreut.",
    "Please forward this message to the person who looks after your mail server.",
)

ADVICE: Final[Mapping[ReportCause, Explanation]] = {
    ReportCause.UNKNOWN_ADDRESS: Explanation(
        Bilingual("Diese Adresse gibt es nicht (mehr).", "There is no such address (any more)."),
        Bilingual(
            "Bitte prüfen Sie die Schreibweise, oder fragen Sie den Empfänger auf anderem Weg nach seiner Adresse.",
            "Please check the spelling, or ask the recipient for the right address in another way.",
        ),
    ),
    ReportCause.UNKNOWN_DOMAIN: Explanation(
        Bilingual(
            "Unter dem Namen hinter dem @ nimmt niemand Mail an.",
            "Nobody takes mail for the name behind the @.",
        ),
        Bilingual(
            "Bitte prüfen Sie, ob der Teil hinter dem @ richtig geschrieben ist.",
            "Please check whether the part behind the @ is spelt right.",
        ),
    ),
    ReportCause.MAILBOX_FULL: Explanation(
        Bilingual("Das Postfach des Empfängers ist voll.", "The recipient's mailbox is full."),
        Bilingual(
            "Bitte senden Sie später noch einmal, oder sagen Sie dem Empfänger auf anderem Weg Bescheid.",
            "Please send it again later, or tell the recipient in another way.",
        ),
    ),
    ReportCause.MAILBOX_OFF: Explanation(
        Bilingual(
            "Das Postfach des Empfängers ist abgeschaltet und nimmt nichts an.",
            "The recipient's mailbox is switched off and takes nothing.",
        ),
        Bilingual(
            "Bitte fragen Sie den Empfänger auf anderem Weg nach einer Adresse, die gilt.",
            "Please ask the recipient in another way for an address that is in use.",
        ),
    ),
    ReportCause.TOO_LARGE: Explanation(
        Bilingual("Die Nachricht ist zu groß.", "The message is too large."),
        Bilingual(
            "Bitte senden Sie kleinere Anhänge, mehrere Nachrichten oder einen Link zum Herunterladen. "
            "Anhänge wachsen beim Senden um ein Drittel.",
            "Please send smaller attachments, several messages, or a link for downloading. "
            "Attachments grow by a third when they are sent.",
        ),
    ),
    ReportCause.SENDER_REFUSED: Explanation(
        Bilingual(
            "Der Anbieter lässt diese Absenderadresse für das Postfach, das sich bei ihm anmeldet, nicht zu.",
            "The provider does not let the mailbox that logs in there use this sender's address.",
        ),
        _ADMIN,
    ),
    ReportCause.NO_ACCOUNT: Explanation(
        Bilingual(
            "Für die Absenderadresse ist hier kein Postfach (mehr) eingerichtet.",
            "No mailbox is set up here for the sender's address (any more).",
        ),
        _ADMIN,
    ),
    ReportCause.PASSWORD: Explanation(
        Bilingual(
            "Der Anbieter hat die Anmeldung des Postfachs abgelehnt, vermutlich wegen eines geänderten Kennworts.",
            "The provider refused the login of the mailbox, probably because its password was changed.",
        ),
        _ADMIN,
    ),
    ReportCause.UNSAFE: Explanation(
        Bilingual(
            "Die Verbindung zum Anbieter ließ sich nicht absichern, also wurde nichts übertragen.",
            "The connection to the provider could not be secured, so nothing was sent over it.",
        ),
        _ADMIN,
    ),
    ReportCause.LIMIT: Explanation(
        Bilingual(
            "Der Anbieter nimmt zurzeit nicht mehr Mail von diesem Postfach an: eine Grenze ist erreicht.",
            "The provider takes no more mail from this mailbox for now: a limit is reached.",
        ),
        Bilingual(
            "Bitte senden Sie später noch einmal, an weniger Empfänger auf einmal.",
            "Please send it again later, to fewer recipients at a time.",
        ),
    ),
    ReportCause.POLICY: Explanation(
        Bilingual(
            "Der empfangende Mailserver oder der Anbieter lehnt die Nachricht nach seinen Regeln ab, "
            "zum Beispiel als Werbung oder wegen eines Anhangs.",
            "The receiving mail server or the provider refuses the message by its rules, "
            "for instance as spam or because of an attachment.",
        ),
        Bilingual(
            "Bitte versuchen Sie es mit anderem Betreff und ohne Anhang oder Links. Trifft es jede Nachricht, "
            "leiten Sie diese hier an die Person weiter, die Ihren Mailserver betreut.",
            "Please try another subject, without attachments and links. If it happens to every message, "
            "forward this one to the person who looks after your mail server.",
        ),
    ),
    ReportCause.CONTENT: Explanation(
        Bilingual(
            "Der Mailserver nimmt die Nachricht in dieser Form nicht an.",
            "The mail server does not take the message in this form.",
        ),
        _ADMIN,
    ),
    ReportCause.LOOP: Explanation(
        Bilingual(
            "Die Nachricht wurde im Kreis weitergeleitet.",
            "The message was forwarded in a circle.",
        ),
        Bilingual(
            "Irgendwo zeigen Weiterleitungen aufeinander; wer den Mailserver des Empfängers betreut, kann sie beheben.",
            "Somewhere forwarding rules point at each other; whoever runs the recipient's mail server can mend them.",
        ),
    ),
    ReportCause.UNREACHABLE: Explanation(
        Bilingual(
            "Der nächste Mailserver war nicht zu erreichen.",
            "The next mail server could not be reached.",
        ),
        Bilingual(
            "Geht auch andere Mail nicht hinaus, ist vermutlich die Internetverbindung gestört. "
            "Sonst senden Sie später noch einmal oder sagen dem Empfänger auf anderem Weg Bescheid.",
            "If other mail does not go out either, the internet connection is probably down. "
            "Otherwise send it again later, or tell the recipient in another way.",
        ),
    ),
    ReportCause.MAYBE_TAKEN: Explanation(
        Bilingual(
            "Die Nachricht wurde ganz übertragen, aber die Bestätigung kam nie an. "
            "Sie ist vielleicht trotzdem angekommen.",
            "The whole message was sent, but no confirmation ever came. It may have arrived nevertheless.",
        ),
        Bilingual(
            "Bitte fragen Sie den Empfänger, bevor Sie noch einmal senden.",
            "Please ask the recipient before you send it again.",
        ),
    ),
    ReportCause.NOT_NOW: Explanation(
        Bilingual(
            "Der Mailserver nimmt die Nachricht zurzeit nicht an.",
            "The mail server does not take the message at present.",
        ),
        Bilingual(
            "Bitte senden Sie später noch einmal, oder sagen Sie dem Empfänger auf anderem Weg Bescheid.",
            "Please send it again later, or tell the recipient in another way.",
        ),
    ),
    ReportCause.CANCELLED: Explanation(
        Bilingual(
            "Wer den Mailserver betreut, hat die Nachricht aus der Warteschlange genommen.",
            "The person who looks after the mail server took the message out of the queue.",
        ),
        Bilingual(
            "Bei Fragen wenden Sie sich bitte an diese Person.",
            "Please ask that person if you want to know more.",
        ),
    ),
    ReportCause.OTHER: Explanation(
        Bilingual(
            "Der Mailserver hat die Nachricht abgelehnt.",
            "The mail server refused the message.",
        ),
        Bilingual(
            "Den Grund nennt seine Antwort. Hilft sie nicht weiter, leiten Sie diese Nachricht bitte an die Person "
            "weiter, die Ihren Mailserver betreut.",
            "Its answer says why. If that does not help, please forward this message to the person who looks after "
            "your mail server.",
        ),
    ),
}

_URGENT: Final = Bilingual(
    "Ist es eilig, sagen Sie dem Empfänger auf anderem Weg Bescheid.",
    "If it is urgent, tell the recipient in another way.",
)


def what_to_do(kind: ReportKind, cause: ReportCause) -> Bilingual:
    """The advice; while it is still tried, none that would have it sent twice."""
    advice = ADVICE[cause].do
    return _URGENT if kind is ReportKind.DELAYED and advice is not _ADMIN else advice


# What the report as a whole says. In braces: {subject} and {sent} of the original, {until}, {waited}.
SUBJECT: Final[Mapping[ReportKind, str]] = {
    ReportKind.FAILED: "Nicht zugestellt / Not delivered",
    ReportKind.EXPIRED: "Nicht zugestellt / Not delivered",
    ReportKind.DELAYED: "Verzögert / Delayed",
    ReportKind.CANCELLED: "Nicht gesendet / Not sent",
}

OPENING: Final[Mapping[ReportKind, Bilingual]] = {
    ReportKind.FAILED: Bilingual(
        "Ihre Nachricht{subject} vom {sent} konnte nicht zugestellt werden an:",
        "Your message{subject} of {sent} could not be delivered to:",
    ),
    ReportKind.EXPIRED: Bilingual(
        "Ihre Nachricht{subject} vom {sent} konnte in {waited} nicht zugestellt werden an:",
        "Your message{subject} of {sent} could not be delivered for {waited} to:",
    ),
    ReportKind.DELAYED: Bilingual(
        "Ihre Nachricht{subject} vom {sent} wartet seit {waited}; sie ist noch nicht zugestellt an:",
        "Your message{subject} of {sent} has been waiting for {waited}; it is not yet delivered to:",
    ),
    ReportKind.CANCELLED: Bilingual(
        "Ihre Nachricht{subject} vom {sent} wurde nicht gesendet an:",
        "Your message{subject} of {sent} was not sent to:",
    ),
}

CLOSING: Final[Mapping[ReportKind, Bilingual]] = {
    ReportKind.FAILED: Bilingual(
        "Es wird nicht weiter versucht. Empfänger, die hier nicht genannt sind, betrifft dieser Bericht nicht.",
        "Nothing more is tried. This report is not about recipients who are not named here.",
    ),
    ReportKind.EXPIRED: Bilingual(
        "Es wird nicht weiter versucht. Empfänger, die hier nicht genannt sind, betrifft dieser Bericht nicht.",
        "Nothing more is tried. This report is not about recipients who are not named here.",
    ),
    ReportKind.DELAYED: Bilingual(
        "Sie müssen nichts tun und sollten nicht noch einmal senden: Es wird weiter versucht, bis {until}. "
        "Gelingt es bis dahin nicht, erfahren Sie es.",
        "You need not do anything and should not send it again: it is tried until {until}. "
        "If it does not succeed by then, you will be told.",
    ),
    ReportKind.CANCELLED: Bilingual(
        "Es wird nicht weiter versucht. Empfänger, die hier nicht genannt sind, betrifft dieser Bericht nicht.",
        "Nothing more is tried. This report is not about recipients who are not named here.",
    ),
}

TO_DO: Final = Bilingual("Was Sie tun können", "What you can do")
ANSWER: Final = Bilingual("Die Antwort von {who}", "The answer of {who}")
OWN_WORDS: Final = Bilingual("Im Einzelnen", "In detail")
RETURNED_WHOLE: Final = Bilingual("Ihre Nachricht liegt bei.", "Your message is attached.")
RETURNED_HEADER: Final = Bilingual(
    "Die Kopfzeilen Ihrer Nachricht liegen bei, ihr Text und ihre Anhänge nicht.",
    "The header of your message is attached, its text and attachments are not.",
)
SIGNATURE: Final = Bilingual("Diesen Bericht schrieb {host}, ein Programm.", "{host}, a program, wrote this report.")


def format_duration(seconds: float) -> Bilingual:
    """A length of time as a person says it: minutes below two hours, hours below two days, else days."""
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
