"""The goals of the project, with the measured figures.

Guarantees: a goal is listed only if its case and the relays it compares were measured. Ratios are of medians.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.case import Case
from benchmarks.results import Summary

POSTFIXES: Final = ("postfix", "postfix-best", "postfix-cached")
OURS: Final = "senderproxy"
QUEUE: Final = "senderproxy-queue"
FLOOR: Final = "floor-c"


@dataclass(frozen=True)
class Goal:
    """One line of the table of goals."""

    text: str
    measured: str
    limit: str
    reached: bool


class Figures:
    """Figures by case and relay."""

    def __init__(self, found: Sequence[Summary]) -> None:
        self._found = {(summary.case, summary.relay): summary for summary in found}

    def figure(self, case: str, relay: str, name: str) -> float | None:
        """Return a median; None if it was not measured."""
        summary = self._found.get((case, relay))
        return summary.median(name) if summary else None

    def postfix(self, case: str, name: str, better: Callable[[list[float]], float]) -> float | None:
        """Return the best figure of the Postfix configurations that lost no message."""
        values = [
            value
            for relay in POSTFIXES
            if (summary := self._found.get((case, relay))) and not summary.trouble()
            and (value := summary.median(name)) is not None
        ]  # fmt: skip
        return better(values) if values else None

    def fastest_postfix(self, case: str) -> str | None:
        """Return the Postfix configuration with the highest rate."""
        rates = {relay: self.figure(case, relay, "per_second") for relay in POSTFIXES}
        known = {relay: rate for relay, rate in rates.items() if rate}
        return max(known, key=lambda relay: known[relay]) if known else None


def goals(found: Sequence[Summary], cases: Sequence[Case]) -> list[Goal]:
    """Return the goals that the measured cases cover."""
    figures = Figures(found)
    return [
        *_near(figures), *_far(figures, cases), *_queue(figures, cases), *_large(figures), *_idle(figures),
        *_linear(figures, cases), *_whole(found),
    ]  # fmt: skip


def _at_least(text: str, value: float | None, limit: float | None, unit: str = "") -> Iterator[Goal]:
    if value is not None and limit is not None:
        yield Goal(text, f"{value:.3g}{unit}", f"at least {limit:.3g}{unit}", value >= limit)


def _at_most(text: str, value: float | None, limit: float | None, unit: str = "") -> Iterator[Goal]:
    if value is not None and limit is not None:
        yield Goal(text, f"{value:.3g}{unit}", f"at most {limit:.3g}{unit}", value <= limit)


def _over(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def _near(figures: Figures) -> Iterator[Goal]:
    for case, times in (("small-10", 6.0), ("small-50", 6.0), ("each-10", 4.0), ("each-50", 4.0)):
        cpu = figures.figure(case, OURS, "cpu_per_1000")
        floor = _over(cpu, figures.figure(case, FLOOR, "cpu_per_1000"))
        yield from _at_most(f"{case}: CPU per message beside the floor in C", floor, 4, " times")
        fastest = figures.fastest_postfix(case)
        if fastest is None:
            continue
        rate = _over(figures.figure(case, OURS, "per_second"), figures.figure(case, fastest, "per_second"))
        yield from _at_least(f"{case}: msg/s beside the better Postfix", rate, times, " times")
        if case.startswith("small"):
            theirs = figures.figure(case, fastest, "cpu_per_1000")
            yield from _at_most(f"{case}: its CPU per message", _over(cpu, theirs), 0.1, " times")


def _far(figures: Figures, cases: Sequence[Case]) -> Iterator[Goal]:
    """The protocol's limits, or what the floor in C reaches on these cores."""
    for case in cases:
        if not case.rtt or case.per_account == 2:
            continue
        trips = (2 if case.pipelining else 4) * case.rtt
        p50 = max(trips, figures.figure(case.name, FLOOR, "p50") or 0)
        rate = min(case.connections / trips, figures.figure(case.name, FLOOR, "per_second") or case.connections / trips)
        ours = _over(figures.figure(case.name, OURS, "p50"), p50)
        yield from _at_most(f"{case.name}: p50 of k round trips, or of the floor's", ours, 1.1, " times")
        ours = _over(figures.figure(case.name, OURS, "per_second"), rate)
        yield from _at_least(
            f"{case.name}: msg/s of connections / k round trips, or of the floor's", ours, 0.9, " times"
        )


