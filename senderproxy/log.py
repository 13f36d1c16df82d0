"""Output of log events: one line for each event, with its facts as fields.

Guarantees: one event is one line, whatever its fields contain (control characters are escaped). A log that cannot be
written never stops a message: a full disk behind standard error is no fault of the client.
Not here: the list of events (log_events), the destination of the lines (journald, a file), the level (config).
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

from senderproxy.log_events import LogEvent

_FIELDS: Final = "senderproxy_fields"
_KEY: Final = "senderproxy_event"
# journald takes "<N>" at the start of a line as its priority (sd-daemon(3)).
_PRIORITY: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def event(
    logger: logging.Logger,
    kind: LogEvent,
    /,
    *,
    fault: BaseException | None = None,
    **fields: object,
) -> None:
    """Log one event: its sentence for people, its key and fields for programs. `fault` adds its traceback."""
    if logger.isEnabledFor(kind.level):
        trace = (type(fault), fault, fault.__traceback__) if fault is not None else None
        # Not `logger.log`: it looks up the caller's file and line, which no formatter shows.
        extra = {_FIELDS: fields, _KEY: kind.key}
        logger.handle(logger.makeRecord(logger.name, kind.level, "", 0, kind.sentence, (), trace, extra=extra))


def set_up_logging(level: str, form: str, *, stream: TextIO | None = None, under_journald: bool = False) -> None:
    """Send our events to standard error, as text or as JSON lines. Libraries log from WARNING on.

    aiosmtpd's debug lines contain what clients send, AUTH included: its logger is off.
    """
    logging.raiseExceptions = False
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no formatter shows these
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(under_journald))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("senderproxy").setLevel(level.upper())
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)


class TextFormatter(logging.Formatter):
    """`2026-01-31T08:15:00Z INFO delivered id=... account=anna`; journald adds the time itself."""

    def __init__(self, under_journald: bool = False) -> None:
        super().__init__()
        self._under_journald = under_journald

    def format(self, record: logging.LogRecord) -> str:
        words = _one_line(record.getMessage())
        fields = "".join(f" {name}={_quoted(value)}" for name, value in _fields(record).items())
        trace = _one_line(self.formatException(record.exc_info)) if record.exc_info and record.exc_info[0] else ""
        line = f"{words}{fields}{f' traceback={_quoted(trace)}' if trace else ''}"
        if self._under_journald:
            return f"<{_PRIORITY.get(record.levelno, 6)}>{line}"
        return f"{_time(record)} {record.levelname} {line}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, component, event (its key), message (its sentence) and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "component": record.name.removeprefix("senderproxy."),
            "event": getattr(record, _KEY, None),
            "message": record.getMessage(),
        }
        entry |= {
            name: value if isinstance(value, int | float | bool) else str(value)
            for name, value in _fields(record).items()
        }
        if record.exc_info and record.exc_info[0]:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=True)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    found = getattr(record, _FIELDS, None)
    return {name: value for name, value in found.items() if value is not None} if isinstance(found, dict) else {}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


_NEEDS_NO_QUOTES: Final = re.compile(r"[!#-<>-\[\]-~]+")  # ASCII that needs no quotation marks
_NEEDS_QUOTES: Final = re.compile(r'[ "=\\]')


def _quoted(value: object) -> str:
    text = str(value)
    if _NEEDS_NO_QUOTES.fullmatch(text):
        return text
    text = _one_line(text)
    if text and not _NEEDS_QUOTES.search(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
