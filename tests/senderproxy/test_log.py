"""One event is one line, whatever its fields contain."""

import io
import json
import logging
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from senderproxy.log import JsonFormatter, TextFormatter, event
from senderproxy.log_events import EVENTS, LogEvent, Severity
from senderproxy.log_lines import time_text

DELIVERED = LogEvent("test_delivered", Severity.INFO, "delivered")


def _logged(formatter: logging.Formatter, kind: LogEvent, **fields: Any) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.getLogger("senderproxy.test.lines")
    logger.handlers[:], logger.propagate = [], False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    event(logger, kind, **fields)
    return stream.getvalue()


def test_a_line_has_a_sentence_and_fields() -> None:
    line = _logged(TextFormatter(), DELIVERED, id="abc", reply="250 2.0.0 okay", nothing=None)
    assert line.endswith('INFO delivered id=abc reply="250 2.0.0 okay"\n')


def test_journald_gets_the_priority_and_no_time() -> None:
    assert _logged(TextFormatter(under_journald=True), DELIVERED) == "<6>delivered\n"


@given(st.text(), st.text())
def test_a_field_never_starts_a_new_line(first: str, second: str) -> None:
    assert len(_logged(TextFormatter(), DELIVERED, name=first, other=second).splitlines()) == 1
    line = _logged(JsonFormatter(), DELIVERED, name=first)
    assert len(line.splitlines()) == 1
    assert json.loads(line)["name"] == first.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass")


def test_json_lines_keep_numbers_as_numbers() -> None:
    entry = json.loads(_logged(JsonFormatter(), DELIVERED, recipients=3))
    assert entry["recipients"] == 3
    assert (entry["component"], entry["event"], entry["message"]) == ("test.lines", "test_delivered", "delivered")


def test_a_fault_is_logged_with_its_traceback_on_the_same_line() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter())
    logger = logging.getLogger("senderproxy.test.faults")
    logger.handlers[:], logger.propagate = [], False
    logger.addHandler(handler)
    try:
        raise ValueError("broken\nreel")
    except ValueError as fault:
        event(logger, DELIVERED, fault=fault)
    assert len(stream.getvalue().splitlines()) == 1
    assert "Traceback" in stream.getvalue()


@given(st.dictionaries(st.sampled_from(["id", "reply", "why"]), st.text() | st.integers() | st.none()))
def test_a_line_is_the_same_without_the_machinery_of_logging(fields: dict[str, Any]) -> None:
    text = TextFormatter(under_journald=True)
    assert text.line("senderproxy.test", DELIVERED, fields, None) + "\n" == _logged(text, DELIVERED, **fields)
    direct = json.loads(JsonFormatter().line("senderproxy.test.lines", DELIVERED, fields, None))
    assert {**direct, "time": ""} == {**json.loads(_logged(JsonFormatter(), DELIVERED, **fields)), "time": ""}


def test_the_sentences_need_no_escapes() -> None:
    assert all(kind.sentence.isprintable() for kind in EVENTS)


def test_the_time_is_that_of_the_clock_to_the_millisecond() -> None:
    moment = datetime(2026, 1, 31, 8, 15, 0, 125_000, UTC)
    assert time_text(moment.timestamp()) == "2026-01-31T08:15:00.125Z"
