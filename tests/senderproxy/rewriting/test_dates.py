"""Dates as programs and devices write them."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.clock import MachineZone
from senderproxy.rewriting.dates import is_unset_clock, read_date

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
SUMMER = "Wed, 23 Sep 2026 09:48:37 +0200"


@pytest.mark.parametrize(
    "text",
    [
        "Wed, 23 Sep 2026 09:48:37 +0200",
        "Wed, 23 Sep 2026 09:48:37",
        "Wed, 23 Sep 2026 09:48:37 CEST",
        "Wed, 23 Sep 2026 09:48:37 MESZ",
        "Wed, 23 Sep 2026 08:48:37 CET",
        "Wed, 23 Sep 2026 09:48:37 MET DST",
        "Wed, 23 Sep 2026 08:48:37 MEZ",
        "Wed, 23 Sep 2026 09:48:37 +02:00",
        "Wed, 23 Sep 2026 09:48:37 +02",
        "Wed, 23 Sep 2026 09:48:37 +2",
        "Wed, 23 Sep 2026 09:48:37 GMT+02:00",
        "Wed, 23 Sep 2026 09:48:37 GMT+2",
        "Wed, 23 Sep 2026 09:48:37 UTC+0200",
        "Wed Sep 23 2026 09:48:37 GMT+0200 (CEST)",
        "Wed Sep 23 2026 09:48:37 GMT+0200 (Mitteleuropäische Sommerzeit)",
        "Wed, 23 Sep 2026 09:48:37 +0200 (Mitteleurop\udce4ische Sommerzeit)",
        "Wed, 23 Sep 2026 09:48:37 (Mitteleuropäische Sommerzeit)",
        "Wed, 23 Sep 2026 09:48:37 (MESZ",
        "Wed, 23 Sep 2026 09:48:37 W. Europe Daylight Time",
        "Wed, 23 Sep 2026 09:48:37 W. Europe Standard Time",
        "Wed, 23 Sep 2026 09:48:37 Mitteleuropäische Zeit",
        "Wed, 23 Sep 2026 09:48:37 Central European Summer Time",
        "Wed, 23 Sep 2026 09:48:37 Europe/Berlin",
        "Wed, 23 Sep 2026 09:48:37 Ortszeit",
        "Wed, 23 Sep 2026 03:48:37 Eastern Standard Time",
        "Wed, 23 Sep 2026 03:48:37 EDT",
        "Wed Sep 23 09:48:37 2026",
        "Wed Sep 23 09:48:37 CEST 2026",
        "Mi, 23 Sep 2026 09:48:37 +0200",
        "Mi., 23. Sept. 2026 09:48:37 +0200",
        "Mittwoch, 23. September 2026 09:48:37",
        "Mittwoch, den 23. September 2026 um 09:48:37 Uhr",
        "23.09.2026 09:48:37",
        "23.9.26 09:48:37",
        "23.09.2026, 09:48:37 MESZ",
        "23/09/2026 09:48:37",
        "09/23/2026 9:48:37 AM",
        "2026-09-23T09:48:37+02:00",
        "2026-09-23T07:48:37Z",
        "2026-09-23T09:48:37.123456+02:00",
        "2026-09-23 09:48:37",
        "2026/09/23 09:48:37",
        "20260923T074837Z",
        "Wednesday, 23-Sep-26 07:48:37 GMT",
        "September 23, 2026 9:48:37 am CEST",
        "Wed,23 Sep 2026 09:48:37+0200",
        "Wed, 23 Sep 2026  9:48:37 +0200",
        "Wed, 23 Sep 26 09:48:37 +0200",
        "Wed, 23 Sep 126 09:48:37 +0200",
        "Wed, 23 Sep 2026 09.48.37 +0200",
        "23.09.2026 09.48.37",
        "23.09.26 09.48.37",
        "Mittwoch, 23. September 2026 09.48.37 Uhr",
        "09.48.37 23.09.2026",
        "=?utf-8?q?Wed=2C_23_Sep_2026_09=3A48=3A37_+0200?=",
        "20260923094837",
        "20260923094837+0200",
        "20260923074837Z",
        "1790149717",
        "@1790149717",
        "1790149717.25",
        "1790149717000",
    ],
)
def test_a_date_keeps_its_moment(text: str) -> None:
    date = read_date(text.encode("utf-8", "surrogateescape"), BERLIN, NOW)
    assert date is not None
    assert date == datetime(2026, 9, 23, 7, 48, 37, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Fr, 18. Dez 2026 09:48:37", "Fri, 18 Dec 2026 09:48:37 +0100"),
        ("Di, 24. Mär 2026 09:48", "Tue, 24 Mar 2026 09:48:00 +0100"),
        ("Fr, 2. Okt 2026 12:48:37 pm", "Fri, 02 Oct 2026 12:48:37 +0200"),
        ("2. Mai 2026", "Sat, 02 May 2026 00:00:00 +0200"),
        ("23.09.26", "Wed, 23 Sep 2026 00:00:00 +0200"),  # not a time with dots
        ("23.09.2026 09.48", "Wed, 23 Sep 2026 09:48:00 +0200"),
        ("202609230948", "Wed, 23 Sep 2026 09:48:00 +0200"),
        ("20260923", "Wed, 23 Sep 2026 00:00:00 +0200"),
        ("11/12/2026 10:00", "Thu, 12 Nov 2026 10:00:00 +0100"),  # the nearer one of two readings
        ("Sun, 29 Nov 2026 09:48:37 W. Europe Standard Time", "Sun, 29 Nov 2026 09:48:37 +0100"),
        ("Sun, 25 Oct 2026 02:30:00 Eastern Standard Time", "Sun, 25 Oct 2026 02:30:00 -0400"),
        ("Sat, 1 Jan 2022 00:00:00 +0000", "Sat, 01 Jan 2022 00:00:00 +0000"),
    ],
)
def test_other_dates(text: str, read: str) -> None:
    date = read_date(text.encode(), BERLIN, NOW)
    assert date is not None
    assert format_datetime(date) == read


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "32 Nov 2026 10:00", "23 Sep 2026 25:00:00", "23 Foo 2026 10:00", "Sep 2026", "10:00:00", "0", "29 Feb 2026 10:00"],
)  # fmt: skip
def test_what_names_no_day_is_unreadable(text: str) -> None:
    assert read_date(text.encode(), BERLIN, NOW) is None


@pytest.mark.parametrize(
    ("text", "unset"),
    [
        ("Thu, 1 Jan 1970 00:00:00 +0000", True),
        ("Fri, 2 Jan 1970 23:00:00 +0100", True),
        ("Wed, 31 Dec 1969 19:00:00 -0500", True),
        ("Sat, 1 Jan 2000 00:07:00 +0100", True),
        ("Sat, 3 Jan 1970 00:00:01 +0000", False),
        ("Tue, 4 Jan 2000 00:00:00 +0000", False),
        ("Sat, 1 Jan 2022 00:00:00 +0000", False),
    ],
)
def test_a_clock_that_was_never_set(text: str, unset: bool) -> None:
    date = read_date(text.encode(), BERLIN, NOW)
    assert date is not None
    assert is_unset_clock(date) is unset


def test_the_zone_of_this_machine_has_its_summer_time() -> None:
    for month in (1, 7):
        local = datetime(2026, month, 1, 12, 0)
        assert local.replace(tzinfo=MachineZone()).utcoffset() == local.astimezone().utcoffset()


@given(st.datetimes(datetime(1980, 1, 1), datetime(2060, 1, 1)), st.integers(-12 * 4, 14 * 4))
def test_what_rfc_5322_and_iso_print_is_read(moment: datetime, quarters: int) -> None:
    date = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=15 * quarters)))
    for text in (format_datetime(date), date.isoformat(), date.strftime("%a %b %d %H:%M:%S %Y %z")):
        assert read_date(text.encode(), BERLIN, NOW) == date, text


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))
def test_no_octets_are_more_than_read_or_unreadable(octets: bytes) -> None:
    date = read_date(octets, BERLIN, NOW)
    assert date is None or format_datetime(date)
