"""Output of log events: one line for each event, with its facts as fields.

Guarantees: a log that cannot be written never stops a message: a full disk behind standard error is no fault of the
client. After `gather_lines`, lines below WARNING are written within 10 ms, several at once; the others, and with them
all lines before, at once. The end of the interpreter and `exit_now` write what is left.
Not here: the list of events (log_events), the form of a line (log_lines), the destination of the lines (journald, a
file), the level (config).
"""

import atexit
import logging
import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Final, NoReturn

from senderproxy import log_events
from senderproxy.log_events import LogEvent
from senderproxy.log_lines import json_line, one_line, text_line, text_start
from senderproxy.log_output import LogOutput

_FIELDS: Final = "senderproxy_fields"
_KEY: Final = "senderproxy_event"
_AT_ONCE: Final = logging.WARNING  # the level from which a line is written at once
_END_SECONDS: Final = 2.0  # at the end of the process, for a reader of the log that does not read
_now: Final = time.time  # noqa: TID251  as logging itself
_format_fault: Final = logging.Formatter().formatException


def event(
    logger: logging.Logger,
    kind: LogEvent,
    /,
    *,
    fault: BaseException | None = None,
    **fields: object,
) -> None:
    """Log one event: its sentence for people, its key and fields for programs. `fault` adds its traceback."""
    if _writer is not None:
        if kind.level >= _writer.level:
            _writer.write(logger.name, kind, fields, fault)
    elif logger.isEnabledFor(kind.level):
        trace = (type(fault), fault, fault.__traceback__) if fault is not None else None
        # Not `logger.log`: it looks up the caller's file and line, which no formatter shows.
        extra = {_FIELDS: fields, _KEY: kind.key}
        logger.handle(logger.makeRecord(logger.name, kind.level, "", 0, kind.sentence, (), trace, extra=extra))


def set_up_logging(level: str, form: str, *, descriptor: int | None = None, under_journald: bool = False) -> None:
    """Write our events to standard error or `descriptor`, as text or as JSON lines. Libraries log from WARNING on.

    Called again, it changes level and form. aiosmtpd's debug lines contain what clients send, AUTH included: its logger
    is off.
    """
    global _writer
    logging.raiseExceptions = False
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no formatter shows these
    number: int = getattr(logging, level.upper())
    formatter = JsonFormatter() if form == "json" else TextFormatter(under_journald)
    if _writer is None:
        _writer = _new_writer(descriptor, number, formatter)
    else:
        _writer.level, _writer.formatter = number, formatter
    root = logging.getLogger()
    root.handlers[:] = [logging.NullHandler() if _writer is None else _LibraryHandler(_writer)]
    root.setLevel(logging.WARNING)
    logging.getLogger("senderproxy").setLevel(number)
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)


def gather_lines() -> None:
    """From now on, write lines below WARNING within 10 ms, several with one write."""
    if _writer is not None:
        _writer.output.gathers = True


def flush_log() -> None:
    """Write all lines that wait."""
    if _writer is not None:
        _writer.output.flush(_END_SECONDS)


def exit_now(code: int) -> NoReturn:
    """Write all lines that wait, then end the process as `os._exit` does."""
    try:
        flush_log()
    finally:
        os._exit(code)


# ---- formatters, also for the records of libraries ----


class TextFormatter(logging.Formatter):
    """`2026-01-31T08:15:00.125Z INFO delivered id=... account=anna`; journald adds the time itself."""

    def __init__(self, under_journald: bool = False) -> None:
        super().__init__()
        self._under_journald = under_journald
        self._start = partial(text_start, under_journald=under_journald)

    def format(self, record: logging.LogRecord) -> str:
        start = self._start(record.levelno, record.levelname, record.created)
        return text_line(start, one_line(record.getMessage()), _fields(record), _trace(record))

    def line(self, _logger: str, kind: LogEvent, fields: Mapping[str, object], trace: str | None) -> str:
        """The line of an event at this moment."""
        number, name = _LEVELS[kind.level]
        start = self._start(number, name, 0.0 if self._under_journald else _now())
        return text_line(start, kind.sentence, fields, trace)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, component, event (its key), message (its sentence) and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        return json_line(
            record.created,
            record.levelname,
            record.name,
            getattr(record, _KEY, None),
            record.getMessage(),
            _fields(record),
            _trace(record),
        )

    def line(self, logger: str, kind: LogEvent, fields: Mapping[str, object], trace: str | None) -> str:
        """The line of an event at this moment."""
        return json_line(_now(), _LEVELS[kind.level][1], logger, kind.key, kind.sentence, fields, trace)


# Plain numbers and names: an enum's `name` is a call.
_LEVELS: Final = {level: (int(level), level.name) for level in log_events.Severity}


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    found = getattr(record, _FIELDS, None)
    return found if isinstance(found, dict) else {}


def _trace(record: logging.LogRecord) -> str | None:
    return _format_fault(record.exc_info) if record.exc_info and record.exc_info[0] else None


# ---- output ----


class _Writer:
    """The log of the process: events are formatted and added to the output without the machinery of logging."""

    def __init__(self, descriptor: int, encoding: str, level: int, formatter: TextFormatter | JsonFormatter) -> None:
        """Raises OSError if there is no such descriptor."""
        self.output = LogOutput(descriptor, encoding, self._lost_line)
        self.level = level
        self.formatter = formatter

    def write(self, logger: str, kind: LogEvent, fields: Mapping[str, object], fault: BaseException | None) -> None:
        """Write the line of an event. A line that cannot be made is counted."""
        try:
            trace = None if fault is None else _format_fault((type(fault), fault, fault.__traceback__))
            self.output.add(self.formatter.line(logger, kind, fields, trace), now=kind.level >= _AT_ONCE)
        except Exception:  # noqa: BLE001  such as missing memory
            self.output.count_lost()

    def _lost_line(self, lines: int) -> str:
        return self.formatter.line("senderproxy.log", log_events.LOG_LINES_LOST, {"lines": lines}, None)


class _LibraryHandler(logging.Handler):
    """Writes the records of libraries, in order with our lines."""

    def __init__(self, writer: _Writer) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.output.add(self._writer.formatter.format(record), now=record.levelno >= _AT_ONCE)
        except Exception:  # noqa: BLE001  as in our own lines
            self._writer.output.count_lost()


_writer: _Writer | None = None


def _new_writer(descriptor: int | None, level: int, formatter: TextFormatter | JsonFormatter) -> _Writer | None:
    """A log on that descriptor or on standard error; None if it is closed."""
    try:
        number = sys.stderr.fileno() if descriptor is None else descriptor
        writer = _Writer(number, getattr(sys.stderr, "encoding", None) or "utf-8", level, formatter)
    except (AttributeError, OSError):
        return None
    writer.output.start()
    atexit.register(_end)
    return writer


def _end() -> None:
    """The end of the interpreter: threads end, so a later line is written by its caller."""
    if _writer is not None:
        _writer.output.gathers = False
    flush_log()
