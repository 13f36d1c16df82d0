"""What we write to the log: one line per event, its facts as fields.

Guarantees: one event is one line whatever its fields contain (controls are escaped); a failing log never stops a
message (a full disk under standard error is not the sender's fault); no secret is ever passed in here.
Not here: where the lines go (journald, a file), which level is wanted (config).
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
# journald reads "<N>" at the start of a line as its priority (sd-daemon(3)).
_PRIORITY: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def event(
    logger: logging.Logger,
    kind: LogEvent,
    /,
    *,
    fault: BaseException | None = None,
    **fields: object,
) -> None:
    """Log one event: its sentence for a person, its key and fields for a program. `fault` adds its traceback."""
    if logger.isEnabledFor(kind.level):
        trace = (type(fault), fault, fault.__traceback__) if fault is not None else None
        # Not `logger.log`, which would look up the file and line of the caller: no formatter shows those.
        extra = {_FIELDS: fields, _KEY: kind.key}
        logger.handle(logger.makeRecord(logger.name, kind.level, "", 0, kind.sentence, (), trace, extra=extra))


def set_up_logging(level: str, form: str, *, stream: TextIO | None = None, under_journald: bool = False) -> None:
    """Send our events to standard error, as text or as JSON lines; keep libraries quiet below WARNING.

    aiosmtpd's own debug lines carry what clients send, AUTH included: they are never let through.
    """
    logging.raiseExceptions = False
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # nobody is shown those
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(under_journald))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("senderproxy").setLevel(level.upper())
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)


class TextFormatter(logging.Formatter):
    """`2026-01-31T08:15:00Z INFO delivered id=... account=anna`; under journald the time is left to journald."""

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


_PLAIN: Final = re.compile(r"[!#-<>-\[\]-~]+")  # what needs none, of ASCII
_NEEDS_QUOTES: Final = re.compile(r'[ "=\\]')


def _quoted(value: object) -> str:
    text = str(value)
    if _PLAIN.fullmatch(text):
        return text
    text = _one_line(text)
    if text and not _NEEDS_QUOTES.search(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
