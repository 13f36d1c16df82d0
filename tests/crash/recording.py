"""What a program asked of the disk: a recording of its system calls, and what a power cut would leave of them.

The rules are harsher than those of the file systems we know. What was written is sure only when a sync of that very
file began after the write had returned, and has returned itself; a name is sure only when its folder was synced in the
same way. Of everything else each write may be there, or not, or in part (by sectors of 512 octets), whatever the order
in which they were made; each name that was given, changed or taken away may be as it was before.
"""

import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SECTOR: Final = 512
_CALLS: Final = (
    "open,openat,creat,close,dup,dup2,dup3,fcntl,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,sync_file_range,"
    "ftruncate,truncate,fallocate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,"
    "copy_file_range,sendfile,splice,mmap,symlink,symlinkat,sync,syncfs,msync"
)
_LINE: Final = re.compile(r"^(\d+) +(\w+)\((.*)$", re.DOTALL)
_RESUMED: Final = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
_RETURNED: Final = re.compile(r"(.*)\) += (.*)", re.DOTALL)


@dataclass(eq=False, slots=True)
class File:
    """One file's writes and syncs, by the lines between which they ran. `folder`: it has names in it."""

    path: str  # what it was first called
    folder: bool = False
    writes: list[tuple[int, int, int, bytes]] = field(default_factory=list)  # begun, done, offset, octets
    cuts: list[tuple[int, int, int]] = field(default_factory=list)  # begun, done, length
    names: list[tuple[int, int, dict[str, "File | None"]]] = field(default_factory=list)  # begun, done, what changed
    syncs: list[tuple[int, int]] = field(default_factory=list)
    now: dict[str, "File"] = field(default_factory=dict)  # the names in it, as the program sees them

    def is_sure(self, done: int, cut: int) -> bool:
        return any(done < begun and ended < cut for begun, ended in self.syncs)


@dataclass(frozen=True, slots=True)
class Mark:
    """Something the program said of itself, in between."""

    line: int
    text: str


