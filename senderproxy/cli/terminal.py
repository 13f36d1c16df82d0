"""Input from a person and output for a person: prompts, secrets, tables, progress, errors and hints.

Guarantees: text from outside is made harmless (cli.screen). A secret comes from the terminal, from standard input or
from a file, never from the arguments, and is never printed.
Not here: layout (cli.screen), what a command prints (its own module), exit codes (cli.exit_codes).
"""

import getpass
import io
import json
import os
import stat
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, TextIO

from senderproxy.accounts.passphrases import passphrase_problem
from senderproxy.accounts.record import has_controls
from senderproxy.cli.errors import InputError, UsageError
from senderproxy.cli.screen import (
    Style,
    columns_of,
    cut,
    hanging,
    padded,
    painted,
    printable,
    table_lines,
    wants_colour,
)
from senderproxy.clock import SystemClock
from senderproxy.translation import _

_SECRET_LIMIT: Final = 65_536  # octets of a line with a secret; no login carries that many
_WIDTH: Final = 79  # columns of a paragraph; a terminal has 80
_TICK: Final = 1.0  # seconds between two updates of a step that takes long
_LONG: Final = 2  # seconds after which a step shows its seconds
_MARK: Final = "\ufeff"  # byte order mark, as Notepad and PowerShell write it
_UTF_16: Final = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}

# ---- input ----


def is_interactive() -> bool:
    """True where standard input is a terminal, so that a person can be asked."""
    return sys.stdin.isatty()


def take_passphrases_from(*, stdin: bool, file: str | None, mounted: str | None = None) -> None:
    """The place of this command's passphrases: lines of standard input, lines of a file, or the terminal.

    `mounted`: the secret of a container, for a command without the options. Raises UsageError if both are given,
    InputError if other users can read the file.
    """
    if stdin and file:
        raise UsageError(_("--passphrase-stdin and --passphrase-file exclude each other."))
    global _passphrases  # there is one command line in a process
    if stdin:
        _passphrases = _lines
    elif file:
        _passphrases = _SecretLines(_read_secrets(file))
    else:
        _passphrases = _SecretLines(_read_secrets(mounted, is_mounted=True)) if mounted else None


def _read_secrets(name: str, *, is_mounted: bool = False) -> BinaryIO:
    """The content of a file. The runtime of a container decides about the mode of a mounted one."""
    try:
        with Path(name).open("rb") as file:
            mode, content = os.fstat(file.fileno()).st_mode, file.read(_SECRET_LIMIT)
    except OSError as error:
        raise InputError(_("Cannot read {path}: {error}.").format(path=name, error=error.strerror)) from error
    if not is_mounted and stat.S_ISREG(mode) and mode & (stat.S_IROTH | stat.S_IWOTH):
        raise InputError(
            _("Every user of this machine can read the passphrase in {path}.").format(path=name),
            hint=f"chmod 600 {name}",
        )
    return io.BytesIO(content)


def passphrase_prompt() -> Callable[[str], str] | None:
    """The prompt for the vault's passphrase; None if there is neither a terminal nor another place for passphrases."""
    if _passphrases is not None:
        return _passphrases.next
    return getpass.getpass if is_interactive() else None


def ask_passphrase(prompt: str) -> str:
    """A passphrase in use. Raises UsageError."""
    if _passphrases is not None:
        return _passphrases.next(prompt)
    if is_interactive():
        return getpass.getpass(f"{prompt}: ")
    raise UsageError(
        _("{prompt}: there is no terminal.").format(prompt=prompt),
        hint=_("Use --passphrase-stdin or --passphrase-file FILE."),
    )


def ask_new_passphrase(prompt: str, *, from_stdin: bool = False) -> str:
    """A new passphrase, long enough; a slip on the terminal is asked again. Raises UsageError."""
    if from_stdin or _passphrases is not None or not is_interactive():
        lines = _lines if from_stdin else _passphrases
        if lines is None:
            raise UsageError(
                _("{prompt}: there is no terminal.").format(prompt=prompt),
                hint=_("Use --passphrase-stdin or --passphrase-file FILE."),
            )
        text = _checked_secret(prompt, lines.next(prompt))
        if problem := passphrase_problem(text):
            raise UsageError(_("{problem} Nothing was changed.").format(problem=problem))
        return text
    while True:
        text = getpass.getpass(f"{prompt}: ")
        if problem := passphrase_problem(text):
            print(problem)
        elif text != getpass.getpass(_("Repeat: ")):
            print(_("The two entries differ."))
        else:
            return _checked_secret(prompt, text)


