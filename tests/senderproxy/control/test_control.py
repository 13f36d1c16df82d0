"""The control socket, from a command's side."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from senderproxy import translation
from senderproxy.control.client import NoAnswer, NotRunning, RequestRefused, ask, ask_status
from senderproxy.control.protocol import LINE_LIMIT, Answer, Request, Verb, new_request
from senderproxy.control.server import ControlError, ControlServer
from senderproxy.errors import SenderproxyError
from senderproxy.relay.queue_admin import QueueAdmin
from senderproxy.translation import current_language, language, ngettext
from tests.fakes.memory_spool import MemorySpool
from tests.fakes.no_reports import no_reports
from tests.fakes.still_clock import StillClock
from tests.peers.process import private_folder


async def _greet(request: Request) -> Answer:
    return {"words": f"hello {request['name']}"}


async def _decline(_: Request) -> Answer:
    raise SenderproxyError("There is no account nobody.", hint="senderproxy account list")


async def _fail(_: Request) -> Answer:
    raise KeyError("the inside of the program")


@asynccontextmanager
async def _serving(path: Path) -> AsyncIterator[ControlServer]:
    server = ControlServer(path, {Verb.STATUS: _greet, Verb.RESUME: _decline, Verb.RELOAD: _fail})
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def test_a_request_is_answered_on_one_line(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        answer = await asyncio.to_thread(ask, tmp_path / "s", new_request(Verb.STATUS, name="anna"))
        assert answer == {"ok": True, "words": "hello anna"}


async def test_an_error_reaches_the_client_with_its_hint(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        with pytest.raises(RequestRefused, match="no account nobody") as caught:
            await asyncio.to_thread(ask, tmp_path / "s", new_request(Verb.RESUME))
        assert caught.value.hint == "senderproxy account list"


@pytest.mark.parametrize(
    ("code", "error", "count", "running"),
    [
        ("de", "Es gibt kein Konto nobody.", "2 Nachrichten", "kein Limit"),
        ("en", "There is no account nobody.", "2 messages", "no limit"),
    ],
)
async def test_the_texts_of_an_answer_are_in_the_readers_language_and_what_it_starts_is_not(
    tmp_path: Path, code: str, error: str, count: str, running: str
) -> None:
    started: list[asyncio.Task[str]] = []

    async def later() -> str:
        return current_language()

    async def show(_: Request) -> Answer:
        started.append(asyncio.create_task(later()))
        found = ngettext("{count} message", "{count} messages", 2).format(count=2)
        return {"list": [{"count": found}], "limit": translation._("no limit"), "number": 7}

    async def refuse(_: Request) -> Answer:
        raise SenderproxyError(translation._("There is no account {id}.").format(id="nobody"))

    server = ControlServer(tmp_path / "s", {Verb.STATUS: show, Verb.RESUME: refuse})
    await server.start()
    try:
        with language(code):
            status, resume = new_request(Verb.STATUS), new_request(Verb.RESUME)
        answer = await asyncio.to_thread(ask, tmp_path / "s", status)
        assert answer == {"ok": True, "list": [{"count": count}], "limit": running, "number": 7}
        assert await started[0] == "en"
        with pytest.raises(RequestRefused) as caught:
            await asyncio.to_thread(ask, tmp_path / "s", resume)
        assert caught.value.message == error
        for unknown in ("xx", 7, ["de"], None):
            other = await asyncio.to_thread(ask, tmp_path / "s", status | {"language": unknown})
            assert other["limit"] == "no limit"
    finally:
        await server.stop()


async def test_an_internal_error_is_answered_without_its_text(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        with pytest.raises(RequestRefused, match="log has the cause") as caught:
            await asyncio.to_thread(ask, tmp_path / "s", new_request(Verb.RELOAD))
        assert "inside" not in str(caught.value)


async def test_an_unknown_verb_a_verb_without_handler_and_junk_are_refused(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        with pytest.raises(RequestRefused, match="Unknown request"):
            await asyncio.to_thread(ask, tmp_path / "s", {"do": "dance"})
        with pytest.raises(RequestRefused, match="Unknown request"):
            await asyncio.to_thread(ask, tmp_path / "s", new_request(Verb.TRACK))
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b"\xff\xfe nonsense\n")
        assert b"not a JSON object" in await reader.readline()
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[" * 60_000 + b"\n", "nested too deeply"),
        (b'{"do":' * 10_000 + b"\n", "nested too deeply"),
        (b'{"do": ' + b"[" * 700 + b"]" * 700 + b"}\n", "nested too deeply"),
        (b'{"do": "resume", "account": ' + b"[" * 700 + b"]" * 700 + b"}\n", "nested too deeply"),
        (b'{"do": "status", "name": "' + b"x" * 70_000 + b'"}\n', "longer than 65536 octets"),
        (b"x" * 10_000_000 + b"\n", "longer than 65536 octets"),
        (b'{"do": ["status"]}\n', "Unknown request"),
        (b'{"do": "' + b"x" * 10_000 + b'"}\n', "Unknown request"),
        (b'{"do": 1' + b"0" * 10_000 + b"}\n", "not a JSON object"),
    ],
    ids=["lists", "objects", "nested verb", "nested field", "long field", "long line", "list", "long verb", "number"],
)
async def test_a_hostile_request_is_answered_in_one_short_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: bytes, reason: str
) -> None:
    async with _serving(tmp_path / "s"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(line)
        await writer.drain()
        answer = await reader.readline()
        assert reason in json.loads(answer)["error"]
        assert len(answer) < 400
        assert not caplog.records
        writer.close()
        await writer.wait_closed()
        again = await asyncio.to_thread(ask, tmp_path / "s", new_request(Verb.STATUS, name="anna"))
        assert again["words"] == "hello anna"


async def test_a_status_has_the_accounts_of_all_pages(tmp_path: Path) -> None:
    asked: list[object] = []

    async def status(_request: Request) -> Answer:
        return {"version": "1", "accounts": [1, 2], "accounts_following": "b"}

    async def accounts(request: Request) -> Answer:
        asked.append(request["after"])
        return {"accounts": [len(asked) + 2], "accounts_following": None if len(asked) == 2 else "c"}

    server = ControlServer(tmp_path / "s", {Verb.STATUS: status, Verb.ACCOUNTS: accounts})
    await server.start()
    try:
        answer = await asyncio.to_thread(ask_status, tmp_path / "s")
    finally:
        await server.stop()
    assert answer == {"ok": True, "version": "1", "accounts": [1, 2, 3, 4]}
    assert asked == ["b", "c"]


async def test_an_answer_that_is_too_long_is_replaced_by_an_error_that_says_so(tmp_path: Path) -> None:
    async def long_answer(_: Request) -> Answer:
        return {"words": "x" * LINE_LIMIT}

    server = ControlServer(tmp_path / "s", {Verb.STATUS: long_answer})
    await server.start()
    try:
        with pytest.raises(RequestRefused, match=f"would have .* at most {LINE_LIMIT}"):
            await asyncio.to_thread(ask, tmp_path / "s", new_request(Verb.STATUS))
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"x" * (LINE_LIMIT + 1), f"longer than {LINE_LIMIT} octets"),
        (b"", "closed before its end"),
        (b'{"ok": tr', "closed before its end"),
        (b"nonsense\n", "cannot be used"),
        (b"[1]\n", "not a JSON object"),
        (None, r"did not answer within 0\.2 s"),
    ],
    ids=["too long", "none", "cut", "no JSON", "no object", "silence"],
)
async def test_a_service_that_runs_is_never_reported_as_not_running(
    tmp_path: Path, answer: bytes | None, reason: str
) -> None:
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if answer is None:
            await asked.wait()
        else:
            with suppress(ConnectionError):
                writer.write(answer)
                await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / "s"):
        with pytest.raises(NoAnswer, match=reason) as caught:
            await asyncio.to_thread(
                ask, tmp_path / "s", new_request(Verb.STATUS), seconds=0.2 if answer is None else 30.0
            )
        asked.set()
    assert "senderproxy runs" in caught.value.message
    assert "journalctl" in caught.value.hint


def test_a_service_that_accepts_no_connection_is_not_reported_as_not_running(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(tmp_path / "s"))
        busy.listen(0)
        first.connect(str(tmp_path / "s"))
        with pytest.raises(NoAnswer, match=r"did not answer within 0\.1 s"):
            ask(tmp_path / "s", new_request(Verb.STATUS), seconds=0.1)


def test_without_a_service_the_hint_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(NotRunning) as caught:
        ask(tmp_path / "s", new_request(Verb.STATUS))
    assert "not running" in caught.value.message
    assert "systemctl start" in caught.value.hint


async def test_the_socket_left_by_a_killed_service_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    async with _serving(tmp_path / "s"):
        assert (await asyncio.to_thread(ask, tmp_path / "s", new_request(Verb.STATUS, name="b")))["words"] == "hello b"


async def test_a_second_service_does_not_take_the_first_ones_socket(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        with pytest.raises(ControlError, match="already running"):
            await ControlServer(tmp_path / "s", {}).start()
        assert (await asyncio.to_thread(ask, tmp_path / "s", new_request(Verb.STATUS, name="c")))["words"] == "hello c"


async def test_another_file_at_the_path_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("letters of the boss")
    with pytest.raises(ControlError, match="another file"):
        await ControlServer(tmp_path / "s", {}).start()
    assert (tmp_path / "s").read_text() == "letters of the boss"


async def test_a_path_longer_than_the_kernels_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="longer than 107"):
        await ControlServer(tmp_path / ("x" * 120), {}).start()


async def test_the_socket_has_mode_0660_and_is_removed_at_the_stop(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o660
    assert not (tmp_path / "s").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_another_user_is_refused() -> None:
    with private_folder("control") as folder:  # pytest closes its own to others, also when another run of it begins
        async with _serving(folder / "s"):
            (folder / "s").chmod(0o666)
            script = (
                "import os,socket,sys;os.setuid(65534);c=socket.socket(socket.AF_UNIX);c.connect(sys.argv[1]);"
                'c.sendall(b\'{"do":"status","name":"x"}\\n\');print(c.recv(999).decode())'
            )
            process = await asyncio.create_subprocess_exec(
                "/usr/bin/python3", "-c", script, str(folder / "s"), stdout=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
            assert b"Only root" in out


def test_the_table_has_each_verb_of_the_queue_and_no_other() -> None:
    spool = MemorySpool(StillClock())
    queue = QueueAdmin(lambda: spool, StillClock(), no_reports)
    assert set(queue.handlers()) == set(Verb) - {
        Verb.STATUS,
        Verb.ACCOUNTS,
        Verb.CONDITIONS,
        Verb.AUTOMATIC,
        Verb.ALERTS,
        Verb.ALERT_TEST,
        Verb.RESUME,
        Verb.RELOAD,
        Verb.DRAIN,
        Verb.READ_VAULT,
        Verb.TOKEN,
        Verb.TOKEN_REFUSED,
        Verb.DKIM,
        Verb.EXPLAIN,
        Verb.PAGE,
        Verb.ACCOUNT_PROPOSE,
        Verb.ACCOUNT_ADD,
        Verb.ACCOUNT_PASSWORD,
    }
