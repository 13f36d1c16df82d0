"""A pseudo-terminal on which a test types."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tests.senderproxy.cli.conftest import DEADLINE, Office

_QUIET: Final = 5  # seconds without output, after which a further key is typed
# Runs a command on a terminal of its own, with our pipe as the keyboard and the screen.
# A runner in the background ignores SIGINT, and a child inherits that: the terminal restores it for Ctrl-C.
_TERMINAL = (
    "import os, pty, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL);"
    " sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
)


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.screen = ""
        self._octets = b""
        self._read = 0

    def read_until(self, words: str, seconds: float = DEADLINE) -> None:
        """Wait until the screen shows something new with these words in it."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while words not in self.screen[self._read :]:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            block = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            assert block, f"waited for {words!r}: {self.screen!r}"
            self._show(block)
        self._read = self.screen.index(words, self._read) + len(words)

    def _show(self, block: bytes) -> None:
        """Add octets; a block may end within a character or a line end."""
        self._octets += block
        self.screen = self._octets.decode(errors="ignore").replace("\r\n", "\n")

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())
        self.process.stdin.flush()

    def interrupt(self) -> int:
        """Type Ctrl-C, and then Enter until the command ends; the exit code.

        A signal between the prompt and the read of the answer is noticed at the next key only. A second Ctrl-C could
        come while the command ends because of the first one.
        """
        return self._end(b"\x03", b"\n")

    def end(self, seconds: float = DEADLINE) -> int:
        """Read to the end; the exit code."""
        return self._end(b"", b"", seconds)

    def _end(self, keys: bytes, further: bytes, seconds: float = DEADLINE) -> int:
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        deadline, is_open = time.monotonic() + seconds, True
        while is_open:
            assert time.monotonic() < deadline, f"waited for the end: {self.screen!r}"
            with suppress(BrokenPipeError):
                self.process.stdin.write(keys)
                self.process.stdin.flush()
            keys = further
            while select.select([self.process.stdout], [], [], _QUIET)[0]:
                block = os.read(self.process.stdout.fileno(), 4096)
                self._show(block)
                if not block:
                    is_open = False
                    break
        code = self.process.wait(DEADLINE)
        assert "geheim-" not in self.screen
        assert "Traceback" not in self.screen
        return code


@contextmanager
def at_terminal(office: Office, *words: str) -> Iterator[Terminal]:
    """`senderproxy` with these words, of this source tree, with the folders of the office."""
    environment = {"HOME": str(office.folder), "XDG_CONFIG_HOME": str(office.folder / "config")}
    with on_terminal([sys.executable, "-m", "senderproxy", *words], environment) as terminal:
        yield terminal


@contextmanager
def on_terminal(command: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})) -> Iterator[Terminal]:
    """A command on a terminal of its own; `environment` is added to that of this process."""
    process = subprocess.Popen(
        [sys.executable, "-c", _TERMINAL, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        env=os.environ | environment,
    )
    try:
        yield Terminal(process)
    finally:
        process.kill()
        process.wait(DEADLINE)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
