"""Client of the control socket. Blocking: for commands, not for the service itself.

Guarantees: each failure is an error with a hint: not running, not permitted, refused by the service.
Not here: the requests (control.protocol).
"""

import socket
from pathlib import Path
from typing import Final

from senderproxy.control.protocol import LINE_LIMIT, Answer, Request, decode, encode
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _

_READ: Final = 65536  # octets in one read; the usual size of a Unix socket's buffer is larger
_TIMEOUT: Final = 30.0  # seconds; longer than any answer but that of a disk that does not respond


class NotRunning(SenderproxyError):
    """The service does not answer on the control socket."""


class NotPermitted(SenderproxyError):
    """This user has no access to the control socket."""


class RequestRefused(SenderproxyError):
    """The service answered with an error."""


def ask(path: Path, request: Request, *, seconds: float = _TIMEOUT) -> Answer:
    """Send one request and return the answer.

    `seconds`: timeout of each wait for the socket. Raises NotRunning, NotPermitted, or RequestRefused with the
    service's own words.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(str(path))
            connection.sendall(encode(request))
            answer = decode(_read_line(connection))
        except PermissionError as error:
            raise NotPermitted(
                _("This user has no access to the service's socket {path}.").format(path=path), hint=_("Use sudo.")
            ) from error
        except (OSError, ValueError) as error:
            raise NotRunning(
                _("senderproxy is not running: no answer on {path}.").format(path=path),
                hint=_("Start it: systemctl start senderproxy, or: senderproxy run"),
            ) from error
    if not answer.get("ok"):
        raise RequestRefused(
            str(answer.get("error", _("The service refused the request."))), hint=str(answer.get("hint", ""))
        )
    return answer


def _read_line(connection: socket.socket) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < LINE_LIMIT:
        block = connection.recv(_READ)
        if not block:
            break
        line += block
    return bytes(line)
