"""The sockets of the roles: each verb of the protocol is tried on each of them."""

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest

from senderproxy.control.client import NotRunning, RequestRefused, ask
from senderproxy.control.protocol import ROLES, Answer, Role, Verb, new_request
from senderproxy.control.server import ControlServer
from tests.senderproxy.web.page_office import page_office


@pytest.mark.parametrize("role", Role)
async def test_a_socket_answers_the_verbs_of_its_role_and_no_others(tmp_path: Path, role: Role) -> None:
    called: list[Verb] = []

    def handler(verb: Verb) -> Any:
        async def answer(_request: dict[str, Any]) -> Answer:
            called.append(verb)
            return {}

        return answer

    server = ControlServer(tmp_path / "s", {verb: handler(verb) for verb in Verb}, role=role)
    await server.start()
    try:
        for verb in Verb:
            request = asyncio.to_thread(ask, tmp_path / "s", new_request(verb))
            if ROLES.get(verb) is role:
                await request
            else:
                with pytest.raises(RequestRefused, match="does not answer"):
                    await request
    finally:
        await server.stop()
    assert called == [verb for verb in Verb if ROLES.get(verb) is role]


def test_what_changes_something_is_not_for_reading() -> None:
    changing = {Verb.QUEUE_CHANGE, Verb.RESUME, Verb.DRAIN, Verb.RELOAD, Verb.READ_VAULT, Verb.TOKEN, Verb.ALERT_TEST}
    assert not [verb for verb in changing if ROLES.get(verb) is Role.READ]
    assert ROLES.get(Verb.TOKEN) is None
    assert ROLES.get(Verb.RELOAD) is None


async def test_the_role_of_the_configuration_decides_about_the_sockets(tmp_path: Path) -> None:
    async with page_office(tmp_path, role="read") as office:
        assert (await asyncio.to_thread(ask, office.sockets / "read", new_request(Verb.PAGE)))["role"] == "read"
        with pytest.raises(NotRunning):
            await asyncio.to_thread(ask, office.sockets / "operate", new_request(Verb.RESUME, account="anna"))
        assert [path.name for path in office.sockets.iterdir()] == ["read"]
        with pytest.raises(RequestRefused, match="Unknown request"):
            await asyncio.to_thread(ask, tmp_path / "control.sock", new_request(Verb.PAGE))
    assert list((tmp_path / "web").iterdir()) == []


async def test_a_socket_has_the_group_of_its_folder_and_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    folder = tmp_path / "own" / "sockets"
    folder.mkdir(mode=0o2750)
    folder.chmod(0o2750)
    group = folder.stat().st_gid
    server = ControlServer(folder / "read", {}, role=Role.READ)
    await server.start()
    try:
        status = (folder / "read").stat()
        assert stat.S_IMODE(status.st_mode) == 0o660
        assert status.st_gid == group
    finally:
        await server.stop()


async def test_mail_goes_on_without_the_folder_of_the_sockets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with page_office(tmp_path, with_sockets=False) as office:
        await office.send("anna@firma.example", "kunde@kunde.example")
    (line,) = [record for record in caplog.records if "the page cannot ask" in record.getMessage()]
    assert "web.sockets" in str(vars(line))


async def test_many_connections_are_refused_and_the_others_go_on(tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "s", {}, role=Role.READ)
    await server.start()
    try:
        opened = [await asyncio.open_unix_connection(tmp_path / "s") for _ in range(40)]
        refused = await asyncio.gather(*(asyncio.wait_for(_closed(reader), 30) for reader, _writer in opened[32:]))
        assert all(refused)
        for _reader, writer in opened:
            writer.close()
            await writer.wait_closed()
        with pytest.raises(RequestRefused):
            await asyncio.to_thread(ask, tmp_path / "s", new_request(Verb.STATUS))
    finally:
        await server.stop()


async def _closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True
