"""Memory of the listener with many large messages."""

import asyncio
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.senderproxy.listener.smtp_client import MESSAGE, SmtpClient

LINE = b"x" * 76 + b"\r\n"
BLOCK = LINE * 800
BLOCKS = 400  # 25 MB


def resident(process: Any, what: str) -> int:
    """Megabytes: VmRSS now, VmHWM at most."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found
    return int(found[1]) // 1024


async def send_large(listener: Any, pause: asyncio.Event) -> None:
    client = await SmtpClient.greeted(listener)
    await client.send(b"MAIL FROM:<anna@firma.example>\r\nRCPT TO:<bert@kunde.example>\r\nDATA\r\n")
    await client.answers(3)
    await client.send(MESSAGE)
    for _ in range(BLOCKS):
        await client.send(BLOCK)
    await pause.wait()
    assert (await client.ask(b".\r\n")).code == 250
    await client.close()


@pytest.mark.slow
async def test_eight_times_25_megabytes_at_once_do_not_fill_the_memory() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.senderproxy.listener.lone_listener",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        listener: Any = SimpleNamespace(port=int(await process.stdout.readline()))
        idle = [await SmtpClient.greeted(listener) for _ in range(40)]
        before = resident(process, "VmRSS")
        go_on = asyncio.Event()
        large = [asyncio.ensure_future(send_large(listener, go_on)) for _ in range(8)]
        client = idle.pop()
        for _ in range(20):
            assert (await client.mail()).code == 250, "small messages are accepted meanwhile"
        go_on.set()
        await asyncio.gather(*large)
        growth = resident(process, "VmHWM") - before
        for other in [*idle, client]:
            await other.close()
        process.stdin.close()
        octets = int(await process.stdout.readline())
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert octets == 8 * (BLOCKS * len(BLOCK) + len(MESSAGE)) + 20 * len(MESSAGE)
    assert growth < 40, f"memory grew by {growth} MB"
