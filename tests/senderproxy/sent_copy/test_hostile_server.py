"""A hostile IMAP server: endless, enormous or senseless answers end an attempt soon and in flat memory."""

import subprocess
import sys
import tracemalloc
from itertools import product

import pytest

from senderproxy.sent_copy.imap import ImapFolders
from senderproxy.sent_copy.ports import DelayKind, Refused, Stored, TryLater
from tests.fakes.imap_server import Connection, Fault, Gone, imap_server
from tests.fakes.imap_server import ImapServer as Scripted
from tests.peers.packages import PROJECT
from tests.senderproxy.sent_copy.mailbox import FOLDERS, PASSWORD_LOGIN, address, copy

STAGES = ["greeting", "capability", "authenticate", "list", "examine", "search", "fetch", "append", "stored"]
MEMORY = 16 * 1024 * 1024  # octets that the attempt may add: a list of ten thousand folders, parsed


def endless(first: bytes, piece: bytes) -> Fault:
    def act(connection: Connection) -> None:
        connection.write(first)
        while True:
            connection.write(piece)

    return act


def once(answer: bytes) -> Fault:
    """An answer, and the end of the connection."""

    def act(connection: Connection) -> None:
        connection.write(answer.replace(b"TAG", connection.tag))

    return act


FLOODS = {
    "lines": endless(b"", b"* 1 EXISTS\r\n" * 500),
    "texts": endless(b"", b"* OK [ALERT] " + b"x" * 1000 + b"\r\n"),
    "kinds": endless(b"", b"".join(b"* X%d y\r\n" % number for number in range(500))),
    "folders": endless(b"", b'* LIST (\\Noselect) "/" "x"\r\n' * 500),
    "a line": endless(b"* ", b"x" * 4096),
    "challenges": endless(b"", b"+ eA==\r\n" * 500),
    "a literal": endless(b'* LIST () "/" {900000000}\r\n', b"x" * 4096),
    "a small literal": endless(b'* LIST () "/" {1}\r\n', b"x {1}\r\n" * 500),
    "empty lines": endless(b"", b"\r\n" * 500),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "flood"),
    [
        *product(STAGES, ("lines",)),
        *product(("greeting", "stored"), ("a line", "a literal")),
        *product(("list",), sorted(FLOODS.keys() - {"lines"})),
    ],
)
def test_an_endless_answer_is_cut(stage: str, flood: str) -> None:
    state = Scripted(fault=lambda name: FLOODS[flood] if name == stage else None)
    with imap_server(state) as server:
        if stage == "fetch":  # there is something to be fetched
            FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy())
        tracemalloc.start()
        result = FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy(again=True))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert isinstance(result, TryLater)
    assert result.kind is DelayKind.PROTOCOL  # and not the end of its time
    assert peak < MEMORY


ANSWERS = [
    b"\x00\xff\xfe\r\n",
    b"* \r\n",
    b"other OK done\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"* LIST " + b"(" * 30_000 + b"\r\nTAG OK done\r\n",
    b'* LIST () "/" {' + b"9" * 5000 + b"}\r\n",
    b'* LIST () "/" "unterminated\r\nTAG OK done\r\n',
    b"* LIST\r\n* LIST ()\r\n* LIST NIL NIL NIL\r\nTAG OK done\r\n",
    b"* NAMESPACE ((\r\nTAG OK done\r\n",
    b"* CAPABILITY APPENDLIMIT=x\r\nTAG OK done\r\n",
    b"* SEARCH 1 2 x\r\nTAG OK done\r\n",
    b"* 1 FETCH (UID {3}\r\nabc)\r\nTAG OK done\r\n",
    b"TAG OK done\n",
    b"TAG NO " + b"\x1b[31m\x00" * 500 + b"\r\n",
    b"TAG BAD\r\n",
]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_senseless_answer_is_a_result(stage: str, answer: bytes) -> None:
    state = Scripted(fault=lambda name: once(answer) if name == stage else None)
    with imap_server(state) as server:
        if stage == "fetch":
            FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy())
        result = FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy(again=True))
    if stage in ("append", "stored") and b"TAG OK" in answer:
        assert isinstance(result, Stored | TryLater)  # it says so, among other things
        return
    assert isinstance(result, TryLater | Refused)
    assert result.words.isprintable()
    assert result.server_text.isprintable()
    assert len(result.words) < 600


def test_a_server_that_drips_is_cut_at_the_deadline() -> None:
    def drip(connection: Connection) -> None:
        connection.sock.settimeout(0.02)
        while True:
            connection.write(b"*")
            try:
                if not connection.sock.recv(1):
                    raise Gone
            except TimeoutError:
                pass

    with imap_server(Scripted(fault=lambda stage: drip if stage == "list" else None)) as server:
        result = ImapFolders(FOLDERS._monotonic, seconds=0.3).append_copy(address(server), PASSWORD_LOGIN, copy())
    assert isinstance(result, TryLater)
    assert "in time" in result.words


def test_folders_by_the_thousand_do_no_harm() -> None:
    listed = b"".join(b'* LIST (\\HasNoChildren) "/" "Ablage/Kunde %05d"\r\n' % number for number in range(10_000))

    def list_all(connection: Connection) -> None:
        connection.write(listed)
        state.fault = lambda _stage: None
        connection.goes_on = True

    state = Scripted(after_login="IMAP4rev1 SPECIAL-USE", fault=lambda stage: list_all if stage == "list" else None)
    with imap_server(state) as server:
        assert FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy()) == Stored("Gesendet")


LARGE = 25 * 1024 * 1024
_STORE = """
import resource, sys, time
from datetime import UTC, datetime
import asyncio, ssl
from senderproxy.routing.account import Credential
from senderproxy.routing.provider import ImapServer, Security
from senderproxy.sent_copy.ports import Copy

def resident(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))

before = resident("VmRSS")
from senderproxy.sent_copy.imap import ImapFolders

port, size, login, secret = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
head = b"Message-ID: <1@x>\\r\\n\\r\\n"

def blocks():
    yield head
    left = size - len(head)
    while left:
        block = (b"x" * 76 + b"\\r\\n") * 840
        yield block[:left]
        left -= len(block[:left])

copy = Copy(blocks, size, datetime.now(UTC), "<1@x>", "mark")
begin = time.monotonic()
result = ImapFolders(time.monotonic).append_copy(
    ImapServer("127.0.0.1", port, Security.NONE), Credential(login, secret, "1"), copy
)
assert type(result).__name__ == "Stored", result
print(resident("VmHWM") - before, round(time.monotonic() - begin, 2))
"""


def test_a_large_copy_needs_little_memory() -> None:
    """In a process of its own, from before imapclient is imported to the highest moment."""
    with imap_server() as server:
        done = subprocess.run(
            [sys.executable, "-c", _STORE, str(server.port), str(LARGE), "anna@firma.example", "geheim-anna"],
            cwd=PROJECT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        [content] = server.sent()
    kilobytes = int(done.stdout.split()[0])
    assert len(content) == LARGE + len(b"X-Senderproxy-Copy: mark\r\n")
    assert kilobytes < 8 * 1024  # 4.4 MB, whatever the size of the copy: imapclient and imaplib
