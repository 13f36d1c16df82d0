"""A screen for commands that run in this process: a pseudo-terminal of a given width."""

import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
import threading

import pytest

from senderproxy.cli.main import main
from tests.senderproxy.cli.conftest import Office

SGR = re.compile(r"\x1b\[[0-9;]*m")


def type_on_screen(
    office: Office, monkeypatch: pytest.MonkeyPatch, columns: int, *words: str, **environment: str
) -> tuple[int, str]:
    """The exit code of a command, and all that it sent to its terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    octets: list[bytes] = []

    def read() -> None:
        try:
            while block := os.read(ours, 65536):
                octets.append(block)
        except OSError:  # the command has closed its side
            return

    reader = threading.Thread(target=read, name="screen")
    reader.start()
    with monkeypatch.context() as patch, os.fdopen(theirs, "w", encoding="utf-8", buffering=1) as terminal:
        for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):
            patch.delenv(name, raising=False)
        patch.setenv("TERM", "xterm")
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
        patch.setattr(sys, "stdout", terminal)
        patch.setattr(sys, "stderr", terminal)
        code = main(("--config", str(office.config), *words))
    reader.join(60)
    os.close(ours)
    shown = b"".join(octets).decode().replace("\r\n", "\n")
    assert "geheim-" not in shown
    assert "Traceback" not in shown
    return code, shown


def left_on_screen(shown: str) -> str:
    """What the screen shows at the end: lines that were erased are gone. Without colours."""
    lines = []
    for line in SGR.sub("", shown).split("\n"):
        last = line.split("\r")[-1]
        assert "\x1b" not in last.replace("\x1b[K", ""), last
        lines.append(last.replace("\x1b[K", ""))
    return "\n".join(lines)
