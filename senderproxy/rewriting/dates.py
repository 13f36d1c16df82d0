"""Reader of dates that do not follow RFC 5322: other orders, German months, zones by name. PURE.

Guarantees: a date that is read is the moment that its text names; a zone that is missing or unknown is the machine's
own, with summer time. Of two readings (11/12/2026) the nearer past one is taken. Text after 200 octets is not read.
Not here: what becomes of an unreadable date (rewriting.repair).
RFC 5322 sections 3.3 and 4.3, ISO 8601; zone names of Windows: CLDR windowsZones.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from senderproxy.mail.display import decode_8bit, decode_words

_LIMIT: Final = 200  # octets; a longer value is not a date written by a person or a device
_UNSET: Final = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC))  # clocks that were never set
_UNSET_WINDOW: Final = timedelta(hours=48)  # such a clock runs from there, in any zone, for a day or two

_MONTHS: Final[Mapping[str, int]] = {
    name: number
    for number, names in enumerate(
        (
            "jan january januar jän jänner jaen", "feb february februar feber", "mar march mär märz mrz maerz",
            "apr april", "may mai", "jun june juni", "jul july juli", "aug august", "sep sept september",
            "oct october okt oktober", "nov november", "dec december dez dezember",
        ),
        1,
    )
    for name in names.split()
}  # fmt: skip

_COMMENT: Final = re.compile(r"\(([^()]*)\)?")
_TIME: Final = re.compile(r"(?<!\d)(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?(?:\s*([AaPp])\.?[Mm]\b\.?)?")
_DOTTED_TIME: Final = re.compile(r"(?<![\d.])(\d{1,2})\.(\d{2})(?:\.(\d{2}))?(?![\d.])")
_DIGITS: Final = re.compile(r"(?<!\d)((?:19|20)\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})?(?!\d)")  # LDAP, Exif
_UNIX: Final = re.compile(r"@?(?:(\d{10})\d{3}|(\d{9,10}))(?:\.\d+)?")  # seconds or milliseconds since 1970
_ISO: Final = re.compile(r"(?<!\d)(\d{4})([-/.]?)(\d{2})\2(\d{2})(?!\d)")
_ISO_TIME: Final = re.compile(r"(?<=\d)[Tt](\d{2})(\d{2})(\d{2})(?!\d)")
_DAY_MONTH: Final = re.compile(
    r"(?<!\d)(\d{1,2})(?:\.|st|nd|rd|th)?[\s-]*([^\W\d_]{3,})\.?[\s,-]*(\d{4}|\d{2,3})?(?![\d:])"
)
_MONTH_DAY: Final = re.compile(
    r"(?<![^\W\d_])([^\W\d_]{3,12}+)\.?\s++(\d{1,2})(?:\.|st|nd|rd|th)?(?![\d:])(?:[\s,]+(\d{4})(?![\d:]))?"
)
_NUMBERS: Final = re.compile(r"(?<!\d)(\d{1,2})([./-])(\d{1,2})\2(\d{4}|\d{2})(?![\d:])")
_YEAR: Final = re.compile(r"(?<![\d:+-])(\d{4})(?![\d:])")
_OFFSET: Final = re.compile(r"(?:\b(?:utc|gmt|ut)\s*)?([+-])\s?(\d{1,2})(?::?(\d{2}))?(?![\d:])", re.IGNORECASE)
_WORD: Final = re.compile(r"[^\W\d_]+")

_FIXED: Final[Mapping[str, float]] = {
    "z": 0, "ut": 0, "utc": 0, "gmt": 0, "wet": 0, "west": 1, "bst": 1, "cet": 1, "mez": 1, "cest": 2, "mesz": 2,
    "eet": 2, "oez": 2, "eest": 3, "oesz": 3, "msk": 3, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7,
    "mdt": -6, "pst": -8, "pdt": -7, "jst": 9, "met": 1, "mest": 2,
}  # fmt: skip
# Hours in winter, and the rule for summer time. Windows writes the same name all year, some programs only in winter.
_REGIONS: Final[Mapping[str, tuple[float, str]]] = {
    **dict.fromkeys(
        (
            "w europe standard time", "central europe standard time", "central european standard time",
            "romance standard time", "mitteleuropäische zeit", "europe berlin", "europe vienna", "europe zurich",
        ),
        (1.0, "EU"),
    ),
    "gmt standard time": (0.0, "EU"),
    "westeuropäische zeit": (0.0, "EU"),
    **dict.fromkeys(
        ("e europe standard time", "fle standard time", "gtb standard time", "osteuropäische zeit"), (2.0, "EU")
    ),
    "eastern standard time": (-5.0, "US"),
    "central standard time": (-6.0, "US"),
    "mountain standard time": (-7.0, "US"),
    "pacific standard time": (-8.0, "US"),
    "greenwich standard time": (0.0, ""),
    "russian standard time": (3.0, ""),
    "coordinated universal time": (0.0, ""),
}  # fmt: skip
_SUMMER: Final[Mapping[str, float]] = {
    **dict.fromkeys(
        (
            "w europe daylight time", "central europe daylight time", "central european daylight time",
            "romance daylight time", "central european summer time", "mitteleuropäische sommerzeit",
        ),
        2.0,
    ),
    **dict.fromkeys(("cet dst", "met dst"), 2.0),
    "mitteleuropäische normalzeit": 1.0,
    "gmt daylight time": 1.0,
    "british summer time": 1.0,
    "westeuropäische sommerzeit": 1.0,
    **dict.fromkeys(
        ("e europe daylight time", "fle daylight time", "gtb daylight time", "osteuropäische sommerzeit"), 3.0
    ),
    "eastern daylight time": -4.0,
    "central daylight time": -5.0,
    "mountain daylight time": -6.0,
    "pacific daylight time": -7.0,
}  # fmt: skip


def read_date(value: bytes, zone: tzinfo, now: datetime) -> datetime | None:
    """Read a date tolerantly, None if it is unreadable. `zone`: for a date without a zone."""
    text = " ".join(decode_8bit(value[:_LIMIT]).split())
    if "=?" in text:
        text = decode_words(text.encode("utf-8", "replace")) or text
    comments = " ".join(_COMMENT.findall(text))
    text = _COMMENT.sub(" ", text)
    if seconds := _UNIX.fullmatch(text.strip()):
        return datetime.fromtimestamp(int(seconds[1] or seconds[2]), UTC)
    clock, text = _take_time(_separated(text), now)
    if clock is None:
        return None
    for day, rest in _days(text, now):
        naive = day + clock
        offset = _offset(rest, naive) if _has_zone(rest) else None
        if offset is None:
            offset = _offset(comments, naive)
        try:
            found = naive.replace(tzinfo=zone if offset is None else timezone(offset))
            found.astimezone(UTC)
        except (ValueError, OverflowError):
            continue
        return found
    return None


def is_unset_clock(date: datetime) -> bool:
    """True for a date of a device whose clock was never set: at the start of its count, or shortly after."""
    return any(abs(date - start) <= _UNSET_WINDOW for start in _UNSET)


def _separated(text: str) -> str:
    """The text with blanks and colons in a date of digits alone: 20260923094837."""
    found = _DIGITS.search(text)
    if found is None:
        return text
    year, month, day, hour, minute, second = found.groups(default="00")
    date = f"{year}-{month}-{day} {hour}:{minute}:{second} "
    return text[: found.start()] + date + text[found.end() :]


def _take_time(text: str, now: datetime) -> tuple[timedelta | None, str]:
    """The time of day, None for an invalid one, and the text without it. No time is midnight."""
    found = _TIME.search(text) or _ISO_TIME.search(text) or _dotted_time(text, now)
    if found is None:
        return timedelta(), text
    hour, minute, second = (int(part or 0) for part in found.groups()[:3])
    half = found[4].lower() if found.re is _TIME and found[4] else ""
    if half and 1 <= hour <= 12:
        hour = hour % 12 + (12 if half == "p" else 0)
    if hour > 23 or minute > 59 or second > 60:
        return None, text
    text = f"{text[: found.start()]} | {text[found.end() :]}"
    return timedelta(hours=hour, minutes=minute, seconds=min(second, 59)), text


def _dotted_time(text: str, now: datetime) -> "re.Match[str] | None":
    """A time with dots (09.48.37): the last one beside which the text still has a day."""
    for found in reversed(list(_DOTTED_TIME.finditer(text))):
        if next(_days(f"{text[: found.start()]} {text[found.end() :]}", now), None) is not None:
            return found
    return None


def _days(text: str, now: datetime) -> Iterator[tuple[datetime, str]]:
    """Midnight of each possible day, with the text that is left for the zone; the first valid one counts."""
    if found := _ISO.search(text):
        yield from _day(found[1], found[3], found[4], text, found)
    for pattern, day_at, month_at in ((_DAY_MONTH, 1, 2), (_MONTH_DAY, 2, 1)):
        for found in pattern.finditer(text):
            month = _MONTHS.get(found[month_at].lower())
            if month is None:
                continue
            year, rest = found[3], f"{text[: found.start()]} {text[found.end() :]}"
            if year is None and (behind := _YEAR.search(rest)):
                year, rest = behind[1], f"{rest[: behind.start()]} {rest[behind.end() :]}"
            if year is not None:
                yield from _day(year, str(month), found[day_at], rest, None)
    if found := _NUMBERS.search(text):
        first, second, year = found[1], found[3], found[4]
        readings = [
            *_day(year, second, first, text, found),
            *(_day(year, first, second, text, found) if found[2] == "/" else ()),
        ]
        yield from sorted(readings, key=lambda reading: _distance(reading[0], now))


def _distance(midnight: datetime, now: datetime) -> tuple[bool, timedelta]:
    """Smaller for a day that is more likely meant: a day before tomorrow, then a near one."""
    distance = midnight.replace(tzinfo=UTC) - now
    return distance > timedelta(days=1), abs(distance)


def _day(year: str, month: str, day: str, text: str, found: "re.Match[str] | None") -> Iterator[tuple[datetime, str]]:
    number = int(year)
    if len(year) < 4:  # RFC 5322 section 4.3
        number += 2000 if number < 50 else 1900
    try:
        midnight = datetime(number, int(month), int(day))  # noqa: DTZ001  the zone follows
    except ValueError:
        return
    yield midnight, text if found is None else f"{text[: found.start()]} {text[found.end() :]}"


def _has_zone(rest: str) -> bool:
    return "|" in rest or bool(_OFFSET.search(rest))


def _offset(text: str, naive: datetime) -> timedelta | None:
    """The offset that the text behind the time names, None for none that is known."""
    behind = text.rpartition("|")[2]
    if found := _OFFSET.search(behind):
        hours, minutes = int(found[2]), int(found[3] or 0)
        if hours > 14 or minutes > 59:
            return None
        offset = timedelta(hours=hours, minutes=minutes)
        return -offset if found[1] == "-" else offset
    words = [word.lower() for word in _WORD.findall(behind)]
    name = " ".join(words)
    if region := _REGIONS.get(name):
        hours_in_winter, rule = region
        return timedelta(hours=hours_in_winter + _is_summer(naive, rule))
    if (fixed := _SUMMER.get(name)) is not None:
        return timedelta(hours=fixed)
    for word in words:
        if (hours_of_word := _FIXED.get(word)) is not None:
            return timedelta(hours=hours_of_word)
    return None


def _is_summer(naive: datetime, rule: str) -> bool:
    """Summer time of the EU (2000/84/EC) or of the USA (15 U.S.C. 260a), to the hour in local time."""
    match rule:
        case "EU":
            begin, end = (
                _sunday(naive.year, 3, 31) + timedelta(hours=2),
                _sunday(naive.year, 10, 31) + timedelta(hours=3),
            )
        case "US":
            begin, end = (
                _sunday(naive.year, 3, 14) + timedelta(hours=2),
                _sunday(naive.year, 11, 7) + timedelta(hours=2),
            )
        case _:
            return False
    return begin <= naive < end


def _sunday(year: int, month: int, latest: int) -> datetime:
    """Midnight of the last Sunday up to that day of the month."""
    day = datetime(year, month, latest)  # noqa: DTZ001
    return day - timedelta(days=(day.weekday() + 1) % 7)