class Recording:
    """A program's run, as strace saw it."""

    def __init__(self, log: Path, root: Path, marks: Path) -> None:
        """`root` is the folder that matters; what is written to `marks` is what the program says of itself."""
        self.root = File(str(root), folder=True)
        self.marks: list[Mark] = []
        self._root = str(root)
        self._marks = str(marks)
        self._files: dict[int, File | str] = {}
        self.length = 0
        for begun, done, call, arguments, result in _calls(log):
            self.length = done + 1
            if not result.startswith("-1 ") and result != "?":
                self._take(begun, done, call, arguments, result)

    @classmethod
    def of(cls, command: Sequence[str], root: Path, marks: Path, log: Path, **environment: str) -> "Recording":
        """Run a program and record it."""
        strace = shutil.which("strace")
        assert strace, "strace is missing: apt-get install strace"
        options = ["-f", "-o", str(log), "-xx", "-s", str(1 << 22), "-e", f"trace={_CALLS}", "-e", "signal=none"]
        subprocess.run([strace, *options, *command], check=True, env=environment)
        return cls(log, root, marks)

    # reading it

    def _take(self, begun: int, done: int, call: str, arguments: list[str], result: str) -> None:
        match call:
            case "open" | "openat" | "creat":
                self._open(begun, done, call, arguments, int(result.split()[0]))
            case "close":
                self._files.pop(int(arguments[0]), None)
            case "dup" | "dup2" | "dup3":
                self._copy(int(arguments[0]), int(result.split()[0]))
            case "fcntl":
                if "DUPFD" in arguments[1]:
                    self._copy(int(arguments[0]), int(result.split()[0], 0))
            case "write":
                file = self._files.get(int(arguments[0]))
                if file == self._marks:
                    self.marks += [Mark(begun, line) for line in _octets(arguments[1]).decode().splitlines()]
                elif isinstance(file, File):  # ours are written from the start to the end
                    end = max((at + len(octets) for _, _, at, octets in file.writes), default=0)
                    file.writes.append((begun, done, end, _octets(arguments[1])[: int(result)]))
            case "pwrite64":
                file = self._files.get(int(arguments[0]))
                if isinstance(file, File):
                    octets = _octets(arguments[1])
                    assert len(octets) == int(arguments[2])
                    file.writes.append((begun, done, int(arguments[3]), octets[: int(result)]))
            case "fsync" | "fdatasync":
                file = self._files.get(int(arguments[0]))
                if isinstance(file, File):
                    file.syncs.append((begun, done))
            case "ftruncate":
                file = self._files.get(int(arguments[0]))
                if isinstance(file, File):
                    file.cuts.append((begun, done, int(arguments[1])))
            case "rename" | "renameat" | "renameat2" | "link" | "linkat" | "unlink" | "unlinkat" | "mkdir" | "mkdirat":
                self._name(begun, done, call, arguments)
            case "mmap":
                file = self._files.get(int(arguments[4]))
                shared = isinstance(file, File) and "MAP_SHARED" in arguments[3] and "PROT_WRITE" in arguments[2]
                assert not shared or file.path.endswith("-shm"), arguments  # type: ignore[union-attr]
            case _:
                touched = [self._files.get(int(a)) for a in arguments if re.fullmatch(r"\d+", a)]
                assert not any(isinstance(file, File) for file in touched), (call, arguments)

    def _copy(self, old: int, new: int) -> None:
        if old in self._files:
            self._files[new] = self._files[old]

    def _open(self, begun: int, done: int, call: str, arguments: list[str], number: int) -> None:
        path = self._path(arguments[0], arguments[1]) if call == "openat" else self._path("AT_FDCWD", arguments[0])
        flags = arguments[2] if call == "openat" else arguments[1]
        self._files.pop(number, None)
        if path == self._marks:
            self._files[number] = self._marks
            return
        if not self._is_inside(path):
            return
        if "O_TMPFILE" in flags:
            self._files[number] = File(f"{path}/(unnamed)")
            return
        file = self._look_up(path)
        if file is None:
            assert "O_CREAT" in flags, path
            folder, name = self._parent(path)
            file = File(path)
            self._change(folder, begun, done, {name: file})
        if "O_TRUNC" in flags:
            file.cuts.append((begun, done, 0))
        self._files[number] = file

    def _name(self, begun: int, done: int, call: str, arguments: list[str]) -> None:
        match call:
            case "unlink":
                paths = [self._path("AT_FDCWD", arguments[0])]
            case "unlinkat" | "mkdirat":
                paths = [self._path(arguments[0], arguments[1])]
            case "mkdir":
                paths = [self._path("AT_FDCWD", arguments[0])]
            case "rename" | "link":
                paths = [self._path("AT_FDCWD", one) for one in arguments[:2]]
            case _:
                paths = [self._path(arguments[0], arguments[1]), self._path(arguments[2], arguments[3])]
        if not self._is_inside(paths[-1]):
            assert not self._is_inside(paths[0]), paths
            return
        folder, name = self._parent(paths[-1])
        if call.startswith("mkdir"):
            self._change(folder, begun, done, {name: File(paths[0], folder=True)})
        elif call.startswith("unlink"):
            self._change(folder, begun, done, {name: None})
        elif call.startswith("rename"):
            old_folder, old_name = self._parent(paths[0])
            assert old_folder is folder
            self._change(folder, begun, done, {old_name: None, name: folder.now[old_name]})
        else:
            number = re.fullmatch(r"/proc/self/fd/(\d+)", paths[0])
            linked = self._files[int(number[1])] if number else self._look_up(paths[0])
            assert isinstance(linked, File)
            self._change(folder, begun, done, {name: linked})

    @staticmethod
    def _change(folder: File, begun: int, done: int, what: dict[str, File | None]) -> None:
        folder.names.append((begun, done, what))
        for name, file in what.items():
            if file is None:
                folder.now.pop(name, None)
            else:
                folder.now[name] = file

    def _path(self, folder: str, text: str) -> str:
        path = _octets(text).decode()
        if path.startswith("/") or folder == "AT_FDCWD":
            return path
        base = self._files.get(int(folder))
        return f"{base.path}/{path}" if isinstance(base, File) else f"?/{path}"

    def _is_inside(self, path: str) -> bool:
        return path == self._root or path.startswith(f"{self._root}/")

    def _look_up(self, path: str) -> File | None:
        file: File | None = self.root
        for part in Path(path).relative_to(self._root).parts:
            file = file.now.get(part) if file is not None else None
        return file

    def _parent(self, path: str) -> tuple[File, str]:
        folder = self._look_up(str(Path(path).parent))
        assert folder is not None, path
        return folder, Path(path).name

    # the power is cut

    def after_a_cut(self, cut: int, target: Path, chance: random.Random, keep: float) -> None:
        """What the disk holds when the power fails ahead of that line. `keep`: how probable each unsure thing is."""
        shutil.rmtree(target, ignore_errors=True)
        self._restore(self.root, target, cut, chance, keep)

    def _restore(self, file: File, target: Path, cut: int, chance: random.Random, keep: float) -> None:
        if not file.folder:
            target.write_bytes(_contents(file, cut, chance, keep))
            target.chmod(0o600)
            return
        target.mkdir(mode=0o700, exist_ok=True)
        names: dict[str, File] = {}
        for begun, done, what in file.names:
            if begun < cut and (file.is_sure(done, cut) or chance.random() < keep):
                for name, one in what.items():
                    if one is None:
                        names.pop(name, None)
                    else:
                        names[name] = one
        for name, one in names.items():
            if not name.endswith("-shm"):  # SQLite makes it anew, whatever is in it, when nobody else has it open
                self._restore(one, target / name, cut, chance, keep)

    def moments(self) -> list[int]:
        """The lines at which something is different from the line before."""
        found: set[int] = set()

        def collect(file: File) -> None:
            for spans in (file.writes, file.cuts, file.names, file.syncs):
                found.update(line + 1 for span in spans for line in span[:2])
            for _, _, what in file.names:
                for one in what.values():
                    if one is not None and id(one) not in seen:
                        seen.add(id(one))
                        collect(one)

        seen: set[int] = set()
        collect(self.root)
        return sorted(found)


