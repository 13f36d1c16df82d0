"""A machine that systemd has booted: a copy of this one with the service on it, or a fresh release of the system.

Guarantees: process 1 is a real systemd, the unit is the one that is shipped, and all of its sandbox is in force; where mail
goes is this machine's loopback. Nothing that is done there changes anything here, and all of it is gone afterwards.
Not here: the service's settings (a configuration, `senderproxy account`), the provider (provider), the releases (releases).
Needs root, and systemd's files; no container tool.
"""

import contextlib
import itertools
import os
import subprocess
import sys
import sysconfig
import textwrap
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.peers.packages import PROJECT
from tests.peers.process import PeerFailed, Program, control_groups, private_folder, wait_until

UNIT: Final = "senderproxy.service"
SOCKET: Final = "senderproxy.socket"
SOURCES: Final = Path("/opt/senderproxy/sources")
_LIBRARIES: Final = Path("/opt/senderproxy/libraries")
_PYTHON: Final = Path("/opt/senderproxy/python")
_SYSTEM: Final = Path("/usr")
_SECONDS: Final = 120.0  # for a command, and for each step of the boot: many processes start, each with its checks
_numbers: Final = itertools.count(1)  # of the machines of this process


class BootedMachine:
    """Another machine, with the files of a folder of this one. Its files are below `root`, as seen from here."""

    name = "machine"

    def __init__(self, files: Path) -> None:
        self._files = files
        self._things = contextlib.ExitStack()
        self._program: Program | None = None
        self._systemd = 0

    def __enter__(self) -> Self:
        with self._things:  # where a step fails; else it is for later
            self._boot(self._things.enter_context(private_folder(self.name)))
            self.prepare()
            self._things = self._things.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._things.close()

    def prepare(self) -> None:
        """Do what belongs to this kind of machine, once it is up."""

    def shared(self) -> list[tuple[Path, Path]]:
        """Return the folders of this machine that the other one sees, each with its path there."""
        return []

    @property
    def root(self) -> Path:
        """Its file system."""
        return Path(f"/proc/{self._systemd}/root")

    def log(self) -> str:
        """How the service is, and the journal."""
        said = self._program.log() if self._program else ""
        if self._systemd:
            said += self._words("systemctl", "status", "--no-pager", "--full", "--lines=0", UNIT).stdout
            said += self._words("journalctl", "--no-pager").stdout
        return said

    def run(self, *words: str, stdin: str = "", exit_code: int = 0, seconds: float = _SECONDS) -> str:
        """Type a command there, as root; what it prints."""
        done = self._words(*words, stdin=stdin, seconds=seconds)
        if done.returncode != exit_code:
            said = f"{done.stdout}{done.stderr}\n{self.log()}"
            raise PeerFailed(f"`{' '.join(words)}` ended with {done.returncode}, not {exit_code}:\n{said}")
        return done.stdout

    def command(self, *words: str) -> list[str]:
        """The command of this machine that runs a command there, as root."""
        spaces = ["--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd"]
        return ["nsenter", f"--target={self._systemd}", *spaces, *words]

    def write(self, path: str, text: str) -> None:
        """Put a file there."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")

    def shows(self, name: str) -> str:
        """A property of the service, as `systemctl show` prints it."""
        return self.run("systemctl", "show", "--value", f"--property={name}", UNIT).strip()

    def pid(self) -> int:
        """The service's main process, as it is numbered there; 0 where there is none."""
        return int(self.shows("MainPID"))

    def wait_for_journal(self, text: str) -> None:
        """Return when the journal has this of the service or about it: it comes a moment after what it is about."""
        wait_until(lambda: text in self.journal(), f"in the journal: {text}", _SECONDS, peer=self)

    def journal(self) -> str:
        """What the service has written so far."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={UNIT}")

    def _words(self, *words: str, stdin: str = "", seconds: float = _SECONDS) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), input=stdin, capture_output=True, text=True, check=False, timeout=seconds, cwd="/"
        )

    def _boot(self, folder: Path) -> None:
        seen = [path for pair in self.shared() for path in pair]
        group = self._group()
        script = Path(__file__).with_suffix(".sh")
        inside = folder / "inside"
        inside.mkdir()
        spaces = ["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"]
        words: list[str | Path] = [
            "sh",
            "-c",
            'echo $$ > "$0/cgroup.procs" && exec "$@"',
            group,
            "unshare",
            *spaces,
            "--",
            "sh",
            script,
        ]
        self._program = Program(self.name, [*words, inside, self._files, *seen], folder / "systemd.log")
        self._things.callback(self._program.kill)
        self._systemd = self._program.wait_until(self._first_process, "systemd is process 1", _SECONDS)
        self._program.wait_until(
            lambda: self._words("systemctl", "is-system-running").stdout.strip() == "running", "systemd is up", _SECONDS
        )

    def _first_process(self) -> int:
        assert self._program is not None
        children = Path(f"/proc/{self._program.pid}/task/{self._program.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd":
            return int(children[0])
        return 0

    def _group(self) -> Path:
        """A control group of its own: systemd takes the one it finds itself in for the whole machine's."""
        top = control_groups()
        if top is None:
            raise PeerFailed("this machine has no control groups (cgroup2), and systemd needs them")
        group = top / f"senderproxy-machine-{os.getpid()}-{next(_numbers)}"
        group.mkdir()
        self._things.callback(_give_back, group)
        return group


class Machine(BootedMachine):
    """A copy of this machine with the service installed from its sources."""

    def __init__(self) -> None:
        super().__init__(Path("/"))

    def shared(self) -> list[tuple[Path, Path]]:
        """Return the folders of the sources, of the libraries, and of a Python outside /usr."""
        shared = [(PROJECT, SOURCES), (Path(sysconfig.get_path("purelib")), _LIBRARIES)]
        base = Path(sys.base_prefix)
        return shared if base.is_relative_to(_SYSTEM) else [*shared, (base, _PYTHON)]

    def prepare(self) -> None:
        """Install as docs/operating.md says, but for the folder that Python finds its modules in."""
        base = Path(sys.base_prefix)
        python = base if base.is_relative_to(_SYSTEM) else _PYTHON
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        self.write(
            "/usr/bin/senderproxy",
            f"""\
            #!/bin/sh
            export PYTHONPATH={SOURCES}:{_LIBRARIES} LD_LIBRARY_PATH={python}/lib
            exec {python}/bin/{version} -m senderproxy "$@"
            """,
        )
        (self.root / "usr/bin/senderproxy").chmod(0o755)
        for words in (
            f"install -m 644 {SOURCES}/systemd/sysusers.conf /usr/lib/sysusers.d/senderproxy.conf",
            "systemd-sysusers",
            f"install -m 644 {SOURCES}/systemd/tmpfiles.conf /usr/lib/tmpfiles.d/senderproxy.conf",
            "systemd-tmpfiles --create senderproxy.conf",
            f"install -m 644 {SOURCES}/systemd/senderproxy.service /etc/systemd/system/",
            f"install -m 644 {SOURCES}/systemd/senderproxy-failed@.service /etc/systemd/system/",
            "systemctl daemon-reload",
        ):
            self.run(*words.split())


def _give_back(group: Path) -> None:
    """Its processes are gone, or going."""
    for folder in sorted(group.rglob("*/"), key=lambda folder: -len(folder.parts)):
        wait_until(partial(_is_removed, folder), f"{folder} is empty")
    wait_until(lambda: _is_removed(group), f"{group} is empty")


def _is_removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return not folder.exists()
    return True
