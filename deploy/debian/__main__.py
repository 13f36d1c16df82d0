"""Build the Debian packages: `python -m deploy.debian [--architecture amd64|arm64] [--version VERSION]`.

Guarantees: the same commit gives the same bytes, whatever terminal, language, time zone and umask: all files bear the
time of the last commit, in a fixed order.
Not here: which libraries (wheels), the made texts (pages).
"""

import argparse
import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from deploy.debian import mta, pages, wheels
from senderproxy import __version__

PROJECT: Final = Path(__file__).resolve().parents[2]
FILES: Final = Path(__file__).parent / "files"
DIST: Final = PROJECT / "dist"
_HOME: Final = "usr/lib/senderproxy"
_DOCS: Final = "usr/share/doc/senderproxy"
_MAINTAINER: Final = "senderproxy maintainers <maintainers@senderproxy.example>"
_SCRIPTS: Final = ("preinst", "postinst", "prerm", "postrm")
_FORMATS: Final = PROJECT / "senderproxy/spool/sqlite/schema"  # one file for each format of the spool


def main() -> None:
    """Build the packages that the command line names, and print their paths."""
    options = argparse.ArgumentParser(prog="make deb", description="Build the Debian packages.")
    options.add_argument("--architecture", choices=sorted(wheels.MACHINES), action="append", help="default: all")
    options.add_argument("--version", default=__version__, help="default: that of the program")
    options.add_argument("--dist", type=Path, default=DIST, help="folder of the packages (default: dist/)")
    chosen = options.parse_args()
    os.environ["COLUMNS"] = "80"  # argparse breaks the lines of the manual page at the width of the terminal
    chosen.dist.mkdir(parents=True, exist_ok=True)
    for architecture in chosen.architecture or sorted(wheels.MACHINES):
        print(build(architecture, chosen.version, chosen.dist))
    print(mta.build(chosen.version, _MAINTAINER, _time_of_last_commit(), chosen.dist))


def build(architecture: str, version: str, dist: Path) -> Path:
    """Build the package of a Debian architecture in the folder `dist` and return its path."""
    moment = _time_of_last_commit()
    libraries = wheels.fetch(architecture)
    with tempfile.TemporaryDirectory(prefix="senderproxy-deb-") as folder:
        tree = Path(folder) / "tree"
        _program(tree, libraries, Path(folder))
        _pages(tree, libraries, version, moment)
        _system_files(tree)
        _control(tree, architecture, version)
        _fix_modes_and_times(tree, moment)
        package = dist / f"senderproxy_{version}_{architecture}.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--threads-max=1", "-Zxz", "--build", str(tree), str(package)],
            env={**os.environ, "SOURCE_DATE_EPOCH": str(int(moment.timestamp()))},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    return package


def _program(tree: Path, libraries: list[wheels.Wheel], folder: Path) -> None:
    for wheel in libraries:
        for name, content in wheels.files(wheel):
            _write(tree / _HOME / wheel.folder / name, content)
    with tempfile.TemporaryDirectory(dir=folder) as built:
        program = wheels.build_program(Path(built))
        shutil.unpack_archive(program, tree / _HOME / "program", "zip")
    for info in (tree / _HOME / "program").glob("*.dist-info"):
        shutil.rmtree(info)
    _write(tree / _HOME / "sendmail", (PROJECT / "deploy/sendmail.py").read_bytes(), executable=True)
    _write(tree / "usr/bin/senderproxy", (FILES / "launcher").read_bytes(), executable=True)


def _pages(tree: Path, libraries: list[wheels.Wheel], version: str, moment: datetime) -> None:
    docs = tree / _DOCS
    for page in sorted([*(PROJECT / "docs").glob("*.md"), *(PROJECT / "docs/guides").glob("*.md")]):
        _write(docs / page.relative_to(PROJECT / "docs"), page.read_bytes())
    for example in sorted((PROJECT / "deploy/prometheus").iterdir()):
        _write(docs / "examples/prometheus" / example.name, example.read_bytes())
    for name in ("README.md", "README.de.md"):
        _write(docs / name, (PROJECT / name).read_bytes())
    own = (PROJECT / "LICENSE").read_text(encoding="utf-8")
    _write(docs / "copyright", pages.copyright_file(own, libraries).encode())
    changes = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    _write(docs / "changelog.gz", _packed(pages.changelog(changes, version, _MAINTAINER, moment)))
    _write(tree / "usr/share/man/man1/senderproxy.1.gz", _packed(pages.manual_page(version, moment)))
    _write(tree / "usr/share/bash-completion/completions/senderproxy", pages.completion("bash").encode())
    _write(tree / "usr/share/zsh/vendor-completions/_senderproxy", pages.completion("zsh").encode())


def _system_files(tree: Path) -> None:
    systemd = PROJECT / "systemd"
    _write(tree / "usr/lib/systemd/system/senderproxy.service", (systemd / "senderproxy.service").read_bytes())
    _write(tree / "usr/lib/systemd/system/senderproxy.socket", (systemd / "senderproxy.socket").read_bytes())
    for name in ("senderproxy-web.service", "senderproxy-web.socket"):
        _write(tree / "usr/lib/systemd/system" / name, (systemd / name).read_bytes())
    alert = "senderproxy-failed@.service"
    _write(tree / "usr/lib/systemd/system" / alert, (systemd / alert).read_bytes())
    _write(tree / "usr/lib/sysusers.d/senderproxy.conf", (systemd / "sysusers.conf").read_bytes())
    _write(tree / "usr/lib/tmpfiles.d/senderproxy.conf", (systemd / "tmpfiles.conf").read_bytes())
    _write(tree / "usr/share/lintian/overrides/senderproxy", (FILES / "lintian-overrides").read_bytes())


def _control(tree: Path, architecture: str, version: str) -> None:
    installed = [path for path in sorted(tree.rglob("*")) if path.is_file()]
    octets = sum(path.stat().st_size for path in installed)
    control = (FILES / "control").read_text(encoding="utf-8")
    _write(
        tree / "DEBIAN/control",
        control.format(
            version=version, architecture=architecture, maintainer=_MAINTAINER, installed_size=-(-octets // 1024)
        ).encode(),
    )
    sums = (f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n" for path in installed)  # noqa: S324
    _write(tree / "DEBIAN/md5sums", "".join(sums).encode())
    spool_format = len(list(_FORMATS.glob("*.sql")))
    for name in _SCRIPTS:
        text = (FILES / name).read_text(encoding="utf-8").replace("@FORMAT@", str(spool_format))
        _write(tree / "DEBIAN" / name, text.encode(), executable=True)
    for name in ("templates", "triggers"):
        _write(tree / "DEBIAN" / name, (FILES / name).read_bytes())


def _fix_modes_and_times(tree: Path, moment: datetime) -> None:
    for path in [tree, *sorted(tree.rglob("*"))]:
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (moment.timestamp(), moment.timestamp()))


def _write(path: Path, content: bytes, *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755 if executable else 0o644)


def _packed(text: str) -> bytes:
    return gzip.compress(text.encode(), 9, mtime=0)


def _time_of_last_commit() -> datetime:
    """Return the committer's time of HEAD; SOURCE_DATE_EPOCH (seconds since 1970) takes precedence."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    seconds = (
        given
        or subprocess.run(
            ["git", "log", "-1", "--format=%ct"], cwd=PROJECT, capture_output=True, text=True, check=True
        ).stdout
    )
    return datetime.fromtimestamp(int(seconds), UTC)


if __name__ == "__main__":
    main()
