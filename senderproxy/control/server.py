"""The operator's socket: who asks is checked by the kernel, what is asked is answered on one line.

Guarantees: only root and the user the service runs as are answered (SO_PEERCRED, unix(7)); a stale socket file of a
service that is gone is replaced, a live one is not; the file goes when we stop.
Not here: what a request means (app).
"""

import asyncio
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from senderproxy import log_events
from senderproxy.control.protocol import LINE_LIMIT, Answer, Request, decode, encode
from senderproxy.errors import SenderproxyError
from senderproxy.log import event

_log = logging.getLogger("senderproxy.control")
_PATIENCE: Final = 10.0  # seconds a caller may take for its line
_PATH_LIMIT: Final = 107  # octets of sun_path, unix(7)

Handler = Callable[[Request], Awaitable[Answer]]


class ControlError(SenderproxyError):
    """The operator's socket cannot be opened."""


class ControlServer:
    """Listens on a Unix socket and hands each request to the handler named by its `do`."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Open the socket, mode 0660. Raises ControlError."""
        if len(os.fsencode(self._path)) > _PATH_LIMIT:
            raise ControlError(
                f"The control socket's path is longer than {_PATH_LIMIT} characters: {self._path}",
                hint="Set service.control_socket to a shorter path.",
            )
        self._remove_stale()
        mask = os.umask(0o117)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LINE_LIMIT)
        except OSError as error:
            raise ControlError(
                f"The control socket {self._path} cannot be opened: {error.strerror}",
                hint="The folder must exist and belong to the user the service runs as, or set service.control_socket.",
            ) from error
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        """Close the socket and remove its file."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._path.unlink(missing_ok=True)

    def _remove_stale(self) -> None:
        try:
            kind = self._path.lstat().st_mode
        except OSError:
            return
        if not stat.S_ISSOCK(kind):
            raise ControlError(
                f"{self._path} is in the way: it is no socket", hint="Move it, or set service.control_socket."
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2)
            try:
                probe.connect(str(self._path))
            except OSError:
                self._path.unlink(missing_ok=True)
                return
        raise ControlError(
            f"senderproxy is already running: it answers on {self._path}",
            hint="Stop the other one first, or give this one its own service.control_socket.",
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                line = await reader.readline()
            writer.write(encode(await self._answer(line, writer)))
            await writer.drain()
        except (OSError, TimeoutError, ValueError):
            pass  # a caller who went away or said too much gets no answer; there is nothing to mend
        finally:
            writer.close()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> Answer:
        user = _peer_user(writer)
        if user not in (0, os.geteuid()):
            event(_log, log_events.CONTROL_USER_REFUSED, uid=user)
            return {"ok": False, "error": "Only root and the service's own user may ask.", "hint": "Use sudo."}
        try:
            request = decode(line)
        except ValueError:
            return {"ok": False, "error": "That was no request.", "hint": ""}
        handler = self._handlers.get(str(request.get("do")))
        if handler is None:
            return {"ok": False, "error": f"Unknown request {request.get('do')!r}.", "hint": "The versions may differ."}
        try:
            return {"ok": True} | await handler(request)
        except SenderproxyError as error:
            return {"ok": False, "error": error.message, "hint": error.hint}
        except Exception as fault:  # noqa: BLE001  a fault in an answer must not end the service
            event(_log, log_events.CONTROL_REQUEST_FAILED, fault=fault, request=request.get("do"))
            return {"ok": False, "error": "The service could not answer; its log says why.", "hint": ""}


def _peer_user(writer: asyncio.StreamWriter) -> int:
    peer = writer.get_extra_info("socket")
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return int(user)