def ask_secret(prompt: str, *, from_stdin: bool) -> str:
    """A secret in use: the next line of standard input, or asked for once. Raises UsageError."""
    if from_stdin:
        return _lines.next(prompt)
    if is_interactive():
        return getpass.getpass(f"{prompt}: ")
    raise UsageError(_("{prompt}: there is no terminal.").format(prompt=prompt), hint=_("Use --password-stdin."))


def ask_new_secret(prompt: str, *, from_stdin: bool) -> str:
    """A new secret: the next line of standard input, or asked for twice on the terminal. Raises UsageError."""
    if from_stdin:
        secret = _lines.next(prompt)
    elif is_interactive():
        secret = getpass.getpass(f"{prompt}: ")
        if secret and secret != getpass.getpass(_("Repeat: ")):
            raise UsageError(_("The two entries differ; nothing was changed."))
    else:
        raise UsageError(_("{prompt}: there is no terminal.").format(prompt=prompt), hint=_("Use --password-stdin."))
    return _checked_secret(prompt, secret)


def ask_tested_secret(prompt: str) -> str:
    """A new secret, to be tested by a login: asked for once on the terminal. Raises UsageError."""
    return _checked_secret(prompt, getpass.getpass(f"{prompt}: "))


def secrets_of_file(path: Path, prompts: Sequence[str]) -> list[str]:
    """New secrets from the lines of a file, one for each prompt. Raises OSError, UsageError."""
    with path.open("rb") as file:
        lines = _SecretLines(file)
        return [_checked_secret(prompt, lines.next(prompt)) for prompt in prompts]


def _checked_secret(prompt: str, secret: str) -> str:
    if not secret:
        raise UsageError(_("{prompt}: it is empty; nothing was changed.").format(prompt=prompt))
    if has_controls(secret):
        raise _unreadable_secret(prompt, _("it has a control character, which no login can carry"))
    return secret


class _SecretLines:
    """Lines with secrets, of a file or of standard input: UTF-8, or UTF-16 from a byte order mark on.

    A mark and a line end are no part of the secret. The encoding is never guessed, and the locale does not matter.
    """

    def __init__(self, file: BinaryIO | None = None) -> None:
        """Without a file: standard input."""
        self._file = file
        self._stream: BinaryIO | None = None
        self._encoding = "utf-8"

    def next(self, prompt: str) -> str:
        """Return the next line. Raises UsageError."""
        if (stream := self._file or sys.stdin.buffer) is not self._stream:
            self._stream, self._encoding = stream, "utf-8"
        octets = self._read_line(self._stream)
        if len(octets) >= _SECRET_LIMIT:
            raise _unreadable_secret(prompt, _("it is too long"))
        try:
            text = octets.decode(self._encoding)
        except UnicodeDecodeError:
            raise _unreadable_secret(
                prompt, _("it is not {encoding}").format(encoding=self._encoding.upper())
            ) from None
        if "\0" in text:
            raise _unreadable_secret(prompt, _("it has a control character, which no login can carry"))
        return text.removeprefix(_MARK).rstrip("\r\n")

    def _read_line(self, stream: BinaryIO) -> bytes:
        """Read to the line end and no further: another command may wait for the rest."""
        line, line_end = bytearray(), "\n".encode(self._encoding)
        while len(line) < _SECRET_LIMIT and (octet := stream.read(1)):
            line += octet
            if len(line) == 2 and (marked := _UTF_16.get(bytes(line))):
                self._encoding, line_end = marked, "\n".encode(marked)
                line.clear()
            elif len(line) % len(line_end) == 0 and line.endswith(line_end):
                break
        return bytes(line)


_lines: Final = _SecretLines()
_passphrases: _SecretLines | None = None  # of this command; None: the terminal


def _unreadable_secret(prompt: str, why: str) -> UsageError:
    return UsageError(
        _("{prompt}: {why}; nothing was changed.").format(prompt=prompt, why=why),
        hint=_("Check that it is the right file, in UTF-8 (or UTF-16 with a mark), and that the terminal uses UTF-8."),
    )


def confirm(question: str) -> bool:
    """True where a person answers yes. Raises UsageError without a terminal."""
    if not is_interactive():
        raise UsageError(_("There is no terminal to ask for confirmation."), hint=_("Use --yes."))
    clear_progress()
    return is_yes(input(f"{question} [y/N] "))


def is_yes(answer: str) -> bool:
    """True for yes in English or German."""
    return answer.strip().lower() in ("y", "yes", "j", "ja")


# ---- output ----


def output_columns() -> int | None:
    """The columns of standard output: COLUMNS, or those of the terminal; None for a file or a pipe."""
    return columns_of(os.environ, _terminal_columns(sys.stdout))


