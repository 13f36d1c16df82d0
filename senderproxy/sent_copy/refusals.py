"""Causes of negative answers of an IMAP server, by response code and words. PURE.

Guarantees: a response code decides first. A text that is not known about a login is a refused login, so that it is not
repeated; one about a copy passes by itself, so that the copy is tried again.
Not here: words for the operator (sent_copy.results). RFC 9051 section 7.1, RFC 5530, RFC 7889 section 4.
"""

import re
from dataclasses import dataclass
from typing import Final

from senderproxy.sent_copy.ports import DelayKind, RefusalKind

TEXT_LIMIT: Final = 300  # characters of a server's text
_CODE: Final = re.compile(r"\[([A-Za-z0-9-]{1,40})(?: [^\]]{0,200})?\]")
# imaplib and IMAPClient put words of their own around the server's.
_WRAPPED: Final = (
    re.compile(r"(?:command: \S{1,20} => )?\S{1,20} command error: BAD \[b(?P<quote>['\"])(?P<text>.*)(?P=quote)\]"),
    re.compile(r"(?:command: \S{1,20} => |\S{1,20} failed: )(?P<text>.*)"),
)

_TEMPORARY_CODES: Final = frozenset({"UNAVAILABLE", "SERVERBUG", "INUSE", "LIMIT", "CORRUPTION", "EXPUNGEISSUED"})
_OF_LOGIN: Final = {
    "AUTHENTICATIONFAILED": RefusalKind.LOGIN,
    "EXPIRED": RefusalKind.LOGIN,
    "AUTHORIZATIONFAILED": RefusalKind.ACCESS_OFF,
    "CONTACTADMIN": RefusalKind.ACCESS_OFF,
    "NOPERM": RefusalKind.ACCESS_OFF,
    "PRIVACYREQUIRED": RefusalKind.INCOMPATIBLE,
}
_OF_COPY: Final = {
    "OVERQUOTA": RefusalKind.OVER_QUOTA,
    "TOOBIG": RefusalKind.TOO_LARGE,
    "NOPERM": RefusalKind.NO_PERMISSION,
    "NONEXISTENT": RefusalKind.NO_FOLDER,
    "TRYCREATE": RefusalKind.NO_FOLDER,
    "CANNOT": RefusalKind.NO_FOLDER,
}


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_TEMPORARY: Final = _words(
    r"\btoo many\b", r"\blimit", r"\blater\b", r"\btempor", r"\bunavailable\b", r"not available", r"\binternal\b",
    r"\bbusy\b", r"\bmaintenance\b", r"\bwartung", r"\btry again\b", r"\btime(?:d)?[- ]?out\b", r"\bbackend\b",
    r"not connected", r"server error", r"\bthrottl", r"\brate\b", r"sp.{1,2}ter", r"zu viele",
)  # fmt: skip
_ACCESS: Final = _words(
    r"app(?:lication)?[- ]?(?:specific )?[- ]?password", r"web ?browser", r"webmail", r"anwendungsspezifisch",
    r"\b(?:imap4?|access|service|zugang|zugriff|abruf)\b.{0,60}\b(?:disabled|deactivated|blocked|off|not (?:been )?"
    r"(?:enabled|activated|allowed|permitted)|nicht (?:akt\w+|freige\w+|erlaubt)|deaktiviert|gesperrt)",
    r"\b(?:enable|activate|aktivieren)\b.{0,40}\bimap", r"basic auth\w*\b.{0,40}\b(?:disabled|blocked)",
)  # fmt: skip
_QUOTA: Final = _words(r"\bover ?quota\b", r"\bquota\b", r"\b(?:mailbox|postfach)\b.{0,40}\b(?:full|voll)\b")
_SIZE: Final = _words(
    r"\b(?:message|mail) (?:is )?(?:too )?(?:large|big)\b", r"\bsize\b.{0,40}\b(?:exceed|limit|large|maximum)",
    r"\b(?:exceed\w*|maximum)\b.{0,40}\bsize\b", r"\btoo (?:large|big)\b", r"zu gro.{1,2}\b",
)  # fmt: skip
_PERMISSION: Final = _words(r"permission denied", r"\bnot (?:allowed|permitted)\b", r"\bread-?only\b")
_NO_FOLDER: Final = _words(
    r"\b(?:mailbox|folder)\b.{0,300}\b(?:does ?n.t exist|not exist|not found|unknown)\b",
    r"\b(?:unknown|no such|non-?existent) (?:mailbox|folder)",
)


@dataclass(frozen=True, slots=True)
class NegativeAnswer:
    """A negative answer. `text`: the server's, printable and bounded. `code`: of RFC 5530 and others, may be empty."""

    text: str
    code: str

    @property
    def wants_folder(self) -> bool:
        """True if the folder does not exist. RFC 9051 section 6.3.12."""
        return self.code in ("TRYCREATE", "NONEXISTENT") or (not self.code and _NO_FOLDER.search(self.text) is not None)


def answer_of(raw: str | bytes, secrets: tuple[str, ...] = ()) -> NegativeAnswer:
    """The answer in a server's line, or in an exception of imaplib. `secrets`: are replaced; servers may echo them."""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = "".join(c if c.isprintable() else " " for c in text[: 4 * TEXT_LIMIT]).strip()
    for pattern in _WRAPPED:
        if found := pattern.fullmatch(text):
            text = found["text"]
    text = text[:TEXT_LIMIT]
    code = _CODE.search(text)
    return NegativeAnswer(text, code[1].upper() if code else "")


def login_cause(answer: NegativeAnswer) -> RefusalKind | DelayKind:
    """The cause of a refused login."""
    if answer.code in _OF_LOGIN:
        return RefusalKind.ACCESS_OFF if _ACCESS.search(answer.text) else _OF_LOGIN[answer.code]
    if _ACCESS.search(answer.text):
        return RefusalKind.ACCESS_OFF
    if answer.code in _TEMPORARY_CODES or _TEMPORARY.search(answer.text):
        return DelayKind.BUSY
    return RefusalKind.LOGIN


def copy_cause(answer: NegativeAnswer) -> RefusalKind | DelayKind:
    """The cause of a refused copy, or of a folder that was not created."""
    if answer.code in _OF_COPY:
        return _OF_COPY[answer.code]
    if answer.code in _TEMPORARY_CODES:
        return DelayKind.BUSY
    for pattern, kind in _COPY_WORDS:
        if pattern.search(answer.text):
            return kind
    return DelayKind.BUSY


_COPY_WORDS: Final = (
    (_QUOTA, RefusalKind.OVER_QUOTA),
    (_SIZE, RefusalKind.TOO_LARGE),
    (_PERMISSION, RefusalKind.NO_PERMISSION),
    (_NO_FOLDER, RefusalKind.NO_FOLDER),
)
