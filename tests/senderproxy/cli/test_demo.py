import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from senderproxy.cli.demo import add_arguments
from senderproxy.cli.demo_messages import (
    ACCOUNTS,
    HOSTER,
    IONOS,
    MESSAGES,
    ArrivedMessage,
    DemoMessage,
    SentMessage,
    faults_in,
)
from senderproxy.cli.demo_page import Page
from senderproxy.simulator.observations import ReceivedMessage
from tests.peers.mail_client import MailClient

CUSTOMER = "kunde@customer.example"
CONTENT = (
    b"From: Anything <anything@laden.example>\r\nTo: kunde@customer.example\r\n"
    b"Date: Mon, 24 Nov 2025 09:00:00 +0100\r\n\r\nGuten Tag\r\n"
)


def arrival(login: str, provider: str = IONOS, reverse_path: str = "shop@laden.example") -> ArrivedMessage:
    received = ReceivedMessage(
        id="1",
        login=login,
        reverse_path=reverse_path,
        recipients=(CUSTOMER,),
        content=b"Message-ID: <1@x>\r\n\r\n",
        size=1,
        sha256="",
        session=1,
        transaction=1,
        at=0.0,
    )
    return ArrivedMessage(provider, received)


SENT = SentMessage(DemoMessage("shop@laden.example", "shop"), "<1@x>", 250, ("fine",))
REFUSED = SentMessage(DemoMessage("shop@laden.example", "shop"), "<1@x>", 550, ("one", "two"))
UNKNOWN = SentMessage(DemoMessage("nobody@other.example", None), "<1@x>", 550, ("no",))


@pytest.mark.parametrize(
    ("sent", "arrived", "fault"),
    [
        (SENT, [arrival("post@laden.example")], None),
        (SENT, [], "arrived 0 times"),
        (SENT, [arrival("post@laden.example")] * 2, "arrived 2 times"),
        (SENT, [arrival("anna@firma.example")], "logged in as anna@firma.example"),
        (SENT, [arrival("post@laden.example", HOSTER)], "at hoster"),
        (SENT, [arrival("post@laden.example", reverse_path="")], "the reverse-path <>"),
        (REFUSED, [arrival("post@laden.example")], "the reply was 550"),
        (REFUSED, [], "the reply was 550"),
        (UNKNOWN, [], None),
        (UNKNOWN, [arrival("anna@firma.example")], "which does not own its author"),
    ],
)
def test_a_message_on_the_wrong_login_lost_or_duplicated_is_a_fault(
    sent: SentMessage, arrived: list[ArrivedMessage], fault: str | None
) -> None:
    found = faults_in(sent, arrived, ACCOUNTS)
    assert found == [] if fault is None else any(fault in each for each in found), found


def test_a_reply_is_shown_as_on_the_wire() -> None:
    assert REFUSED.reply == ("550-one", "550 two")


def test_every_account_has_a_message_in_three_domains_at_two_providers() -> None:
    assert len({each.address.partition("@")[2] for each in ACCOUNTS}) == 3
    assert {each.provider for each in ACCOUNTS} == {IONOS, HOSTER}
    assert {each.account for each in MESSAGES} == {None, *(each.id for each in ACCOUNTS)}


def test_colour_is_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    Page.for_stdout().good("fine")
    Page(colour=True, width=80).good("fine")
    assert capsys.readouterr().out == " fine\n \x1b[32mfine\x1b[0m\n"


def test_once_sends_everything_on_80_columns_and_leaves_no_files(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        chosen = parser.parse_args(["--once"])
        assert chosen.run(chosen) == 0
        assert list(Path(folder).iterdir()) == []
    shown = capsys.readouterr().out
    assert "Every message was sent once, logged in as the mailbox that owns its author." in shown
    assert "550 Sender address is not allowed." in shown
    assert "10 messages needed 5 logins" in shown
    assert "7 of 11 messages were refused." in shown
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80


class Running:
    """The demonstration in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.shown = ""

    async def wait_for(self, text: str) -> str:
        """Wait for a line with this text."""
        assert self.process.stdout is not None
        while text not in self.shown:
            line = (await self.process.stdout.readline()).decode()
            assert line, f"ended before {text!r}: {self.shown}"
            self.shown += line
        return next(line for line in self.shown.splitlines() if text in line)

    async def end(self, number: int) -> int:
        self.process.send_signal(number)
        rest, complaints = await self.process.communicate()
        self.shown += rest.decode()
        assert complaints == b""
        return await self.process.wait()


ENDLESS = "import sys; from senderproxy.cli.demo import run_demo; sys.exit(run_demo(once=False))"
# A single run that waits before its last step: a signal comes during it, and neither afterwards nor while Python ends.
SINGLE = (
    "import asyncio, sys; from senderproxy.cli import demo;"
    " demo._Demonstration._send_without = lambda *_: asyncio.Event().wait(); sys.exit(demo.run_demo(once=True))"
)


@asynccontextmanager
async def running(program: str) -> AsyncIterator[tuple[Running, Path]]:
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"TMPDIR": folder, "PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONWARNINGS": "error"},
        )
        try:
            yield Running(process), Path(folder)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def submit(port: int, reverse_path: str) -> tuple[int, bytes]:
    with MailClient("127.0.0.1", port, timeout=20) as client:
        client.ehlo()
        client.mail(reverse_path)
        client.rcpt(CUSTOMER)
        return client.data(CONTENT.replace(b"anything@laden.example", reverse_path.encode()))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_runs_until_ctrl_c_and_shows_arrivals_and_refusals(
    number: int,
) -> None:
    async with running(ENDLESS) as (played, folder):
        line = await played.wait_for("senderproxy listens on")
        port = int(line.partition("127.0.0.1:")[2].partition(".")[0])
        assert f"swaks --server 127.0.0.1:{port}" in await played.wait_for("swaks")
        await played.wait_for("Ctrl-C ends it")
        code, _ = await asyncio.to_thread(submit, port, "anything@laden.example")
        assert code == 250
        assert "post@laden.example" in await played.wait_for("anything@laden.example   anything@laden.example")
        code, reply = await asyncio.to_thread(submit, port, "nobody@other.example")
        assert code == 550
        assert b'foreign_author = "rewrite"' in reply
        await played.wait_for("WARNING refused")
        assert await played.end(number) == 0
        assert list(folder.iterdir()) == []


@pytest.mark.slow
async def test_ctrl_c_during_a_single_run_is_not_a_success_and_leaves_no_files() -> None:
    async with running(SINGLE) as (played, folder):
        await played.wait_for("One mail server, five mailboxes")
        assert await played.end(signal.SIGINT) == 130
        assert "Traceback" not in played.shown
        assert list(folder.iterdir()) == []
