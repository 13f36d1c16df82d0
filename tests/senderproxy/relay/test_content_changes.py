"""Changes of a message's body: made on a thread, from file to file, and sent to the real upstream dialogue."""

import asyncio
import errno
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from pathlib import Path

import pytest

from senderproxy.disk_threads import DiskThreads
from senderproxy.listener.body import BodyBuffer, SpillDirectory
from senderproxy.mail.address import parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import Deferred, Delivered, Outcome
from senderproxy.mail.submission import Client, Submission
from senderproxy.relay import content_changes
from senderproxy.relay.content_changes import ChangedBody, ContentChanger
from senderproxy.relay.decide import Decision
from senderproxy.rewriting.content_change import ContentChange, Unchanged, Write
from tests.senderproxy.relay.office import KUNDE, RelayOffice, relay_office

LARGE = 3_000_000  # octets
HEADER = (
    b"From: anna@firma.example\r\nTo: x@kunde.example\r\nSubject: x\r\nMessage-ID: <1@x>\r\n"
    b"Date: Sat, 31 Jan 2026 08:15:00 +0100\r\n\r\n"
)


@dataclass
class Body:
    """A body in memory that knows how many users it has."""

    octets: bytes
    users: int = 1
    reads: int = 0
    fault: OSError | None = None

    @property
    def size(self) -> int:
        return len(self.octets)

    is_ascii = True
    has_long_lines = False
    disk = None

    def blocks(self) -> Iterator[bytes]:
        self.reads += 1
        for start in range(0, len(self.octets), 1000):
            if self.fault is not None:
                raise self.fault
            yield self.octets[start : start + 1000]

    def retain(self) -> None:
        self.users += 1

    def close(self) -> None:
        self.users -= 1


@dataclass
class Footer:
    """A change for tests: adds a text at the end, and a field to the header."""

    text: bytes = b"\r\n.firma\r\n"
    threads: list[int] = field(default_factory=list)

    def apply(self, header: HeaderSection, body: Iterator[bytes], write: Write) -> HeaderSection | Unchanged:
        self.threads.append(threading.get_ident())
        for block in body:
            write(block)
        write(self.text)
        return HeaderSection(header.raw[:-2] + b"X-Footer: yes\r\n\r\n")


class Declines:
    def apply(self, header: HeaderSection, body: Iterator[bytes], write: Write) -> HeaderSection | Unchanged:
        write(next(body))
        return Unchanged("it is signed")


@dataclass
class Fails:
    error: Exception

    def apply(self, header: HeaderSection, body: Iterator[bytes], write: Write) -> HeaderSection | Unchanged:
        write(next(body)[:6] * 100_000)
        raise self.error


class Hangs:
    def __init__(self) -> None:
        self.started, self.release = threading.Event(), threading.Event()

    def apply(self, header: HeaderSection, body: Iterator[bytes], write: Write) -> HeaderSection | Unchanged:
        write(b"x\r\n" * 200_000)
        self.started.set()
        assert self.release.wait(30)
        return header


async def deliver(office: RelayOffice, body: Body, *changes: ContentChange) -> Outcome:
    """Deliver a message with this body, after these changes."""
    author = parse_address("anna@firma.example")
    submission = Submission(
        office.clock.new_id(),
        "office",
        Client("192.168.1.20", "pc.firma.example", "ESMTP"),
        Envelope(author, (parse_address(KUNDE),)),
        Message(HeaderSection(HEADER), body),
        office.clock.now(),
    )
    decision = office.relay.decide(submission)
    assert isinstance(decision, Decision)
    changed = replace(decision, plan=replace(decision.plan, content_changes=changes))
    (outcome,) = (await office.relay.deliver(submission, changed)).values()
    return outcome


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[bool]]:
    """For each unnamed file: whether it was closed."""
    files = []

    def opened():
        files.append(real())
        return files[-1]

    real = content_changes._unnamed_file
    monkeypatch.setattr(content_changes, "_unnamed_file", opened)
    return lambda: [file.closed for file in files]


