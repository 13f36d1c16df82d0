"""Generator of the page of log events, from the list in the program.

python -m docs.generate_log_events > docs/log-events.md
"""

import sys
from collections.abc import Iterator

from senderproxy.log_events import EVENTS, LogEvent

_HEAD = """# Log events

Every line that the service logs, sorted by key. The key (`event` in the JSON form, `[log] form = "json"`) never changes
its meaning; the sentence may be reworded. Fields without a value are left out. An internal error has its `traceback`.

| event | level | sentence | fields |
| --- | --- | --- | --- |
"""


def render_log_events() -> str:
    """The whole page, Markdown."""
    return _HEAD + "".join(_rows())


def _rows() -> Iterator[str]:
    for event in sorted(EVENTS, key=lambda event: event.key):
        yield f"| `{event.key}` | {event.level.name} | {event.sentence} | {_fields(event)} |\n"


def _fields(event: LogEvent) -> str:
    return ", ".join([f"`{name}`" for name in event.fields] + [f"`{prefix}...`" for prefix in event.prefixes])


if __name__ == "__main__":
    sys.stdout.write(render_log_events())
