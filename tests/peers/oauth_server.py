"""An OAuth 2.0 server (oidc-provider) with rotation and reuse detection, and the browser of a person who consents.

Guarantees: it answers on its ports when entered, has everything in memory, and ends by its own pid. Its faults begin and
end when the test says so.
Not here: its packages (oauth_packages), the smarthost that asks it about tokens (provider). Its program is beside.
Needs node and npm.
"""

import contextlib
import html
import http.cookiejar
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from tests.peers.oauth_packages import oauth_packages
from tests.peers.packages import PROJECT
from tests.peers.process import LOOPBACK, PeerFailed, Program, listens, private_folder, reserved_ports

PROGRAM: Final = PROJECT / "tests" / "peers" / "oauth_server.mjs"
SECRET: Final = "geheim-secret-of-the-application"
SMARTHOST_SECRET: Final = "geheim-of-the-smarthost"
_SECONDS: Final = 60.0  # for one request


@dataclass(frozen=True)
class Requests:
    """What the server has seen: every token that it gave, the token requests in order, the answers that it holds back."""

    issued: Sequence[str]
    requests: Sequence[str]
    held: int


class OAuthServer:
    """A server with two applications: `office` by itself for one mailbox, `desk` by a person's consent."""

    name = "oauth-server"

    def __init__(self, application_mailbox: str) -> None:
        self._mailbox = application_mailbox
        self._things = contextlib.ExitStack()
        self._program: Program | None = None
        self._ports: Sequence[int] = ()

    def __enter__(self) -> Self:
        try:
            folder = self._things.enter_context(private_folder(self.name))
            self._ports = self._things.enter_context(reserved_ports(2))
            self._start(folder)
        except BaseException:
            self._things.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._things.close()

    @property
    def url(self) -> str:
        """The beginning of its addresses."""
        return f"http://{LOOPBACK}:{self._ports[0]}"

    @property
    def introspection_url(self) -> str:
        """The address at which the smarthost asks about a token, with the smarthost's own login."""
        return f"http://smarthost:{SMARTHOST_SECRET}@{LOOPBACK}:{self._ports[0]}/token/introspection"

    def log(self) -> str:
        """Return what it has printed."""
        return self._program.log() if self._program is not None else ""

    def behave(self, fault: str = "", *, claimed: int | None = None) -> None:
        """Answer token requests with this fault from now on, or none; say that access tokens last so many seconds.

        Faults: reset, unavailable, html, huge, slow (no answer), hold (it rotates, and its answer never arrives).
        """
        self._control({"fault": fault, **({} if claimed is None else {"claimed": claimed})})

    def end_tokens(self) -> None:
        """Let all access tokens expire now; consents and their refresh tokens stay."""
        self._control({"end": True})

    def revoke(self) -> None:
        """End all consents and their tokens."""
        self._control({"revoke": True})

    def seen(self) -> Requests:
        """Return what it has seen so far."""
        return Requests(**self._control(None))

    def _control(self, wanted: Mapping[str, Any] | None) -> Mapping[str, Any]:
        body = None if wanted is None else json.dumps(wanted).encode("ascii")
        request = urllib.request.Request(f"http://{LOOPBACK}:{self._ports[1]}/", body)
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            return dict(json.load(answer))

    def _start(self, folder: Path) -> None:
        clients = [
            {
                "client_id": "office",
                "client_secret": SECRET,
                "mailbox": self._mailbox,
                "token_endpoint_auth_method": "client_secret_post",
                "grant_types": ["client_credentials"],
                "redirect_uris": [],
                "response_types": [],
            },
            {
                "client_id": "desk",
                "application_type": "native",
                "token_endpoint_auth_method": "none",
                "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
                "redirect_uris": [f"http://{LOOPBACK}"],
            },
            {
                "client_id": "smarthost",
                "client_secret": SMARTHOST_SECRET,
                "grant_types": [],
                "redirect_uris": [],
                "response_types": [],
            },
        ]
        settings = folder / "clients.json"  # secrets are not for the process list
        settings.write_text(json.dumps(clients), encoding="utf-8")
        words = ["node", str(PROGRAM), str(oauth_packages()), *map(str, self._ports), str(settings)]
        self._program = program = Program(self.name, words, folder / "server.out")
        self._things.callback(program.kill)  # everything is in memory
        program.wait_until(lambda: all(map(listens, self._ports)), "the OAuth server listens")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any) -> None:
        """Leave redirects to the browser: it stops at the application's own address."""


class Browser:
    """A person with a browser of her own: she logs in as `login`, and allows what is asked, or not."""

    def __init__(self, login: str) -> None:
        self._login = login
        cookies = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy())
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(cookies), _NoRedirect()
        )

    def consent(self, url: str, *, allows: bool = True) -> str:
        """Open the address of a consent and answer the server; return the address that it leads to, not opened."""
        redirect = parse_qs(urlsplit(url).query)["redirect_uri"][0]
        return self._walk(url, redirect, allows=allows)

    def follow(self, url: str) -> str:
        """Open an address; return the page."""
        return self._open(url)[1]

    def enter_code(self, url: str, code: str) -> str:
        """Open the address of a device flow, enter the code, log in and allow; return the last page."""
        form = {"xsrf": _hidden(self._open(url)[1], "xsrf"), "user_code": code}
        confirmed = self._open(url, {**form, "confirm": "yes"})
        return self._walk(confirmed[0] or url, None) if confirmed[0] else confirmed[1]

    def _walk(self, url: str, stop: str | None, *, allows: bool = True) -> str:
        """Follow redirects and answer the server's questions, up to the address `stop` or a page that asks nothing."""
        for _step in range(20):
            if stop is not None and url.startswith(stop):
                return url
            answer = None
            if "/interaction/" in url and self._open(url)[1] in {"login", "consent"}:
                answer = {"login": self._login} if allows else {"no": "no"}
            location, page = self._open(url, answer)
            if location is None:
                if stop is not None:
                    raise PeerFailed(f"{url} leads nowhere: {page}")
                return page
            url = location
        raise PeerFailed(f"too many redirects, the last one to {url}")

    def _open(self, url: str, form: Mapping[str, str] | None = None) -> tuple[str | None, str]:
        """Return where a request leads, if anywhere, and the page."""
        body = None if form is None else urlencode(form).encode("ascii")
        try:
            with self._opener.open(url, body, timeout=_SECONDS) as answer:
                return None, answer.read().decode("utf-8")
        except urllib.error.HTTPError as error:
            with error:
                location = error.headers.get("Location")
                if error.code not in {302, 303} or location is None:
                    raise PeerFailed(f"{url}: {error.code} {error.read()[:2000]!r}") from None
                return urljoin(url, location), ""


def _hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    if found is None:
        raise PeerFailed(f"no field {name} in {page}")
    return html.unescape(found[1])
