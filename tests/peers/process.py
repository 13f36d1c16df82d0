"""Run a real program for the length of a test: its own folder, its own port, its own log, ended by its own pid.

Guarantees: a peer is ready when its context is entered, or the test fails with the peer's log in hand; nothing of it is
left afterwards, neither process nor file nor port. Waiting means asking again until a deadline, never a fixed pause.
Not here: what the programs are told (postfix, dovecot, exim, clients, senderproxy).
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar

from tests.peers import packages

T = TypeVar("T")

LOOPBACK: Final = "127.0.0.1"
PATIENCE: Final = 60.0  # seconds; an idle machine needs two
ASK_AGAIN_AFTER: Final = 0.02
END_OF_LOG: Final = 40_000


class PeerFailed(AssertionError):
    """A peer did not do what the test needs of it; the text carries the end of its log."""


class Peer(Protocol):
    """What is shown of a peer when a test fails."""

    name: str

    def log(self) -> str:
        """Return what the peer has written so far."""
        ...


def wait_until(condition: Callable[[], T], what: str, seconds: float = PATIENCE, *, peer: Peer | None = None) -> T:
    """Ask until the condition answers something true, and return that; fail when the deadline passes."""
    deadline = time.monotonic() + seconds
    while True:
        is_late = time.monotonic() > deadline  # before the last question: this process may have been stopped meanwhile
        if answer := condition():
            return answer
        if is_late:
            log = f"\n{peer.name}:\n{peer.log()[-END_OF_LOG:]}" if peer else ""
            raise PeerFailed(f"not within {seconds:.0f} s: {what}{log}")
        time.sleep(ASK_AGAIN_AFTER)


@contextlib.contextmanager
def private_folder(name: str) -> Iterator[Path]:
    """Make a folder that the peers' own users may enter, and remove it afterwards.

    pytest's tmp_path is closed to everybody but its owner, and Postfix and Exim drop root's rights.
    Short names, too: a socket's path must not exceed 107 bytes.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"peer-{name}-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class ReservedPort:
    """A port, usually of loopback, that nobody else on this machine is given as long as we hold it.

    One of 127.0.0.1 may be in use at another address, so that nobody can listen on it at all of them.
    Linux lets a second socket bind and listen where the first only holds and both say SO_REUSEADDR; our socket says so
    only after the kernel has chosen the port, so the choice itself was exclusive.
    """

    def __init__(self, address: str = LOOPBACK) -> None:
        self._holder = socket.socket()
        self._holder.bind((address, 0))
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.number: Final[int] = self._holder.getsockname()[1]

    def release(self) -> None:
        """Give the port back."""
        self._holder.close()


_held: Final[list[ReservedPort]] = []


def free_port(address: str = LOOPBACK) -> int:
    """A port that nobody else on this machine is given until `give_back_ports`, at the end of the test."""
    _held.append(ReservedPort(address))
    return _held[-1].number


def give_back_ports() -> None:
    """Release all ports of `free_port`."""
    while _held:
        _held.pop().release()


@contextlib.contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """Hold that many ports for the length of the block."""
    ports = [ReservedPort() for _ in range(count)]
    try:
        yield [port.number for port in ports]
    finally:
        for port in ports:
            port.release()


class Program:
    """A program under way, in a session of its own, so that its children end with it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log_file: Path,
        *,
        environment: Mapping[str, str] | None = None,
        stdin: str | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log_file = log_file
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(os.environ if environment is None else environment),
                start_new_session=True,
                pass_fds=tuple(pass_fds),
            )
        if stdin is not None and self._process.stdin is not None:
            with self._process.stdin as pipe:
                pipe.write(stdin.encode())

    @property
    def pid(self) -> int:
        """The process that we started."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def log(self) -> str:
        """Return what it has printed so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def wait_until(self, condition: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
        """Like the function of this name, but give up at once when the program has ended."""

        def still_running() -> T:
            code = self.exit_code  # before the question: it may do what is waited for, and end at once
            if answer := condition():
                return answer
            if code is not None:
                raise PeerFailed(f"{self.name} ended with {code} before: {what}\n{self.log()[-END_OF_LOG:]}")
            return answer

        return wait_until(still_running, what, seconds, peer=self)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program itself, not to its children."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def end(self, seconds: float = PATIENCE) -> int:
        """Ask it to end, wait for it, and return its exit code; one that does not listen is killed and reported."""
        self.signal(signal.SIGTERM)
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:  # with its context: a test that failed before shows why
            raise PeerFailed(f"{self.name} did not end on SIGTERM within {seconds:.0f} s\n{self.log()}") from error
        finally:
            self._end_children()
        return code

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()
        self._end_children()

    def _end_children(self) -> None:
        # The session's group carries our process's id: nobody else's children are meant.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        # A killed process ends its call first, which may make a file in a folder that is removed next.
        wait_until(lambda: not _lives(self._process.pid), f"the children of {self.name} have ended")


def _lives(group: int) -> bool:
    """Tell whether a process of this group has not ended. proc(5)."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, _parent, its_group = file.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False


def greeting(port: int, address: str = LOOPBACK) -> str | None:
    """Return the SMTP banner on a port of this machine, or None when nobody answers yet."""
    try:
        with socket.create_connection((address, port), timeout=5) as connection, connection.makefile("rb") as lines:
            first: bytes = lines.readline()
            connection.sendall(b"QUIT\r\n")
            lines.read()  # the answer, up to the end: a client that just leaves would be logged as lost
    except OSError:
        return None
    return first.decode("ascii", "replace") if first.startswith(b"220") else None


def listens(port: int) -> bool:
    """Tell whether anybody takes connections on a loopback port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=5).close()
    except OSError:
        return False
    return True


def control_groups() -> Path | None:
    """Return where this machine's control groups are (version 2); None where it has none."""
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


def why_not_here(*programs: str | Path, root: bool = False) -> str | None:
    """Return why peers cannot run on this machine, in words for a skipped test; None when they can."""
    if missing := [str(program) for program in programs if shutil.which(program) is None]:
        return f"{', '.join(missing)} not here: run `python3 {Path(packages.__file__).relative_to(packages.PROJECT)}`"
    if root and os.geteuid() != 0:
        return "Postfix and Exim need root to drop its rights"
    return None
