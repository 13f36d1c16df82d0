"""Server of the control socket.

Guarantees: only root and the service's own user get an answer; the kernel names the user (SO_PEERCRED, unix(7)). The
socket of a role answers the verbs of that role alone, to the users that the mode of its file lets in: with
PrivateUsers= the kernel names no other user. The stale socket file of an ended service is replaced, that of a running
one is not; a stop removes the file.
Not here: the requests (control.protocol), their answers (the modules named there).
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
from senderproxy.control.protocol import (
    LINE_LIMIT,
    REQUEST_LIMIT,
    ROLES,
    WITH_PASSWORD,
    Answer,
    Request,
    Role,
    Verb,
    decode_request,
    encode,
    in_force,
    language_of,
    verb_of,
)
from senderproxy.errors import SenderproxyError
from senderproxy.log import event
from senderproxy.translation import _, language

_log = logging.getLogger("senderproxy.control")
_TIMEOUT: Final = 10.0  # seconds that a client has for its request
_PROBE_TIMEOUT: Final = 2.0  # seconds in which a running service accepts a connection
_ROLE_CONNECTIONS: Final = 32  # at once on the socket of a role; the page has four
_VERB_SHOWN: Final = 100  # characters of an unknown verb in the answer
_PATH_LIMIT: Final = 107  # octets of sun_path, unix(7)

Handler = Callable[[Request], Awaitable[Answer]]


class ControlError(SenderproxyError):
    """The control socket cannot be opened."""


class ControlServer:
    """The Unix socket; each request is answered by the handler of its verb."""

    def __init__(
        self,
        path: Path,
        handlers: Mapping[Verb, Handler],
        *,
        role: Role | None = None,
        setting: str = "service.control_socket",
    ) -> None:
        """`role`: None for the operator's socket; `setting`: the one that names the path, for hints."""
        self._path = path
        self._handlers = {verb: handler for verb, handler in handlers.items() if role in (None, ROLES.get(verb))}
        self._role = role
        self._setting = setting
        self._connected = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Open the socket, mode 0660. Raises ControlError."""
        if len(os.fsencode(self._path)) > _PATH_LIMIT:
            raise ControlError(
                _("The control socket's path is longer than {limit} characters: {path}").format(
                    limit=_PATH_LIMIT, path=self._path
                ),
                hint=_("Set {setting} to a shorter path.").format(setting=self._setting),
            )
        self._remove_stale()
        mask = os.umask(0o117)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=REQUEST_LIMIT)
        except OSError as error:
            raise ControlError(
                _("The control socket {path} cannot be opened: {reason}").format(
                    path=self._path, reason=error.strerror
                ),
                hint=_("Its folder must exist and belong to the service's user; or change {setting}.").format(
                    setting=self._setting
                ),
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
                _("The control socket cannot be opened: {path} is another file").format(path=self._path),
                hint=_("Move it, or change {setting}.").format(setting=self._setting),
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PROBE_TIMEOUT)
            try:
                probe.connect(str(self._path))
            except OSError:
                self._path.unlink(missing_ok=True)
                return
        raise ControlError(
            _("senderproxy is already running: it answers on {path}").format(path=self._path),
            hint=_("Stop it first, or set another {setting} for this one.").format(setting=self._setting),
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._role is not None and self._connected >= _ROLE_CONNECTIONS:
            writer.close()
            return
        self._connected += 1
        try:
            async with asyncio.timeout(_TIMEOUT):
                line = await _read_line(reader)
            writer.write(_bounded(await self._answer(line, writer)))
            await writer.drain()
        except (OSError, TimeoutError):
            pass  # the client closed the connection or sent nothing: it gets no answer
        finally:
            self._connected -= 1
            writer.close()

    async def _answer(self, line: bytes | None, writer: asyncio.StreamWriter) -> Answer:
        user = _peer_user(writer)
        if self._role is None and user not in (0, os.geteuid()):
            event(_log, log_events.CONTROL_USER_REFUSED, uid=user)
            return _error(_("Only root and the service's own user have access."), _("Use sudo."))
        if line is None:
            return _error(_("The request is longer than {limit} octets.").format(limit=REQUEST_LIMIT))
        try:
            request = decode_request(line)
        except ValueError:
            return _error(_("The request is not a JSON object, or it is nested too deeply."))
        answer = await self._handled(request)
        with language(language_of(request)):  # not around the handler: what it starts outlives the request
            return in_force(answer)

    async def _handled(self, request: Request) -> Answer:
        verb = verb_of(request)
        handler = None if verb is None else self._handlers.get(verb)
        if handler is None:
            return _error(
                _("Unknown request {verb}.").format(verb=repr(request.get("do"))[:_VERB_SHOWN])
                if self._role is None
                else _("This socket does not answer the request {verb}.").format(
                    verb=repr(request.get("do"))[:_VERB_SHOWN]
                ),
                _("Restart the service if it is older than the command."),
            )
        try:
            return {"ok": True} | await handler(request)
        except SenderproxyError as error:
            return _error(error.message, error.hint)
        except Exception as fault:  # noqa: BLE001  an internal error in an answer must not end the service
            if verb in WITH_PASSWORD:  # its text, or a value in it, may be the password
                event(_log, log_events.CONTROL_REQUEST_FAILED, request=verb, kind=type(fault).__name__)
            else:
                event(_log, log_events.CONTROL_REQUEST_FAILED, fault=fault, request=request.get("do"))
            return _error(_("The request failed with an internal error; the service's log has the cause."))


def _error(message: str, hint: str = "") -> Answer:
    return {"ok": False, "error": message, "hint": hint}


def _bounded(answer: Answer) -> bytes:
    """The answer as a line; in place of one that no client would read to its end, an error that says so."""
    line = encode(answer)
    if len(line) <= LINE_LIMIT:
        return line
    return encode(
        _error(
            _("The answer would have {size} octets; at most {limit} are possible.").format(
                size=len(line), limit=LINE_LIMIT
            ),
            _("Ask for less at once, for example with --limit."),
        )
    )


async def _read_line(reader: asyncio.StreamReader) -> bytes | None:
    """The request's line; None if it is too long. It is read to its end, or the client would not get the answer."""
    too_long = False
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            too_long = True
            await reader.readexactly(error.consumed)
        except asyncio.IncompleteReadError as error:
            return None if too_long else error.partial
        else:
            return None if too_long else line


def _peer_user(writer: asyncio.StreamWriter) -> int:
    peer = writer.get_extra_info("socket")
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, user, _group = struct.unpack("3i", credentials)
    return int(user)
