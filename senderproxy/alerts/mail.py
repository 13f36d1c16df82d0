"""Composition of an alert as a mail. PURE.

Guarantees: plain text in one part, valid whatever a provider or a client wrote into a condition; bounded in size.
`Auto-Submitted` and `X-Auto-Response-Suppress` ask all programs for no answer, and the null reverse-path, which the
sender chooses, for no bounce. `List-Id` and the `X-Senderproxy-` fields are for filters.
Not here: the words (alerts.wording), the account and the sending (service).
RFC 5322, RFC 2045 section 6.7, RFC 3834 section 5, RFC 2919.
"""

import re
import textwrap
from binascii import b2a_qp
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from email.utils import format_datetime
from enum import Enum
from typing import Final

from senderproxy.alerts import wording
from senderproxy.alerts.record import Alert, AlertItem, AlertKind
from senderproxy.dsn.compose import MemoryBody
from senderproxy.dsn.wording import Bilingual
from senderproxy.mail.address import Address
from senderproxy.mail.display import encode_phrase, encode_unstructured
from senderproxy.mail.header import Edit, HeaderSection
from senderproxy.mail.message import Message
from senderproxy.monitoring.record import Condition

_WIDTH: Final = 72  # characters of a line; leaves space for quoting in a reply
_LISTED: Final = 50  # items of a digest
_NAMES: Final = 10  # accounts in a list
_SUBJECT: Final = 150  # characters


class Language(Enum):
    """The languages of a mail, in their order. The subject is in the first one."""

    BOTH = "both"
    GERMAN = "de"
    ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class MailContext:
    """The author, the recipients and the settings of one mail."""

    from_: Address
    to: Sequence[Address]
    language: Language = Language.BOTH
    zone: tzinfo | None = None  # of the times; None: that of the machine
    names: Mapping[str, str] = field(default_factory=dict)  # addresses of accounts by their ids


def compose_alert(alert: Alert, context: MailContext) -> Message:
    """The mail about an alert, in ASCII."""
    texts = [_MailText(alert, context, german=german) for german in _languages(context.language)]
    text = f"\n{'*' * _WIDTH}\n\n".join(part.render() for part in texts)
    # Many programs hide what follows this line, so it is below the text in all languages.
    text += "\n-- \n" + "\n\n".join(part.closing() for part in texts) + "\n"
    body = b2a_qp(text.replace("\n", "\r\n").encode("utf-8", "replace"), istext=True)
    body = body.replace(b"\r\n.", b"\r\n=2E")  # so that nothing is to be dot-stuffed
    return Message(_header(alert, context), MemoryBody(body))


def subject_of(alert: Alert, names: Mapping[str, str]) -> Bilingual:
    """The subject: the host and the title."""
    headline = _headline(alert, names)
    both = (f"senderproxy {alert.host}: {text}" for text in (headline.german, headline.english))
    return Bilingual(*(text if len(text) <= _SUBJECT else f"{text[: _SUBJECT - 3]}..." for text in both))


def _languages(language: Language) -> Sequence[bool]:
    """True for German."""
    return {Language.BOTH: (True, False), Language.GERMAN: (True,), Language.ENGLISH: (False,)}[language]


def _headline(alert: Alert, names: Mapping[str, str]) -> Bilingual:
    match alert.kind:
        case AlertKind.DIGEST:
            return _filled(wording.DIGEST_TITLE, count=len(alert.items) + alert.more)
        case AlertKind.WEEKLY:
            sums = alert.sums
            text = wording.WEEKLY_TITLE if alert.open else wording.WELL_TITLE
            return _filled(text, delivered=sums.delivered if sums else 0, refused=sums.refused if sums else 0)
        case AlertKind.TEST:
            return wording.TEST_TITLE
        case _:
            return _item_title(alert.items[0], names)


def _item_title(item: AlertItem, names: Mapping[str, str]) -> Bilingual:
    prefix, title = wording.PREFIXES[item.kind], wording.title(item.condition, names)
    return Bilingual(prefix.german + title.german, prefix.english + title.english)


def _filled(text: Bilingual, **values: object) -> Bilingual:
    return Bilingual(text.german.format(**values), text.english.format(**values))


# ---- the header ----


def _header(alert: Alert, context: MailContext) -> HeaderSection:
    host = _token(alert.host)
    subject = subject_of(alert, context.names)
    text = subject.german if context.language is Language.GERMAN else subject.english
    languages = {Language.BOTH: b"de, en", Language.GERMAN: b"de", Language.ENGLISH: b"en"}
    keys = dict.fromkeys(item.condition.key.value for item in alert.items)
    fields = [
        Edit("From", encode_phrase(f"{wording.FROM} {host}") + f" <{context.from_}>".encode("ascii")),
        Edit("To", b",\r\n ".join(str(to).encode("ascii") for to in context.to)),
        # Text that looks like an encoded word must not be decoded.
        Edit("Subject", encode_unstructured(_one_line(text).replace("=?", "= ?"))),
        Edit("Date", format_datetime(alert.time).encode("ascii")),
        Edit("Message-ID", f"<{_token(alert.id)}@{host}>".encode("ascii")),
        Edit("Auto-Submitted", b"auto-generated"),
        Edit("X-Auto-Response-Suppress", b"All"),
        Edit("List-Id", f"senderproxy alerts <alerts.{host}>".encode("ascii")),
        Edit("X-Senderproxy-Alert", f"{alert.kind.value}; severity={alert.severity.name.lower()}".encode("ascii")),
        *([Edit("X-Senderproxy-Conditions", b",\r\n ".join(key.encode("ascii") for key in keys))] if keys else []),
        Edit("MIME-Version", b"1.0"),
        Edit("Content-Type", b"text/plain; charset=utf-8"),
        Edit("Content-Language", languages[context.language]),
        Edit("Content-Transfer-Encoding", b"quoted-printable"),
    ]
    return HeaderSection(b"".join(edit.render() for edit in fields) + b"\r\n")


