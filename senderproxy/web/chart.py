"""Charts: stacked columns of recipients by hour and by day. PURE.

Guarantees: every recipient that was counted is in one column; the numbers are those of the service. Times are local.
Not here: the drawing (templates/chart.html), the counts (spool.sqlite.search).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from types import MappingProxyType
from typing import Any, Final

from senderproxy.tracking.record import RecipientStatus
from senderproxy.translation import N_, _

HOURS: Final = 24  # of the first chart
DAYS: Final = 30  # of the second
_STEPS: Final = (1, 2, 5)  # of a scale, times a power of ten
_HEIGHT: Final = 160.0  # pixels of the plot
_MARGIN: Final = 18.0  # pixels above it, for the number at the top of the scale

# The layers from below, each with the statuses in it.
_LAYERS: Final[Mapping[str, tuple[RecipientStatus, ...]]] = MappingProxyType(
    {
        "sent": (RecipientStatus.DELIVERED,),
        "waiting": (RecipientStatus.WAITING, RecipientStatus.HELD, RecipientStatus.DEFERRED),
        "failed": (RecipientStatus.FAILED, RecipientStatus.EXPIRED),
        "other": (RecipientStatus.CANCELLED, RecipientStatus.DISCARDED),
    }
)
_NAMES: Final = {
    "sent": N_("delivered"),
    "waiting": N_("waiting, held or deferred"),
    "failed": N_("refused or given up"),
    "other": N_("cancelled or discarded"),
}
_LAYER_OF: Final = {status.value: layer for layer, statuses in _LAYERS.items() for status in statuses}


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a column, in pixels."""

    layer: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """An hour or a day. `tick`: its label below the axis, empty for most."""

    label: str
    tick: str
    counts: Mapping[str, int]  # by layer
    bars: tuple[Bar, ...]

    @property
    def total(self) -> int:
        """All recipients."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Chart:
    """Columns, oldest first; `top`: the number at the top of the scale."""

    columns: tuple[Column, ...]
    top: int

    @property
    def total(self) -> int:
        """All recipients."""
        return sum(column.total for column in self.columns)

    def layer_total(self, layer: str) -> int:
        """The recipients of a layer."""
        return sum(column.counts[layer] for column in self.columns)

    @property
    def height(self) -> float:
        """The height of the plot, in pixels."""
        return _HEIGHT

    @property
    def margin(self) -> float:
        """The space above the plot, in pixels."""
        return _MARGIN


def layer_names() -> Mapping[str, str]:
    """The layers, each with its name."""
    return {layer: _(name) for layer, name in _NAMES.items()}


def chart_of_day(counts: Iterable[Sequence[Any]], now: datetime, zone: tzinfo | None) -> Chart:
    """The last 24 hours. `counts`: hour, status and number, as the service sends them."""
    last = now.replace(minute=0, second=0, microsecond=0)
    hours = [last - timedelta(hours=back) for back in reversed(range(HOURS))]
    sums: dict[datetime, Counter[str]] = {hour: Counter() for hour in hours}
    for hour, layer, number in _read(counts):
        if hour in sums:
            sums[hour][layer] += number
    local = [hour.astimezone(zone) for hour in hours]
    labels = [f"{hour:%H:%M}" for hour in local]
    ticks = [f"{hour:%H:%M}" if hour.hour % 6 == 0 else "" for hour in local]
    return _chart(labels, ticks, list(sums.values()))


def chart_of_month(counts: Iterable[Sequence[Any]], now: datetime, zone: tzinfo | None) -> Chart:
    """The last 30 days."""
    today = now.astimezone(zone).date()
    days = [today - timedelta(days=back) for back in reversed(range(DAYS))]
    sums: dict[object, Counter[str]] = {day: Counter() for day in days}
    for hour, layer, number in _read(counts):
        day = hour.astimezone(zone).date()
        if day in sums:
            sums[day][layer] += number
    labels = [f"{day:%Y-%m-%d}" for day in days]
    ticks = [f"{day:%d.%m.}" if day.weekday() == 0 else "" for day in days]
    return _chart(labels, ticks, list(sums.values()))


def _read(counts: Iterable[Sequence[Any]]) -> Iterable[tuple[datetime, str, int]]:
    for hour, status, number in counts:
        if (layer := _LAYER_OF.get(str(status))) is not None:
            yield datetime.fromisoformat(hour), layer, int(number)


def _chart(labels: Sequence[str], ticks: Sequence[str], sums: Sequence[Counter[str]]) -> Chart:
    top = _scale(max((count.total() for count in sums), default=0))
    columns = []
    for label, tick, count in zip(labels, ticks, sums, strict=True):
        y, bars = _HEIGHT, []
        for layer in _LAYERS:
            height = _HEIGHT * count[layer] / top
            y -= height
            if height:
                bars.append(Bar(layer, round(y, 2), round(height, 2)))
        columns.append(Column(label, tick, {layer: count[layer] for layer in _LAYERS}, tuple(bars)))
    return Chart(tuple(columns), top)


def _scale(most: int) -> int:
    """The smallest of 4, 10, 20, 50, 100 and so on that is not below the highest column."""
    if most <= 4:
        return 4
    power = 1
    while True:
        for step in _STEPS:
            if most <= step * power:
                return step * power
        power *= 10
