"""Form of a log line: text or JSON. PURE.

Guarantees: one event is one line, whatever its fields contain (control characters are escaped).
Not here: the list of events (log_events), the output (log_output).
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

# journald takes "<N>" at the start of a line as its priority (sd-daemon(3)).
_PRIORITY: Final = {10: "<7>", 20: "<6>", 30: "<4>", 40: "<3>", 50: "<2>"}
_NEEDS_NO_QUOTES: Final = re.compile(r"[!#-<>-\[\]-~]+").fullmatch  # ASCII that needs no quotation marks
_NEEDS_QUOTES: Final = re.compile(r'[ "=\\]').search
_NUMBERS: Final = (int, float)
_PLAIN_NUMBERS: Final = frozenset({int, float})
_encode: Final = json.JSONEncoder(ensure_ascii=True).encode


def text_line(start: str, words: str, fields: Mapping[str, object], trace: str | None) -> str:
    """`start`, the words and the fields that have a value. `trace`: of a fault, several lines."""
    # One comprehension without a call of ours for the usual value: a line is written for each message.
    text = words + "".join(
        [
            f" {name}={value}"
            if value.__class__ in _PLAIN_NUMBERS or (value.__class__ is str and _NEEDS_NO_QUOTES(value))
            else f" {name}={_quoted(value)}"
            for name, value in fields.items()
            if value is not None
        ]
    )
    if trace:
        text += f" traceback={_quoted(one_line(trace))}"
    return start + text


def text_start(level: int, name: str, seconds: float, *, under_journald: bool) -> str:
    """The beginning of a line of text: the priority, or time and level. journald adds the time itself."""
    if under_journald:
        return _PRIORITY.get(level, "<6>")
    return f"{time_text(seconds)} {name} "


def json_line(
    seconds: float,
    level: str,
    logger: str,
    key: str | None,
    words: str,
    fields: Mapping[str, object],
    trace: str | None,
) -> str:
    """One JSON object: time, level, component, event (its key), message (its sentence) and the fields."""
    entry: dict[str, object] = {
        "time": time_text(seconds),
        "level": level.lower(),
        "component": logger.removeprefix("senderproxy."),
        "event": key,
        "message": words,
    }
    for name, value in fields.items():
        if value is not None:
            entry[name] = value if value.__class__ is str or isinstance(value, _NUMBERS) else str(value)
    if trace:
        entry["traceback"] = trace
    return _encode(entry)


def time_text(seconds: float) -> str:
    """`2026-01-31T08:15:00.125Z` for the seconds since 1970."""
    whole = int(seconds)
    return f"{_second_text(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(4)
def _second_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def one_line(text: str) -> str:
    """The text with its control characters escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _quoted(value: object) -> str:
    text = str(value)
    if _NEEDS_NO_QUOTES(text):
        return text
    text = one_line(text)
    if text and not _NEEDS_QUOTES(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
