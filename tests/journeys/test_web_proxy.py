"""The page behind a real nginx with TLS and a path, configured as docs/web.md says."""

import asyncio
import re
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest

from senderproxy.clock import SystemClock
from senderproxy.control.protocol import Role
from tests.peers.nginx import running_nginx
from tests.peers.packages import NGINX, PROJECT
from tests.peers.process import Program, listens, reserved_ports, why_not_here
from tests.senderproxy.web.page_office import NEW, NEW_PASSWORD, PageOffice, page_office
from tests.senderproxy.web.test_pages import text_of

reason = why_not_here(NGINX)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]


def documented_location(port: int) -> str:
    """The block of docs/web.md, with the port of this test."""
    text = (PROJECT / "docs" / "web.md").read_text(encoding="utf-8")
    block = re.search(r"^location /relay/ .*$", text, re.MULTILINE)
    assert block is not None
    assert "127.0.0.1:8525" in block[0]
    return block[0].replace("127.0.0.1:8525", f"127.0.0.1:{port}")


@contextmanager
def page(office: PageOffice, port: int) -> Iterator[Program]:
    """The page's process on a port."""
    state, address = office.folder / "state", f"127.0.0.1:{port}"
    words: list[str | Path] = ["--sockets", office.sockets, "--state", state, "--listen", address]
    program = Program("page", [sys.executable, "-m", "senderproxy", "web", *words], office.folder / "page.log")
    try:
        program.wait_until(lambda: listens(port), "the page listens")
        yield program
    finally:
        program.end()


@asynccontextmanager
async def behind_nginx(folder: Path) -> AsyncIterator[tuple[PageOffice, httpx.AsyncClient]]:
    """The office, and a browser at nginx."""
    with reserved_ports(2) as (port, inner):
        url = f"https://127.0.0.1:{port}/relay/"
        async with page_office(folder, role="accounts", url=url) as office:
            context = page(office, inner)
            await asyncio.to_thread(context.__enter__)
            try:
                with running_nginx(port, documented_location(inner)) as authority:
                    trust = ssl.create_default_context(cafile=str(authority.ca_file))
                    async with httpx.AsyncClient(base_url=url, verify=trust, timeout=60) as client:
                        yield office, client
            finally:
                await asyncio.to_thread(context.__exit__, None, None, None)


async def test_the_page_works_behind_nginx_with_tls_and_a_path(tmp_path: Path) -> None:
    async with behind_nginx(tmp_path) as (office, client):
        origin = str(client.base_url).removesuffix("/relay/")
        headers = {"Origin": origin}
        first = await client.get("accounts")
        assert (first.status_code, first.headers["location"]) == (303, "/relay/login")
        token = office.store.new_link(Role.ACCOUNTS, SystemClock().now())
        assert "/relay/login/link" in (await client.get(f"login/link/{token}")).text
        refused = await client.post("login/link", data={"token": token}, headers={"Origin": "https://evil.example"})
        assert refused.status_code == 403
        logged_in = await client.post("login/link", data={"token": token}, headers=headers)
        assert (logged_in.status_code, logged_in.headers["location"]) == (303, "/relay/")
        cookie = logged_in.headers["set-cookie"].lower()
        assert cookie.startswith("__host-senderproxy=")
        assert "secure" in cookie
        accounts = await client.get("accounts")
        assert accounts.status_code == 200
        assert not re.search(r'(?:src|href|action)="(?!/relay/)', accounts.text.replace('href="#content"', ""))
        assert (await client.get("static/page.css")).status_code == 200
        form = {"address": NEW, "provider": "hoster", "login": "", "others": "", "name": "", "password": NEW_PASSWORD}
        added = await client.post("mailboxes/add", data=form, headers=headers)
        assert "Added account dora@firma.example" in text_of(added)
        for _request in range(3):  # another process answers, and nginx sees no closed port
            assert NEW in (await client.get("accounts")).text
        letter = {"file": ("letter.eml", b"From: anna@firma.example\r\n\r\n" + b"x" * 3_000_000)}
        explained = await client.post("explain", files=letter, headers=headers)
        assert "It would be sent by anna" in text_of(explained)
        assert (await client.get("accounts", headers={"Host": "evil.example"})).status_code == 421
