"""Questions on a terminal, asked again until the answer is valid.

Guarantees: no answer raises an error. Ctrl-C and the end of the input do.
Not here: the questions of `setup` (cli.setup_questions), secrets (cli.terminal).
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from senderproxy.cli.errors import InputError, UsageError
from senderproxy.cli.terminal import is_yes, print_paragraph
from senderproxy.translation import _

V = TypeVar("V")


def ask(question: str, read: Callable[[str], V], default: str | None, *, show: bool = True) -> V:
    """Ask until `read` accepts the answer; without a default an empty answer is asked for again."""
    shown = f" [{default}]" if default and show else ""
    while True:
        text = input(f"{question}{shown}: " if show else f"{question} ").strip()
        if not text and default is None:
            continue
        try:
            return read(text or default or "")
        except (UsageError, InputError) as error:
            explain(error.message, error.hint)


def explain(message: str, hint: str) -> None:
    """The reason why an answer cannot be used."""
    print_paragraph(message)
    if hint:
        print_paragraph(_("To fix: {hint}").format(hint=hint))


def not_empty(text: str) -> str:
    """Any text."""
    return text


def one_of(choices: str, text: str) -> str:
    """One of these letters. Raises UsageError."""
    letter = text.lower()[:1]
    if letter not in choices:
        raise UsageError(_("Type one of these letters: {letters}").format(letters=", ".join(choices)))
    return letter


def yes_or_no(text: str) -> bool:
    """The answer to a question whose usual answer is yes. Raises UsageError."""
    if not text or is_yes(text):
        return True
    if text.lower() in ("n", "no", "nein"):
        return False
    raise UsageError(_("Type y or n."))


def existing_file(text: str) -> Path:
    """The path of a file. Raises UsageError."""
    path = Path(text.strip().strip("\"'")).expanduser()
    if not path.is_file():
        raise UsageError(_("There is no file {path}.").format(path=path))
    return path
