"""Private files: permissions, the writer's lock, atomic replacement, failing system calls."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.vault.conftest import FIRST, Cabinet
from tests.vault.disks import CALLS, counting, failing
from vault import DiskError, InUse, KeyFile, UnsafeFile, Vault, VaultError, WrongKey
from vault._file import SystemCalls
from vault._file_store import FileStore

ROOT = Path(__file__).parents[2]
NOBODY = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become and give files to somebody else")


# ---- what is refused on opening ----


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o666, 0o611])
def test_a_vault_that_others_can_get_at_is_refused_with_the_command_that_mends_it(cabinet: Cabinet, mode: int) -> None:
    cabinet.path.chmod(mode)
    for write in (False, True):
        with pytest.raises(UnsafeFile, match=f"mode {mode:04o}") as caught:
            Vault.open(cabinet.path, unlock=cabinet.key, write=write)
        assert caught.value.hint == f"chmod 600 {cabinet.path}"
    subprocess.run(caught.value.hint, shell=True, check=True)
    assert cabinet.read() == FIRST


def test_a_symbolic_link_is_refused(cabinet: Cabinet) -> None:
    link = cabinet.folder / "link.vault"
    link.symlink_to(cabinet.path)
    for write in (False, True):
        with pytest.raises(UnsafeFile, match="symbolic link"):
            Vault.open(link, unlock=cabinet.key, write=write)


def test_a_folder_a_pipe_or_a_device_in_its_place_is_refused_and_nobody_waits(cabinet: Cabinet) -> None:
    (cabinet.folder / "folder").mkdir()
    os.mkfifo(cabinet.folder / "pipe", 0o600)
    for name in ("folder", "pipe", "/dev/null"):
        with pytest.raises(UnsafeFile, match="not a regular file"):
            Vault.open(cabinet.folder / name, unlock=cabinet.key)


@pytest.mark.parametrize(("mode", "who"), [(0o777, "go"), (0o702, "go"), (0o770, "g"), (0o2775, "g")])
def test_a_folder_in_which_other_users_can_replace_files_is_refused(cabinet: Cabinet, mode: int, who: str) -> None:
    cabinet.folder.chmod(mode)
    for write in (False, True):
        with pytest.raises(UnsafeFile, match="can replace files in this folder") as caught:
            Vault.open(cabinet.path, unlock=cabinet.key, write=write)
        assert caught.value.hint == f"chmod {who}-w {cabinet.folder}"
    with pytest.raises(UnsafeFile):
        KeyFile.generate(cabinet.folder / "new.key")
    cabinet.folder.chmod(0o1777)  # as /tmp: nobody can replace another's file
    assert cabinet.read() == FIRST


def test_a_vault_with_a_hard_link_elsewhere_is_refused(
    cabinet: Cabinet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    for other in (elsewhere, cabinet.folder / "office.vault.old"):
        other.hardlink_to(cabinet.path)
        for write in (False, True):
            with pytest.raises(UnsafeFile, match="a hard link") as caught:
                Vault.open(cabinet.path, unlock=cabinet.key, write=write)
            assert f"find -inum {cabinet.path.stat().st_ino}" in caught.value.hint
        other.unlink()
        assert cabinet.read() == FIRST


def test_the_second_names_of_an_interrupted_save_are_no_reason_to_refuse(cabinet: Cabinet) -> None:
    backup, leftover = cabinet.folder / "office.vault.bak", cabinet.folder / ".office.vault.0123456789abcdef.tmp"
    backup.unlink(missing_ok=True)
    backup.hardlink_to(cabinet.path)
    assert cabinet.read() == FIRST
    leftover.hardlink_to(cabinet.path)
    assert cabinet.read() == FIRST
    with Vault.open(backup, unlock=cabinet.key) as box:
        assert box.names() == tuple(FIRST)
    backup.unlink()
    assert cabinet.read() == FIRST
    (cabinet.folder / ".office.vault.short.tmp").hardlink_to(cabinet.path)
    with pytest.raises(UnsafeFile, match="a hard link"):
        cabinet.read()


def test_a_lock_file_that_is_another_file_in_disguise_is_not_written(cabinet: Cabinet) -> None:
    lock, precious = cabinet.folder / "office.vault.lock", cabinet.folder / "precious"
    precious.write_text("keep me")
    precious.chmod(0o600)
    lock.unlink()
    for disguise in (lambda: lock.symlink_to(precious), lambda: lock.hardlink_to(precious)):
        disguise()
        with pytest.raises(UnsafeFile):
            Vault.open(cabinet.path, unlock=cabinet.key, write=True)
        lock.unlink()
    assert precious.read_text() == "keep me"


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that other users can enter; pytest's own cannot be entered."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="vault-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


AS_NOBODY = """
import os, sys
from vault import *
os.setgroups([]); os.setresgid({nobody}, {nobody}, {nobody}); os.setresuid({nobody}, {nobody}, {nobody})
try:
    with Vault.open("{path}", unlock=KeyFile("{key}"), write={write}) as box:
        {then}
    print("opened")
