"""The charts: every recipient is in one column."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest

from senderproxy.tracking.record import RecipientStatus
from senderproxy.web.chart import _scale, chart_of_day, chart_of_month, layer_names

NOW = datetime(2026, 11, 24, 8, 40, tzinfo=UTC)


def at(hours_ago: int) -> str:
    return (NOW.replace(minute=0) - timedelta(hours=hours_ago)).isoformat()


def test_the_day_has_24_hours_that_end_now() -> None:
    counts = [(at(0), "delivered", 3), (at(0), "failed", 1), (at(23), "held", 2), (at(24), "delivered", 9)]
    chart = chart_of_day(counts, NOW, UTC)
    assert len(chart.columns) == 24
    assert chart.columns[-1].counts == {"sent": 3, "waiting": 0, "failed": 1, "other": 0}
    assert chart.columns[0].counts["waiting"] == 2
    assert chart.total == 6
    assert chart.columns[-1].label == "08:00"
    assert [column.tick for column in chart.columns if column.tick] == ["12:00", "18:00", "00:00", "06:00"]


def test_a_day_of_the_month_is_local() -> None:
    zone = timezone(timedelta(hours=14))
    counts = [("2026-11-23T10:00:00+00:00", "delivered", 5), ("2026-11-23T09:00:00+00:00", "delivered", 4)]
    chart = chart_of_month(counts, NOW, zone)
    assert len(chart.columns) == 30
    days = {column.label: column.total for column in chart.columns if column.total}
    assert days == {"2026-11-24": 5, "2026-11-23": 4}


def test_bars_are_stacked_without_gaps_within_the_plot() -> None:
    chart = chart_of_day([(at(1), "delivered", 5), (at(1), "waiting", 3), (at(1), "expired", 2)], NOW, UTC)
    bars = chart.columns[-2].bars
    assert [bar.layer for bar in bars] == ["sent", "waiting", "failed"]
    assert bars[0].y + bars[0].height == chart.height
    for lower, upper in pairwise(bars):
        assert upper.y + upper.height == pytest.approx(lower.y)
    assert bars[-1].y == 0


def test_each_status_has_a_layer_and_each_layer_a_name() -> None:
    chart = chart_of_day([(at(0), status.value, 1) for status in RecipientStatus], NOW, UTC)
    assert chart.total == len(RecipientStatus)
    assert set(layer_names()) == set(chart.columns[0].counts)


@pytest.mark.parametrize(
    ("most", "top"), [(0, 4), (4, 4), (5, 5), (6, 10), (11, 20), (21, 50), (99, 100), (12345, 20000)]
)
def test_the_scale_is_round(most: int, top: int) -> None:
    assert _scale(most) == top