@pytest.mark.parametrize("size", [0, 100, LARGE])
async def test_a_changed_body_is_sent_and_the_received_one_is_not_touched(
    tmp_path: Path, size: int, closed: Callable[[], list[bool]]
) -> None:
    line = b"..dots, and text until the end of the line\r\n"
    body, footer = Body(line * (size // len(line))), Footer()
    async with relay_office(tmp_path) as office:
        assert isinstance(await deliver(office, body, footer), Delivered)
        (taken,) = office.simulator.received
        assert taken.content.endswith(b"X-Footer: yes\r\n\r\n" + body.octets.replace(b"..", b".") + b"\r\n.firma\r\n")
        await office.until(lambda: body.users == 1 and all(closed()), "the end of all uses")
    assert footer.threads != [threading.get_ident()]
    assert len(closed()) == (size == LARGE)


async def test_several_changes_are_made_in_their_order(tmp_path: Path, closed: Callable[[], list[bool]]) -> None:
    body = Body(b"text\r\n" * 100_000)
    async with relay_office(tmp_path) as office:
        changes = Footer(b"one\r\n"), Declines(), Footer(b"two\r\n"), Fails(ValueError("no"))
        assert isinstance(await deliver(office, body, *changes), Delivered)
        (taken,) = office.simulator.received
        assert taken.content.endswith(b"text\r\none\r\ntwo\r\n")
        await office.until(lambda: body.users == 1 and all(closed()), "the end of all uses")
    assert body.reads == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (Declines(), "it is signed"),
        (Fails(RuntimeError("a fault")), "a fault"),
        (Footer(b"no line end"), "does not end in CRLF"),
    ],
)
async def test_in_doubt_the_message_leaves_as_it_is_with_the_reason_in_the_log(
    tmp_path: Path, change: ContentChange, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = Body(b"text\r\n")
    async with relay_office(tmp_path) as office:
        assert isinstance(await deliver(office, body, change), Delivered)
        (taken,) = office.simulator.received
    assert taken.content.endswith(b"\r\n\r\ntext\r\n")
    assert b"X-Footer" not in taken.content
    (record,) = [record for record in caplog.records if "without the change" in record.getMessage()]
    assert why in f"{vars(record)} {record.exc_info}"


@pytest.mark.parametrize("where", ["source", "target", "second change"])
async def test_a_disk_that_fails_defers_the_message(
    tmp_path: Path, where: str, closed: Callable[[], list[bool]]
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    body = Body(b"text\r\n" * 100_000, fault=full if where == "source" else None)
    changes: list[ContentChange] = [Footer()] if where == "source" else [Fails(full)]
    if where == "second change":
        changes = [Footer(), *changes]
    async with relay_office(tmp_path) as office:
        outcome = await deliver(office, body, *changes)
        assert isinstance(outcome, Deferred)
        assert str(outcome.reply).startswith("451 4.3.0")
        assert not office.simulator.received
        await office.until(lambda: body.users == 1 and all(closed()), "the end of all uses")


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_change_that_hangs_is_not_waited_for_and_frees_everything_when_it_returns(
    tmp_path: Path, cancelled: bool, closed: Callable[[], list[bool]]
) -> None:
    body, hangs = Body(b"text\r\n"), Hangs()
    async with relay_office(tmp_path) as office:
        office.relay.contents = ContentChanger(timeout_seconds=30 if cancelled else 0.2)
        delivering = asyncio.create_task(deliver(office, body, hangs))
        await office.until(hangs.started.is_set, "the change")
        if cancelled:
            delivering.cancel()
            with pytest.raises(asyncio.CancelledError):
                await delivering
        else:
            assert isinstance(await delivering, Deferred)
        assert closed() == [False]
        hangs.release.set()
        await office.until(lambda: body.users == 1 and closed() == [True], "the end of all uses")
        assert not office.simulator.received


def test_a_body_in_a_file_has_the_size_and_the_properties_of_what_was_written() -> None:
    body = ChangedBody(DiskThreads("test"))
    octets = b".first\r\n" + "ü".encode() * 600 + b"\r\n" + b"x" * 998 + b"\r\n"
    for _ in range(300):
        for start in range(0, len(octets), 700):
            body.write(octets[start : start + 700])
    body.finish()
    stuffed = (b"." + octets) * 300
    assert b"".join(body.blocks()) == stuffed
    assert (body.size, body.is_ascii, body.has_long_lines) == (len(stuffed), False, True)
    assert body.disk is not None
    assert isinstance(Message(HeaderSection(b"\r\n"), body).size, int)
    body.discard()


# ---- re-encoding ----

UMLAUTS = "Gr\u00fc\u00dfe\r\n".encode()
MIME = HeaderSection(
    HEADER[:-2]
    + b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
)


async def send(office: RelayOffice, header: HeaderSection, octets: bytes, *, has_long_lines: bool = False) -> bytes:
    """Deliver a message as it is decided; the content that arrived."""
    body = BodyBuffer(10_000_000, SpillDirectory())
    body.append(octets)
    submission = Submission(
        office.clock.new_id(),
        "office",
        Client("192.168.1.20", "pc.firma.example", "ESMTP"),
        Envelope(parse_address("anna@firma.example"), (parse_address(KUNDE),)),
        Message(header, body),
        office.clock.now(),
    )
    decision = office.relay.decide(submission)
    assert isinstance(decision, Decision)
    assert bool(decision.plan.content_changes) is has_long_lines
    (outcome,) = (await office.relay.deliver(submission, decision)).values()
    assert isinstance(outcome, Delivered), outcome
    return office.simulator.received[-1].content


async def test_8_bit_content_is_re_encoded_for_a_server_without_8bitmime(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        office.simulator.settings = replace(office.simulator.settings, eight_bit_mime=False)
        content = await send(office, MIME, UMLAUTS)
        assert content.isascii()
        assert message_from_bytes(content).get_payload(decode=True) == UMLAUTS
        office.simulator.settings = replace(office.simulator.settings, eight_bit_mime=True)
        await office.simulator.drop_sessions()
        assert (await send(office, MIME, UMLAUTS)).endswith(UMLAUTS)


async def test_signed_8_bit_content_is_sent_as_it_is_with_the_reason_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    signed = HeaderSection(b"DKIM-Signature: v=1; d=firma.example\r\n" + MIME.raw)
    async with relay_office(tmp_path) as office:
        office.simulator.settings = replace(office.simulator.settings, eight_bit_mime=False)
        assert (await send(office, signed, UMLAUTS)).endswith(UMLAUTS)
    assert any("DKIM" in str(vars(record).get("senderproxy_fields")) for record in caplog.records)


async def test_a_long_line_is_re_encoded_and_no_token_broken(tmp_path: Path) -> None:
    octets = b"https://firma.example/" + b"x" * 3000 + b" " + UMLAUTS
    async with relay_office(tmp_path) as office:
        content = await send(office, MIME, octets, has_long_lines=True)
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert message_from_bytes(content).get_payload(decode=True) == octets
