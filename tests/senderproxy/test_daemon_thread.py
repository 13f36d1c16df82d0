"""Tests of senderproxy.daemon_thread."""

import threading

import pytest

from senderproxy import daemon_thread
from senderproxy.daemon_thread import DaemonThread


def test_a_thread_runs_its_call() -> None:
    done: list[int] = []
    thread = DaemonThread(done.append, "one", (1,))
    thread.start()
    thread.join(10)
    assert done == [1]
    assert (thread.name, thread.daemon, thread.is_alive()) == ("one", True, False)


def test_a_thread_that_gets_no_memory_for_its_first_steps_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a thread ends before it can give a sign, and threading's start waits for ever."""
    monkeypatch.setattr(threading.Thread, "_bootstrap", lambda _self: None)
    monkeypatch.setattr(daemon_thread, "_SECONDS", 0.01)
    thread = DaemonThread(int, "none")
    with pytest.raises(RuntimeError, match="has not begun"):
        thread.start()


def test_a_thread_that_begins_after_it_was_given_up_calls_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    begin, over, done = threading.Event(), threading.Event(), list[int]()
    bootstrap = threading.Thread._bootstrap  # type: ignore[attr-defined]

    def late(thread: threading.Thread) -> None:
        begin.wait(30)
        bootstrap(thread)
        over.set()

    thread = DaemonThread(done.append, "late", (1,))
    monkeypatch.setattr(threading.Thread, "_bootstrap", late)
    monkeypatch.setattr(daemon_thread, "_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match="has not begun"):
        thread.start()
    begin.set()
    assert over.wait(30)
    assert done == []
