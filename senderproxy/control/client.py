"""Client of the control socket. Blocking: for commands, not for the service itself.

Guarantees: each failure is an error with a hint: not running, not permitted, no answer, refused by the service. "Not
running" means that no process listens on the socket.
Not here: the requests (control.protocol).
"""

import socket
from pathlib import Path
from typing import Final

from senderproxy.control.protocol import LINE_LIMIT, Answer, Request, Verb, decode, encode, new_request
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _

_READ: Final = 65536  # octets in one read; the usual size of a Unix socket's buffer is larger
_TIMEOUT: Final = 30.0  # seconds; longer than any answer but that of a disk that does not respond


class NotRunning(SenderproxyError):
    """No process listens on the control socket."""


class NotPermitted(SenderproxyError):
    """This user has no access to the control socket."""


class NoAnswer(SenderproxyError):
    """A process listens on the control socket, and its answer is missing or unusable."""


class RequestRefused(SenderproxyError):
    """The service answered with an error."""


def ask(path: Path, request: Request, *, seconds: float = _TIMEOUT) -> Answer:
    """Send one request and return the answer.

    `seconds`: timeout of each wait for the socket. Raises NotRunning, NotPermitted, NoAnswer, or RequestRefused with
    the service's own words.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(str(path))
        except PermissionError as error:
            raise NotPermitted(
                _("This user has no access to the service's socket {path}.").format(path=path), hint=_("Use sudo.")
            ) from error
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            raise NotRunning(
                _("senderproxy is not running: nothing listens on {path}.").format(path=path),
                hint=_("Start it: systemctl start senderproxy, or: senderproxy run"),
            ) from error
        except OSError as error:
            raise _no_answer(path, error, seconds) from error
        try:
            connection.sendall(encode(request))
            answer = decode(_read_line(connection))
        except (OSError, ValueError) as error:
            raise _no_answer(path, error, seconds) from error
    if not answer.get("ok"):
        raise RequestRefused(
            str(answer.get("error", _("The service refused the request."))), hint=str(answer.get("hint", ""))
        )
    return answer


def ask_status(path: Path, *, seconds: float = _TIMEOUT) -> Answer:
    """The status with all accounts, whose later pages are asked for one by one. Raises the errors of `ask`.

    Its texts are in the language in force.
    """
    status = ask(path, new_request(Verb.STATUS), seconds=seconds)
    following = status.pop("accounts_following", None)
    while following is not None:
        page = ask(path, new_request(Verb.ACCOUNTS, after=following), seconds=seconds)
        status["accounts"] += page["accounts"]
        following = page["accounts_following"]
    return status


def _no_answer(path: Path, error: Exception, seconds: float) -> NoAnswer:
    """The error for a service that listens and gives no usable answer."""
    # A full queue of connections is EAGAIN at once on a Unix socket.
    if isinstance(error, TimeoutError | BlockingIOError):
        return NoAnswer(
            _("senderproxy runs, but did not answer within {seconds} s on {path}.").format(
                seconds=f"{seconds:g}", path=path
            ),
            hint=_("Try again; if it stays so, read the log: journalctl -u senderproxy -e"),
        )
    return NoAnswer(
        _("senderproxy runs, but its answer on {path} cannot be used: {error}.").format(path=path, error=error),
        hint=_("Read the log: journalctl -u senderproxy -e"),
    )


def _read_line(connection: socket.socket) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        if len(line) > LINE_LIMIT:
            raise ValueError(_("it is longer than {limit} octets").format(limit=LINE_LIMIT))
        block = connection.recv(_READ)
        if not block:
            raise ValueError(_("the connection was closed before its end"))
        line += block
    return bytes(line)
