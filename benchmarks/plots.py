"""Diagrams of the results: bars for each relay, one group for each case."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.results import Summary

NEAR: Final = ("small-1", "small-10", "small-50")
FAR: Final = (
    "small-1-rtt40", "small-10-rtt40", "small-50-rtt40", "small-1-rtt40-pipelining", "small-10-rtt40-pipelining",
    "small-50-rtt40-pipelining", "small-50-rtt40-by2",
)  # fmt: skip
LARGE: Final = ("large-25", "large-150", "large-50-at-once")
PICTURES: Final = (
    ("rate", NEAR, "per_second", 1.0, "messages a second, until the last is at the smarthost"),
    ("cpu", NEAR, "cpu_per_1000", 1.0, "CPU seconds for 1,000 messages"),
    ("far", FAR, "per_second", 1.0, "messages a second, 40 ms away"),
    ("large", LARGE, "megabytes_per_second", 1.0, "MB a second"),
    ("memory", (*NEAR, *LARGE, "held-1000"), "memory_peak", 1e-6, "peak memory, MB"),
)


def draw(found: Sequence[Summary], stem: Path) -> list[Path]:
    """Write the diagrams beside the results; return those with data."""
    mpl.rcParams["svg.fonttype"] = "none"  # text stays text
    mpl.rcParams["svg.hashsalt"] = "bench"  # the same figures give the same file
    return [
        path
        for name, cases, figure, factor, title in PICTURES
        if (path := _bars(found, cases, figure, factor, title, stem.with_name(f"{stem.name}-{name}.svg")))
    ]


def _bars(
    found: Sequence[Summary], cases: Sequence[str], figure: str, factor: float, title: str, path: Path
) -> Path | None:
    heights = {
        (row.case, row.relay): value * factor
        for row in found
        if row.case in cases and row.relay != "straight" and (value := row.median(figure)) is not None
    }
    shown = [case for case in cases if any(of == case for of, _ in heights)]
    relays = list(dict.fromkeys(relay for _, relay in heights))
    if not heights:
        return None
    picture = Figure(figsize=(max(7, 2.4 * len(shown)), 4.2), layout="constrained")
    axes = picture.add_subplot()
    width = 0.85 / len(relays)
    for place, relay in enumerate(relays):
        spots = [group + width * (place - (len(relays) - 1) / 2) for group in range(len(shown))]
        bars = axes.bar(spots, [heights.get((case, relay), 0) for case in shown], width, label=relay)
        axes.bar_label(bars, fmt=lambda value: f"{value:.3g}" if value else "", fontsize=6, rotation=90, padding=2)
    axes.set_xticks(range(len(shown)), shown, fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.margins(y=0.18)
    axes.legend(fontsize=7)
    picture.savefig(path, metadata={"Date": None})
    return path
