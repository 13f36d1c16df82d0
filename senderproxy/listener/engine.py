"""What we rely on in aiosmtpd that its documentation does not promise, and the look at it before the door opens.

Promises: a version that lacks one of these names, or that would call a method of ours which only looks like a hook,
stops the start with one sentence instead of losing mail.
"""

import logging
import re
from collections.abc import Set
from typing import Final

import aiosmtpd
from aiosmtpd.smtp import SMTP

from senderproxy.errors import SenderproxyError

# Overridden, called or read in relay_smtp.py. tests/senderproxy/listener/test_engine.py holds this against the code.
PRIVATE_NAMES: Final = frozenset(
    {
        "_call_handler_hook",  # finds the handler's hook by name and awaits it
        "_cb_client_connected",  # stores reader and writer
        "_create_envelope",  # makes the envelope of the next transaction
        "_handle_client",  # the conversation; replaced as a whole
        "_reset_timeout",  # arms the one timer; replaced
        "_timeout_cb",  # what the timer does; replaced
    }
)
PRIVATE_ATTRIBUTES: Final = frozenset(
    {
        "_handler_coroutine",  # the conversation's task; cancelled when the connection is lost
        "_timeout_handle",  # the one timer; cancelled when the connection is lost
        "_writer",  # for its drain()
    }
)

# aiosmtpd calls every method of its handler that starts with `handle_` or `auth_`, whatever we meant by it.
HOOKS: Final = frozenset({"handle_DATA"})
_LOOKS_LIKE_A_HOOK: Final = re.compile(r"(?:handle|auth|ehlo|rset)_", re.IGNORECASE)

_OLDEST: Final = (1, 4, 6)
_TOO_NEW: Final = (1, 5)


class EngineError(SenderproxyError):
    """The installed aiosmtpd is not the one this program was written for."""


def check_engine(handler: object, names: Set[str] = PRIVATE_NAMES | PRIVATE_ATTRIBUTES) -> None:
    """Raise EngineError where the engine or the spelling of a hook is not as it must be."""
    version = tuple(int(part) for part in re.findall(r"\d+", aiosmtpd.__version__)[:3])
    if not _OLDEST <= version < _TOO_NEW:
        raise EngineError(
            f"aiosmtpd {aiosmtpd.__version__} is installed; this program needs 1.4.6 or a later 1.4.",
            hint="pip install 'aiosmtpd>=1.4.6,<1.5'",
        )
    missing = sorted(names - set(vars(SMTP)) - _names_in(SMTP))
    if missing:
        raise EngineError(f"aiosmtpd {aiosmtpd.__version__} has no {', '.join(missing)}.")
    strange = {name for name in dir(handler) if _LOOKS_LIKE_A_HOOK.match(name)} ^ HOOKS
    if strange:
        raise EngineError(f"The handler's hooks are not spelled as aiosmtpd spells them: {', '.join(sorted(strange))}.")


def _names_in(cls: type) -> set[str]:
    """Every name that the methods of a class mention: its attributes are among them."""
    codes = [code for method in vars(cls).values() if (code := getattr(method, "__code__", None))]
    return {name for code in codes for name in code.co_names}


def silence_engine() -> None:
    """aiosmtpd logs what clients send, AUTH included, below WARNING; what matters we log ourselves."""
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
