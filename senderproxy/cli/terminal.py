"""Input from a person and output for a person: prompts, secrets, tables, progress, errors and hints.

Guarantees: a secret comes from the terminal or from standard input, never from the arguments, and is never printed.
Not here: what a command prints (its own module), exit codes (cli.exit_codes).
"""

import getpass
import json
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from senderproxy.accounts.record import has_controls
from senderproxy.cli.errors import UsageError
from senderproxy.translation import _

# ---- input ----


def is_interactive() -> bool:
    """True where standard input is a terminal, so that a person can be asked."""
    return sys.stdin.isatty()


def passphrase_prompt() -> Callable[[str], str] | None:
    """The prompt for the vault's passphrase; None without a terminal."""
    return getpass.getpass if is_interactive() else None


def ask_secret(prompt: str, *, from_stdin: bool) -> str:
    """A secret in use: the next line of standard input, or asked for once. Raises UsageError."""
    if from_stdin:
        return _next_line()
    if is_interactive():
        return getpass.getpass(f"{prompt}: ")
    raise UsageError(_("{prompt}: there is no terminal.").format(prompt=prompt), hint=_("Use --passphrase-stdin."))


def ask_new_secret(prompt: str, *, from_stdin: bool) -> str:
    """A new secret: the next line of standard input, or asked for twice on the terminal. Raises UsageError."""
    if from_stdin:
        secret = _next_line()
    elif is_interactive():
        secret = getpass.getpass(f"{prompt}: ")
        if secret and secret != getpass.getpass(_("Repeat: ")):
            raise UsageError(_("The two entries differ; nothing was changed."))
    else:
        raise UsageError(_("{prompt}: there is no terminal.").format(prompt=prompt), hint=_("Use --password-stdin."))
    if not secret:
        raise UsageError(_("{prompt}: it is empty; nothing was changed.").format(prompt=prompt))
    if has_controls(secret):
        raise UsageError(
            _("{prompt}: it has a control character, which no login can carry; nothing was changed.").format(
                prompt=prompt
            ),
            hint=_("Check that it is the right file and that the terminal uses UTF-8."),
        )
    return secret


def _next_line() -> str:
    return sys.stdin.readline().rstrip("\r\n")


def confirm(question: str) -> bool:
    """True where a person answers yes. Raises UsageError without a terminal."""
    if not is_interactive():
        raise UsageError(_("There is no terminal to ask for confirmation."), hint=_("Use --yes."))
    return is_yes(input(f"{question} [y/N] "))


def is_yes(answer: str) -> bool:
    """True for yes in English or German."""
    return answer.strip().lower() in ("y", "yes", "j", "ja")


# ---- output ----


def print_progress(text: str) -> None:
    """A line about a step that takes time, on standard error; nothing where that is a file or a pipe."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)


def print_error(message: str, hint: str = "") -> None:
    """An error on standard error, and its hint on a line of its own."""
    print(message, file=sys.stderr)
    print_hint(hint, out=sys.stderr)


def print_hint(hint: str, *, indent: str = "", out: TextIO | None = None) -> None:
    """`To fix: ` and the hint; nothing where there is none. The one place that prints hints."""
    if hint:
        print(indent + _("To fix: {hint}").format(hint=hint), file=out)


def print_json(entry: object) -> None:
    """One JSON document on standard output."""
    print(json.dumps(entry, indent=2, ensure_ascii=False, default=str))


def print_field(name: str, value: object, *, width: int = 14) -> None:
    """A name and its value; `width` columns for the name."""
    print(printable(f"{name:<{width}} {value}"))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose columns are as wide as their contents."""
    lines = [[printable(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(headings))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """Text from outside, safe on a terminal: control characters and changes of direction are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
