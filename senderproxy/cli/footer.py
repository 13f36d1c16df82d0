"""`senderproxy footer`: a try of the configured footers on a message in a file.

Guarantees: makes the same change as the service (footer.add_footer), whatever the size of the message; sends nothing,
and needs neither the vault nor the service. Without `--output` the message alone is on standard output, and the rest on
standard error.
Not here: changes of the header section (`senderproxy explain`).
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Final

from senderproxy.cli.common import read_config
from senderproxy.cli.errors import InputError, UsageError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.screen import printable
from senderproxy.cli.terminal import print_field
from senderproxy.config.model import Config, ListenerSettings
from senderproxy.footer.add_footer import AddFooter
from senderproxy.mail.address import NULL_PATH
from senderproxy.mail.author import AuthorFields, Mailbox
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.submission import Client
from senderproxy.rewriting.content_change import Unchanged
from senderproxy.rewriting.edited_header import EditedHeader, format_mailbox
from senderproxy.rewriting.effective_author import determine_author
from senderproxy.translation import N_, _

_HEADER_LIMIT: Final = 512 * 1024  # octets; the header section of real mail is far shorter
_BLOCK: Final = 256 * 1024  # octets read at a time
_MEMORY: Final = 4 * 1024 * 1024  # octets of a message in memory; more is in a temporary file

_NO_AUTHOR: Final = N_("it has no author in From, or one that cannot be read")
_NO_FOOTER: Final = N_("no footer has this author among its senders")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Actions of `senderproxy footer`."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    trying = actions.add_parser(
        "try", help=_("print a message as it would leave with its footer, or the reason why it leaves without")
    )
    trying.add_argument("file", metavar="FILE.eml", help=_("a file with a message, or - for standard input"))
    trying.add_argument("--output", metavar="FILE", help=_("write the message to this file"))
    trying.add_argument("--listener", metavar="NAME", help=_("listener that receives the message (default: the first)"))
    trying.add_argument(
        "--null-reverse-path",
        action="store_true",
        help=_("the reverse-path is null, as of reports and automatic replies"),
    )
    trying.set_defaults(run=run_try)


def run_try(chosen: argparse.Namespace) -> int:
    """0 if the message would leave with a footer, 1 if without. Raises ConfigError, InputError, UsageError."""
    config = read_config(chosen)
    listener = _listener(config, chosen.listener)
    with SpooledTemporaryFile(_MEMORY) as received, SpooledTemporaryFile(_MEMORY) as changed:
        _read(chosen.file, received)
        header = _header(received)
        author = _author(header, config, listener)
        result = _with_footer(config, author, header, received, changed, is_automatic=chosen.null_reverse_path)
        if isinstance(result, Unchanged):
            received.seek(0)
            _write(b"", received, chosen.output)
        else:
            changed.seek(0)
            _write(result.raw, changed, chosen.output)
    with redirect_stdout(sys.stdout if chosen.output else sys.stderr):
        if author is not None:
            print_field(_("author"), format_mailbox(author))
        if isinstance(result, Unchanged):
            print_field(_("footer"), _("none, because {reason}").format(reason=_(result.reason)))
            return EX_FAILED
        print_field(_("footer"), _("added"))
        return EX_OK


def _listener(config: Config, name: str | None) -> ListenerSettings:
    """The named listener, or the first. Raises UsageError."""
    for listener in config.listeners:
        if name in (None, listener.name):
            return listener
    raise UsageError(
        _("There is no listener {name}.").format(name=name),
        hint=_("Use one of: {names}").format(names=", ".join(listener.name for listener in config.listeners)),
    )


def _read(name: str, received: IO[bytes]) -> None:
    """Copy the message, with the line ends that it has on the wire. Raises InputError."""
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as source:
            rest = b""
            while block := source.read(_BLOCK):
                octets = rest + block
                rest = octets[-1:] if octets.endswith(b"\r") else b""
                octets = octets[: len(octets) - len(rest)]
                received.write(octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
            received.write(rest)
    except OSError as error:
        raise InputError(
            _("Cannot read {path}: {error}.").format(path=name, error=error.strerror),
            hint=_("Name a file with a message."),
        ) from error


def _header(received: IO[bytes]) -> HeaderSection:
    """The header section; `received` is at the body afterwards."""
    received.seek(0)
    start, blank, _body = received.read(_HEADER_LIMIT).partition(b"\r\n\r\n")
    header = HeaderSection(start + blank)
    received.seek(len(header.raw))
    return header


def _author(header: HeaderSection, config: Config, listener: ListenerSettings) -> Mailbox | None:
    """The author for the footer of the message; None without one."""
    client = Client("127.0.0.1", "footer", "ESMTP", forced_sender=listener.sender, lenient=listener.lenient)
    authors = determine_author(EditedHeader(header), NULL_PATH, client, config.senders.policy().mapped).authors
    return authors.from_[0] if isinstance(authors, AuthorFields) and authors.from_ else None


def _with_footer(
    config: Config,
    author: Mailbox | None,
    header: HeaderSection,
    received: IO[bytes],
    changed: IO[bytes],
    *,
    is_automatic: bool,
) -> HeaderSection | Unchanged:
    """Write the body with its footer; returns the header section, or the reason for none. Raises UsageError."""
    footers = config.footer_table()
    if footers is None:
        raise UsageError(
            _("No footer is configured."), hint=_("Add [[footers]] to the configuration; see senderproxy help footers")
        )
    if author is None:
        return Unchanged(_NO_AUTHOR)
    footer = footers.find(author.address)
    if footer is None:
        return Unchanged(_NO_FOOTER)
    change = AddFooter(footer, author.display_name or "", str(author.address), is_automatic)

    def blocks() -> Iterator[bytes]:
        while block := received.read(_BLOCK):
            yield block

    def write(octets: bytes) -> None:
        changed.write(octets)

    return change.apply(header, blocks(), write)


def _write(header: bytes, rest: IO[bytes], output: str | None) -> None:
    if output is not None:
        with Path(output).open("wb") as file:
            file.write(header)
            shutil.copyfileobj(rest, file)
    elif sys.stdout.isatty():
        for line in (header + rest.read()).split(b"\r\n"):
            print(printable(line.decode("utf-8", "replace")))
    else:
        sys.stdout.buffer.write(header)
        shutil.copyfileobj(rest, sys.stdout.buffer)
