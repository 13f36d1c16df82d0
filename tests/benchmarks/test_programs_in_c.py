"""The benchmark's load, smarthost and floor in C: the same octets, replies and counts as the pair in Python beside this file."""

import asyncio
import contextlib
import itertools
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compiled as compiler
from benchmarks import messages
from benchmarks.case import Case, Flow
from benchmarks.compiled import CannotCompile, compiled
from benchmarks.process import Load, Smarthost
from benchmarks.relays.floor_c import FloorInC
from benchmarks.run import measure
from tests.peers.certificates import Authority

pytestmark = pytest.mark.slow

SECONDS = 60.0
LONG = 3600.0  # seconds
TIMES = {"cpu", "now", "first_at", "last_at", "p50", "p99"}
PROGRAMS: Mapping[str, Callable[[str], list[str | Path]]] = {
    "c": lambda name: [compiled(name, checked=True)],
    "python": lambda name: [sys.executable, "-m", f"tests.benchmarks.reference.{name}"],
}
LOADS = SMARTHOSTS = tuple(PROGRAMS)


def without_times(counts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in counts.items() if name not in TIMES}


@contextlib.contextmanager
def smarthost_of(kind: str, folder: Path, *, pipelining: bool = False) -> Iterator[Smarthost]:
    folder.mkdir(exist_ok=True)
    with Smarthost(folder, pipelining=pipelining, rtt=0.0, program=PROGRAMS[kind]("smarthost")) as smarthost:
        yield smarthost


class Recorder:
    """Passes one TLS connection on to the smarthost, and keeps what both sides say."""

    def __init__(self, folder: Path, smarthost: Smarthost) -> None:
        folder.mkdir(exist_ok=True)
        authority = Authority(folder)
        self.ca_file = authority.ca_file
        certificate = authority.issue("localhost")
        self._inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._inside.load_cert_chain(certificate.chain, certificate.key)
        self._outside = ssl.create_default_context(cafile=str(smarthost.ca_file))
        self._upstream = smarthost.tls_port
        self._listening = threading.Event()
        self.port = 0
        self.said = {"client": b"", "smarthost": b""}
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> "Recorder":
        self._thread.start()
        assert self._listening.wait(SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        done = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection("localhost", self._upstream, ssl=self._outside)
            upward = asyncio.create_task(self._copy(reader, far_writer, "client"))
            await self._copy(far_reader, writer, "smarthost")  # it ends after QUIT
            await upward
            for end in (far_writer, writer):
                end.close()
                with contextlib.suppress(OSError):  # the load may have been killed
                    await end.wait_closed()
            done.set()

        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self._inside) as server:
            self.port = server.sockets[0].getsockname()[1]
            self._listening.set()
            await done.wait()

    async def _copy(self, one: asyncio.StreamReader, other: asyncio.StreamWriter, name: str) -> None:
        with contextlib.suppress(ConnectionError):  # the load is killed after its report
            while data := await one.read(65536):
                self.said[name] += data
                other.write(data)
                await other.drain()


FLOWS = {
    "small": Flow("small", 1, 5, senders=3),
    "recipients": Flow("small", 1, 3, senders=2, recipients=4),
    "large": Flow("large", 1, 2, size=700_000, senders=1),
    "tiny": Flow("tiny", 1, 2, size=1, senders=1),
}


@pytest.mark.parametrize("pipelining", [False, True], ids=["lock-step", "pipelined"])
@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_both_pairs_say_the_same_octets_and_count_the_same(tmp_path: Path, flow: Flow, *, pipelining: bool) -> None:
    seen = []
    for load, host in itertools.product(LOADS, SMARTHOSTS):
        folder = tmp_path / f"{load}-{host}"
        with smarthost_of(host, folder, pipelining=pipelining) as smarthost:
            program = PROGRAMS[load]("load")
            with (
                Recorder(folder / "recorder", smarthost) as recorder,
                Load(recorder.port, "r1", flow, ca_file=recorder.ca_file, program=program) as client,
            ):
                client.go()
                report = client.report()
            counts = smarthost.wait(flow.messages * flow.recipients, SECONDS)
        assert (report["accepted"], counts["transactions"]) == (flow.messages, flow.messages)
        assert counts["deliveries"] == flow.messages * flow.recipients
        counts.pop("open_now"), counts.pop("most_open")  # the end of the connection is seen a moment later
        seen.append((recorder.said, without_times(report), without_times(counts)))
    assert seen[0][0]["client"].count(b"\r\n.\r\n") == flow.messages
    assert all(one == seen[0] for one in seen[1:])


