"""Times and durations on the command line, and times in output."""

import re
from datetime import datetime, timedelta
from typing import Final

from senderproxy.cli.errors import UsageError
from senderproxy.tracking.timeline import format_time
from senderproxy.translation import _

_UNITS: Final = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION: Final = re.compile(r"(\d{1,6})\s*([a-z]+)")
_TIME_OF_DAY: Final = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?")


def typed_duration(text: str) -> timedelta:
    """`30m`, `2h`, `3d`, `1w`. Raises UsageError."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise UsageError(_("{text} is not a duration.").format(text=text), hint=_("Write it like 30m, 2h, 3d or 1w."))
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def typed_time(text: str, now: datetime) -> datetime:
    """A date, a date and time, a time of today, or a duration before `now`, in local time. Raises UsageError."""
    wanted = text.strip()
    found = _DURATION.fullmatch(wanted.lower())
    try:
        if found is not None and found[2] in _UNITS:
            return now - typed_duration(wanted)
        if _TIME_OF_DAY.fullmatch(wanted):
            time_of_day = wanted.zfill(len(wanted) + (wanted[1] == ":"))
            moment = datetime.fromisoformat(f"{now.astimezone():%Y-%m-%d} {time_of_day}")
        else:
            moment = datetime.fromisoformat(wanted)
        return moment.astimezone()
    except (ValueError, OverflowError) as error:
        raise UsageError(
            _("{text} is not a time.").format(text=text),
            hint=_('Write it like 2026-11-24, "2026-11-24 08:15", 08:15 (today), or 2h (ago).'),
        ) from error


def local_time(moment: str) -> str:
    """A time that the service sent (ISO 8601), as local time."""
    return format_time(datetime.fromisoformat(moment), None)
