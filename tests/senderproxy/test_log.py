"""One event is one line, whatever its fields contain."""

import io
import json
import logging
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from senderproxy.log import JsonFormatter, TextFormatter, event, set_up_logging
from senderproxy.log_events import LogEvent, Severity

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


class _FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_raises_nothing() -> None:
    root, ours, aiosmtpd = logging.getLogger(), logging.getLogger("senderproxy"), logging.getLogger("mail.log")
    before = (root.handlers[:], root.level, ours.level, aiosmtpd.level, logging.raiseExceptions)
    try:
        set_up_logging("info", "text", stream=_FullDisk())
        event(logging.getLogger("senderproxy.relay"), DELIVERED)
        assert not aiosmtpd.isEnabledFor(logging.ERROR)
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])
        aiosmtpd.setLevel(before[3])
        logging.raiseExceptions = before[4]
