"""`senderproxy web`: links and users. The page itself: tests/senderproxy/web."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from senderproxy.cli.exit_codes import EX_OK, EX_UNAVAILABLE, EX_USAGE
from senderproxy.cli.main import main
from senderproxy.clock import SystemClock
from senderproxy.control.protocol import Role
from senderproxy.web.store import Store
from tests.peers.packages import PROJECT
from tests.senderproxy.web.page_office import page_office


def web(folder: Path, *words: str) -> Sequence[str]:
    return ["web", "--state", str(folder / "state"), "--sockets", str(folder / "web"), *words]


async def test_a_link_is_that_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with page_office(tmp_path, url="https://mail.firma.example/relay") as office:
        assert await asyncio.to_thread(main, web(tmp_path, "link", "--role", "read")) == EX_OK
        link, words = capsys.readouterr().out.splitlines()
        address, _slash, token = link.rpartition("/")
        assert address == "https://mail.firma.example/relay/login/link"
        assert words == "Good once, within 10 minutes."
        assert office.store.take_link(token, SystemClock().now()) is Role.READ


def test_without_the_page_in_the_configuration_there_is_no_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").mkdir()
    assert main(web(tmp_path, "link")) == EX_UNAVAILABLE
    assert 'Write role = "operate" in [web]' in capsys.readouterr().err
    assert Store(tmp_path / "state").users() == {}


def test_users_are_added_changed_listed_and_removed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    store = Store(tmp_path / "state")

    def run(password: str, *words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "senderproxy", *web(tmp_path, "user", *words)]
        ended = subprocess.run(command, cwd=PROJECT, input=password, capture_output=True, text=True, check=False)
        return ended.returncode, ended.stdout + ended.stderr

    assert "There is no user" in run("", "list")[1]
    assert run("geheim-anna-12\n", "add", "anna", "--role", "read", "--password-stdin")[0] == EX_OK
    first = store.users()["anna"]
    assert first.role is Role.READ
    session = store.new_session("anna", Role.READ, SystemClock().now())
    assert run("geheim-anna-34\n", "passwd", "anna", "--password-stdin")[0] == EX_OK
    assert store.users()["anna"].role is Role.READ
    assert store.users()["anna"].password != first.password
    assert store.session(session, SystemClock().now()) is None
    assert run("", "list") == (EX_OK, "user  role\nanna  read\n")
    assert run("geheim-anna-56\n", "add", "anna", "--password-stdin")[0] == EX_UNAVAILABLE
    short = run("short\n", "add", "bert", "--password-stdin")
    assert short[0] == EX_USAGE
    assert "fewer than 12 characters" in short[1]
    assert run("geheim-bert-12\n", "add", "a\nb", "--password-stdin")[0] == EX_USAGE
    assert run("", "remove", "anna")[0] == EX_OK
    assert run("", "remove", "anna")[0] == EX_UNAVAILABLE
    assert store.users() == {}


def test_without_its_packages_the_page_names_the_command(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['uvicorn'] = None; from senderproxy.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, *web(tmp_path)]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ended.returncode == EX_UNAVAILABLE
    assert "needs the package uvicorn" in ended.stderr
    assert "pip install 'senderproxy[web]'" in ended.stderr
