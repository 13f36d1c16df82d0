"""Lines reach the descriptor in their order; a stop loses none; a reader that does not read stops nothing."""

import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from senderproxy import log_output
from senderproxy.log_output import LogOutput

LINES = 3000  # with 100 characters each, several times the 64 KiB of a pipe

_HEAD = """
import os, signal, sys, threading
from senderproxy import log, log_events
from senderproxy.log import event, gather_lines, set_up_logging
import logging

LOGGER = logging.getLogger("senderproxy.test")

def info(number):
    event(LOGGER, log_events.SERVICE_STARTED, address="x" * 60, accounts=number)

def warning(number):
    event(LOGGER, log_events.PAGE_UNAVAILABLE, why=number)

set_up_logging("info", "text", under_journald=True)
gather_lines()
"""


_TRACEBACK = b"the end\n"


def child(program: str) -> "subprocess.Popen[bytes]":
    """A process with the log on a pipe."""
    return subprocess.Popen(
        [sys.executable, "-c", _HEAD + program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def numbers(log: bytes) -> list[int]:
    """The numbers of the lines of `info`."""
    return [int(line.rpartition(b"accounts=")[2]) for line in log.splitlines() if b"accounts=" in line]


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe: for reading, for writing."""
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def lost_line(lines: int) -> str:
    return f"lost {lines}"


def drained(end: int) -> bytes:
    """All that the pipe has now."""
    found = b""
    while select.select([end], [], [], 0)[0]:
        found += os.read(end, 65536)
    return found


def test_an_important_line_is_written_at_once_and_those_before_it_too() -> None:
    with pipe() as (reader, writer):
        output = LogOutput(writer, "utf-8", lost_line)
        output.gathers = True
        output.add("one", now=False)
        output.add("two", now=False)
        assert drained(reader) == b""
        output.add("three", now=True)
        assert drained(reader) == b"one\ntwo\nthree\n"


def test_without_the_gathering_each_line_is_written_by_its_caller() -> None:
    with pipe() as (reader, writer):
        output = LogOutput(writer, "latin-1", lost_line)
        output.add("Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}\N{EURO SIGN}", now=False)
        assert drained(reader) == b"Gr\xfc\\u20ac\n"


def test_a_full_pipe_blocks_no_caller_and_takes_bounded_memory() -> None:
    with pipe() as (reader, writer):
        output = LogOutput(writer, "utf-8", lost_line)
        added = 4 * log_output._WAITING_LIMIT // 100
        for number in range(added):
            output.add(f"{number:099d}", now=True)
        assert output._size + len(output._rest) < 2.2 * log_output._WAITING_LIMIT
        found = b""
        while output._lines or output._rest:
            found += drained(reader)
            output.flush(0)
        *lines, last = (found + drained(reader)).decode().splitlines()
        assert [int(line) for line in lines] == list(range(len(lines)))
        assert last == lost_line(added - len(lines))


def test_lines_lost_on_a_full_disk_are_counted(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        output = LogOutput(full, "utf-8", lost_line)
        output.add("one", now=True)
        output.add("two", now=False)
        with (tmp_path / "log").open("wb") as sound:
            os.dup2(sound.fileno(), full)
        output.add("three", now=True)
        assert (tmp_path / "log").read_text() == "three\nlost 2\n"
    finally:
        os.close(full)


def test_a_closed_pipe_raises_nothing() -> None:
    with pipe() as (reader, writer):
        output = LogOutput(writer, "utf-8", lost_line)
        os.dup2(os.open("/dev/null", os.O_RDONLY), reader)
        output.add("one", now=True)


def test_lines_that_come_together_are_one_write_within_ten_milliseconds() -> None:
    """A socket that keeps the limits of writes."""
    # The thread that writes gets no turn meanwhile, however long these lines take on a busy machine.
    program = "sys.setswitchinterval(60)\nfor n in range(50): info(n)\nsys.setswitchinterval(0.005)\nsys.stdin.read()"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        started = subprocess.Popen(
            [sys.executable, "-c", _HEAD + program],
            stdin=subprocess.PIPE,
            stderr=theirs.fileno(),
        )
        theirs.close()
        ours.settimeout(60)
        try:
            batches = [ours.recv(1 << 20)]
            while len(numbers(b"".join(batches))) < 50:
                batches.append(ours.recv(1 << 20))
        finally:
            started.communicate()
    assert numbers(b"".join(batches)) == list(range(50))
    assert len(batches) < 10
    assert log_output._GATHER_SECONDS < 0.010


def test_lines_of_several_threads_keep_their_order() -> None:
    program = """
lock = threading.Lock()
count = iter(range(4000))

def write():
    for _ in range(1000):
        with lock:
            number = next(count)
            info(number)
            if number % 100 == 0:
                warning(number)

threads = [threading.Thread(target=write) for _ in range(4)]
for each in threads: each.start()
for each in threads: each.join()
"""
    _, log = child(program).communicate(timeout=60)
    assert numbers(log) == list(range(4000))
    before = [int(line.rpartition(b"=")[2]) for line in log.splitlines()]
    assert before == sorted(before)
    assert b"<4>the page" in log
    assert all(line.startswith((b"<4>", b"<6>")) for line in log.splitlines())


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("raise RuntimeError('the end')", 1),
        ("os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
        ("log.exit_now(5)", 5),
        (
            (
                "from senderproxy.control.thread_faults import end_with_a_dead_thread\nend_with_a_dead_thread()\n"
                "t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join(); threading.Event().wait(30)"
            ),
            os.EX_SOFTWARE,
        ),
        (
            (
                "import asyncio\nfrom senderproxy.control.loop_faults import end_after\nasync def main():\n"
                "    loop = asyncio.get_running_loop()\n    loop.add_signal_handler(signal.SIGTERM, done.set)\n"
                "    os.kill(os.getpid(), signal.SIGTERM)\n    await done.wait()\ndone = asyncio.Event()\n"
                "asyncio.run(main())"
            ),
            0,
        ),
    ],
)
def test_a_stop_loses_no_line(end: str, code: int) -> None:
    """The pipe is full when the process ends; its reader begins only then, however late on a busy machine.

    Python itself writes a traceback, between two pieces of a line; here it is one text that can be taken out.
    """
    started = child(
        f"log._END_SECONDS = 60\nsys.excepthook = lambda *_: os.write(2, {_TRACEBACK!r})\n"
        f"for n in range({LINES}): info(n)\nos.write(1, b'.')\n{end}"
    )
    assert started.stdout is not None
    assert started.stdout.read(1) == b"."
    _, log = started.communicate(timeout=60)
    assert numbers(log.replace(_TRACEBACK, b"")) == list(range(LINES))
    assert started.returncode == code


def test_a_process_that_is_killed_loses_the_last_lines_at_most() -> None:
    started = child("info(1)\nsys.stdin.readline()\ninfo(2)\nos.kill(os.getpid(), signal.SIGKILL)")
    assert started.stdin is not None
    assert started.stderr is not None
    first = started.stderr.readline()
    assert numbers(first) == [1]
    _, log = started.communicate(b"\n", timeout=60)
    assert numbers(log) in ([], [2])
    assert started.returncode == -signal.SIGKILL


def test_a_reader_that_does_not_read_holds_up_neither_the_process_nor_its_end() -> None:
    started = child(
        f"for n in range({10 * LINES}): info(n)\nwarning(1)\nimport resource\n"
        "os.write(1, b'%d' % resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    assert started.stdout is not None
    kilobytes = int(started.stdout.read())
    assert started.wait(timeout=60) == 0
    assert kilobytes < 4 * 1024 + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert started.stderr is not None
    with started.stderr as log:
        found = numbers(log.read().rpartition(b"\n")[0])
    assert found == list(range(len(found)))
    assert started.stdin is not None
    started.stdin.close()
    started.stdout.close()


def test_a_closed_standard_error_gets_no_line() -> None:
    program = _HEAD + "other = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\ninfo(1)\nwarning(2)\nprint(other)"
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -c "$0" "$1" 2>&-', program, os.devnull],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip()
    assert done.stderr == ""


# Calls of functions, those in C too, on the thread of a message: the fewest of twenty lines, on Python 3.11 (7 of them in
# Python). Records and handlers of logging took 60.
CALLS_LIMIT = 18


def test_a_line_costs_few_calls() -> None:
    program = """
counts = []
for number in range(20):
    count = 0
    def profile(frame, what, argument):
        global count
        count += what in ("call", "c_call")
    sys.setprofile(profile)
    event(LOGGER, log_events.SERVICE_STARTED, address="127.0.0.1:25", accounts=7, version="1.0")
    sys.setprofile(None)
    counts.append(count)
print(min(counts))
"""
    out, _ = child(program).communicate(timeout=60)
    assert int(out) <= CALLS_LIMIT
