"""Build the container image from the Debian package: `python -m deploy.container [--base FOLDER] [--package FILE]`.

The image has two layers: a minimal Debian 12 with Python, and the program with its libraries and bytecode.

Guarantees: runs without a daemon and without a container tool; the same base and package give the same bytes. The
service in it runs as a user of its own, with the numeric id 10025, and without a capability.
Not here: the package (deploy.debian), the form of the archive (deploy.container.oci).
Needs root: for debootstrap, and for the modules' compilation in a change root.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from deploy.container.oci import pack_layer, write_archive
from deploy.debian.__main__ import DIST, build
from senderproxy import __version__

PROJECT: Final = Path(__file__).resolve().parents[2]
USER: Final = 10025  # user and group; above those of a Debian's own users, below 65536, which rootless runtimes map
STATE: Final = "/var/lib/senderproxy"
_BASE: Final = PROJECT / ".cache" / "container" / "bookworm"
_PACKAGES: Final = ("ca-certificates", "python3")
_RUN: Final = "/run/senderproxy"  # the control socket
_EMPTY: Final = ("dev", "proc", "sys", "run", "tmp", "boot", "var/cache", "var/log", "var/lib/apt", "var/tmp")
_LEFT_OUT: Final = (
    *("usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/share/bash-completion"),
    *("usr/share/zsh", "usr/lib/systemd", "usr/lib/sysusers.d", "usr/lib/tmpfiles.d", "etc/machine-id"),
    *("etc/hostname", "etc/resolv.conf", "var/lib/dpkg/info"),
)
_HEALTH_INTERVAL: Final = 30_000_000_000  # nanoseconds, as Docker counts
_HEALTH_TIMEOUT: Final = 10_000_000_000  # nanoseconds


def main() -> None:
    """Build the image named on the command line, and print its path."""
    options = argparse.ArgumentParser(prog="make image", description="Build the container image.")
    options.add_argument("--base", type=Path, help="folder with a Debian 12 (default: made by debootstrap)")
    options.add_argument("--package", type=Path, help="the Debian package (default: built now)")
    options.add_argument("--dist", type=Path, default=DIST, help="folder of the image (default: dist/)")
    chosen = options.parse_args()
    if os.geteuid() != 0:
        options.error("root is needed for debootstrap and chroot. To fix: sudo make image")
    chosen.dist.mkdir(parents=True, exist_ok=True)
    architecture = _printed("dpkg", "--print-architecture")
    package = chosen.package or build(architecture, __version__, chosen.dist)
    print(make_image(chosen.base or _base(), package, architecture, chosen.dist))


def make_image(base: Path, package: Path, architecture: str, dist: Path) -> Path:
    """Build the image of a Debian package for an architecture on a Debian root; return the path of the archive."""
    moment = int(os.environ.get("SOURCE_DATE_EPOCH") or _printed("git", "log", "-1", "--format=%ct"))
    version = _printed("dpkg-deb", "--field", str(package), "Version")
    with tempfile.TemporaryDirectory(prefix="senderproxy-image-") as folder:
        root = Path(folder) / "root"
        subprocess.run(["cp", "--archive", "--reflink=auto", str(base), str(root)], check=True)
        lower = pack_layer(root, moment, _of_base)
        before = _names(root)
        _install(root, package)
        changed = (_names(root) - before) | {"etc/passwd", "etc/group"}
        folders = {str(parent) for name in changed for parent in Path(name).parents}
        upper = pack_layer(root, moment, lambda name: _is_kept(name) and (name in changed or name in folders))
    archive = dist / f"senderproxy_{version}_{architecture}.oci.tar"
    write_archive(archive, f"senderproxy:{version}", [lower, upper], _settings(architecture, version, moment))
    return archive


def _settings(architecture: str, version: str, moment: int) -> dict[str, Any]:
    """The image's config: how the service runs."""
    created = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    health = ["CMD", "/usr/bin/senderproxy", "status", "--alive"]
    return {
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": {
            "User": f"{USER}:{USER}",
            "Entrypoint": ["/usr/bin/senderproxy"],
            "Cmd": ["run"],
            "WorkingDir": STATE,
            "Env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "SENDERPROXY_CONFIG=/etc/senderproxy/senderproxy.toml",
                "LANG=C.UTF-8",
            ],
            "ExposedPorts": {"2525/tcp": {}},
            "Volumes": {f"{STATE}/vault": {}, f"{STATE}/spool": {}},
            "StopSignal": "SIGTERM",
            "Labels": {
                "org.opencontainers.image.title": "senderproxy",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "MIT",
            },
            "Healthcheck": {
                "Test": health,
                "Interval": _HEALTH_INTERVAL,
                "Timeout": _HEALTH_TIMEOUT,
                "Retries": 3,
            },
        },
        "history": [
            {"created": created, "created_by": "Debian 12, minimal, with Python"},
            {"created": created, "created_by": f"senderproxy {version}"},
        ],
    }


# ---- the files ----


def _base() -> Path:
    """Return the folder of a minimal Debian 12, made now if it is not there yet."""
    if not _BASE.exists():
        _BASE.parent.mkdir(parents=True, exist_ok=True)
        unfinished = _BASE.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        # A mount namespace of its own: what debootstrap mounts in the folder ends with it, however it ends.
        words = ["unshare", "--mount", "debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}"]
        subprocess.run([*words, "bookworm", str(unfinished)], stdout=subprocess.DEVNULL, check=True)
        unfinished.rename(_BASE)
    return _BASE


def _install(root: Path, package: Path) -> None:
    """Unpack the package, compile its modules with the image's Python, make the user and the folders."""
    subprocess.run(["dpkg-deb", "--extract", str(package), str(root)], check=True)
    home = root / "usr/lib/senderproxy"
    python = _printed(
        "chroot", str(root), "/usr/bin/python3", "-c", "import sys; print('cp%d%d' % sys.version_info[:2])"
    )
    for other in home.glob("cp3*"):
        if other.name != python:
            shutil.rmtree(other)
    # By their content, and with a fixed order of sets: the same modules give the same bytecode.
    subprocess.run(
        [
            *(
                "chroot",
                str(root),
                "/usr/bin/env",
                "-i",
                "PYTHONHASHSEED=0",
                "/usr/bin/python3",
                "-sS",
                "-m",
                "compileall",
            ),
            *("-q", "--invalidation-mode", "unchecked-hash", "/usr/lib/senderproxy"),
        ],
        check=True,
    )
    for name, line in (
        ("passwd", f"senderproxy:x:{USER}:{USER}:senderproxy:{STATE}:/usr/sbin/nologin\n"),
        ("group", f"senderproxy:x:{USER}:\n"),
    ):
        file = root / "etc" / name
        file.write_text(file.read_text(encoding="utf-8") + line, encoding="utf-8")
    (root / "etc/senderproxy").mkdir(exist_ok=True)
    for folder in (STATE, f"{STATE}/vault", f"{STATE}/spool", _RUN):
        path = root / folder.lstrip("/")
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)
        os.chown(path, USER, USER)


def _names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def _of_base(name: str) -> bool:
    """True for the files of the lower layer. Of some folders only the folder itself is there."""
    return _is_kept(name) and not any(name.startswith(f"{empty}/") for empty in _EMPTY)


def _is_kept(name: str) -> bool:
    if name.startswith("usr/share/doc/"):  # licences, and our own pages
        parts = name.split("/")
        return len(parts) == 4 or parts[3] == "senderproxy" or parts[4:] == ["copyright"]
    return not any(name == other or name.startswith(f"{other}/") for other in _LEFT_OUT)


def _printed(*words: str) -> str:
    return subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
