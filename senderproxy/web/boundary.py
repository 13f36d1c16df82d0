"""Boundary of the page: hosts, origins, sizes, times, header fields of every answer.

Guarantees: a request under another host gets no page, a change from another origin no effect, before any other code
reads them. A body is bounded in size and time. Every answer has the header fields that forbid scripts, frames, other
sources and copies in caches. An internal error is logged, and its text is not answered.
Not here: which hosts and origins (web.settings), slow header sections (web.server), sessions (web.site).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from senderproxy import log_events
from senderproxy.log import event
from senderproxy.mail.display import printable
from senderproxy.web.settings import PageSettings

BODY_LIMIT: Final = 64 * 1024  # octets of a form
UPLOAD_LIMIT: Final = 64 * 1024 * 1024  # octets of a dropped message, of which the header section is kept
UPLOAD_PATH: Final = "/explain"
_BODY_SECONDS: Final = 20.0  # for a form
_UPLOAD_SECONDS: Final = 120.0  # for a dropped message
_ANSWER_SECONDS: Final = 180.0  # for the whole request
_HEADER_LIMIT: Final = 16 * 1024  # octets of a request's header section; usual ones have 1 KiB
_SHOWN: Final = 100  # characters of a refused host

_FIELDS: Final[Mapping[bytes, bytes]] = MappingProxyType(
    {
        b"content-security-policy": (
            b"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none';"
            b" frame-ancestors 'none'"
        ),
        b"x-content-type-options": b"nosniff",
        b"x-frame-options": b"DENY",
        b"referrer-policy": b"same-origin",  # with no-referrer, browsers send `Origin: null`
        b"cross-origin-opener-policy": b"same-origin",
        b"cross-origin-resource-policy": b"same-origin",
        b"permissions-policy": b"camera=(), geolocation=(), microphone=()",
        b"x-robots-tag": b"noindex",
    }
)
_METHODS: Final = ("GET", "HEAD", "POST")

_log = logging.getLogger("senderproxy.web")


class _BodyTooLong(Exception):
    """The body is longer than it may be."""


class _Left(Exception):
    """The browser has closed the connection."""


class Boundary:
    """The application between uvicorn and starlette."""

    def __init__(self, app: ASGIApp, settings: PageSettings, on_request: Callable[[int], None]) -> None:
        """`on_request`: called with 1 at the beginning of a request, with -1 at its end."""
        self._app = app
        self._settings = settings
        self._on_request = on_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            self._on_request(1)
            try:
                await self._answer(scope, receive, send)
            finally:
                self._on_request(-1)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _PageAnswer(send)
        try:
            if (refusal := self._refusal(scope)) is not None:
                await answer.refuse(*refusal)
                return
            path = _own_path(scope["path"], self._settings.prefix)
            inner = {**scope, "path": path, "raw_path": path.encode("utf-8", "replace"), "root_path": ""}
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._app(inner, _bounded(receive, is_upload=path == UPLOAD_PATH), answer.send)
        except _BodyTooLong:
            await answer.refuse(413, "The request is too long.")
        except TimeoutError:
            await answer.refuse(408, "The request took too long.")
        except (_Left, OSError):
            pass
        except Exception as fault:  # noqa: BLE001  an internal error in one request must not end the page
            event(_log, log_events.PAGE_FAILED, fault=fault)
            await answer.refuse(500, "Internal error; the log has the cause: journalctl -u senderproxy-web")

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """The code and the text of a refused request; None: it is answered."""
        if scope["method"] not in _METHODS:
            return 405, "The page answers GET and POST only."
        if sum(len(name) + len(value) for name, value in scope["headers"]) > _HEADER_LIMIT:
            return 431, "The header section of the request is too long."
        host = _only(scope, b"host")
        if not self._settings.accepts_host(host):
            shown = printable((host or "")[:_SHOWN])
            return 421, (
                f"The page does not answer under the host {shown!r}.\n"
                "To fix: list it in the configuration, [web] hosts, then: systemctl reload senderproxy;"
                " systemctl stop senderproxy-web.service"
            )
        if scope["method"] == "POST" and not self._settings.accepts_origin(_only(scope, b"origin"), host):
            return 403, (
                "This change does not come from the page itself, and was not made.\n"
                "To fix: open the page under the address in the configuration, [web] url."
            )
        return None


class _PageAnswer:
    """The answer to one request, with our header fields."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._has_begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._has_begun = True
            fields = [field for field in message.get("headers", ()) if field[0].lower() not in _FIELDS]
            if not any(name.lower() == b"cache-control" for name, _value in fields):
                fields.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*fields, *_FIELDS.items()]}
        await self._send(message)

    async def refuse(self, status: int, text: str) -> None:
        """Answer in plain text, and close the connection: its body may not have been read."""
        if self._has_begun:
            return
        body = f"{text}\n".encode()
        fields = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"connection", b"close"),
        ]
        with suppress(OSError):
            await self.send({"type": "http.response.start", "status": status, "headers": fields})
            await self.send({"type": "http.response.body", "body": body})


def _bounded(receive: Receive, *, is_upload: bool) -> Receive:
    """Receive with a limit of octets and of time for the whole body."""
    limit = UPLOAD_LIMIT if is_upload else BODY_LIMIT
    end = asyncio.get_running_loop().time() + (_UPLOAD_SECONDS if is_upload else _BODY_SECONDS)
    octets = 0

    async def bounded() -> Message:
        nonlocal octets
        async with asyncio.timeout_at(end):
            message = await receive()
        if message["type"] == "http.disconnect":
            raise _Left
        octets += len(message.get("body", b""))
        if octets > limit:
            raise _BodyTooLong
        return message

    return bounded


def _own_path(path: str, prefix: str) -> str:
    """The path below the page's own: a server in front of it may have removed that, or not."""
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        return path[len(prefix) :] or "/"
    return path


def _only(scope: Scope, name: bytes) -> str | None:
    """The value of a header field that is there once; None: there is none, or more than one."""
    values = [value for field, value in scope["headers"] if field == name]
    return values[0].decode("latin-1") if len(values) == 1 else None