WHOLE = messages.header("a", 1) + messages.body(1_000)
MAIL = [b"MAIL FROM:<s0001@office.example>\r\n", b"RCPT TO:<r@customer.example>\r\n"]
BEFORE_TLS = [
    b"MAIL FROM:<s0001@office.example>\r\n",
    b"AUTH PLAIN AHMwMDAxQG9mZmljZS5leGFtcGxlAGdlaGVpbS1iZW5jaA==\r\n",
    b"NONSENSE\r\n",
    b"ehlo me\r\n",
    b"STARTTLS\r\n",
]
UNDER_TLS = [
    b"EHLO me\r\n",
    b"STARTTLS\r\n",
    b"MAIL FROM:<s0001@office.example>\r\n",
    b"RCPT TO:<r@customer.example>\r\n",
    b"DATA\r\n",
    b"AUTH CRAM-MD5\r\n",
    b"AUTH PLAIN\r\n",
    b"AUTH PLAIN AHMwMDAxQG9mZmljZS5leGFtcGxlAHdyb25n\r\n",
    b"AUTH LOGIN\r\n",
    b"bm9ib2R5QGVsc2V3aGVyZS5leGFtcGxl\r\n",
    b"Z2VoZWltLWJlbmNo\r\n",
    b"AUTH LOGIN czAwMDFAb2ZmaWNlLmV4YW1wbGU=\r\n",
    b"Z2VoZWltLWJlbmNo\r\n",
    b"MAIL FROM:<s0002@office.example>\r\n",
    b"NOOP\r\n",
    *MAIL, b"RSET\r\n", b"RCPT TO:<r@customer.example>\r\n", b"DATA\r\n",
    *MAIL, b"DATA\r\n", WHOLE + b".\r\n",
    *MAIL, b"RCPT TO:<r2@customer.example>\r\n", b"DATA\r\n", WHOLE + b".\r\n",  # doubled, and one that is not
    *MAIL, b"DATA\r\n", messages.header("b", 2) + messages.body(1_000) + b".\r\n",  # another's
    *MAIL, b"DATA\r\n", messages.header("c", 1) + b"half of it\r\n.\r\n",
    *MAIL, b"DATA\r\n", b"Subject: a bounce\r\n\r\nX-Bench : no s1\r\nno X-Bench: d s1\r\n.\r\n",
    *MAIL, b"DATA\r\n", b".\r\n",
    *MAIL, b"DATA\r\n", messages.header("e", 1) + b"..\r\n.\r" + b"..\r\n" + messages.body(70_000) + b".\r\n",
]  # fmt: skip


@pytest.mark.parametrize("pieces", [1 << 20, 7, 1], ids=["at once", "in sevens", "by octets"])
def test_both_smarthosts_give_the_same_replies_and_counts_whatever_a_client_says(tmp_path: Path, pieces: int) -> None:
    seen = []
    for kind in SMARTHOSTS:
        with smarthost_of(kind, tmp_path / kind) as smarthost:
            replies = converse(smarthost, pieces)
            seen.append((replies, without_times(smarthost.counts())))
    (replies, counts), reference = seen
    assert (replies, counts) == reference
    assert counts["doubled"] == counts["wrong_login"] == counts["damaged"] == counts["wrong_sender"] == 1
    assert (counts["strangers"], counts["deliveries"], counts["failed_logins"]) == (2, 6, 2)


def converse(smarthost: Smarthost, pieces: int) -> list[bytes]:
    """Say everything, each time after the whole reply to what was said before; `pieces`: octets in one write."""
    context = ssl.create_default_context(cafile=str(smarthost.ca_file))
    with socket.create_connection(("localhost", smarthost.starttls_port), SECONDS) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        replies = [reply_of(plain), *(say(plain, words, pieces) for words in BEFORE_TLS)]
        with context.wrap_socket(plain, server_hostname="localhost") as secured:
            replies += [say(secured, words, pieces) for words in UNDER_TLS]
            # pipelined without an offer, and a message whose octets come with the next commands
            replies += [say(secured, b"".join(MAIL), pieces), *(reply_of(secured) for _ in MAIL[1:])]
            replies += [say(secured, b"DATA\r\n", pieces)]
            replies += [
                say(secured, messages.header("f", 1) + messages.body(9) + b".\r\nNOOP\r\n", pieces),
                reply_of(secured),
            ]
            smarthost.be_busy(busy=True)
            replies += [say(secured, b"MAIL FROM:<s0001@office.example>\r\n", pieces)]
            assert secured.recv(1) == b""
        with socket.create_connection(("localhost", smarthost.starttls_port), SECONDS) as other:
            replies += [reply_of(other)]
            assert other.recv(1) == b""
        smarthost.be_busy(busy=False)
        with socket.create_connection(("localhost", smarthost.starttls_port), SECONDS) as other:
            replies += [reply_of(other), say(other, b"QUIT\r\n", pieces)]
            assert other.recv(1) == b""
    return replies