def _contents(file: File, cut: int, chance: random.Random, keep: float) -> bytes:
    octets = bytearray()
    steps: list[tuple[int, int, int, bytes | None]] = [*file.writes]
    steps += [(begun, done, length, None) for begun, done, length in file.cuts]
    for begun, done, at, piece in sorted(steps, key=lambda step: step[:2]):
        if begun >= cut:
            continue
        sure = file.is_sure(done, cut)
        if piece is None:
            if sure or chance.random() < keep:
                octets[at:] = bytes(max(0, at - len(octets)))
            continue
        for start, sectors in _pieces(at, piece, sure, chance, keep):
            octets += bytes(max(0, start + len(sectors) - len(octets)))
            octets[start : start + len(sectors)] = sectors
    return bytes(octets)


def _pieces(at: int, piece: bytes, sure: bool, chance: random.Random, keep: float) -> Iterator[tuple[int, bytes]]:
    if sure:
        yield at, piece
        return
    fate = chance.random()
    if fate < keep * 0.8:
        yield at, piece
    elif fate < keep:  # torn: any of its sectors
        position = at
        while position < at + len(piece):
            end = min(at + len(piece), (position // SECTOR + 1) * SECTOR)
            if chance.random() < 0.5:
                yield position, piece[position - at : end - at]
            position = end


def _calls(log: Path) -> Iterator[tuple[int, int, str, list[str], str]]:
    """(line begun, line done, call, arguments, result) in the order in which they returned.

    A close counts from its beginning: its number is free from then on, and another thread may have opened a file with
    it before strace prints the return.
    """
    pending: dict[str, tuple[int, str, str]] = {}
    with log.open(encoding="ascii") as lines:
        for number, line in enumerate(lines):
            if resumed := _RESUMED.match(line):
                begun, call, text = pending.pop(resumed[1])
                if call == "close":
                    continue
                text += resumed[3]
            elif found := _LINE.match(line):
                begun, call, text = number, found[2], found[3]
                if "<unfinished ...>" in text:
                    arguments = text.partition("<unfinished ...>")[0]
                    pending[found[1]] = (begun, call, arguments)
                    if call == "close":
                        yield begun, number, call, [arguments.strip()], "0"
                    continue
            else:
                continue
            returned = _RETURNED.fullmatch(text.rstrip("\n"))
            assert returned, text[-200:]
            yield begun, number, call, [one.strip() for one in returned[1].split(", ")], returned[2].strip()


def _octets(text: str) -> bytes:
    assert text.startswith('"'), text[:80]
    assert text.endswith('"'), text[-80:]  # else strace has cut it off
    return bytes.fromhex(text[1:-1].replace("\\x", ""))
