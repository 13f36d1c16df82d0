"""Entry point of the `senderproxy` command: arguments, the chosen verb, exit codes.

Guarantees: an error is printed as its message and, on a line of its own, its hint; never as a traceback. Ctrl-C ends
with 130; a reader that closes the pipe ends the command quietly. No option takes a secret. `--version` and `--help`
load no verb's module, and `VERB --help` loads that verb's alone.
Not here: what a verb does (its own module), which error has which exit code (cli.exit_codes).
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, NoReturn

from senderproxy import __version__
from senderproxy.cli.argparse_texts import use_own_catalogue
from senderproxy.cli.exit_codes import EX_INTERRUPTED, EX_OK, EX_USAGE, exit_code
from senderproxy.errors import SenderproxyError
from senderproxy.translation import N_, SOURCE, _, preferred_language, use_language

# Each verb is the module of the same name, which offers `add_arguments`; that one sets `run`.
VERBS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "demo": N_("a demonstration with simulated providers on this machine; no mail leaves it"),
        "setup": N_("set up mailboxes, configuration and vault; start the service and test it"),
        "run": N_("run the service in the foreground"),
        "reload": N_("let the running service read its configuration again"),
        "drain": N_("take the running service out of a proxy's service, without refusing a client"),
        "check": N_("check configuration, vault, listeners, logins and DNS"),
        "explain": N_("show which account would send for an address or a message, and why"),
        "account": N_("mailboxes in the vault"),
        "oauth": N_("applications through which accounts log in with OAuth"),
        "dkim": N_("keys for DKIM signatures of own domains"),
        "vault": N_("the vault file and its unlocks"),
        "backup": N_("write a sealed backup of everything, also while the service runs"),
        "restore": N_("restore a backup; its messages come up held"),
        "client": N_("programs and devices that log in to senderproxy"),
        "send": N_("send a test message"),
        "footer": N_("try the footers of the configuration on a message"),
        "status": N_("state of the running service: listeners, accounts, queue"),
        "alert": N_("test the ways of alerts, list the last alerts"),
        "queue": N_("list, retry, hold and cancel queued messages"),
        "spool": N_("move the queue to another engine, make its tables, or reset it"),
        "track": N_("history of messages"),
        "web": N_("the page for the browser: serve it, links to log in, users"),
        "help": N_("the pages of the documentation"),
    }
)

_VERSION: Final = f"senderproxy {__version__}"
_GLOBAL_OPTIONS: Final = ("--config", "--unlock", "--passphrase-file")  # before the verb or after it


class _Parser(argparse.ArgumentParser):
    """argparse with the exit code of sysexits(3)."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


class _VerbParser(_Parser):
    """Parser of a verb or of its action: loads the verb's options when it is chosen, and takes the global options."""

    verb = ""  # name of the verb whose options are not loaded yet

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401
        super().__init__(**settings, conflict_handler="resolve")  # an action may describe one of them itself
        for option in _GLOBAL_OPTIONS:  # without a default: the value before the verb stays
            self.add_argument(option, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        self.add_argument("--passphrase-stdin", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:  # noqa: ANN401
        if self.verb:
            verb, self.verb = self.verb, ""
            import_module(f"senderproxy.cli.{verb}").add_arguments(self)
        return super().parse_known_args(args, namespace)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (by default that of this process); returns the exit code."""
    # Commands print their results; the log belongs to the service (`run` sets it up).
    logging.getLogger("senderproxy").addHandler(logging.NullHandler())
    words = sys.argv[1:] if arguments is None else arguments
    if list(words) == ["--version"]:  # without the texts of a parser: monitors ask often
        print(_VERSION)
        return EX_OK
    use_language(preferred_language(os.environ))
    use_own_catalogue()
    chosen = parser().parse_args(words)
    if getattr(chosen, "json", False):
        use_language(SOURCE)  # scripts compare texts
    try:
        from senderproxy.cli.terminal import take_passphrases_from  # --help needs none of it

        mounted = os.environ.get("SENDERPROXY_PASSPHRASE_FILE")
        take_passphrases_from(stdin=chosen.passphrase_stdin, file=chosen.passphrase_file, mounted=mounted)
        code = int(chosen.run(chosen))
        sys.stdout.flush()
        return code
    except SenderproxyError as error:
        return _failed(error, error.message, error.hint)
    except EOFError as error:
        return _failed(error, _("The input ended before the question was answered."))
    except BrokenPipeError:
        # Python flushes standard output once more when it ends: that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_OK
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _failed(error, f"{where}{error.strerror or error}.")
    except KeyboardInterrupt:
        if arguments is None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C while the process ends changes nothing
        print(_("Interrupted."), file=sys.stderr)
        return EX_INTERRUPTED


def _failed(error: Exception, message: str, hint: str = "") -> int:
    from senderproxy.cli.terminal import print_error  # --help needs none of it

    print_error(message, hint)
    return exit_code(error)


def parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="senderproxy",
        description=_("SMTP relay that sends each message logged in as the mailbox that owns its author."),
        epilog=_(
            "exit codes: 0 success; 1 check failed, message refused or not found; 64 wrong command line;"
            " 65 damaged or contradictory data; 66 a file is missing; 69 the service or a provider is unavailable;"
            " 73 a file is in the way; 74 read or write error; 77 the vault does not open; 78 invalid configuration;"
            " 130 interrupted"
        ),
    )
    parser.add_argument("--version", action="version", version=_VERSION)
    parser.add_argument(
        "--config",
        metavar="FILE",
        help=_(
            "configuration file (default: $SENDERPROXY_CONFIG, /etc/senderproxy/senderproxy.toml,"
            " ~/.config/senderproxy/senderproxy.toml)"
        ),
    )
    parser.add_argument(
        "--unlock",
        metavar="WAY",
        help=_(
            "open the vault with this instead of vault.unlock:"
            " passphrase, key-file:PATH, credential:NAME, keyring:SERVICE"
        ),
    )
    parser.add_argument(
        "--passphrase-stdin", action="store_true", help=_("read passphrases from lines of standard input")
    )
    parser.add_argument("--passphrase-file", metavar="FILE", help=_("read passphrases from lines of a file"))
    verbs = parser.add_subparsers(required=True, metavar="VERB", parser_class=_VerbParser)
    for name, words in VERBS.items():
        verbs.add_parser(name, help=_(words), description=_(words)).verb = name
    return parser
