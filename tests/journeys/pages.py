"""`make pages`: every page at two widths and between, in both languages and themes, without scripts, by keyboard; no barrier that
axe-core finds, no error that the browser reports. Pictures for a person to look at go to dist/pages.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from senderproxy.clock import SystemClock
from senderproxy.control.client import ask
from senderproxy.control.protocol import Role, Verb, new_request
from tests.journeys.test_web import is_suspended, page
from tests.peers.axe import axe_script
from tests.peers.chromium import BROWSER, DRIVER, ENTER, SPACE, TAB, Chromium, ChromiumDriver, chromium_driver
from tests.peers.packages import PROJECT
from tests.peers.process import reserved_ports, why_not_here
from tests.senderproxy.web.page_office import HOSTILE, HOSTILE_REPLY, PageOffice, page_office
from tests.senderproxy.web.test_pages import queued

reason = why_not_here(BROWSER, DRIVER, "npm")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]
PICTURES = PROJECT / "dist" / "pages"
VIEWS = [("en", 1440, False), ("de", 1440, True), ("de", 360, False), ("en", 360, True)]
BETWEEN = (320, 800, 840, 1024, 1152, 1160, 1280)  # telephones, tablets, half a large screen; both sides of each limit
LONG = "ein.sehr.langer.name.ohne.ende@abteilung.niederlassung-sued.grosse-firma.example"
LONG_SUBJECT = "Donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtengesellschaft " + "x" * 150


async def in_office(tmp_path: Path, look: object) -> None:
    """Call `look` with the page's address and an office with mail of all kinds."""
    with reserved_ports(1) as (port,):
        async with page_office(tmp_path, role="accounts", more="[spool]\nkeep_subjects = true\n") as office:
            await office.send("anna@firma.example", "later@kunde.example", HOSTILE)
            for number in range(4):
                await office.send("anna@firma.example", f"kunde{number}@kunde.example")
            await office.send("carla@firma.example", "nobody@kunde.example", HOSTILE_REPLY)
            await office.send("bert@firma.example", LONG, LONG_SUBJECT)
            await office.send("bert@firma.example", "kunde@kunde.example")
            await queued(office, 1)
            while not await is_suspended(office):
                await asyncio.sleep(0.05)
            program = await asyncio.to_thread(page, office, port)
            try:
                await asyncio.to_thread(look, f"http://127.0.0.1:{port}", office)  # type: ignore[arg-type]
            finally:
                assert await asyncio.to_thread(program.end) == 0
            assert "Traceback" not in program.log()


@contextmanager
def logged_in(driver: ChromiumDriver, base: str, office: PageOffice, **settings: object) -> Iterator[Chromium]:
    """A browser with a session."""
    with driver.browser(**settings) as browser:  # type: ignore[arg-type]
        token = office.store.new_link(Role.ACCOUNTS, SystemClock().now())
        browser.open(f"{base}/login/link/{token}")
        browser.find("main button").follow()
        yield browser


def paths(office: PageOffice) -> dict[str, str]:
    """The pages by name."""
    listed = ask(office.sockets / "read", new_request(Verb.QUEUE_LIST, query={"unfinished": True}))["messages"]
    return {
        "overview": "/",
        "accounts": "/accounts",
        "account": "/accounts/bert",
        "queue": "/queue",
        "nothing": "/queue?from=nobody@firma.example",
        "search": "/search?all=1",
        "subject": "/search?subject=donaudampfschiff",
        "message": f"/messages/{listed[0]['id']}",
        "explain": "/explain?address=anna%2Btag@firma.example",
        "refused": "/explain?address=niemand@fremd.example",
        "volume": "/volume",
        "error": "/messages/unknown",
        "mailbox": "/mailboxes/add",
        "add": "/mailboxes/add?address=dora@firma.example",
        "taken": "/mailboxes/add?address=anna@firma.example",
        "password": "/accounts/bert/password",
    }


