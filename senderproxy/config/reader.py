"""The configuration for the running service, read by a process of its own: pydantic is loaded there alone.

Guarantees: the values are those of config.load, with the same refusals, in texts that can be put into another language.
An answer from a program that was replaced by an upgrade is not used. The process ends with its answer, at the latest
after LONGEST seconds.
Not here: the reading (config.load), the sections without pydantic (config.plain).
"""

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from senderproxy.config.model import Config
from senderproxy.config.problems import ConfigError
from senderproxy.errors import SenderproxyError
from senderproxy.late_import import ProgramReplaced, program_identity
from senderproxy.translation import SOURCE, _, put_together, taken_apart, use_language

LONGEST: Final = 60.0  # seconds; a reading takes 0.3 s, and a disk or a name server may not respond
_PROGRAM: Final = "import sys; sys.path[:] = sys.argv[1:]; from senderproxy.config.reader import answer; answer()"


class Reading:
    """One reading, begun with the object."""

    def __init__(self, path: Path) -> None:
        """`path`: the file. Raises SenderproxyError if the system cannot start a process."""
        # -I and -S: the path of this process is the whole path; neither the environment nor a .pth file adds to it.
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, *sys.path]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
        except OSError as error:
            raise _unreadable(error) from error
        self._path = path

    def result(self) -> Config:
        """The configuration. Blocks. Raises ConfigError with all problems, ProgramReplaced or SenderproxyError."""
        with self._process as process:
            try:
                octets, _nothing = process.communicate(os.fsencode(self._path), LONGEST)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise _unreadable(error) from error
        identity, _newline, pickled = octets.partition(b"\n")
        if identity and identity != _own_identity():
            raise ProgramReplaced
        if process.returncode != 0:
            raise _unreadable(f"exit code {process.returncode}")
        read: Config | tuple[Any, ...] = pickle.loads(pickled)  # noqa: S301  our own process has written it
        if isinstance(read, Config):
            return read
        raise ConfigError(*read)


def answer() -> None:
    """The process of a Reading: read the file that standard input names, write the result to standard output."""
    from senderproxy.config.load import load_config  # the service does not need it

    use_language(SOURCE)
    read: Config | tuple[Any, ...]
    try:
        read = load_config(Path(os.fsdecode(sys.stdin.buffer.read())))
    except ConfigError as error:
        read = error.path, error.problems
    pickled = io.BytesIO()
    _Pickler(pickled).dump(read)
    sys.stdout.buffer.write(_own_identity() + b"\n" + pickled.getvalue())
    sys.stdout.buffer.flush()


class _Pickler(pickle.Pickler):
    """Keeps the original of texts that can be put into another language."""

    def reducer_override(self, value: object) -> Any:  # noqa: ANN401
        parts = taken_apart(value) if isinstance(value, str) else None
        return NotImplemented if parts is None else (put_together, parts)


def _own_identity() -> bytes:
    return repr(program_identity()).encode()


def _unreadable(why: object) -> SenderproxyError:
    return SenderproxyError(_("The configuration cannot be read: {error}").format(error=why))
