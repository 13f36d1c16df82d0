"""Times and lengths of time as people type them, and times as they read them."""

import re
from datetime import datetime, timedelta
from typing import Final

from senderproxy.cli.errors import UsageError
from senderproxy.tracking.timeline import at

_UNITS: Final = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN: Final = re.compile(r"(\d{1,6})\s*([a-z]+)")
_CLOCK: Final = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?")


def typed_span(text: str) -> timedelta:
    """`30m`, `2h`, `3d`, `1w`. Raises UsageError."""
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise UsageError(f"{text} is no length of time.", hint="Write it like 30m, 2h, 3d or 1w.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def typed_moment(text: str, now: datetime) -> datetime:
    """A date, a date with a time, a time of today, or how long ago, on this machine's clock. Raises UsageError."""
    wanted = text.strip()
    found = _SPAN.fullmatch(wanted.lower())
    try:
        if found is not None and found[2] in _UNITS:
            return now - typed_span(wanted)
        if _CLOCK.fullmatch(wanted):
            moment = datetime.fromisoformat(
                f"{now.astimezone():%Y-%m-%d} {wanted.zfill(len(wanted) + (wanted[1] == ':'))}"
            )
        else:
            moment = datetime.fromisoformat(wanted)
        return moment.astimezone()
    except (ValueError, OverflowError) as error:
        hint = 'Write it like 2026-11-24, "2026-11-24 08:15", 08:15 (today), or 2h (ago).'
        raise UsageError(f"{text} is no moment.", hint=hint) from error


def on_the_wall(moment: str) -> str:
    """ISO 8601, as the service answers, for people: as the clock on their wall shows it."""
    return at(datetime.fromisoformat(moment), None)