def say(connection: socket.socket, words: bytes, pieces: int) -> bytes:
    for start in range(0, len(words), pieces) if len(words) < 5_000 else [0]:
        connection.sendall(words[start : start + pieces] if len(words) < 5_000 else words)
    return reply_of(connection)


def reply_of(connection: socket.socket) -> bytes:
    """Read one reply octet by octet, so that nothing of the next is taken."""
    reply = line = b""
    while line[3:4] != b" ":
        line = b""
        while not line.endswith(b"\r\n"):
            octet = connection.recv(1)
            assert octet, reply + line
            line += octet
        reply += line
    return reply


class Refuser:
    """A server for one load with one connection: its replies, in order; the word "cut" ends the connection."""

    def __init__(self, replies: Sequence[str]) -> None:
        self._replies = replies
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.heard = b""
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Refuser":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(SECONDS)
        self._socket.close()

    def _serve(self) -> None:
        with self._socket.accept()[0] as client:
            client.settimeout(SECONDS)
            for reply in self._replies:
                if reply == "cut":
                    return
                client.sendall(reply.encode() + b"\r\n")
                ending = b"\r\n.\r\n" if reply.startswith("354") else b"\r\n"
                said = b""
                while not said.endswith(ending) and (data := client.recv(65536)):
                    said += data
                self.heard += said


@pytest.mark.parametrize(
    "replies",
    [
        ("250 ok", "250 ok", "354 go on", "451 4.3.0 try again, later: now"),
        ("550 5.7.1 Sender address is not allowed", "503 no", "503 no"),
        ("250 ok", "550 5.1.1 no such user", "354 go on", "250 taken"),
        ("250 ok", "cut"),
        ("250 ok", "250 ok", "354 go on", "cut"),
    ],
    ids=["after the dot", "the sender", "a recipient", "cut", "cut after the dot"],
)  # fmt: skip
def test_both_loads_count_refusals_alike(replies: Sequence[str]) -> None:
    seen = []
    for kind in LOADS:
        with (
            Refuser(("220 hello", "250-server\r\n250 SIZE", *replies)) as server,
            Load(server.port, "r", Flow("small", 1, 1, senders=1), program=PROGRAMS[kind]("load")) as load,
        ):
            load.go()
            report = without_times(load.report())
        seen.append((server.heard, report))
    assert seen[0] == seen[1]
    assert seen[0][1]["accepted"] == 0
    assert sum(seen[0][1]["refused"].values()) == 1


def test_a_message_a_connection(tmp_path: Path) -> None:
    with smarthost_of("c", tmp_path) as smarthost:
        flow = Flow("each", 5, 40, senders=4, each=True)
        with Load(smarthost.tls_port, "r", flow, ca_file=smarthost.ca_file, program=PROGRAMS["c"]("load")) as load:
            load.go()
            report = load.report()
        counts = smarthost.wait(40, SECONDS)
    assert (report["accepted"], report["refused"]) == (40, {})
    assert (counts["connections"], counts["logins"], counts["deliveries"], counts["wrong_login"]) == (40, 40, 40, 0)
    assert 0 < report["p50"] <= report["p99"] < report["last_at"] - report["first_at"]


def test_a_message_of_the_floor_arrives_whole_on_its_authors_kept_session() -> None:
    case = Case("floor", (Flow("small", 6, 200, senders=3, recipients=2),), per_account=1, warm_up=10)
    [run] = measure(case, [FloorInC], 1, print, most_seconds=LONG)  # all of them, also after a slow beginning
    assert run.trouble() == ""
    assert (run.deliveries, run.connections, run.logins, run.flights_per_message) == (400, 0, 0, 5)
    [run] = measure(
        Case("large", (Flow("large", 2, 4, size=3_000_000, senders=2),), pipelining=True), [FloorInC], 1, print
    )
    assert (run.trouble(), run.deliveries) == ("", 4)


def test_the_smarthost_far_away_answers_a_round_trip_later(tmp_path: Path) -> None:
    with Smarthost(tmp_path, pipelining=False, rtt=0.05, program=PROGRAMS["c"]("smarthost")) as smarthost:
        flow = Flow("far", 2, 4, senders=2)
        with Load(smarthost.tls_port, "r", flow, ca_file=smarthost.ca_file, program=PROGRAMS["c"]("load")) as load:
            load.go()
            report = load.report()
        assert smarthost.wait(4, SECONDS)["deliveries"] == 4
    assert report["p50"] >= 4 * 0.05  # MAIL, RCPT, DATA, the final dot


def test_a_missing_compiler_is_said_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotCompile, match=r"gcc is not here\nsudo apt-get install .*gcc libc6-dev libssl-dev"):
        compiled("load")