@pytest.mark.parametrize(("code", "width", "dark"), VIEWS)
async def test_every_page_fits_has_no_barrier_and_no_error(tmp_path: Path, code: str, width: int, dark: bool) -> None:
    def look(base: str, office: PageOffice) -> None:
        script = axe_script()
        PICTURES.mkdir(parents=True, exist_ok=True)
        found: list[str] = []
        with (
            chromium_driver() as driver,
            logged_in(driver, base, office, language=code, width=width, dark=dark) as browser,
        ):
            for name, path in paths(office).items():
                browser.open(f"{base}{path}")
                if name == "volume":
                    for summary in browser.find_all("summary"):
                        summary.click()
                (PICTURES / f"{name}-{code}-{width}{'-dark' if dark else ''}.png").write_bytes(browser.picture())
                found += [f"{name}: {problem}" for problem in problems(browser, script, width)]
            browser.open(f"{base}/queue")
            browser.find("input[name=id]").click()
            browser.find("button[value=cancel]").follow()
            (PICTURES / f"confirm-{code}-{width}{'-dark' if dark else ''}.png").write_bytes(browser.picture())
            found += [f"confirm: {problem}" for problem in problems(browser, script, width)]
            browser.find(".logout button").follow()
            (PICTURES / f"login-{code}-{width}{'-dark' if dark else ''}.png").write_bytes(browser.picture())
            found += [f"login: {problem}" for problem in problems(browser, script, width)]
        assert found == []

    await in_office(tmp_path, look)


async def test_every_page_fits_in_windows_of_other_widths(tmp_path: Path) -> None:
    def look(base: str, office: PageOffice) -> None:
        found: list[str] = []
        with chromium_driver() as driver, logged_in(driver, base, office, language="de", width=1024) as browser:
            for name, path in paths(office).items():
                browser.open(f"{base}{path}")
                for width in BETWEEN:
                    browser.resize(width)
                    if (wide := browser.run("return document.documentElement.scrollWidth")) > width:
                        found.append(f"{name}: {wide} pixels in a window of {width}")
        assert found == []

    await in_office(tmp_path, look)


def problems(browser: Chromium, script: str, width: int) -> Iterator[str]:
    """The barriers of a page, and text beside the window."""
    browser.run(script + "; window.axe = axe;")
    result = browser.run_async("const done = arguments[0]; axe.run().then(done, e => done({error: String(e)}))")
    assert "error" not in result, result
    assert len(result["passes"]) > 10
    for violation in result["violations"]:
        places = [node["target"] for node in violation["nodes"]][:3]
        yield f"{violation['id']}: {violation['help']} {places}"
    wide = browser.run("return document.documentElement.scrollWidth")
    if wide > width:
        yield f"{wide} pixels wide"
    schemes = browser.run(
        "return [...document.querySelectorAll('[src],[href],[action]')]"
        ".map(e => new URL(e.src || e.href || e.action, location).origin).filter(o => o !== location.origin)"
    )
    if schemes:
        yield f"leads to {schemes}"


async def test_without_scripts_everything_works_by_keyboard_alone(tmp_path: Path) -> None:
    def look(base: str, office: PageOffice) -> None:
        with (
            chromium_driver() as driver,
            logged_in(driver, base, office, language="en", width=1024, scripts=False) as browser,
        ):
            browser.open(f"{base}/")
            browser.press(TAB)
            assert browser.focused.text == "To the content"
            names = []
            for _ in range(9):
                browser.press(TAB)
                names.append(browser.focused.text)
            assert names[1:7] == ["Overview", "Accounts", "Queue", "Search", "Explain", "Volume"]
            browser.open(f"{base}/queue")
            for _ in range(60):  # to the first message
                browser.press(TAB)
                if browser.call("GET", f"/element/{browser.focused._reference}/attribute/name") == "id":
                    break
            browser.press(SPACE)
            for _ in range(60):
                browser.press(TAB)
                if browser.focused.text == "Hold":
                    break
            browser.press(ENTER)
            assert browser.find("[role=status]").text == "1 message is held."

    await in_office(tmp_path, look)
