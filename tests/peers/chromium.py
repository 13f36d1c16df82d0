"""Chromium without a window, driven over WebDriver, the protocol of the W3C, by its own driver program.

Guarantees: each browser has a profile of its own, and nothing of it is left afterwards. It reaches loopback only.
Not here: what the pages should show (tests/journeys).
"""

import base64
import http.client
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from tests.peers.process import LOOPBACK, PATIENCE, PeerFailed, Program, private_folder, reserved_ports, wait_until

DRIVER: Final = Path("/usr/bin/chromedriver")
BROWSER: Final = Path("/usr/bin/chromium")
_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element in WebDriver's JSON
_GONE: Final = ("stale element reference", "no such element")
_BETWEEN: Final = ("does not belong to the document", "Cannot find context with specified id", "aborted by navigation")
TAB: Final = "\ue004"
ENTER: Final = "\ue007"
SPACE: Final = "\ue00d"


class Element:
    """An element of the page that is open."""

    def __init__(self, browser: "Chromium", reference: str) -> None:
        self._browser = browser
        self._reference = reference

    def click(self) -> None:
        self._browser.call("POST", f"/element/{self._reference}/click", {})

    def follow(self) -> None:
        """Click, and wait for the page that this leads to: a click returns before the answer of a slow server."""
        before = self._browser.find("html")
        self.click()
        wait_until(lambda: before.is_gone, "the next page")

    @property
    def is_gone(self) -> bool:
        """True if another page is open. False while the driver is between two pages, where it has an error of its own."""
        try:
            self._browser.call("GET", f"/element/{self._reference}/name")
        except PeerFailed as error:
            if any(words in str(error) for words in _GONE):
                return True
            if not any(words in str(error) for words in _BETWEEN):
                raise
        return False

    def type(self, text: str) -> None:
        self._browser.call("POST", f"/element/{self._reference}/value", {"text": text})

    @property
    def text(self) -> str:
        return str(self._browser.call("GET", f"/element/{self._reference}/text"))


class Chromium:
    """One browser with one window."""

    def __init__(self, port: int, *, language: str, width: int, height: int, dark: bool, scripts: bool) -> None:
        self._port = port
        arguments = [
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--lang={language}",
            f"--accept-lang={language}",
            f"--window-size={width},{height}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        ]
        preferences: dict[str, Any] = {"intl.accept_languages": language}
        options = {"binary": str(BROWSER), "args": arguments, "prefs": preferences}
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        self._session = ""
        answer = self._send("POST", "/session", {"capabilities": wanted})
        self._session = f"/session/{answer['sessionId']}"
        self._height = height
        self.resize(width)
        if not scripts:
            self.command("Emulation.setScriptExecutionDisabled", {"value": True})

    def call(self, method: str, path: str, body: object = None) -> Any:
        """A command of the session; returns its value."""
        return self._send(method, f"{self._session}{path}", body)

    def command(self, name: str, parameters: object) -> Any:
        """A command of the developer tools' protocol."""
        return self.call("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def resize(self, width: int) -> None:
        """Give the window another width."""
        metrics = {"width": width, "height": self._height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, url: str) -> None:
        self.call("POST", "/url", {"url": url})

    @property
    def url(self) -> str:
        return str(self.call("GET", "/url"))

    @property
    def source(self) -> str:
        return str(self.call("GET", "/source"))

    def find(self, css: str) -> Element:
        """The first element; fails if there is none."""
        found = self.call("POST", "/element", {"using": "css selector", "value": css})
        return Element(self, found[_ELEMENT])

    def find_all(self, css: str) -> list[Element]:
        found = self.call("POST", "/elements", {"using": "css selector", "value": css})
        return [Element(self, one[_ELEMENT]) for one in found]

    @property
    def focused(self) -> Element:
        return Element(self, self.call("GET", "/element/active")[_ELEMENT])

    def press(self, *keys: str) -> None:
        """Press and release keys, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def run(self, script: str, *arguments: object) -> Any:
        """Run a function body in the page; returns what it returns."""
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script: str, *arguments: object) -> Any:
        """Run a function body whose last argument is called with the result."""
        return self.call("POST", "/execute/async", {"script": script, "args": list(arguments)})

    def picture(self) -> bytes:
        """The whole page, not only the part in the window, as PNG."""
        size = self.command("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.command("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip})
        return base64.b64decode(shot["data"])

    def close(self) -> None:
        self.call("DELETE", "")

    def _send(self, method: str, path: str, body: object) -> Any:
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=120)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            value = json.loads(answer.read())["value"]
        finally:
            connection.close()
        if answer.status != 200:
            raise PeerFailed(f"{method} {path}: {value.get('error')}: {value.get('message')}")
        return value


class ChromiumDriver:
    """The driver program; it starts a browser for each session."""

    name = "chromedriver"

    def __init__(self, folder: Path, port: int) -> None:
        self._port = port
        environment = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder), "XDG_CACHE_HOME": str(folder)}
        command: list[str | Path] = [DRIVER, f"--port={port}", "--allowed-ips=127.0.0.1"]
        self._program = Program(self.name, command, folder / "driver.log", environment=environment)

    def log(self) -> str:
        return self._program.log()

    def __enter__(self) -> Self:
        wait_until(self._is_ready, "the driver of Chromium answers", PATIENCE, peer=self)
        return self

    def __exit__(self, *_error: object) -> None:
        self._program.end()

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=5)
        try:
            connection.request("GET", "/status")
            return bool(json.loads(connection.getresponse().read())["value"]["ready"])
        except OSError:
            return False
        finally:
            connection.close()

    @contextmanager
    def browser(
        self,
        *,
        language: str = "en",
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        scripts: bool = True,
    ) -> Iterator[Chromium]:
        """A browser for the length of the block."""
        browser = Chromium(self._port, language=language, width=width, height=height, dark=dark, scripts=scripts)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def chromium_driver() -> Iterator[ChromiumDriver]:
    """A running driver."""
    with private_folder("chromium") as folder, reserved_ports(1) as (port,), ChromiumDriver(folder, port) as driver:
        yield driver
