"""Five hundred copies at a server that fails at random stages: each is there once."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from senderproxy.sent_copy.imap import ImapFolders
from senderproxy.sent_copy.ports import AlreadyThere, Copy, Stored, TryLater
from tests.fakes.imap_server import Connection, Fault, Folder, ImapServer, imap_server
from tests.senderproxy.sent_copy.mailbox import FOLDERS, MESSAGE, PASSWORD_LOGIN, address, copy

pytestmark = pytest.mark.slow

COPIES = 500
# Stages of an attempt, and of those after the first one.
STAGES = [
    *("greeting", "capability", "authenticate", "list", "examine", "search", "fetch", "append", "continuation"),
    *("literal", "literal read", "stored", "stored", "stored"),
]
IMPATIENT = ImapFolders(FOLDERS._monotonic, seconds=0.5)


def close(_connection: Connection) -> None:
    """The connection ends."""


def goodbye(connection: Connection) -> None:
    connection.write(b"* BYE Server shutting down\r\n")


def refusal(kind: bytes) -> Fault:
    def refuse(connection: Connection) -> None:
        connection.write(connection.tag + b" " + kind + b" [UNAVAILABLE] Temporary problem, try again later\r\n")

    return refuse


FAULTS = [close, goodbye, refusal(b"NO"), refusal(b"BAD")]


class Storm:
    """One fault in two of three attempts, at a stage and of a kind that the seed decides."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.met = Counter[str]()
        self._next: tuple[str, Fault] | None = None

    def plan(self) -> bool:
        """Plan the next attempt; True if it may be a server that never answers."""
        draw, self._next = self._random, None
        if draw.random() < 1 / 3:
            return False
        stage = draw.choice(STAGES)
        silent = stage == "stored" and draw.random() < 0.1
        self._next = (stage, Connection.wait_for_end if silent else draw.choice(FAULTS))
        return silent

    def __call__(self, stage: str) -> Fault | None:
        if self._next is None or self._next[0] != stage:
            return None
        self.met[stage] += 1
        (_, fault), self._next = self._next, None
        return fault


def send(server: ImapServer, storm: Storm, wanted: Copy) -> int:
    """Repeat as the service does it; the number of attempts."""
    for attempt in range(1, 50):
        folders = IMPATIENT if storm.plan() else FOLDERS
        match folders.append_copy(address(server), PASSWORD_LOGIN, wanted):
            case Stored() | AlreadyThere():
                return attempt
            case TryLater(may_be_stored=may_be_stored):
                wanted = replace(wanted, may_be_stored=may_be_stored)
            case refused:
                raise AssertionError(refused)
    raise AssertionError("never stored")


def test_every_copy_is_there_and_none_twice() -> None:
    storm = Storm(seed=20)
    state = ImapServer(
        after_login="IMAP4rev1 SPECIAL-USE", folders={"INBOX": Folder(), "Gesendet": Folder("\\Sent")}, fault=storm
    )
    with imap_server(state) as server:
        attempts = [send(server, storm, copy(MESSAGE, mark=f"mark-{number:03}")) for number in range(COPIES)]
        contents = server.sent()
    assert sorted(contents) == sorted(
        f"X-Senderproxy-Copy: mark-{number:03}\r\n".encode() + MESSAGE for number in range(COPIES)
    )
    assert set(storm.met) == set(STAGES)
    assert sum(attempts) > 1.5 * COPIES
