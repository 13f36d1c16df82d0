"""The private name of aiosmtplib in use, and the check of it before the service starts.

Guarantees: a version of aiosmtplib that lacks the name, or is not supported, stops the start with one sentence. Without
the name, a server that sends more than one reply to a command would no longer be detected.
Not here: the SMTP dialogue (delivery.opening).
"""

import re
from collections.abc import Set
from typing import Final

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from senderproxy.errors import SenderproxyError
from senderproxy.translation import _

# Read below. tests/senderproxy/delivery/test_aiosmtplib_adapter.py holds this against the code.
PRIVATE_NAMES: Final = frozenset({"_buffer"})  # octets received and not yet parsed

_OLDEST: Final = (5, 1, 3)  # older versions read from sockets of their own only
_TOO_NEW: Final = (6,)


class UnsupportedAiosmtplib(SenderproxyError):
    """The installed aiosmtplib is not supported."""


def check_aiosmtplib(names: Set[str] = PRIVATE_NAMES) -> None:
    """Raise UnsupportedAiosmtplib if the installed version is not supported."""
    installed = aiosmtplib.__version__
    version = tuple(int(part) for part in re.findall(r"\d+", installed)[:3])
    if not _OLDEST <= version < _TOO_NEW:
        raise UnsupportedAiosmtplib(
            _("aiosmtplib {version} is installed; senderproxy needs 5.1.3 or a later 5.x.").format(version=installed),
            hint=_("pip install 'aiosmtplib>=5.1.3,<6'"),
        )
    missing = sorted(names - _names_in(SMTPProtocol))
    if missing:
        raise UnsupportedAiosmtplib(
            _("aiosmtplib {version} has no {names}.").format(version=installed, names=", ".join(missing)),
            hint=_("pip install 'aiosmtplib>=5.1.3,<6'"),
        )


def has_unread_octets(client: aiosmtplib.SMTP) -> bool:
    """True if the server sent more than the replies to our commands."""
    return client.protocol is not None and bool(client.protocol._buffer)  # noqa: SLF001  in PRIVATE_NAMES


def _names_in(cls: type) -> set[str]:
    """Return every name that the methods of a class use, its attributes included."""
    codes = [code for method in vars(cls).values() if (code := getattr(method, "__code__", None))]
    return {name for code in codes for name in code.co_names}
