"""The benchmark's programs in C: compiled when they are first needed, kept in `.cache/bench`.

Guarantees: a program is that of the sources beside this module, with the texts of `benchmarks.messages`. Without the
compiler or OpenSSL's headers the error names the packages; no other program takes its place.
"""

import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from benchmarks import messages
from tests.peers.packages import PROJECT, apt_line

SOURCES: Final = Path(__file__).with_name("c")
CACHE: Final = PROJECT / ".cache" / "bench" / "c"
PACKAGES: Final = ("gcc", "libc6-dev", "libssl-dev")
_OPTIONS: Final = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-format-truncation")
_CHECKED: Final = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover")


class CannotCompile(RuntimeError):
    """A program cannot be compiled here; the text says what to type."""


def compiled(name: str, *, checked: bool = False) -> Path:
    """Return the program of this name; `checked`: it ends with an error on a wrong access to memory."""
    options = [*_OPTIONS, *(_CHECKED if checked else ()), *_texts()]
    sources = sorted(SOURCES.iterdir())
    key = hashlib.sha256(json.dumps([options, *(source.read_text() for source in sources)]).encode()).hexdigest()[:12]
    program = CACHE / f"{name}-{key}"
    if program.exists():
        return program
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        made = Path(folder) / name
        files = [str(SOURCES / f"{name}.c"), str(SOURCES / "wire.c")]
        try:
            done = subprocess.run(
                ["gcc", *options, "-o", str(made), *files, "-lssl", "-lcrypto"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise CannotCompile(_what_to_type("gcc is not here")) from None
        if done.returncode != 0:
            raise CannotCompile(_what_to_type(done.stderr))
        os.replace(made, program)  # two at once make the same
    return program


def _texts() -> list[str]:
    texts = {
        "DOMAIN": messages.DOMAIN, "ELSEWHERE": messages.ELSEWHERE, "PASSWORD": messages.PASSWORD,
        "LINE": messages.LINE.decode(), "END": messages.END.decode(),
    }  # fmt: skip
    return [f"-D{name}={json.dumps(text)}" for name, text in texts.items()]


def _what_to_type(reason: str) -> str:
    return f"The benchmark's programs in C cannot be compiled: {reason}\n{apt_line(PACKAGES)}"