except VaultError as error:
    print(type(error).__name__, "|", error, "|", error.hint)
"""


def as_nobody(cabinet: Cabinet, *, write: bool = False, then: str = "pass") -> str:
    script = AS_NOBODY.format(nobody=NOBODY, path=cabinet.path, key=cabinet.key_path, write=write, then=then)
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment)
    return done.stdout.strip()


@only_root
def test_another_users_vault_is_refused_even_where_it_could_be_read() -> None:
    with open_folder() as folder:
        cabinet = Cabinet(folder)
        os.chown(cabinet.key_path, NOBODY, NOBODY)
        assert as_nobody(cabinet).startswith("DiskError | ")  # 0600 and root's
        cabinet.path.chmod(0o644)
        assert f"chown {NOBODY} {cabinet.path}" in as_nobody(cabinet)
        assert as_nobody(cabinet).startswith("UnsafeFile | ")


@only_root
def test_a_service_is_never_shut_out_by_what_root_did_to_its_vault() -> None:
    with open_folder() as folder:
        os.chown(folder, NOBODY, NOBODY)
        cabinet = Cabinet(folder)  # root runs setup: both files belong to the folder's owner
        cabinet.write(FIRST)
        with Vault.open(cabinet.path, unlock=cabinet.key) as box:
            box.export(folder / "backup", unlock=cabinet.key)
        assert {entry.stat().st_uid for entry in folder.iterdir()} == {NOBODY}
        assert as_nobody(cabinet, write=True, then="box.put('dora', b'x'); box.save()") == "opened"
        cabinet.write({"emil": b"y"})
        assert as_nobody(cabinet, write=True, then="box.get('emil'); box.save()") == "opened"


@only_root
def test_a_lock_file_that_root_left_behind_half_made_is_mended_by_root() -> None:
    with open_folder() as folder:
        os.chown(folder, NOBODY, NOBODY)
        cabinet = Cabinet(folder)
        lock = folder / "office.vault.lock"
        lock.touch(0o600)
        assert "office.vault.lock" in as_nobody(cabinet, write=True)
        cabinet.write(FIRST)
        assert as_nobody(cabinet, write=True) == "opened"


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_whatever_the_umask_a_new_file_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        cabinet = Cabinet(tmp_path)
        cabinet.write(FIRST)
    finally:
        os.umask(before)
    for name in cabinet.files():
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


# ---- one writer at a time ----

HOLDER = """
import sys
from vault import *
with Vault.open(sys.argv[1], unlock=KeyFile(sys.argv[2]), write=True) as box:
    box.put("held", b"x")
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def another_writer(cabinet: Cabinet) -> Iterator[subprocess.Popen[str]]:
    script = cabinet.folder / "holder.py"
    script.write_text(HOLDER)
    holder = subprocess.Popen(
        [sys.executable, str(script), str(cabinet.path), str(cabinet.key_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    with holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == "held\n"
            yield holder
        finally:
            if holder.poll() is None:
                holder.kill()


def test_a_second_writer_is_refused_and_told_who_holds_the_lock(cabinet: Cabinet) -> None:
    with another_writer(cabinet) as holder:
        with pytest.raises(InUse, match=f"holder.py \\(process {holder.pid} on {os.uname().nodename}\\)") as caught:
            Vault.open(cabinet.path, unlock=cabinet.key, write=True)
        assert f"ps -fp {holder.pid}" in caught.value.hint
        assert cabinet.read() == FIRST  # reading needs no lock
        holder.communicate("go\n")
    cabinet.write({"dora": b"x"})


def test_the_lock_of_a_killed_writer_is_free_though_its_text_is_still_there(cabinet: Cabinet) -> None:
    with another_writer(cabinet) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait(60)
    assert f"pid {holder.pid}" in (cabinet.folder / "office.vault.lock").read_text()
    cabinet.write({"dora": b"x"})
    assert (cabinet.folder / "office.vault.lock").read_text() == ""


@pytest.mark.parametrize("text", ["", "pid \n", "pid 12; rm -rf /\nhost \x1b[31m\n", "\xff\xfe"])
def test_whatever_stands_in_a_lock_file_the_second_writer_gets_a_sentence(cabinet: Cabinet, text: str) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True):
        (cabinet.folder / "office.vault.lock").write_text(text, encoding="latin-1")
        with pytest.raises(InUse, match="another program is writing it") as caught:
            Vault.open(cabinet.path, unlock=cabinet.key, write=True)
        assert "rm -rf" not in caught.value.hint


def test_the_lock_text_holds_no_arguments(cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/senderproxy", "geheim-argument"])
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True):
        text = (cabinet.folder / "office.vault.lock").read_text()
    assert "program senderproxy\n" in text
    assert "geheim" not in text


# ---- the order of a save ----


def test_the_new_content_is_synced_before_it_takes_the_name_and_the_folder_after(cabinet: Cabinet) -> None:
    disk = counting()
    with Vault.open(FileStore(cabinet.path, disk), unlock=cabinet.key, write=True) as box:
        disk.armed = True
        box.save()
    calls = [call for call in disk.calls if call in ("write", "fsync", "close", "link", "rename")]
    first = calls.index("fsync")
    assert set(calls[:first]) == {"write"}
    assert calls[first:][:6] == ["fsync", "close", "link", "rename", "rename", "fsync"]


def test_every_system_call_of_a_save_can_be_stopped_by_these_tests(cabinet: Cabinet) -> None:
    """Precondition of the tests below: every system call goes through SystemCalls."""
    import ast

    import vault._file

    source = ast.parse(Path(vault._file.__file__).read_text())
    beside = [node for node in source.body if not (isinstance(node, ast.ClassDef) and node.name == "SystemCalls")]
    used = {
        f"{node.value.id}.{node.attr}"
        for part in beside
        for node in ast.walk(part)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("os", "fcntl")
    }
    harmless = {"os.geteuid", "os.getpid", "os.uname", "os.strerror", "os.stat_result"}
    assert {name for name in used if not name.startswith("os.O_")} <= harmless
    assert set(CALLS) >= {"open", "write", "fsync", "link", "rename", "unlink", "flock"}
    assert isinstance(counting(), SystemCalls)


# ---- every call fails once ----

MUST_SUCCEED = {"open", "lstat", "listdir", "fchmod", "fchown", "write", "fsync", "link", "rename"}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["disk full", "disk broken"])
@pytest.mark.parametrize("rekey", [False, True], ids=["save", "save after a rekey"])
def test_a_save_that_fails_at_any_call_leaves_the_old_content_in_force_and_can_be_repeated(
    cabinet: Cabinet, error: int, rekey: bool
) -> None:
    failed: list[str] = []
    number = 0
    while True:
        number += 1
        generation = cabinet.generation()
        before, after = cabinet.read(), {**FIRST, "anna": f"geheim-{generation}".encode()}
        (cabinet.folder / ".office.vault.0123456789abcdef.tmp").touch()  # a leftover to remove
        disk = failing(number, error)
        with Vault.open(FileStore(cabinet.path, disk), unlock=cabinet.key, write=True) as box:
            box.put("anna", after["anna"])
            if rekey:
                box.rekey(cabinet.key)
            disk.armed = True
            try:
                box.save()
            except DiskError:
                failed.append(disk.calls[number - 1])
                assert cabinet.read() == before
                assert cabinet.generation() == box.generation == generation
                disk.armed = False
                box.save()
            disk.armed = False
        assert cabinet.read() == after
        assert cabinet.generation() == generation + 1
        if len(disk.calls) < number:
            break
        cabinet.write({})  # so that a backup is there again
        assert not [name for name in cabinet.files() if name.endswith(".tmp")]
    assert set(failed) >= MUST_SUCCEED - (set() if os.geteuid() == 0 else {"fchown"})
    assert failed.count("rename") == (1 if rekey else 2)


@pytest.mark.parametrize("rekey", [False, True], ids=["save", "save after a rekey"])
def test_a_disk_that_breaks_for_good_at_any_call_leaves_one_generation_whole(cabinet: Cabinet, rekey: bool) -> None:
    number = 0
    while True:
        number += 1
        generation = cabinet.generation()
        before, after = cabinet.read(), {**FIRST, "anna": f"geheim-{generation}".encode()}
        disk = failing(number, errno.EIO, permanently=True)
        box = Vault.open(FileStore(cabinet.path, disk), unlock=cabinet.key, write=True)
        box.put("anna", after["anna"])
        if rekey:
            box.rekey(cabinet.key)
        disk.armed = True
        try:
            box.save()
        except DiskError as error:
            reports_old = "may not survive" not in str(error)
            assert cabinet.read() == (before if reports_old else after)
        else:
            assert cabinet.read() == after
        disk.armed = False
        box.close()
        cabinet.write({})
        if len(disk.calls) < number:
            break


def test_a_vault_or_a_key_that_cannot_be_made_whole_is_not_made(tmp_path: Path) -> None:
    key = KeyFile.generate(tmp_path / "key")
    number, made = 0, False
    while not made:
        number += 1
        disk = failing(number, errno.ENOSPC)
        disk.armed = True
        try:
            Vault.create(FileStore(tmp_path / "vault", disk), unlock=key)
        except DiskError:
            assert not (tmp_path / "vault").exists()
        else:
            Vault.open(tmp_path / "vault", unlock=key).close()
            (tmp_path / "vault").unlink()
            made = len(disk.calls) < number


def test_a_file_system_that_cannot_hold_a_vault_is_told_as_such(cabinet: Cabinet) -> None:
    """A USB stick: link(2) on FAT fails with EPERM."""
    with Vault.open(cabinet.path, unlock=cabinet.key) as box:
        disk = counting()
        disk.armed = True
        Vault.create(FileStore(cabinet.folder / "model", disk), unlock=cabinet.key)
        stick = failing(disk.calls.index("link") + 1, errno.EPERM)
        stick.armed = True
        with pytest.raises(DiskError) as caught:
            Vault.create(FileStore(cabinet.folder / "backup", stick), unlock=cabinet.key)
        assert "FAT" in caught.value.hint
        assert box.get("anna") == FIRST["anna"]
    assert "backup" not in cabinet.files()


@pytest.mark.slow
def test_a_truly_full_disk_refuses_the_save_and_keeps_the_vault(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        cabinet = Cabinet(disk)
        cabinet.write(FIRST)
        with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box:
            box.put("big", bytes(100_000))
            with pytest.raises(DiskError, match="No space left on device") as caught:
                box.save()
            assert "Free some space" in caught.value.hint
            assert cabinet.read() == FIRST
            box.remove("big")
            box.save()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# ---- readers beside a writer ----

WRITER = """
import select, sys
from vault import *
with Vault.open(sys.argv[1], unlock=KeyFile(sys.argv[2]), write=True) as box:
    print("ready", flush=True)
    sys.stdin.readline()
    while box.generation < 103 or not select.select([sys.stdin], [], [], 0)[0]:
        for name in box.names():
            box.put(name, str(box.generation + 1).encode() * 50)
        box.save()
"""


def test_whoever_reads_while_a_hundred_generations_are_written_reads_one_of_them_whole(cabinet: Cabinet) -> None:
    cabinet.write(dict.fromkeys("abcdefgh", b"3" * 50) | dict.fromkeys(FIRST, b"3" * 50))
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(cabinet.path), str(cabinet.key_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    seen: set[int] = set()
    with writer, Vault.open(cabinet.path, unlock=cabinet.key) as long_running:
        assert writer.stdin
        assert writer.stdout
        writer.stdout.readline()
        writer.stdin.write("go\n")
        writer.stdin.flush()
        reads, is_told = 0, False
        while reads < 64 or writer.poll() is None:
            reads += 1
            if len(seen) > 2 and not is_told:  # it may have no time before the hundredth
                is_told = True
                writer.stdin.write("enough\n")
                writer.stdin.flush()
            with Vault.open(cabinet.path, unlock=cabinet.key) as fresh:
                seen.add(one_generation(fresh))
            if long_running.is_replaced():
                long_running.reload(min_generation=long_running.generation)
            one_generation(long_running)
    assert writer.returncode == 0
    assert cabinet.generation() >= 103
    assert len(seen) > 2


def one_generation(box: Vault) -> int:
    records = {box.get(name) for name in box.names()}
    assert records == {str(box.generation).encode() * 50}
    return box.generation


def test_a_key_that_does_not_fit_is_no_disk_trouble(cabinet: Cabinet) -> None:
    with pytest.raises(WrongKey) as caught:
        Vault.open(cabinet.path, unlock=KeyFile.generate(cabinet.folder / "other"))
    assert not isinstance(caught.value, DiskError)
    assert isinstance(caught.value, VaultError)
