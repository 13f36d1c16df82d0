"""The front door: arguments, which verb, exit codes (sysexits(3)).

Promises: an expected fault is its message and, on a line of its own, what to do; never a traceback. Ctrl-C ends with
130, a reader that went away ends quietly. No secret is ever taken from the arguments.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from senderproxy import __version__
from senderproxy.cli import account, check, explain, run, send, setup, status, vault
from senderproxy.errors import SenderproxyError

EX_UNAVAILABLE: Final = 69
_INTERRUPTED: Final = 130
_VERBS: Final = (setup, run, check, explain, account, vault, send, status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was typed; the exit code."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        code = chosen.run(chosen)
        sys.stdout.flush()
    except SenderproxyError as error:
        print(error.message, file=sys.stderr)
        if error.hint:
            print(f"  -> {error.hint}", file=sys.stderr)
        return int(getattr(error, "exit_code", EX_UNAVAILABLE))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return int(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="senderproxy", description="Every message leaves logged in as the mailbox that owns its author."
    )
    parser.add_argument("--version", action="version", version=f"senderproxy {__version__}")
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="the configuration (else $SENDERPROXY_CONFIG, /etc/senderproxy/senderproxy.toml,"
        " ~/.config/senderproxy/senderproxy.toml)",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for verb in _VERBS:
        verb.add_parser(verbs)
    return parser
