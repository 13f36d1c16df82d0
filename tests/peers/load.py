"""Clients that connect again and again while something else happens.

Guarantees: every connection and every message is accounted for.
Not here: letters (letters).
"""

import itertools
import smtplib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from tests.peers.letters import Letter, hand_in
from tests.peers.process import LOOPBACK

CLIENTS: Final = 2  # that connect at the same time
_PATIENCE: Final = 120.0  # seconds for a greeting


@dataclass
class Load:
    """What happened to the connections and to the messages."""

    greeted: int = 0
    cut_off: int = 0
    refused: list[str] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)  # Message-IDs that got 250
    not_accepted: int = 0  # messages without 250; their client tries again


@contextmanager
def connections(port: int) -> Iterator[Load]:
    """Connect to the port again and again beside the block, and wait for each greeting."""
    load, over = Load(), threading.Event()
    with _threads([threading.Thread(target=_connect, args=(port, load, over)) for _ in range(CLIENTS)], over):
        yield load


@contextmanager
def connections_and_messages(port: int, queue: int, author: str) -> Iterator[Load]:
    """The same, and another client that submits messages to the port `queue`."""
    load, over = Load(), threading.Event()
    threads = [threading.Thread(target=_connect, args=(port, load, over)) for _ in range(CLIENTS)]
    threads.append(threading.Thread(target=_submit, args=(queue, author, load, over)))
    with _threads(threads, over):
        yield load


@contextmanager
def _threads(threads: list[threading.Thread], over: threading.Event) -> Iterator[None]:
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _connect(port: int, load: Load, over: threading.Event) -> None:
    while not over.is_set():
        try:
            client = socket.create_connection((LOOPBACK, port), timeout=_PATIENCE)
        except OSError as error:
            load.refused.append(str(error))
            continue
        with client:
            try:
                greeted = bool(client.recv(512))
            except ConnectionResetError:
                greeted = False
            load.greeted += greeted
            load.cut_off += not greeted


def _submit(port: int, author: str, load: Load, over: threading.Event) -> None:
    for number in itertools.count():
        if over.is_set():
            return
        letter = Letter(author, (f"rcpt{number}@kunde.test",), f"load-{number}@desk.office.test")
        try:
            hand_in(port, [letter])
        except ConnectionRefusedError as error:
            load.refused.append(str(error))
        except (smtplib.SMTPException, OSError):
            load.not_accepted += 1
        else:
            load.acknowledged.add(letter.message_id)
