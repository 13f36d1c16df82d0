"""The operator's socket, asked as a command asks it."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from senderproxy.control.client import NotRunning, RequestRefused, ask
from senderproxy.control.protocol import Answer, Request
from senderproxy.control.server import ControlError, ControlServer
from senderproxy.errors import SenderproxyError


async def _greet(request: Request) -> Answer:
    return {"words": f"hello {request['name']}"}


async def _decline(_: Request) -> Answer:
    raise SenderproxyError("There is no account nobody.", hint="senderproxy account list")


async def _stumble(_: Request) -> Answer:
    raise KeyError("the inside of the program")


@asynccontextmanager
async def _serving(path: Path) -> AsyncIterator[ControlServer]:
    server = ControlServer(path, {"greet": _greet, "decline": _decline, "stumble": _stumble})
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def test_a_request_is_answered_on_one_line(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        answer = await asyncio.to_thread(ask, tmp_path / "s", {"do": "greet", "name": "anna"})
        assert answer == {"ok": True, "words": "hello anna"}


async def test_a_refusal_reaches_the_person_with_its_hint(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        with pytest.raises(RequestRefused, match="no account nobody") as caught:
            await asyncio.to_thread(ask, tmp_path / "s", {"do": "decline"})
        assert caught.value.hint == "senderproxy account list"


async def test_a_fault_in_an_answer_shows_nothing_of_its_inside(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        with pytest.raises(RequestRefused, match="log says why") as caught:
            await asyncio.to_thread(ask, tmp_path / "s", {"do": "stumble"})
        assert "inside" not in str(caught.value)


async def test_an_unknown_request_and_junk_are_declined(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        with pytest.raises(RequestRefused, match="Unknown request"):
            await asyncio.to_thread(ask, tmp_path / "s", {"do": "dance"})
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b"\xff\xfe nonsense\n")
        assert b"no request" in await reader.readline()
        writer.close()
        await writer.wait_closed()


def test_nobody_there_is_said_with_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(NotRunning) as caught:
        ask(tmp_path / "s", {"do": "status"})
    assert "not running" in caught.value.message
    assert "systemctl start" in caught.value.hint


async def test_the_socket_left_by_a_killed_service_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    async with _serving(tmp_path / "s"):
        assert (await asyncio.to_thread(ask, tmp_path / "s", {"do": "greet", "name": "b"}))["words"] == "hello b"


async def test_a_second_service_does_not_take_the_first_ones_socket(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        with pytest.raises(ControlError, match="already running"):
            await ControlServer(tmp_path / "s", {}).start()
        assert (await asyncio.to_thread(ask, tmp_path / "s", {"do": "greet", "name": "c"}))["words"] == "hello c"


async def test_a_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("letters of the boss")
    with pytest.raises(ControlError, match="in the way"):
        await ControlServer(tmp_path / "s", {}).start()
    assert (tmp_path / "s").read_text() == "letters of the boss"


async def test_too_long_a_path_is_said_before_the_kernel_says_it(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="longer than 107"):
        await ControlServer(tmp_path / ("x" * 120), {}).start()


async def test_the_socket_is_closed_to_other_users_and_gone_afterwards(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o660
    assert not (tmp_path / "s").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else to try it")
async def test_another_user_is_refused_by_the_kernels_word(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    async with _serving(tmp_path / "s"):
        (tmp_path / "s").chmod(0o666)
        script = (
            "import os,socket,sys;os.setuid(65534);c=socket.socket(socket.AF_UNIX);c.connect(sys.argv[1]);"
            'c.sendall(b\'{"do":"greet","name":"x"}\\n\');print(c.recv(999).decode())'
        )
        process = await asyncio.create_subprocess_exec(
            "/usr/bin/python3", "-c", script, str(tmp_path / "s"), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert b"Only root" in out
