"""The page in a real browser: the main ways through it, in each language, without a script of the page's own."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from senderproxy.clock import SystemClock
from senderproxy.control.client import ask
from senderproxy.control.protocol import Role, Verb, new_request
from senderproxy.web.passwords import hash_password
from senderproxy.web.store import PageUser
from tests.peers.chromium import BROWSER, DRIVER, Chromium, chromium_driver
from tests.peers.process import Program, listens, reserved_ports, why_not_here
from tests.senderproxy.web.page_office import HOSTILE_REPLY, NEW, NEW_PASSWORD, PageOffice, page_office
from tests.senderproxy.web.test_pages import queued

reason = why_not_here(BROWSER, DRIVER)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]
PASSWORD = "geheim-anna-12"

WORDS: dict[str, Any] = {
    "en": {
        "login": "Log in",
        "titles": ["Overview", "Accounts", "Queue", "Search", "Explain", "Volume"],
        "held": "1 message is held.",
        "cancelled": "1 message is cancelled.",
        "explained": "It would be sent by carla",
        "suspended": "suspended",
        "again": "The account may log in again.",
        "unchanged": "Nothing was changed: ",
        "added": "Added account dora@firma.example.",
        "password": "Changed the password of account dora@firma.example.",
    },
    "de": {
        "login": "Anmelden",
        "titles": ["Übersicht", "Konten", "Warteschlange", "Suche", "Erklären", "Aufkommen"],
        "held": "1 Nachricht ist angehalten.",
        "cancelled": "1 Nachricht ist entfernt.",
        "explained": "Gesendet würde sie über carla",
        "suspended": "gesperrt",
        "again": "Das Konto darf sich wieder anmelden.",
        "unchanged": "Nichts wurde geändert: ",
        "added": "Konto dora@firma.example ist angelegt.",
        "password": "Das Kennwort von Konto dora@firma.example ist geändert.",
    },
}


def page(office: PageOffice, port: int) -> Program:
    """The page's process on a port."""
    words: list[str | Path] = [
        "--sockets",
        office.sockets,
        "--state",
        office.folder / "state",
        "--listen",
        f"127.0.0.1:{port}",
    ]
    command: list[str | Path] = [sys.executable, "-m", "senderproxy", "web", *words, "--idle", "0"]
    program = Program("page", command, office.folder / "page.log")
    program.wait_until(lambda: listens(port), "the page listens")
    return program


async def is_suspended(office: PageOffice) -> bool:
    """An account cannot send."""
    status = await asyncio.to_thread(ask, office.sockets / "read", new_request(Verb.STATUS))
    return any(one["state"] == "suspended" for one in status["accounts"])


@pytest.mark.parametrize("code", ["en", "de"])
async def test_the_main_ways_through_the_page(tmp_path: Path, code: str) -> None:
    with reserved_ports(1) as (port,):
        async with page_office(tmp_path, role="accounts") as office:
            office.store.put_user(PageUser("anna", Role.ACCOUNTS, hash_password(PASSWORD)), replace=False)
            await office.send("anna@firma.example", "later@kunde.example", HOSTILE_REPLY)
            await office.send("bert@firma.example", "kunde@kunde.example")
            await queued(office, 1)
            while not await is_suspended(office):
                await asyncio.sleep(0.05)
            program = await asyncio.to_thread(page, office, port)
            try:
                await asyncio.to_thread(ways, f"http://127.0.0.1:{port}", office, code)
            finally:
                assert await asyncio.to_thread(program.end) == 0
            assert "Traceback" not in program.log()
            assert "geheim" not in program.log()


def ways(base: str, office: PageOffice, code: str) -> None:
    words = WORDS[code]
    with chromium_driver() as driver, driver.browser(language=code, width=1024) as browser:
        browser.open(f"{base}/queue")
        assert browser.url == f"{base}/login"
        log_in(browser, "wrong-password")
        assert browser.find("[role=alert]").text
        log_in(browser, PASSWORD)
        assert browser.url == f"{base}/"
        assert heading(browser) == words["titles"][0]
        assert words["suspended"] in browser.find("main").text
        for number in range(len(words["titles"])):
            browser.find_all("nav a")[number].follow()
            assert heading(browser) == words["titles"][number]

        browser.find_all("nav a")[1].follow()
        browser.find("tbody a").follow()  # those that cannot send come first
        browser.find("button.main").follow()
        assert words["again"] in browser.find("[role=status]").text

        browser.find_all("nav a")[2].follow()
        browser.find("input[name=from]").type("anna@firma.example")
        browser.find(".filter button").follow()
        (message,) = browser.find_all("input[name=id]")
        message.click()
        browser.find("button[value=hold]").follow()
        assert browser.find("[role=status]").text == words["held"]
        browser.find(".links a:last-child").follow()
        history = browser.find("main").text
        assert "anna (page)" in history
        assert "451 4.7.1 greylisted" in history
        assert HOSTILE_REPLY in history
        assert browser.find_all("main img") == []
        browser.find("button[value=cancel]").follow()
        browser.find("button.danger").follow()
        assert browser.find("[role=status]").text == words["cancelled"]

        letter = office.folder / "letter.eml"
        letter.write_text("From: Carla <carla@firma.example>\nSubject: x\n\nGuten Tag\n", encoding="utf-8")
        browser.find_all("nav a")[4].follow()
        browser.find("input[type=file]").type(str(letter))
        browser.find(".explain button").follow()
        assert words["explained"] in browser.find("main").text

        mailbox(browser, words)
        browser.find(".logout button").follow()
        assert browser.url == f"{base}/login"
        browser.open(f"{base}/")
        assert browser.url == f"{base}/login"

        token = office.store.new_link(Role.READ, SystemClock().now())
        browser.open(f"{base}/login/link/{token}")
        browser.find("main button").follow()
        assert browser.url == f"{base}/"
        browser.find_all("nav a")[2].follow()
        assert browser.find_all("input[name=id]") == []
        errors = browser.call("POST", "/se/log", {"type": "browser"})
        assert not [entry for entry in errors if not re.search(r"status of (403|421|422)", entry["message"])]


def mailbox(browser: Chromium, words: dict[str, Any]) -> None:
    """Add a mailbox, first with a wrong password; give it a new password. After each form another process answers."""
    browser.find_all("nav a")[1].follow()
    browser.find("a[href='/mailboxes/add']").follow()
    browser.find("input[name=address]").type(NEW)
    browser.find("button.main").follow()
    assert browser.run("return document.querySelector('[name=provider]').value") == "hoster"
    browser.find("input[name=password]").type(f"{NEW_PASSWORD}x")
    browser.find("button.main").follow()
    assert words["unchanged"] in browser.find("[role=alert]").text
    assert browser.run("return document.querySelector('[name=password]').value") == ""
    browser.find("input[name=password]").type(NEW_PASSWORD)
    browser.find("button.main").follow()
    assert words["added"] in browser.find("[role=status]").text
    browser.find(f"a[href='/accounts/{NEW.replace('@', '%40')}/password']").follow()
    browser.find("input[name=password]").type(NEW_PASSWORD)
    browser.find("button.main").follow()
    assert words["password"] in browser.find("[role=status]").text


def log_in(browser: Chromium, password: str) -> None:
    browser.find("input[name=user]").type("anna")
    browser.find("input[name=password]").type(password)
    browser.find("form.stack button").follow()


def heading(browser: Chromium) -> str:
    return browser.find("h1").text
