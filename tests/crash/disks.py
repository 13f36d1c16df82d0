"""Small disks that are full, or break: real file systems, for which root is needed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this machine does not let us have a disk of our own: {' '.join(command)}: {done.stderr.strip()}")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk in memory of that size."""
    need_root()
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Ext4:
    """A disk of ext4 in a file, which turns read-only at its first error, as Debian's installer sets it up."""

    def __init__(self, base: Path) -> None:
        need_root()
        self.image, self.folder = base / "image", base / "disk"
        self.folder.mkdir()
        with self.image.open("wb") as file:
            file.truncate(32 << 20)
        _run("mkfs.ext4", "-q", "-F", str(self.image))
        self.mount()

    def mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.folder))

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)

    def break_down(self) -> None:
        """Have the kernel find an error: the journal is aborted and nothing can be written any more."""
        device = subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", str(self.folder)], check=True, capture_output=True, text=True
        ).stdout.strip()
        switch = Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"
        if not switch.exists():
            pytest.skip("this kernel has no switch for an error of ext4")
        switch.write_text("1\n")

    def mend(self) -> None:
        """Check the disk and mount it again, as a copy: another test's mount namespace may still have the broken one."""
        self.unmount()
        broken, self.image = self.image, self.image.with_name("mended")
        shutil.copyfile(broken, self.image)
        subprocess.run(["e2fsck", "-p", str(self.image)], check=False, capture_output=True)
        self.mount()
