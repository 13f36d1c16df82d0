"""Generator of docs/log-events.md from the list of events.

    python -m docs.generate_log_events > docs/log-events.md

Guarantees: every event is on the page with its key, level, sentence and fields.
"""

import sys
from collections.abc import Iterator
from typing import Final

from senderproxy.log_events import EVENTS, LogEvent

_HEAD: Final = """\
# Log events

<!-- Made by `make docs` from senderproxy/log_events.py: change the sentences there. -->

Every line that the service logs, sorted by key. The key (`event` in the JSON form, `[log] format = "json"`) never
changes its meaning; the sentence may be reworded. Fields without a value are left out. An internal error has its
`traceback`.

| event | level | sentence | fields |
| --- | --- | --- | --- |
"""


def render_log_events() -> str:
    """The page in Markdown."""
    return _HEAD + "".join(_rows())


def _rows() -> Iterator[str]:
    for event in sorted(EVENTS, key=lambda event: event.key):
        yield f"| `{event.key}` | {event.level.name} | {event.sentence} | {_fields(event)} |\n"


def _fields(event: LogEvent) -> str:
    return ", ".join([f"`{name}`" for name in event.fields] + [f"`{prefix}...`" for prefix in event.prefixes])


if __name__ == "__main__":
    sys.stdout.write(render_log_events())
