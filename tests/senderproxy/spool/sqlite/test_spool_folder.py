"""Access to the spool's folder, and its lock."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from senderproxy.relay.ports import SpoolError
from senderproxy.spool.sqlite.spool_folder import SpoolFolder
from tests.fakes.arrivals import arrival
from tests.senderproxy.spool.sqlite.open_spool import claimed, opened

AS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not AS_ROOT, reason="only root can become another user")
NOBODY = 65534
LARGE = b"x" * 200_000


def refused(path: Path, words: str) -> SpoolError:
    with pytest.raises(SpoolError, match=words) as caught:
        SpoolFolder.open(path).close()
    assert caught.value.hint
    return caught.value


def test_a_missing_folder_is_created_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        SpoolFolder.open(tmp_path / "spool").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "spool" / "lock").stat().st_mode) == 0o600


def test_without_the_parent_folder_nothing_is_created(tmp_path: Path) -> None:
    refused(tmp_path / "missing" / "spool", "parent folder")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o707, 0o710])
def test_a_folder_that_others_can_access_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(mode)
    assert refused(tmp_path / "spool", "Other users have access").hint.startswith("chmod 700")


def test_a_symbolic_link_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    refused(tmp_path / "link", "symbolic link")
    (tmp_path / "file").write_bytes(b"")
    refused(tmp_path / "file", "not a folder")


def test_a_lock_file_with_a_second_name_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(0o700)
    (tmp_path / "precious").write_bytes(b"precious")
    os.link(tmp_path / "precious", tmp_path / "spool" / "lock")
    refused(tmp_path / "spool", "not a file of the spool")
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_the_lock_names_who_has_it_and_goes_with_its_process(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from senderproxy.spool.sqlite.spool_folder import SpoolFolder\n"
        "place = SpoolFolder.open(Path(sys.argv[1])); print('in', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "spool")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path.cwd())},
    )
    with other:
        assert other.stdout
        assert other.stdout.readline() == b"in\n"
        assert str(other.pid) in refused(tmp_path / "spool", rf"in use by .*\(process {other.pid}\)").hint
        other.kill()
    SpoolFolder.open(tmp_path / "spool").close()


@only_root
def test_a_folder_of_somebody_else_is_refused_to_who_is_not_root(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir(0o700)
    os.chown(spool, 1, 1)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    pid = os.fork()
    if pid == 0:
        os.setresuid(NOBODY, NOBODY, NOBODY)
        try:
            SpoolFolder.open(spool)
        except SpoolError as error:
            os._exit(3 if "another user" in error.message or "Permission denied" in error.message else 4)
        os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


@only_root
async def test_what_root_makes_belongs_to_the_folders_owner(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir(0o700)
    os.chown(spool, NOBODY, NOBODY)
    async with opened(spool) as desk:
        await desk.accept(arrival("a1"), arrival("a2", body=LARGE))
        found = [spool, *spool.rglob("*")]
        names = {path.name for path in found}
        assert {"spool.db", "spool.db-wal", "spool.db-shm", "spool.id", "lock", "content"} < names
        assert len(found) == 8
        assert {(path.stat().st_uid, path.stat().st_gid) for path in found} == {(NOBODY, NOBODY)}
        assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_file()} == {0o600}
        assert (await claimed(desk)).submission.id == "a1"


@only_root
def test_a_folder_root_makes_belongs_to_the_owner_of_the_one_above(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(0o700)
    os.chown(state, NOBODY, NOBODY)
    SpoolFolder.open(state / "spool").close()
    assert (state / "spool").stat().st_uid == NOBODY
    assert (state / "spool" / "lock").stat().st_uid == NOBODY
