"""Messages whose bodies are on disk: stored and reported without a read on the event loop."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from senderproxy.disk_threads import DiskThreads
from senderproxy.simulator.provider_replies import UNKNOWN_USER, server_reply
from tests.senderproxy.relay.office import KUNDE, SETTINGS, answering, relay_office

BUSY = server_reply(450, "4.2.1 Mailbox busy")
NOBODY = "nobody@kunde.example"
TEXT = b"the text on the disk\r\n"


class OffLoopBody:
    """A body on a disk, which may be read on any thread but the event loop's."""

    is_ascii, has_long_lines, size = True, False, len(TEXT)

    def __init__(self, *, timeout_seconds: float = 60) -> None:
        """`timeout_seconds`: for a read that hangs; the others may take long on a busy machine."""
        self.disk = DiskThreads("test", timeout_seconds=60)
        self._timeout_seconds = timeout_seconds
        self.reads = 0
        self.hangs_from = 1000  # the number of the read, from 1
        self.hanging, self.release = threading.Event(), threading.Event()
        self._loop_thread = threading.get_ident()

    def blocks(self) -> Iterator[bytes]:
        assert threading.get_ident() != self._loop_thread
        self.reads += 1
        if self.reads >= self.hangs_from:
            self.hanging.set()
            assert self.release.wait(30)
        elif self.reads == self.hangs_from - 1:
            self.disk.timeout_seconds = self._timeout_seconds
        yield TEXT

    def retain(self) -> None:
        pass

    def close(self) -> None:
        pass


async def test_a_small_body_on_disk_is_stored(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        _, result = await office.submit(at="devices", body=OffLoopBody())
        assert result.code == 250
        await office.until_all_is_done()
        assert TEXT in office.simulator.received[0].content


async def test_a_report_returns_a_body_from_the_disk(tmp_path: Path) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, nobody=UNKNOWN_USER, busy=BUSY)) as office:
        _, result = await office.submit(KUNDE, NOBODY, "busy@kunde.example", at="keeps", body=OffLoopBody())
        assert result.code == 250
        await office.until(office.reports, "the report")
        [report] = office.reports()
        assert TEXT in report.content


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_report_about_a_body_that_cannot_be_read_now_has_the_header_only(tmp_path: Path, stopped: bool) -> None:
    """The outcomes are recorded in any case: a message without them would be sent again."""
    body = OffLoopBody(timeout_seconds=60 if stopped else 0.2)
    body.hangs_from = 2  # the delivery was the first read
    async with relay_office(tmp_path, answering(SETTINGS, nobody=UNKNOWN_USER)) as office:
        submitting = asyncio.create_task(office.submit(KUNDE, NOBODY, body=body))
        await office.until(body.hanging.is_set, "the read")
        if stopped:
            submitting.cancel()
        message, result = await submitting
        assert not body.release.is_set()
        assert result.code == 250
        assert await office.statuses(message) == {KUNDE: "delivered", NOBODY: "failed"}
        body.release.set()
        await office.until(office.reports, "the report")
        [report] = office.reports()
        assert b"Content-Type: text/rfc822-headers" in report.content
        assert TEXT not in report.content
