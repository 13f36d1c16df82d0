"""The results as Markdown: a table for each case, and the goals.

Guarantees: figures are medians of the rounds; a row with a lost, doubled or wrongly authenticated message says so in
capitals, and no goal counts as reached because of it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from benchmarks.case import Case, Kind
from benchmarks.goals import Goal, goals
from benchmarks.relays.registry import OURS
from benchmarks.results import Run, Summary, summaries

MB: Final = 1e6
Column = tuple[str, Callable[[Summary], str]]


def render(machine: dict[str, Any], runs: Sequence[Run], cases: Sequence[Case]) -> str:
    """Return the whole report as Markdown."""
    found = summaries(runs)
    parts = ["# Relays side by side\n", *_machine(machine)]
    if lines := [_goal(goal) for goal in goals(found, cases)]:
        parts += ["\n## Goals\n", "| goal | measured | limit | |", "| --- | --- | --- | --- |", *lines]
    for case in cases:
        if rows := [summary for summary in found if summary.case == case.name]:
            parts += [f"\n## {case.name}\n", _describe(case), "", *_table(case, rows)]
    return "\n".join(parts) + "\n"


def _machine(machine: dict[str, Any]) -> Iterator[str]:
    yield f"`{machine['command']}`, {machine['date']}, commit {machine['commit']}\n"
    yield f"- {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB; {machine['system']}"
    yield f"- {machine['python']}, {machine['openssl']}; a synced write of 4 KB takes {machine['sync_ms']:.2f} ms"
    yield f"- load average when it began: {machine['load_average']}; CPU counted by {machine['cpu_counted_by']}"
    yield from (f"- {name}: {version}" for name, version in machine["relays"].items())
    yield from (f"- not measured: {name}, {why}" for name, why in machine["missing"].items())


def _goal(goal: Goal) -> str:
    return f"| {goal.text} | {goal.measured} | {goal.limit} | {'reached' if goal.reached else '**missed**'} |"


def _describe(case: Case) -> str:
    flows = ", beside it ".join(
        f"{flow.messages or ''} messages of {flow.size / 1000:g} KB over {flow.connections} connections, "
        f"{'a new one for each message, ' if flow.each else ''}"
        f"{flow.senders} senders, {flow.recipients} recipient{'s' if flow.recipients > 1 else ''}"
        for flow in case.flows
    )
    far = f"round trip {case.rtt * 1000:g} ms, {'with' if case.pipelining else 'without'} PIPELINING upstream"
    left_out = f" Left out: {', '.join(case.too_much_for)}." if case.too_much_for else ""
    return f"{flows.strip()}; {far}; at most {case.per_account} connections an account.{left_out}"


def _table(case: Case, rows: Sequence[Summary]) -> Iterator[str]:
    columns = _COLUMNS[case.kind] if len(case.flows) == 1 else _BESIDE
    ours = next((row for row in rows if row.relay == OURS), None)
    yield "| relay | " + " | ".join(name for name, _ in columns) + f" | msg/s to {OURS} | wrong |"
    yield "| --- |" + " ---: |" * (len(columns) + 1) + " --- |"
    for row in rows:
        cells = [shown(row) for _, shown in columns]
        ratio = _ratio(row, ours, "per_second")
        yield f"| {row.relay} | " + " | ".join(cells) + f" | {ratio} | {_wrong(row)} |"


def _ratio(row: Summary, ours: Summary | None, figure: str) -> str:
    theirs, base = row.median(figure), ours.median(figure) if ours else None
    return f"{theirs / base:.2f}" if theirs and base else ""


def _wrong(row: Summary) -> str:
    trouble = row.trouble()
    return f"**{trouble.upper()}**" if trouble else "0"


def _figure(name: str, factor: float = 1.0, digits: int = 3) -> Callable[[Summary], str]:
    def shown(row: Summary) -> str:
        value = row.median(name)
        if value is None:
            return ""
        value *= factor
        return f"{value:.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"

    return shown


def _both(one: str, other: str) -> str:
    return f"{one} ({other})" if one else ""


_UPSTREAM: Final[list[Column]] = [
    ("connections", _figure("connections")),
    ("TLS handshakes (resumed)", lambda row: f"{_figure('handshakes')(row)} ({_figure('resumed')(row)})"),
    ("logins", _figure("logins")),
]
_PEOPLE: Final[list[Column]] = [("p50 ms", _figure("p50", 1e3)), ("p99 ms", _figure("p99", 1e3))]
_COST: Final[list[Column]] = [
    ("CPU s/1000", _figure("cpu_per_1000")),
    ("idle MB", _figure("memory_idle", 1 / MB)),
    ("peak MB", _figure("memory_peak", 1 / MB)),
]
_OTHERS: Final[list[Column]] = [
    (
        "load + smarthost s/1000",
        lambda row: f"{_figure('load_cpu_per_1000')(row)} + {_figure('smarthost_cpu_per_1000')(row)}",
    ),
    ("busier of both, of a core", _figure("busiest_other", digits=2)),
]
_COUNTS: Final[list[Column]] = [
    ("calls (Python)", lambda row: _both(_figure("calls", digits=4)(row), _figure("python_calls", digits=4)(row))),
    ("tasks", _figure("tasks", digits=2)),
    ("futures", _figure("futures", digits=2)),
    ("system calls", _figure("system_calls")),
    ("KB written", _figure("written", 1e-3)),
]
_RATE: Final[list[Column]] = [("msg/s", _figure("per_second")), ("accepts/s", _figure("accepts_per_second"))]
_SPEED: Final[list[Column]] = [("MB/s", _figure("megabytes_per_second"))]
_BESIDE: Final = [
    *_SPEED, *_PEOPLE, ("small p50 ms", _figure("small_p50", 1e3)), ("small p99 ms", _figure("small_p99", 1e3)),
    *_COST, *_UPSTREAM,
]  # fmt: skip
_COLUMNS: Final[dict[Kind, list[Column]]] = {
    Kind.THROUGH: [*_RATE, *_SPEED, *_PEOPLE, *_COST, *_COUNTS, *_UPSTREAM, *_OTHERS],
    Kind.HELD: [
        ("idle MB", _figure("memory_idle", 1 / MB)),
        ("held MB", _figure("memory_peak", 1 / MB)),
        ("KB/connection", _figure("memory_per_connection", 1e-3)),
        ("processes", _figure("processes")),
    ],
    Kind.IDLE: [
        ("idle MB", _figure("memory_idle", 1 / MB)),
        ("wake-ups/s", _figure("wake_ups_per_second")),
        ("CPU s/hour", _figure("idle_cpu_per_hour")),
        ("processes", _figure("processes")),
    ],
    Kind.WAITING: [
        ("accepts/s", _figure("accepts_per_second")),
        ("start s", _figure("start_seconds")),
        ("first delivery s", _figure("first_delivery_seconds")),
        ("drained s", _figure("drain_seconds")),
        ("msg/s", _figure("per_second")),
        *_COST,
        *_UPSTREAM,
    ],
}
