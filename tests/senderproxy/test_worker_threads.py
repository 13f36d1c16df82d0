"""WorkerThreads: bounded, and never in the way of a stop. No other code in the service starts threads."""

import ast
import asyncio
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from senderproxy.worker_threads import QueueFull, Stopped, WorkerThreads

ROOT = Path(__file__).parents[2]

# Calls that use asyncio's default executor or may wait for a name server, and threads of one's own: each with its
# places, by file and name. The default executor is shared by all, and the end of the program waits for it.
BLOCKING_NAMES = {
    "Thread", "DaemonThread", "ThreadPoolExecutor", "to_thread", "run_in_executor", "set_default_executor",
    "getaddrinfo", "getnameinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getfqdn",
    "create_connection", "open_connection", "create_server", "start_server", "create_datagram_endpoint",
}  # fmt: skip
ALLOWED = {
    ("daemon_thread.py", "Thread"),
    ("worker_threads.py", "DaemonThread"),
    ("log_output.py", "DaemonThread"),  # writes lines when its descriptor has room, for as long as the process lives
    ("spool/sqlite/writer.py", "DaemonThread"),  # its thread owns the database connection
    ("spool/sqlite/wal.py", "DaemonThread"),
    ("service/loop_monitor.py", "DaemonThread"),  # measures the loop from outside
    ("spool/sqlite/store.py", "DaemonThread"),  # the check of a large database, once after the start
    ("accounts/database_store.py", "DaemonThread"),  # its loop owns a connection: the vault is read on other threads
    ("delivery/resolver.py", "getaddrinfo"),
    ("delivery/mx/domain_state.py", "getaddrinfo"),  # of numbers
    ("cli/check_mx.py", "create_connection"),  # a command
    ("cli/send.py", "create_connection"),  # likewise
    ("http_client/exchange.py", "getaddrinfo"),  # on a thread of http_client.client
    ("sent_copy/connection.py", "getaddrinfo"),  # on a thread of its own
    ("config/load.py", "getfqdn"),  # before the start, or on the thread of a reload
    ("config/load.py", "DaemonThread"),  # bounds that look-up in time
    ("simulator/server.py", "create_server"),  # on an IP address
    ("cli/consent.py", "create_server"),  # a command, for the answer of a browser
    ("cli/terminal.py", "Thread"),  # the progress of a command
    ("cli/demo.py", "to_thread"),  # the demonstration, not the service
}


def used_names() -> Iterator[tuple[str, str]]:
    for source in (ROOT / "senderproxy").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [node.attr] if isinstance(node, ast.Attribute) else []
            names += [node.id] if isinstance(node, ast.Name) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            yield from ((source.relative_to(ROOT / "senderproxy").as_posix(), name) for name in names)


def test_no_code_uses_the_default_executor_or_resolves_names_elsewhere() -> None:
    found = {use for use in used_names() if use[1] in BLOCKING_NAMES}
    assert found == ALLOWED


async def test_a_full_queue_is_an_error_at_once_and_has_places_again_later() -> None:
    threads, release = WorkerThreads("test", 1, queue_limit=2), threading.Event()
    waiting = [threads.do(release.wait, 30) for _ in range(3)]
    for _ in range(2):
        with pytest.raises(QueueFull):
            threads.do(int)
    release.set()
    assert await asyncio.gather(*waiting) == [True] * 3
    assert await threads.do(int) == 0
    threads.stop()


async def test_a_system_without_threads_is_an_error_at_once_and_the_threads_that_run_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = WorkerThreads("test", 2)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(QueueFull):
            threads.do(int, "1")
    assert await threads.do(int, "2") == 2
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        assert await threads.do(int, "3") == 3
    threads.stop()


async def test_a_cancelled_call_keeps_its_place_until_it_was_made() -> None:
    threads, release = WorkerThreads("test", 1, queue_limit=0), threading.Event()
    call = threads.do(release.wait, 30)
    call.cancel()
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        threads.do(int)
    release.set()
    while True:
        try:
            assert await threads.do(int) == 0
            break
        except QueueFull:
            await asyncio.sleep(0.001)
    threads.stop()


async def test_the_result_and_the_error_of_a_call_reach_its_caller() -> None:
    threads = WorkerThreads("test", 2)
    assert await threads.do(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.do(divmod, 7, 0)
    threads.stop()
    with pytest.raises(Stopped):
        threads.do(int)


async def test_as_many_calls_run_at_once_as_there_are_threads() -> None:
    threads, all_running = WorkerThreads("test", 3), threading.Barrier(3)
    numbers = await asyncio.gather(*(threads.do(all_running.wait, 30) for _ in range(3)))
    assert Counter(numbers) == Counter(range(3))
    threads.stop()


async def test_a_hanging_thread_is_replaced_up_to_a_bound_and_ends_when_its_call_returns() -> None:
    threads, releases = WorkerThreads("test", 1, replacements=2), [threading.Event() for _ in range(3)]
    for count, release in enumerate(releases[:2], start=1):
        hanging = threads.do(release.wait, 30)
        waiting = threads.do(int, "7")
        assert threads.abandon(hanging)
        assert hanging.cancelled()
        assert threads.abandoned == count
        assert await waiting == 7
    hanging = threads.do(releases[2].wait, 30)
    assert not threads.abandon(hanging)
    assert not hanging.done()
    for release in releases:
        release.set()
    assert await hanging is True
    while threads.abandoned:
        await asyncio.sleep(0.001)
    assert await threads.do(int, "8") == 8
    while sum(thread.is_alive() for thread in threads._threads) > 1:
        await asyncio.sleep(0.001)
    threads.stop()


async def test_a_call_that_was_made_is_not_given_up() -> None:
    threads = WorkerThreads("test", 1, replacements=2)
    done = threads.do(int)
    await done
    assert not threads.abandon(done)
    assert threads.abandoned == 0
    threads.stop()


async def test_threads_have_the_niceness_of_their_work_and_the_loop_keeps_its_own() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    own = niceness()
    low, usual = WorkerThreads("low", niceness=own + 5), WorkerThreads("usual")
    assert await low.do(niceness) == own + 5
    assert await usual.do(niceness) == own
    assert niceness() == own
    higher = WorkerThreads("higher", niceness=own - 1)
    assert await higher.do(niceness) == own, "only lowered, also by root"
    for threads in (low, usual, higher):
        threads.stop()


async def test_where_the_priority_may_not_be_lowered_the_thread_works_with_the_usual_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(*_: int) -> None:
        raise PermissionError("a filter of system calls")

    monkeypatch.setattr(os, "setpriority", forbidden)
    threads = WorkerThreads("low", niceness=19)
    assert await threads.do(int, "3") == 3
    threads.stop()


def test_a_call_that_hangs_does_not_delay_the_end_of_the_program() -> None:
    program = (
        "import asyncio, threading\n"
        "from senderproxy.worker_threads import WorkerThreads\n"
        "async def main():\n"
        "    threads, begun = WorkerThreads('test'), threading.Event()\n"
        "    hanging = threads.do(lambda: (begun.set(), threading.Event().wait()))\n"
        "    while not begun.is_set():\n"
        "        await asyncio.sleep(0.001)\n"
        "    threads.stop()\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0