def _terminal_columns(stream: TextIO) -> int | None:
    try:
        return os.get_terminal_size(stream.fileno()).columns or None if stream.isatty() else None
    except (OSError, ValueError):  # not a file of the system
        return None


def has_colours(stream: TextIO | None = None) -> bool:
    """True if the stream, by default standard output, may have colours."""
    return wants_colour(os.environ, is_terminal=(stream or sys.stdout).isatty())


def print_error(message: str, hint: str = "") -> None:
    """An error on standard error, and its hint on a line of its own."""
    clear_progress()
    text = "\n".join(map(printable, message.split("\n")))
    print(painted(text, Style.RED, colour=has_colours(sys.stderr)), file=sys.stderr)
    print_hint(printable(hint), out=sys.stderr)


def print_hint(hint: str, *, indent: str = "", out: TextIO | None = None) -> None:
    """`To fix: ` and the hint; nothing where there is none. The one place that prints hints.

    It is not wrapped: a line break in a command would be copied with it.
    """
    if hint:
        print(indent + _("To fix: {hint}").format(hint=hint), file=out)


def print_item(label: str, text: str, hint: str = "", *, width: int, style: Style | None = None) -> None:
    """A label, `width` columns wide, and its text beside it; the hint below. At once, for work that takes long."""
    clear_progress()
    lines = hanging(f"{padded(label, width)}  {printable(text)}", output_columns(), width + 2)
    if style is not None:
        lines = painted(label, style, colour=has_colours()) + lines.removeprefix(label)
    print(lines)
    print_hint(printable(hint), indent=" " * (width + 2))
    sys.stdout.flush()


def print_line(text: str, *, indent: int = 0, hanging_indent: int | None = None) -> None:
    """A line of text from outside, wrapped on a terminal; further lines are indented by `hanging_indent` columns."""
    further = indent + 2 if hanging_indent is None else hanging_indent
    print(hanging(" " * indent + printable(text), output_columns(), further))


def print_json(entry: object) -> None:
    """One JSON document on standard output."""
    clear_progress()
    print(json.dumps(entry, indent=2, ensure_ascii=False, default=str))


def print_field(name: str, value: object, *, width: int = 14) -> None:
    """A name and its value; `width` columns for the name."""
    print(hanging(printable(f"{padded(name, width)} {value}"), output_columns(), width + 1))


def print_paragraph(text: str) -> None:
    """Text for a person, with line breaks that fit a terminal of 80 columns, or a narrower one."""
    width = min(_WIDTH, output_columns() or _WIDTH)
    print(textwrap.fill(printable(text), width, break_long_words=False, break_on_hyphens=False))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table that fits the terminal; as wide as its contents in a file or a pipe."""
    clear_progress()
    for line in table_lines(headings, rows, output_columns()):
        print(line)


# ---- progress ----


@contextmanager
def progress() -> Iterator[None]:
    """Show the steps of `print_progress` in one line that changes, with the seconds that a step takes, until the end.

    Where standard error is a terminal; a simple one (TERM=dumb) gets a line for each step.
    """
    global _progress  # there is one screen
    if _progress is not None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    _progress = _ProgressLine(sys.stderr)
    try:
        yield
    finally:
        line, _progress = _progress, None
        line.end()


def print_progress(text: str) -> None:
    """A step that takes time, on standard error; nothing where that is a file or a pipe."""
    if _progress is not None:
        _progress.show(printable(text))
    elif sys.stderr.isatty():
        print(printable(text), file=sys.stderr, flush=True)


def clear_progress() -> None:
    """Remove the line of a step that has ended, before other output."""
    if _progress is not None:
        _progress.clear()


class _ProgressLine:
    """The last line of the screen. A thread adds the seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._text = ""  # empty: nothing is shown
        self._since = 0.0  # monotonic seconds
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)
        self._thread.start()

    def show(self, text: str) -> None:
        with self._lock:
            self._text, self._since = text, self._clock.monotonic()
            self._draw(text)

    def clear(self) -> None:
        with self._lock:
            if self._text:
                self._draw("")
            self._text = ""

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self.clear()

    def _tick(self) -> None:
        while not self._ended.wait(_TICK):
            with self._lock:
                seconds = int(self._clock.monotonic() - self._since)
                if self._text and seconds >= _LONG:
                    self._draw(_("{step} {seconds} s").format(step=self._text, seconds=seconds))

    def _draw(self, text: str) -> None:
        width = columns_of({}, _terminal_columns(self._stream)) or _WIDTH
        with suppress(OSError):  # the terminal is gone: the work is not
            self._stream.write(
                f"\r{cut(text, width - 1)}\x1b[K"
            )  # ECMA-48 section 8.3.41: erase to the end of the line
            self._stream.flush()


_progress: _ProgressLine | None = None
