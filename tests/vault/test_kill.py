"""Writers killed at every possible point: the file on the disk is the complete old or the complete new one.

Done in two ways: ahead of each call of the vault's own code (fast, for every kind of write), and with strace ahead of
each system call of the process, those of the interpreter included.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vault.conftest import FIRST, Cabinet
from tests.vault.victim import NEXT
from vault import KeyFile, Vault

ROOT = Path(__file__).parents[2]


class Killer:
    """Client of victim.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.vault.victim"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        )

    def order(self, scenario: str, folder: Path, at: int | str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{scenario} {folder} {at}\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def was_killed(self) -> bool:
        answer = self.answer()
        assert answer in ("killed", "done 0")
        return answer == "killed"

    def end(self) -> None:
        with self._process as process:
            assert process.stdin
            process.stdin.close()


@pytest.fixture
def killer() -> Iterator[Killer]:
    made = Killer()
    yield made
    made.end()


class Site:
    """Makes the same folder for every kill: a vault of generation 3, its backup, a killed writer's temporary file."""

    def __init__(self, base: Path, *, with_vault: bool) -> None:
        self._base = base
        model = base / "model"
        model.mkdir()
        made = Cabinet(model)
        made.write(FIRST)
        made.write({})
        (model / ".office.vault.00112233445566ff.tmp").write_bytes(b"half a va")
        if not with_vault:
            for entry in model.iterdir():
                if entry.name != "office.key":
                    entry.unlink()

    def make_folder(self) -> Path:
        folder = self._base / "site"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._base / "model", folder)
        return folder


def read(path: Path, folder: Path) -> tuple[int, dict[str, bytes]]:
    with Vault.open(path, unlock=KeyFile(folder / "office.key")) as box:
        return box.generation, {name: box.get(name) for name in box.names()}


OLD, NEW = (3, dict(FIRST)), (4, FIRST | NEXT)


def check_after_kill(folder: Path) -> tuple[int, dict[str, bytes]]:
    """Vault and backup are complete, old or new. The next writer works and leaves no temporary file."""
    path = folder / "office.vault"
    found = read(path, folder)
    assert found in (OLD, NEW)
    backup = folder / "office.vault.bak"
    if backup.exists():
        assert read(backup, folder) in ((2, dict(FIRST)), OLD)
    with Vault.open(path, unlock=KeyFile(folder / "office.key"), write=True) as box:
        box.put("next", b"writer")
        box.save()
    assert read(path, folder) == (found[0] + 1, found[1] | {"next": b"writer"})
    assert read(backup, folder) == found
    left = {entry.name for entry in folder.iterdir()}
    assert left == {"office.key", "office.vault", "office.vault.bak", "office.vault.lock"}
    return found


@pytest.mark.parametrize("scenario", ["save", "rekey", "whole"])
def test_a_writer_killed_ahead_of_any_call_leaves_the_old_or_the_new_vault_whole(
    killer: Killer, tmp_path: Path, scenario: str
) -> None:
    site = Site(tmp_path, with_vault=True)
    outcomes = []
    for number in range(1, 200):
        folder = site.make_folder()
        killer.order(scenario, folder, number)
        killed = killer.was_killed()
        outcomes.append(check_after_kill(folder))
        if not killed:
            break
    assert not killed
    assert outcomes[0] == OLD
    assert outcomes[-1] == NEW
    switch = outcomes.index(NEW)
    assert outcomes == [OLD] * switch + [NEW] * (len(outcomes) - switch)
    assert switch > 10


def test_a_vault_whose_maker_is_killed_ahead_of_any_call_is_there_whole_or_not_at_all(
    killer: Killer, tmp_path: Path
) -> None:
    site = Site(tmp_path, with_vault=False)
    killed, number, seen = True, 0, set()
    while killed:
        number += 1
        folder = site.make_folder()
        killer.order("create", folder, number)
        killed = killer.was_killed()
        there = (folder / "office.vault").exists()
        seen.add(there)
        if not there:
            killer.order("create", folder, 10_000)
            assert not killer.was_killed()
        assert read(folder / "office.vault", folder) == (1, {})
        assert not (folder / "office.vault.lock").exists()
        killer.order("save", folder, 10_000)
        assert not killer.was_killed()
        assert not [entry for entry in folder.iterdir() if entry.suffix == ".tmp"]
    assert seen == {True, False}


@pytest.mark.slow
def test_a_writer_killed_between_any_two_system_calls_leaves_the_old_or_the_new_vault_whole(
    killer: Killer, tmp_path: Path
) -> None:
    strace = shutil.which("strace")
    assert strace, "strace is missing: apt-get install strace"
    site = Site(tmp_path, with_vault=True)
    folder = site.make_folder()
    calls = traced(killer, strace, folder, tmp_path / "log")
    assert read(folder / "office.vault", folder) == NEW
    assert {"linkat", "renameat", "fsync"} <= {call.replace("renameat2", "renameat") for call in calls}
    so_far: Counter[str] = Counter()
    outcomes = []
    for call in calls:
        so_far[call] += 1
        folder = site.make_folder()
        traced(killer, strace, folder, tmp_path / "log", kill_at=(call, so_far[call]))
        outcomes.append(check_after_kill(folder))
    switch = outcomes.index(NEW)
    assert outcomes == [OLD] * switch + [NEW] * (len(outcomes) - switch)
    assert calls[switch - 1].startswith("renameat")


def traced(killer: Killer, strace: str, folder: Path, log: Path, kill_at: tuple[str, int] | None = None) -> list[str]:
    """Run one save under strace. Return the names of its system calls in order."""
    killer.order("save", folder, "trace")
    pid = int(killer.answer().removeprefix("pid "))
    inject = ["-e", f"inject={kill_at[0]}:signal=SIGKILL:when={kill_at[1]}"] if kill_at else []
    tracer = subprocess.Popen(
        [strace, "-p", str(pid), "-o", str(log), "-e", "trace=all", *inject], stderr=subprocess.PIPE, text=True
    )
    with tracer:
        assert tracer.stderr
        said = tracer.stderr.readline()
        assert "attached" in said, f"strace cannot attach to the writer: {said}"
        os.kill(pid, signal.SIGCONT)
        assert killer.was_killed() is bool(kill_at)
    return re.findall(r"^(?!kill|exit_group|restart_syscall)(\w+)\(", log.read_text(), re.MULTILINE)
