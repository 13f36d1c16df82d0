"""The state of the alerts in a file beside the control socket, for a crash while the spool is closed or its disk full.

It stands between the policy and LearnedState: what changes is noted for both.
Guarantees: the file is written before an alert is sent and after, whatever the spool does, as a whole and without a
sync, usually in memory (/run). Of the file and the spool, the newer one is in force. The event loop never waits for
the file. One that is missing, damaged or too large is ignored; one that cannot be written stops no alert.
Not here: the state itself (alerts.policy), the table of the spool (relay.learned_state).
"""

import asyncio
import json
import logging
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from senderproxy import log_events
from senderproxy.alerts.policy import AlertPolicy
from senderproxy.clock import Clock
from senderproxy.learned import Fact, Instant, LearnedSource, Notify, ignore_change
from senderproxy.log import event
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

_SIZE: Final = 1_000_000  # octets; several hundred conditions
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_log = logging.getLogger("senderproxy.service")


class AlertStateFile(LearnedSource):
    """The facts of the policy, as LearnedState sees them, and their file."""

    def __init__(self, path: Path, policy: AlertPolicy, clock: Clock) -> None:
        self.changed: Notify = ignore_change  # LearnedState's
        self._path = path
        self._policy = policy
        self._clock = clock
        self._threads = WorkerThreads("alert-state")
        self._writing: asyncio.Future[None] | None = None
        self._is_changed = False  # since the last writing
        self._is_failing = False
        self._read_at: datetime | None = None  # the time of the file that was read; None: there was none
        self._to_store: Sequence[str] = ()  # subjects from the file that the spool may not have
        policy.changed = self._note_change

    def read(self) -> None:
        """Restore the facts of the previous process, before the spool is opened."""
        now = Instant(self._clock.now(), self._clock.monotonic())
        try:
            head, *lines = _text(self._path).splitlines()
            at = datetime.fromisoformat(json.loads(head)["time"])
            written = now.before(now.age(at))
        except (OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
            return
        self._read_at = written.now
        self._to_store = [subject for line in lines if (subject := self._restore_line(line, written)) is not None]

    def _restore_line(self, line: str, written: Instant) -> str | None:
        """The subject of the fact, if it is in force."""
        try:
            subject, fact = json.loads(line)
            return str(subject) if self._policy.restore(str(subject), fact, written) else None
        except Exception:  # noqa: BLE001  of another version, or damaged; a start must not depend on it
            return None

    def store_in_spool(self) -> None:
        """Note the facts of the file, for the open spool."""
        for subject in self._to_store:
            self.changed(subject)
        self._to_store = ()

    # ---- writing ----

    def _note_change(self, subject: str) -> None:
        self._is_changed = True
        self.changed(subject)

    def write_soon(self) -> None:
        """Begin to write the changes. Cheap without."""
        if self._is_changed and (self._writing is None or self._writing.done()):
            self._begin()

    async def write(self) -> None:
        """Write the changes so far."""
        while self._writing is not None and not self._writing.done():
            await asyncio.wait((self._writing,))
        if self._is_changed:
            self._begin()
        if self._writing is not None:
            await asyncio.wait((self._writing,))

    def stop(self) -> None:
        """Write no more."""
        self._threads.stop()

    def _begin(self) -> None:
        now = Instant(self._clock.now(), self._clock.monotonic())
        self._is_changed = False
        try:
            facts = [(subject, self._policy.fact(subject, now)) for subject in self._policy.subjects()]
            self._writing = self._threads.do(_write, self._path, now.now, facts)
        except WorkerThreadsError:  # the service stops, or the system has no thread left
            self._is_changed = True
        except Exception as fault:  # noqa: BLE001  the service must not depend on it
            event(_log, log_events.ALERTS_FAILED, fault=fault)
        else:
            self._writing.add_done_callback(self._ended)

    def _ended(self, writing: "asyncio.Future[None]") -> None:
        if writing.cancelled():
            return
        error = writing.exception()
        if error is None:
            self._is_failing = False
            return
        self._is_changed = True
        if not self._is_failing:
            self._is_failing = True
            why = error.strerror if isinstance(error, OSError) else type(error).__name__
            event(_log, log_events.ALERT_STATE_FAILED, file=self._path, why=why)

    # ---- learned facts ----

    def fact(self, subject: str, at: Instant) -> Fact | None:
        """See learned.LearnedSource."""
        return self._policy.fact(subject, at)

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource. A fact older than the file is of no use: the file was complete."""
        if self._read_at is not None and written.now <= self._read_at:
            return False
        return self._policy.restore(subject, fact, written)


def _text(path: Path) -> str:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        octets = file.read(_SIZE + 1)
    if len(octets) > _SIZE:
        raise ValueError("too large")
    return octets.decode("ascii")


def _write(path: Path, now: datetime, facts: Sequence[tuple[str, Fact | None]]) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, _FLAGS, 0o600), "wb") as file:
        for line in _lines(now, facts):
            file.write(line)
    temporary.replace(path)


def _lines(now: datetime, facts: Sequence[tuple[str, Fact | None]]) -> Iterator[bytes]:
    """The time, then a fact on each line, as many as the file has space for."""
    left = _SIZE
    for value in ({"time": now.isoformat()}, *((subject, fact) for subject, fact in facts if fact is not None)):
        line = json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"
        left -= len(line)
        if left >= 0:
            yield line
