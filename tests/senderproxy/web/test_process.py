"""The page's process: its sockets, its end when idle, its memory and modules, slow and huge requests."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from senderproxy.cli.exit_codes import EX_UNAVAILABLE
from senderproxy.clock import SystemClock
from senderproxy.control.protocol import Role
from senderproxy.web.passwords import hash_password
from senderproxy.web.store import PageUser, Store
from tests.peers.packages import PROJECT
from tests.peers.process import Program, listens, reserved_ports
from tests.senderproxy.web.page_office import NEW, NEW_PASSWORD, PageOffice, page_office

LIMIT = 55_000  # KiB of memory
STARTER = (
    "import os,sys;os.environ|={'LISTEN_PID':str(os.getpid()),'LISTEN_FDS':'1'};os.dup2(int(sys.argv[1]),3);"
    "os.execv(sys.executable,[sys.executable,'-m','senderproxy',*sys.argv[2:]])"
)
SIGNALLED = (  # the page, with a signal just before or just after it serves; a second process would print
    "import asyncio, os, signal, sys\n"
    "from pathlib import Path\n"
    "from senderproxy.web import server\n"
    "def run(main, real=asyncio.run):\n"
    "    if sys.argv[1] == 'before':\n"
    "        os.kill(os.getpid(), signal.SIGTERM)\n"
    "        return real(main)\n"
    "    main.close()\n"
    "    os.kill(os.getpid(), signal.SIGTERM)\n"
    "    return True\n"  # a password was seen
    "asyncio.run = run\n"
    "sys.orig_argv = [sys.executable, '-c', 'print(1)']\n"
    "folder = Path(sys.argv[2])\n"
    "server.run(listen='127.0.0.1:0', sockets=folder, state=folder, idle=0, environment=dict(os.environ))\n"
)
SETTINGS: dict[str, object] = {
    "hostname": "x", "role": "read", "url": "http://127.0.0.1:8525/", "hosts": [], "certificate": None, "key": None,
    "history_days": 30,
}  # fmt: skip
WRONG = "geheim-falsch-99"
FORM = f"address={NEW}&provider=hoster&login=&others=&name=&password={NEW_PASSWORD}".encode()
FORBIDDEN = (
    "vault",
    "cryptography",
    "pydantic",
    "keyring",
    "sqlite3",
    "senderproxy.config",
    "senderproxy.accounts.vault",
)


def arguments(office: PageOffice, *more: str) -> list[str]:
    return ["web", "--sockets", str(office.sockets), "--state", str(office.folder / "state"), *more]


@contextmanager
def page(office: PageOffice, port: int, *more: str) -> Iterator[Program]:
    """The process on a port."""
    words = arguments(office, "--listen", f"127.0.0.1:{port}", *more)
    program = Program("page", [sys.executable, "-m", "senderproxy", *words], office.folder / "page.log")
    try:
        program.wait_until(lambda: listens(port), "the page listens")
        yield program
    finally:
        assert program.end() == 0


@asynccontextmanager
async def served(folder: Path, *more: str, role: str = "operate") -> AsyncIterator[tuple[PageOffice, Program, int]]:
    with reserved_ports(1) as (port,):
        async with page_office(folder, role=role) as office:
            context = page(office, port, *more)
            program = await asyncio.to_thread(context.__enter__)
            try:
                yield office, program, port
            finally:
                await asyncio.to_thread(context.__exit__, None, None, None)


async def exchange(port: int, request: bytes, seconds: float = 30) -> bytes:
    """What the page answers to these octets until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        return await asyncio.wait_for(reader.read(), seconds)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def get(path: str, *fields: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def post(path: str, body: bytes, *fields: str) -> bytes:
    kind = "Content-Type: application/x-www-form-urlencoded"
    head = get(path, "Origin: http://127.0.0.1", kind, f"Content-Length: {len(body)}", *fields)
    return head.replace(b"GET", b"POST", 1) + body


def cookie_of(office: PageOffice, role: Role) -> str:
    """The header field of a browser with a session."""
    return f"Cookie: senderproxy={office.store.new_session('anna', role, SystemClock().now())}"


def in_memory(pid: int, secret: bytes) -> bool:
    """True if the memory of a process has these octets. For root."""
    process = Path(f"/proc/{pid}")
    with (process / "maps").open(encoding="utf-8") as maps, (process / "mem").open("rb", buffering=0) as content:
        for line in maps:
            span, mode = line.split()[:2]
            if not mode.startswith("rw"):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            with suppress(OSError, OverflowError):
                content.seek(start)
                if secret in content.read(end - start):
                    return True
    return False


def memory(pid: int) -> int:
    """The most memory that the process has had, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


async def test_it_starts_on_a_socket_of_systemd_and_ends_when_idle(tmp_path: Path) -> None:
    async with page_office(tmp_path) as office:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            for _start in range(2):  # the socket stays open between two processes, and no connection is refused
                waiting = asyncio.create_task(exchange(port, get("/login")))
                await asyncio.sleep(0)
                command = [sys.executable, "-c", STARTER, str(listening.fileno()), *arguments(office, "--idle", "0.5")]
                started = subprocess.Popen(command, cwd=PROJECT, pass_fds=[listening.fileno()])
                assert (await waiting).startswith(b"HTTP/1.1 200 ")
                assert await asyncio.to_thread(started.wait, 30) == 0


async def test_a_process_that_has_seen_a_password_ends_and_the_next_one_has_the_sessions(tmp_path: Path) -> None:
    async with page_office(tmp_path, role="accounts") as office:
        fields = cookie_of(office, Role.ACCOUNTS)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            for form in (FORM, b"password=" + WRONG.encode()):
                path = "/mailboxes/add" if form is FORM else "/accounts/carla/password"
                waiting = asyncio.create_task(exchange(port, post(path, form, fields)))
                await asyncio.sleep(0)
                command = [sys.executable, "-c", STARTER, str(listening.fileno()), *arguments(office, "--idle", "600")]
                started = subprocess.Popen(
                    command, cwd=PROJECT, pass_fds=[listening.fileno()], stderr=subprocess.PIPE, text=True
                )
                status = b"200" if form is FORM else b"422"
                assert (await waiting).startswith(b"HTTP/1.1 " + status)
                _out, log = await asyncio.to_thread(started.communicate, None, 30)
                assert started.returncode == 0
                assert "geheim" not in log


async def test_without_systemd_it_starts_again_and_nobody_notices(tmp_path: Path) -> None:
    async with served(tmp_path, "--idle", "0", role="accounts") as (office, program, port):
        office.store.put_user(PageUser("bert", Role.READ, hash_password("geheim-bert-12")), replace=False)
        for _attempt in range(5):
            assert (await exchange(port, post("/login", b"user=bert&password=x"))).startswith(b"HTTP/1.1 403")
        upload = b"--b\r\nContent-Disposition: form-data; name=file; filename=x.eml\r\n\r\nFrom: anna@firma.example\r\n"
        end = b"\r\nGuten Tag\r\n--b--\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)  # another browser, in the middle of a request
        kind = "Content-Type: multipart/form-data; boundary=b"
        length = f"Content-Length: {len(upload + end)}"
        head = get("/explain", "Origin: http://127.0.0.1", kind, length, cookie_of(office, Role.READ))
        writer.write(head.replace(b"GET", b"POST", 1) + upload)
        await writer.drain()
        added = await exchange(port, post("/mailboxes/add", FORM, cookie_of(office, Role.ACCOUNTS)))
        assert b"Added account dora@firma.example" in added
        writer.write(end)
        assert b"It would be sent by anna" in await asyncio.wait_for(reader.read(), 30)
        writer.close()
        async with asyncio.timeout(30):
            while program.log().count("the page can be opened") < 2:
                await asyncio.sleep(0.02)
        answer = await exchange(port, get("/accounts", cookie_of(office, Role.READ)))
        assert b"dora@firma.example" in answer
        if os.geteuid() == 0:
            assert in_memory(program.pid, b"senderproxy.web")
            assert not in_memory(program.pid, NEW_PASSWORD.encode())
        assert (await exchange(port, post("/login", b"user=bert&password=geheim-bert-12"))).startswith(b"HTTP/1.1 429")
        assert "geheim" not in program.log()


async def test_its_memory_stays_below_the_limit_and_it_has_neither_vault_nor_configuration(tmp_path: Path) -> None:
    async with served(tmp_path) as (office, program, port):
        token = office.store.new_link(Role.READ, SystemClock().now())
        body = f"token={token}".encode()
        fields = (
            "Origin: http://127.0.0.1", "Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}",
        )  # fmt: skip
        login = get("/login/link", *fields).replace(b"GET", b"POST") + body
        answer = await exchange(port, login)
        cookie = answer.partition(b"set-cookie: ")[2].partition(b";")[0].decode()
        for path in ("/", "/accounts", "/queue", "/search?all=1", "/volume", "/explain?address=anna@firma.example"):
            assert (await exchange(port, get(path, f"Cookie: {cookie}"))).startswith(b"HTTP/1.1 200 ")
        form = b"user=nobody&password=geheim-wrong"
        wrong = get("/login", *fields[:2], f"Content-Length: {len(form)}").replace(b"GET", b"POST") + form
        assert (await exchange(port, wrong)).startswith(b"HTTP/1.1 403 ")
        assert memory(program.pid) < LIMIT
        log = program.log()
        assert "geheim" not in log
        assert token not in log
    script = (
        "import sys, senderproxy.cli.main, senderproxy.cli.web, senderproxy.web.server\n"
        f"print([name for name in sys.modules if name.startswith({FORBIDDEN!r})])"
    )
    found = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


async def test_slow_and_huge_requests_end_and_others_are_answered(tmp_path: Path) -> None:
    async with served(tmp_path) as (_office, program, port):
        slow = [
            asyncio.create_task(exchange(port, start)) for start in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x")
        ]
        head = "POST /queue/change HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n"
        huge = head.encode() + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 99999999\r\n\r\n"
        answer = await exchange(port, huge + b"x" * 300_000)  # it has no session
        assert answer == b"" or answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 303"))
        long = await exchange(port, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n")
        assert long == b"" or long.startswith(b"HTTP/1.1 4")
        many = await exchange(port, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n")
        assert many == b"" or many.startswith(b"HTTP/1.1 4")
        for junk in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 1000, b"EHLO x\r\n"):
            assert not (await exchange(port, junk)).startswith(b"HTTP/1.1 2")
        double = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        assert (await exchange(port, double)).startswith(b"HTTP/1.1 4")
        without = b"GET /login HTTP/1.0\r\n\r\n"
        assert (await exchange(port, without)).startswith(b"HTTP/1.1 421")
        assert (await exchange(port, get("/login"))).startswith(b"HTTP/1.1 200")
        for task in slow:
            assert not (await task).startswith(b"HTTP/1.1 2")
        assert memory(program.pid) < LIMIT
        assert "Traceback" not in program.log()


async def test_more_connections_than_the_limit_get_503_and_the_process_goes_on(tmp_path: Path) -> None:
    async with served(tmp_path) as (_office, _program, port):
        open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(80)]
        assert (await exchange(port, get("/login"))).startswith(b"HTTP/1.1 503")
        for _reader, writer in open_ones:
            writer.close()
        async with asyncio.timeout(20):
            while not (await exchange(port, get("/login"))).startswith(b"HTTP/1.1 200"):
                await asyncio.sleep(0.02)


async def test_an_address_for_other_machines_needs_a_certificate(tmp_path: Path) -> None:
    async with page_office(tmp_path) as office:
        command = [sys.executable, "-m", "senderproxy", *arguments(office, "--listen", "0.0.0.0:0")]
        ended = await asyncio.to_thread(
            subprocess.run, command, cwd=PROJECT, capture_output=True, text=True, timeout=30, check=False
        )
    assert ended.returncode == EX_UNAVAILABLE
    assert "has no certificate" in ended.stderr
    assert "[web] certificate" in ended.stderr


async def test_with_a_certificate_it_speaks_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    files = authority.issue_cert("127.0.0.1")
    files.private_key_pem.write_to_path(tmp_path / "key.pem")
    for number, blob in enumerate(files.cert_chain_pems):
        blob.write_to_path(tmp_path / "certificate.pem", append=number > 0)
    more = f'certificate = "{tmp_path}/certificate.pem"\nkey = "{tmp_path}/key.pem"'
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with reserved_ports(1) as (port,):
        async with page_office(tmp_path, url=f"https://127.0.0.1:{port}/", more=more) as office:
            running = page(office, port)
            await asyncio.to_thread(running.__enter__)
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                writer.write(get("/login"))
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
                writer.close()
            finally:
                await asyncio.to_thread(running.__exit__, None, None, None)


async def test_the_page_starts_without_the_service_once_it_has_its_settings(tmp_path: Path) -> None:
    with reserved_ports(1) as (port,):
        async with page_office(tmp_path) as office:
            command = [sys.executable, "-m", "senderproxy", *arguments(office, "--listen", f"127.0.0.1:{port}")]
            await office.service.stop()
            ended = await asyncio.to_thread(
                subprocess.run, command, cwd=PROJECT, capture_output=True, text=True, timeout=30, check=False
            )
            assert ended.returncode == EX_UNAVAILABLE
            assert "systemctl start senderproxy" in ended.stderr
            office.store.keep_settings(SETTINGS)
            running = page(office, port)
            await asyncio.to_thread(running.__enter__)
            try:
                assert (await exchange(port, get("/login"))).startswith(b"HTTP/1.1 200")
            finally:
                await asyncio.to_thread(running.__exit__, None, None, None)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_signal_ends_it_before_and_after_it_serves(tmp_path: Path, moment: str) -> None:
    Store(tmp_path).keep_settings(SETTINGS)
    command = [sys.executable, "-c", SIGNALLED, moment, str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr


def test_no_core_is_written(tmp_path: Path) -> None:
    script = (
        "from senderproxy.web import server; import resource; server.protect_memory(); print(resource.getrlimit(4))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "(0, 0)\n"