def _queue(figures: Figures, cases: Sequence[Case]) -> Iterator[Goal]:
    for case in cases:
        if case.rtt and case.per_account == 2:
            limit = case.senders * case.per_account / ((2 if case.pipelining else 4) * case.rtt)
            rate = figures.figure(case.name, QUEUE, "per_second")
            yield from _at_least(
                f"{case.name}: queue mode of the connections' limit", _over(rate, limit), 0.9, " times"
            )
            theirs = figures.postfix(case.name, "per_second", max)
            if case.rtt >= 0.04:
                yield from _at_least(
                    f"{case.name}: queue mode beside the better Postfix", _over(rate, theirs), 2, " times"
                )
    for name, times in (("small-50", 4.0), ("small-1", 1.0)):
        rate = figures.figure(name, QUEUE, "accepts_per_second")
        theirs = figures.postfix(name, "accepts_per_second", max)
        yield from _at_least(f"{name}: queue mode's accepts/s beside Postfix", _over(rate, theirs), times, " times")

    fastest = figures.fastest_postfix("small-50")
    if fastest is not None:
        cpu, theirs = (figures.figure("small-50", relay, "cpu_per_1000") for relay in (QUEUE, fastest))
        yield from _at_most("small-50: queue mode's CPU beside the better Postfix", _over(cpu, theirs), 0.12, " times")
    for relay, limit in ((OURS, 1.0), (QUEUE, 16.0)):
        written = figures.figure("small-50", relay, "written")
        yield from _at_most(f"small-50: {relay} writes for a message", written and written / 1e3, limit, " KB")


def _large(figures: Figures) -> Iterator[Goal]:
    for case in ("large-25", "large-150"):
        speed = figures.figure(case, OURS, "megabytes_per_second")
        yield from _at_least(f"{case}: speed", speed, 150, " MB/s")
        yield from _at_least(
            f"{case}: speed beside the better Postfix",
            _over(speed, figures.postfix(case, "megabytes_per_second", max)),
            1,
            " times",
        )
    for case, limit in (("large-150", 8), ("large-50-at-once", 40)):
        peak, idle = figures.figure(case, OURS, "memory_peak"), figures.figure(case, OURS, "memory_idle")
        growth = (peak - idle) / 1e6 if peak and idle else None
        yield from _at_most(f"{case}: memory over idle", growth, limit, " MB")
    p99 = figures.figure("large-50-at-once", OURS, "small_p99")
    yield from _at_most("large-50-at-once: p99 of small mail beside", p99 and p99 * 1e3, 100, " ms")


def _idle(figures: Figures) -> Iterator[Goal]:
    held = figures.figure("held-1000", OURS, "memory_per_connection")
    yield from _at_most("held-1000: an idle connection", held and held / 1e3, 10, " KB")
    memory = figures.figure("idle", OURS, "memory_idle")
    yield from _at_most("idle: memory", memory and memory / 1e6, 38, " MB")
    yield from _at_most("idle: wake-ups a second", figures.figure("idle", OURS, "wake_ups_per_second"), 0.5)


def _linear(figures: Figures, cases: Sequence[Case]) -> Iterator[Goal]:
    messages = {case.name: sum(flow.messages for flow in case.flows) for case in cases}
    for relay in (OURS, QUEUE):
        base = _cost(figures, "linear-base", relay, messages)
        for what in ("messages", "senders", "recipients"):
            cost = _cost(figures, f"linear-{what}", relay, messages)
            yield from _at_most(f"ten times the {what}, {relay}: CPU", _over(cost, base), 11, " times")


def _cost(figures: Figures, case: str, relay: str, messages: dict[str, int]) -> float | None:
    each = figures.figure(case, relay, "cpu_per_1000")
    return each * messages[case] / 1000 if each is not None and case in messages else None


def _whole(found: Sequence[Summary]) -> Iterator[Goal]:
    ours = [summary for summary in found if summary.relay in {OURS, QUEUE}]
    if ours:
        troubled = [f"{summary.case} ({summary.relay}): {said}" for summary in ours if (said := summary.trouble())]
        yield Goal(
            "nothing lost, doubled or on the wrong login", "; ".join(troubled) or "nothing", "nothing", not troubled
        )
