"""Ask the running service. Blocking: for commands, not for the service itself."""

import socket
from pathlib import Path

from senderproxy.control.protocol import LINE_LIMIT, Answer, Request, decode, encode
from senderproxy.errors import SenderproxyError


class NotRunning(SenderproxyError):
    """Nobody answers on the control socket."""


class NotPermitted(SenderproxyError):
    """The control socket may not be opened by this user."""


class RequestRefused(SenderproxyError):
    """The service answered that it cannot."""


def ask(path: Path, request: Request, *, seconds: float = 30.0) -> Answer:
    """Send one request and return the answer.

    Raises NotRunning, NotPermitted, or Refused with the service's own words. `seconds` bounds the whole exchange's
    single waits.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(str(path))
            connection.sendall(encode(request))
            answer = decode(_read_line(connection))
        except PermissionError as error:
            raise NotPermitted(f"This user may not ask the service on {path}.", hint="Use sudo.") from error
        except (OSError, ValueError) as error:
            raise NotRunning(
                f"senderproxy is not running: nobody answers on {path}.",
                hint="Start it: systemctl start senderproxy, or: senderproxy run",
            ) from error
    if not answer.get("ok"):
        raise RequestRefused(str(answer.get("error", "The service refused.")), hint=str(answer.get("hint", "")))
    return answer


def _read_line(connection: socket.socket) -> bytes:
    gathered = bytearray()
    while not gathered.endswith(b"\n") and len(gathered) < LINE_LIMIT:
        block = connection.recv(65536)
        if not block:
            break
        gathered += block
    return bytes(gathered)
