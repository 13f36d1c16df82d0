"""One case for several relays: start all of them, measure them in turn round after round, stop them.

Guarantees: every round has every relay once, every second round in the opposite order, so that a busy moment of the
machine affects all; every error of a relay is in its Run. With several instances each relay is started anew for each
part of the rounds: two starts of one program differ, too. Idle relays keep running while another is measured; their
cost is negligible.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.case import SMALL, Case, Kind
from benchmarks.counts import COUNTED, Counted, each, system_calls
from benchmarks.process import Ended, Loads, Smarthost
from benchmarks.process_group import MemoryWatch, ProcessGroup
from benchmarks.relays.port import Job, Relay
from benchmarks.relays.registry import STRAIGHT
from benchmarks.results import Run

PATIENCE: Final = 15.0
IDLE_SECONDS: Final = 10.0
MOST_SECONDS: Final = 8.0
SETTLE_SECONDS: Final = 1.5  # writes after the reply cost CPU too
COUNTED_MESSAGES: Final = 400
END_OF_LOG: Final = 8
END_OF_ERROR: Final = 2_000
SAME: Final = (
    "deliveries", "doubled", "wrong_login", "wrong_sender", "damaged", "strangers", "impatient", "connections",
    "most_open", "handshakes", "resumed", "logins", "failed_logins", "transactions",
)  # of the smarthost's counts  # fmt: skip
Show = Callable[[str], None]


class Place:
    """A running relay, its process group, and its memory before the first client."""

    def __init__(self, kind: type[Relay], job: Job, things: contextlib.ExitStack) -> None:
        self.group = ProcessGroup(kind.name)
        things.callback(self.group.close)
        before = time.monotonic()
        with self.group.inside():
            self.relay = things.enter_context(kind(job))
        self.start_seconds = time.monotonic() - before
        self.memory_idle = self.group.memory()
        self.number = 0

    @property
    def name(self) -> str:
        """Name of the relay."""
        return self.relay.name


def measure(
    case: Case,
    kinds: Sequence[type[Relay]],
    rounds: int,
    show: Show,
    most_seconds: float = MOST_SECONDS,
    instances: int = 1,
) -> list[Run]:
    """Return all runs; small messages are sent for at most this many seconds."""
    runs = []
    for instance in range(min(instances, rounds)):
        with _started(case, kinds, show) as (smarthost, places):
            for number in range(instance, rounds, instances):
                for place in places if number % 2 == 0 else reversed(places):
                    run = _one(case, place, smarthost, most_seconds)
                    runs.append(run)
                    show(f"{case.name} round {number + 1}: {describe(run)}")
                    if run.trouble():
                        show("    " + "\n    ".join(place.relay.log().splitlines()[-END_OF_LOG:]))
    if case.counted:
        runs += _counted(case, kinds, show)
    order = {kind.name: number for number, kind in enumerate(kinds)}
    return sorted(runs, key=lambda run: order[run.relay])


@contextlib.contextmanager
def _started(case: Case, kinds: Sequence[type[Relay]], show: Show) -> Iterator[tuple[Smarthost, list[Place]]]:
    """A smarthost, and those relays in front of it that start and are not overstrained by the case."""
    with TemporaryDirectory(prefix="bench-") as folder, contextlib.ExitStack() as things:
        Path(folder).chmod(0o755)
        smarthost = things.enter_context(Smarthost(Path(folder), pipelining=case.pipelining, rtt=case.rtt))
        job = Job(
            senders=case.senders, tls_port=smarthost.tls_port, starttls_port=smarthost.starttls_port,
            ca_file=smarthost.ca_file, per_account=case.per_account, clients=case.connections,
        )  # fmt: skip
        chosen = [kind for kind in kinds if kind.name not in case.too_much_for]
        yield smarthost, [place for kind in chosen if (place := _start(kind, job, things, show))]


def _counted(case: Case, kinds: Sequence[type[Relay]], show: Show) -> list[Run]:
    """The counts of a message, in runs whose times mean nothing."""
    few = replace(case, flows=(replace(case.flows[0], messages=COUNTED_MESSAGES),))
    found = []
    with _started(case, [kind for kind in kinds if kind.name != STRAIGHT], show) as (smarthost, places):
        for place in places:
            run = _one(few, place, smarthost, MOST_SECONDS)  # warm up
            try:
                with system_calls(place.group) as calls:
                    run = send(few, place, smarthost)
                run = _count_only(run, system_calls=sum(calls.values()) / max(1, run.accepted))
            except (FileNotFoundError, RuntimeError) as failure:
                show(f"{place.name}: system calls are not counted: {failure}")
                run = _count_only(run)
            found.append(run)
    with _started(case, [COUNTED[kind] for kind in COUNTED if kind in kinds], show) as (smarthost, places):
        for place in places:
            assert isinstance(place.relay, Counted)
            _one(few, place, smarthost, MOST_SECONDS)
            place.relay.counts()
            run = send(few, place, smarthost)
            figures = each(place.relay.counts(), max(1, run.accepted))
            found.append(
                _count_only(run, **{name: figures[name] for name in ("calls", "python_calls", "tasks", "futures")})
            )
    for run in found:
        show(f"{case.name} counted: {describe(run)}")
    return found


def _count_only(run: Run, **figures: Any) -> Run:
    """The run without what a clock measured."""
    facts = {name: getattr(run, name) for name in SAME}
    return Run(
        run.case,
        run.relay,
        run.accepted,
        run.refused,
        expected=run.expected,
        counted=True,
        failure=run.failure,
        **facts,
        **figures,
    )


def _one(case: Case, place: Place, smarthost: Smarthost, most_seconds: float) -> Run:
    try:
        if case.kind is Kind.THROUGH:
            return _through(case, place, smarthost, most_seconds)
        return _MEASURES[case.kind](case, place, smarthost)
    except Ended as failure:
        return Run(case.name, place.name, failure=f"not done: {failure}")


def describe(run: Run) -> str:
    """The most important figures in one line."""
    figures = {
        "msg/s": run.per_second, "accepts/s": run.accepts_per_second, "MB/s": run.megabytes_per_second,
        "p50 ms": run.p50 and run.p50 * 1000, "p99 ms": run.p99 and run.p99 * 1000,
        "small p99 ms": run.small_p99 and run.small_p99 * 1000, "CPU s/1000": run.cpu_per_1000,
        "idle MB": run.memory_idle and run.memory_idle / 1e6, "peak MB": run.memory_peak and run.memory_peak / 1e6,
        "KB/connection": run.memory_per_connection and run.memory_per_connection / 1e3,
        "wake-ups/s": run.wake_ups_per_second, "first s": run.first_delivery_seconds, "drain s": run.drain_seconds,
        "others' core": run.busiest_other, "flights": run.flights_per_message,
        "KB written": run.written and run.written / 1e3,
        "calls": run.calls, "Python calls": run.python_calls, "tasks": run.tasks, "futures": run.futures,
        "system calls": run.system_calls,
    }  # fmt: skip
    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if value is not None)
    upstream = f"connections {run.connections}, logins {run.logins}"
    return f"{run.relay}: {shown}, {upstream}" + (f"  *** {run.trouble()}" if run.trouble() else "")


def _start(kind: type[Relay], job: Job, things: contextlib.ExitStack, show: Show) -> Place | None:
    try:
        return Place(kind, job, things)
    except Exception as error:  # noqa: BLE001  (one relay that does not start must not end the others' bench)
        show(f"{kind.name} does not start: {str(error)[:END_OF_ERROR]}")
        return None


def _through(case: Case, place: Place, smarthost: Smarthost, most_seconds: float) -> Run:
    if not case.warm_up:
        return send(case, place, smarthost)
    warm_up = replace(case.flows[0], name="warm", messages=case.warm_up, size=SMALL, recipients=1, beside=False)
    warm_up = replace(warm_up, connections=min(warm_up.connections, warm_up.messages))
    warm = send(replace(case, flows=(warm_up,)), place, smarthost)
    return send(_bearable(case, warm.per_second, most_seconds), place, smarthost)


def _bearable(case: Case, rate: float | None, most_seconds: float) -> Case:
    """The case with fewer small messages for a slow relay, whose rate is known after some seconds, too."""
    messages = sum(flow.messages for flow in case.flows)
    if rate is None or any(flow.size > SMALL for flow in case.flows):
        return case
    return case.scaled(min(1.0, rate * most_seconds / messages))


def send(case: Case, place: Place, smarthost: Smarthost) -> Run:
    """Send, wait until everything has arrived, and count."""
    straight = place.name == STRAIGHT
    place.number += 1
    names = f"{place.name}.{place.number}"
    ca_file = smarthost.ca_file if straight else None
    with (
        Loads(place.relay.port, names, case.flows, ca_file=ca_file, spread=case.rtt) as load,
        MemoryWatch(place.group) as watch,
    ):
        before, used, written = smarthost.forget(), place.group.cpu(), place.group.written()
        done = load.send()
        expected = sum(done[flow.name]["accepted"] * flow.recipients for flow in case.flows)
        counts = smarthost.wait(expected, PATIENCE + 12 * case.rtt)
        time.sleep(SETTLE_SECONDS)
        used, written = place.group.cpu() - used, place.group.written() - written
    counts |= {name: smarthost.counts()[name] for name in ("doubled", "strangers", "wrong_login", "deliveries")}
    run = _run(case, place, counts, expected)
    _add_load(run, case, done)
    first = min(report["first_at"] for report in done.values() if report["first_at"])
    wall = counts["last_at"] - first
    if accepted := run.accepted:
        run.per_second = accepted / wall
        load_cpu = [report["cpu"] for report in done.values()]
        run.load_cpu_per_1000 = sum(load_cpu) / accepted * 1000
        run.smarthost_cpu_per_1000 = (counts["cpu"] - before["cpu"]) / accepted * 1000
        run.busiest_other = max(*load_cpu, counts["cpu"] - before["cpu"]) / wall
        run.megabytes_per_second = counts["octets"] / wall / 1e6
        run.flights_per_message = counts["flights"] / counts["transactions"] if counts["transactions"] else None
        if not straight:
            run.cpu_per_1000 = used / accepted * 1000
            run.memory_peak = watch.peak
            run.written = written / accepted
    return run


def _run(case: Case, place: Place, counts: dict[str, Any], expected: int) -> Run:
    run = Run(case.name, place.name, expected=expected, **{name: counts[name] for name in SAME})
    if place.name != STRAIGHT:
        run.memory_idle, run.processes = place.memory_idle, place.group.processes()
        run.start_seconds = place.start_seconds
    return run


def _add_load(run: Run, case: Case, done: dict[str, dict[str, Any]]) -> None:
    main = [done[flow.name] for flow in case.flows if not flow.beside]
    beside = [done[flow.name] for flow in case.flows if flow.beside]
    run.accepted = sum(flow["accepted"] for flow in (*main, *beside))
    for flow in (*main, *beside):
        run.refused |= flow["refused"]
    run.p50, run.p99 = main[0]["p50"], main[0]["p99"]
    if beside:
        run.small_p50, run.small_p99 = beside[0]["p50"], beside[0]["p99"]
    if main[0]["accepted"]:
        run.accepts_per_second = main[0]["accepted"] / (main[0]["last_at"] - main[0]["first_at"])


def _held(case: Case, place: Place, smarthost: Smarthost) -> Run:
    """Measure the cost of an idle client connection."""
    smarthost.forget()
    before = place.group.memory()
    ca_file = smarthost.ca_file if place.name == STRAIGHT else None
    with Loads(place.relay.port, f"{place.name}.held", case.flows, ca_file=ca_file) as load:
        time.sleep(SETTLE_SECONDS)
        held = place.group.memory()
        load.send()
    run = _run(case, place, smarthost.counts(), 0)
    run.memory_peak = held
    run.memory_per_connection = (held - before) / case.connections
    return run


def _idle(case: Case, place: Place, smarthost: Smarthost) -> Run:
    """Measure the cost of an idle relay."""
    smarthost.forget()
    time.sleep(2)
    before, used = place.group.wake_ups(), place.group.cpu()
    time.sleep(IDLE_SECONDS)
    run = _run(case, place, smarthost.counts(), 0)
    run.wake_ups_per_second = (place.group.wake_ups() - before) / IDLE_SECONDS
    run.idle_cpu_per_hour = (place.group.cpu() - used) / IDLE_SECONDS * 3600
    run.memory_idle = place.group.memory()
    return run


def _waiting(case: Case, place: Place, smarthost: Smarthost) -> Run:
    """Fill the spool while the smarthost refuses every client; kill the relay; start it; drain the spool."""
    smarthost.be_busy(busy=True)
    place.number += 1
    with Loads(place.relay.port, f"{place.name}.{place.number}", case.flows) as load:
        done = load.send()
    smarthost.be_busy(busy=False)
    smarthost.forget()
    used, started = place.group.cpu(), time.monotonic()
    with place.group.inside():
        place.relay.kill_and_start()
    place.start_seconds = time.monotonic() - started
    place.relay.push()
    expected = sum(done[flow.name]["accepted"] * flow.recipients for flow in case.flows)
    with MemoryWatch(place.group) as watch:
        counts = smarthost.wait(expected, PATIENCE)
    run = _run(case, place, counts, expected)
    _add_load(run, case, done)
    run.memory_peak = watch.peak
    run.cpu_per_1000 = (place.group.cpu() - used) / max(1, run.accepted) * 1000
    if counts["first_at"]:
        run.first_delivery_seconds = counts["first_at"] - started
        run.drain_seconds = counts["last_at"] - started
        run.per_second = counts["deliveries"] / (counts["last_at"] - counts["first_at"])
    return run


_MEASURES: Final[dict[Kind, Callable[[Case, Place, Smarthost], Run]]] = {
    Kind.HELD: _held,
    Kind.IDLE: _idle,
    Kind.WAITING: _waiting,
}
