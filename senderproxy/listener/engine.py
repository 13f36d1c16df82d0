"""What we rely on in aiosmtpd that its documentation does not promise, and the look at it before the door opens.

Promises: a version that lacks one of these names, or that would call a method of ours which only looks like a hook,
stops the start with one sentence instead of losing mail.
"""

import logging
import re
from typing import Final

import aiosmtpd
from aiosmtpd.smtp import SMTP

from senderproxy.errors import SenderproxyError

# Overridden or called in relay_smtp.py. tests/senderproxy/listener/test_engine.py holds this list against the code.
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
PRIVATE_ATTRIBUTES: Final = frozenset({"_timeout_handle", "_handler_coroutine"})

# aiosmtpd calls every method of its handler that starts with `handle_` or `auth_`, whatever we meant by it.
HOOKS: Final = frozenset({"handle_DATA"})
_LOOKS_LIKE_A_HOOK: Final = re.compile(r"(?:handle|auth|ehlo|rset)_", re.IGNORECASE)

_OLDEST: Final = (1, 4, 6)
_TOO_NEW: Final = (1, 5)


class EngineError(SenderproxyError):
    """The installed aiosmtpd is not the one this program was written for."""


def check_engine(handler: object) -> None:
    """Raise EngineError where the engine or the spelling of a hook is not as it must be."""
    version = tuple(int(part) for part in re.findall(r"\d+", aiosmtpd.__version__)[:3])
    if not _OLDEST <= version < _TOO_NEW:
        raise EngineError(
            f"aiosmtpd {aiosmtpd.__version__} is installed; this program needs 1.4.6 or a later 1.4.",
            hint="pip install 'aiosmtpd>=1.4.6,<1.5'",
        )
    missing = sorted(name for name in PRIVATE_NAMES if not callable(getattr(SMTP, name, None)))
    if missing:
        raise EngineError(f"aiosmtpd {aiosmtpd.__version__} has no {', '.join(missing)}.")
    strange = {name for name in dir(handler) if _LOOKS_LIKE_A_HOOK.match(name)} ^ HOOKS
    if strange:
        raise EngineError(f"The handler's hooks are not spelled as aiosmtpd spells them: {', '.join(sorted(strange))}.")


def silence_engine() -> None:
    """aiosmtpd logs what clients send, AUTH included, below WARNING; what matters we log ourselves."""
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
