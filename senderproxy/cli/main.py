"""The front door: arguments, which verb, exit codes (sysexits(3)).

Guarantees: an expected fault is its message and, on a line of its own, what to do; never a traceback. Ctrl-C ends with
130, a reader that went away ends quietly. No secret is ever taken from the arguments.
Not here: what a verb does (its own module).
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NoReturn

from senderproxy import __version__
from senderproxy.cli.common import EX_CONFIG, EX_IOERR, EX_NOINPUT, EX_UNAVAILABLE, EX_USAGE, tell_error
from senderproxy.config.load import ConfigError
from senderproxy.errors import SenderproxyError

_INTERRUPTED: Final = 130
# A module each. Only the one that is wanted is loaded: the service needs nothing of what `demo` and `setup` do.
_VERBS: Final = (
    "demo", "setup", "run", "check", "explain", "account", "vault", "client", "send", "status", "queue", "track",
)  # fmt: skip
_WITH_VALUE: Final = frozenset({"--config", "--unlock"})
_EPILOG: Final = """\
exit codes: 0 well; 1 what was asked about is not as it should be; 64 typed wrong; 65 damaged or contradictory data;
66 a file is missing; 69 the service or a provider is away; 73, 74 a file cannot be written or read; 77 not permitted;
78 the configuration is refused; 130 stopped by Ctrl-C"""


class _Parser(argparse.ArgumentParser):
    """argparse, with the exit code of sysexits(3) for what was typed wrong."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was typed; the exit code."""
    # Commands say what happened themselves; the log is the service's (`run` sets it up).
    logging.getLogger("senderproxy").addHandler(logging.NullHandler())
    arguments = sys.argv[1:] if arguments is None else arguments
    chosen = _parser(_wanted(arguments)).parse_args(arguments)
    try:
        code = int(chosen.run(chosen))
        sys.stdout.flush()
        return code
    except ConfigError as error:
        return _told(error.message, error.hint, EX_CONFIG)
    except SenderproxyError as error:
        return _told(error.message, error.hint, int(getattr(error, "exit_code", EX_UNAVAILABLE)))
    except KeyboardInterrupt:
        return _told("Stopped.", "", _INTERRUPTED)
    except EOFError:
        return _told("The input ended before the question was answered.", "", EX_NOINPUT)
    except BrokenPipeError:
        # What is still buffered must not fail once more while Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _told(f"{where}{error.strerror or error}.", "", EX_IOERR)


def _told(message: str, hint: str, code: int) -> int:
    tell_error(message, hint)
    return code


def _wanted(arguments: Sequence[str]) -> Sequence[str]:
    """The verb that was typed; all of them where it is none, so that they can be named."""
    words = iter(arguments)
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return (word,) if word in _VERBS else _VERBS
    return _VERBS


def _parser(names: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="senderproxy",
        description="Every message leaves logged in as the mailbox that owns its author.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"senderproxy {__version__}")
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="the configuration (else $SENDERPROXY_CONFIG, /etc/senderproxy/senderproxy.toml,"
        " ~/.config/senderproxy/senderproxy.toml)",
    )
    parser.add_argument(
        "--unlock",
        metavar="WAY",
        help="open the vault this way and not as the configuration says:"
        " passphrase, key-file:PATH, credential:NAME, keyring:SERVICE",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for name in names:
        import_module(f"senderproxy.cli.{name}").add_parser(verbs)
    return parser