def _token(text: str) -> str:
    """The visible ASCII characters of a host name or id, at most 255."""
    return re.sub(r"[^!-:=?-~]", "", text)[:255] or "unknown"


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


# ---- the text ----


@dataclass(frozen=True, slots=True)
class _MailText:
    """The text in one language."""

    alert: Alert
    context: MailContext
    german: bool

    def render(self) -> str:
        """The paragraphs."""
        return "\n\n".join(part for part in self._paragraphs() if part) + "\n"

    def closing(self) -> str:
        """The reason for the mail, and the way to stop it."""
        to = ", ".join(str(address) for address in self.context.to)
        return self._wrapped(wording.CLOSING, host=self.alert.host, to=to)

    def _paragraphs(self) -> Iterator[str]:
        alert = self.alert
        sums = alert.sums
        yield self._wrapped(
            wording.OPENINGS[alert.kind],
            host=alert.host,
            since=self._time(sums.since) if sums else "",
            delivered=sums.delivered if sums else 0,
            refused=sums.refused if sums else 0,
            alerts=sums.alerts if sums else 0,
        )
        if alert.kind is AlertKind.DIGEST:
            yield "\n\n".join(self._entry(item) for item in alert.items[:_LISTED])
            if more := len(alert.items[_LISTED:]) + alert.more:
                yield self._wrapped(wording.MORE, count=more)
        elif alert.items:
            yield self._item(alert.items[0])
        if alert.waiting is not None and alert.kind is not AlertKind.TEST:
            text = wording.ONE_MESSAGE if alert.waiting == 1 else wording.MESSAGES
            yield self._line(wording.WAITING, self._say(text, count=alert.waiting))
        if alert.kind is not AlertKind.TEST:
            text = {0: wording.NOTHING_OPEN, 1: wording.ONE_OPEN}.get(alert.open, wording.OPEN)
            yield self._wrapped(text, count=alert.open)

    def _item(self, item: AlertItem) -> str:
        """Everything about one condition."""
        condition = self._condition(item)
        lines = [
            self._fill(f"    {self._pick(_item_title(item, self.context.names))}", "    "),
            "",
            self._line(wording.SINCE, self._time(condition.since)),
        ]
        if item.ended is not None:
            lines.append(self._line(wording.UNTIL, self._time(item.ended)))
        lines.append(self._line(wording.CAUSE, condition.cause))
        if names := condition.affected.names:
            shown = ", ".join(self.context.names.get(name, name) for name in names[:_NAMES])
            more = f" {self._say(wording.MORE, count=len(names) - _NAMES)}" if len(names) > _NAMES else ""
            lines.append(self._line(wording.AFFECTED, shown + more))
        if item.ended is None:
            lines.append(self._line(wording.FIX, condition.hint or self._pick(wording.BY_ITSELF)))
        if item.times > 1:
            lines += ["", self._wrapped(wording.TIMES, count=item.times)]
        return "\n".join(lines)

    def _entry(self, item: AlertItem) -> str:
        """One condition of several."""
        condition = self._condition(item)
        title = self._fill(f"* {self._pick(_item_title(item, self.context.names))}", "  ")
        if item.ended is not None:
            return f"{title}\n  {self._say(wording.UNTIL).strip()} {self._time(item.ended)}"
        return f"{title}\n{self._fill(f'  {condition.cause}', '  ')}"

    def _condition(self, item: AlertItem) -> Condition:
        return item.translations.get("de", item.condition) if self.german else item.condition

    def _pick(self, text: Bilingual) -> str:
        return text.german if self.german else text.english

    def _say(self, text: Bilingual, **values: object) -> str:
        return self._pick(text).format(**values)

    def _wrapped(self, text: Bilingual, **values: object) -> str:
        return self._fill(self._say(text, **values), "")

    def _line(self, label: Bilingual, value: str) -> str:
        """A label, and a value that goes on below itself."""
        begin = self._pick(label)
        return self._fill(begin + _one_line(value), " " * len(begin))

    @staticmethod
    def _fill(text: str, indent: str) -> str:
        return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)

    def _time(self, time: datetime) -> str:
        local = time.astimezone(self.context.zone)
        if self.german:
            return f"{local:%d.%m.%Y, %H:%M} Uhr ({local.tzname()})"
        return f"{local:%Y-%m-%d %H:%M} ({local.tzname()})"
