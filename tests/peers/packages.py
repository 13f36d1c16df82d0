#!/usr/bin/env python3
"""Fetch the real mail programs that the slow tests talk to, from Debian's archive.

Guarantees: when all is there, says nothing and takes a fraction of a second. As root it installs what is missing
without starting, enabling or replacing any service of this machine. Otherwise it prints the one line to type and
ends with exit code 1. Mail servers are not installed at all: their packages are unpacked into the user's cache, for all
clones of this project, so that a mail server of this machine neither matters nor notices.
Not here: running any of it (unpacked, and the other modules here).

Runs before the virtual environment matters: nothing but the standard library.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]
POLICY: Final = Path("/usr/sbin/policy-rc.d")

# Unpacked, not installed: each would start a service, be this machine's mail server or a part of it, or ask for one.
UNPACKED: Final = {
    "postfix": ("postfix",),  # the office's server, and the provider's
    "dovecot": (
        "dovecot-core",  # the provider's logins (SASL)
        "dovecot-sieve",  # redirects and vacation answers
        "dovecot-pop3d",  # the mailbox that gets all mail of a domain
        "dovecot-imapd",  # a second server that takes access tokens
    ),
    "exim": ("exim4-daemon-light", "exim4-base"),
    "mailx": ("bsd-mailx",),
    "prometheus": ("prometheus", "promtool"),
    "nginx": ("nginx",),  # a web server with TLS before the page
    "haproxy": ("haproxy",),  # a proxy before listeners, with PROXY headers
    "postgresql": ("postgresql-15", "postgresql-client-15"),  # the database of several instances
}
SEPARATE_SINCE_DEBIAN_13: Final = {"promtool"}  # before, a part of prometheus


def _programs() -> Path:
    """Return the folder of the unpacked programs: they fit the libraries of one release only."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    release = {}
    with contextlib.suppress(OSError):  # no Debian, and nothing is unpacked
        release = platform.freedesktop_os_release()
    return cache / "senderproxy-tests" / "programs" / f"{release.get('ID')}-{release.get('VERSION_ID')}"


PROGRAMS: Final = _programs()


def unpacked(program: str) -> Path:
    """Return the folder that a program is unpacked into: other packages are another folder."""
    return PROGRAMS / f"{program}-{hashlib.sha256(' '.join(UNPACKED[program]).encode()).hexdigest()[:8]}"


POSTFIX: Final = unpacked("postfix") / "usr" / "sbin" / "postfix"
DOVECOT: Final = unpacked("dovecot") / "usr" / "sbin" / "dovecot"
EXIM: Final = unpacked("exim") / "usr" / "sbin" / "exim4"
PROMETHEUS: Final = unpacked("prometheus") / "usr" / "bin" / "prometheus"
PROMTOOL: Final = PROMETHEUS.with_name("promtool")
NGINX: Final = unpacked("nginx") / "usr" / "sbin" / "nginx"
HAPROXY: Final = unpacked("haproxy") / "usr" / "sbin" / "haproxy"
POSTGRESQL: Final = unpacked("postgresql") / "usr" / "lib" / "postgresql" / "15" / "bin"  # folder of its programs
MAILX: Final = unpacked("mailx") / "usr" / "bin" / "bsd-mailx"

PACKAGES: Final = (
    "libsasl2-modules",  # Postfix logging in by itself, to show what happens without us
    "netbase",  # Postfix looks services up by name
    "fetchmail",
    "getmail6",
    "swaks",
    "libnet-ssleay-perl",  # swaks' TLS
    "msmtp",
    "mutt",  # shows messages with their footer
    "libnss-wrapper",  # shows Exim the user its package would have made
    "gcc",  # builds the disk and name server that fail, loaded into the service, and the benchmark's programs
    "libc6-dev",
    "libssl-dev",  # the benchmark's TLS
    "strace",  # the vault's writer, killed between every two system calls
    "gnome-keyring",  # a real keyring for the vault
    "dbus",
    "openssl",
    "e2fsprogs",  # a disk that turns read-only
    "iproute2",  # a name server in a network of its own
    "mount",
    "systemd",  # a machine that it boots, for the unit
    "ansible-core",  # runs the role in deploy/ansible
    "debootstrap",  # fresh releases, for the package
    "lintian",
    "php-cli",  # PHP's mail(), and other callers of sendmail (and bsd-mailx, above)
    "s-nail",
    "git-email",
    "libmailtools-perl",  # git send-email
    "libmail-dkim-perl",  # verifies signatures, as SpamAssassin does
    "opendkim-tools",  # verifies them too; no service
    "chromium",  # the page for the browser
    "chromium-driver",
    "fonts-dejavu-core",
    "libsisimai-perl",  # reads bounces; ours must be among those that it understands
)

# By command: another Node than Debian's has npm in itself, and excludes Debian's.
NODE: Final = {"node": "nodejs", "npm": "npm"}  # the OAuth server, and what fetches its packages


class PackagesMissing(Exception):
    """What is missing and cannot be had from here; the text says what to type or do."""


def main() -> int:
    """Bring everything here, or say what to type."""
    try:
        ensure(sys.argv[1:])
    except PackagesMissing as missing:
        print(missing, file=sys.stderr)
        return 1
    return 0


def ensure(more: Sequence[str] = ()) -> None:
    """Return when every package, and `more` for a longer form, is here; raise PackagesMissing when a person is needed."""
    if shutil.which("dpkg-query") is None:
        raise PackagesMissing(
            "The tests with real mail servers take them from Debian packages, and this is neither Debian nor kin.\n"
            "Run `make fast`, or `make test` on Debian 12."
        )
    names = [*wanted_packages(), *more]
    missing = absent(names)
    still_packed = [program for program in UNPACKED if not unpacked(program).exists()]
    if not missing and not still_packed:
        return
    if missing and not still_packed and os.geteuid() != 0:
        raise PackagesMissing(apt_line(missing))
    with _one_at_a_time():
        _refresh_if_unknown([*names, *(name for names in UNPACKED.values() for name in names)])
        for program in UNPACKED:
            if not unpacked(program).exists():  # another run may have done it meanwhile
                _unpack(program)
        if wanted := absent([*names, *_libraries()]):
            install(wanted)


def wanted_packages() -> list[str]:
    """Return the packages that are installed: Node only where there is none."""
    return [*PACKAGES, *(package for command, package in NODE.items() if shutil.which(command) is None)]


def absent(names: Sequence[str]) -> list[str]:
    """Return those of the packages that are not installed, in the order given."""
    answer = subprocess.run(
        ["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\n", *names],
        capture_output=True,
        text=True,
        check=False,  # exit code 1 says only that some are unknown
    )
    installed = {line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def apt_line(names: Sequence[str]) -> str:
    """Return what a person with the right to install packages has to type."""
    return f"sudo apt-get install --no-install-recommends {' '.join(names)}"


def install(names: Sequence[str]) -> None:
    """Install these, or raise PackagesMissing with the line to type."""
    if os.geteuid() != 0:
        raise PackagesMissing(apt_line(names))
    _install(names)
    if still := absent(names):
        raise PackagesMissing(f"apt-get ended well, yet these are missing: {' '.join(still)}")


def _install(names: Sequence[str]) -> None:
    """Install as root, quietly, and leave this machine's services as they were."""
    _refuse_if_something_would_go(names)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_service_starts():
        _apt(["install", "-y", "--no-install-recommends", *names], environment)


def _refuse_if_something_would_go(names: Sequence[str]) -> None:
    plan = subprocess.run(
        ["apt-get", "install", "-s", "--no-install-recommends", *names], capture_output=True, text=True, check=False
    )
    if plan.returncode != 0:
        raise PackagesMissing(f"apt-get cannot install {' '.join(names)}:\n{plan.stdout}{plan.stderr}")
    if going := re.findall(r"^Remv (\S+)", plan.stdout, re.MULTILINE):
        raise PackagesMissing(
            f"Installing {' '.join(names)} would remove {' '.join(going)} from this machine.\n"
            "Not done. Run the tests in a container or on a machine that has no mail server of its own."
        )


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian's own switch: while policy-rc.d answers 101, no package starts or stops a service."""
    kept = POLICY.with_name(POLICY.name + ".kept-by-senderproxy-tests")
    if POLICY.exists() and not kept.exists():  # an earlier run may have been cut off in here
        POLICY.rename(kept)
    try:
        POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink()
        if kept.exists():
            kept.rename(POLICY)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Hold a lock, so that two test runs do not fetch the same things together."""
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    with (PROGRAMS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _refresh_if_unknown(names: Sequence[str]) -> None:
    """Fetch the lists of packages, but only when one that we need is in none of them."""
    if set(names) - SEPARATE_SINCE_DEBIAN_13 <= _known(names):
        return
    if os.geteuid() != 0:
        raise PackagesMissing("sudo apt-get update && " + apt_line(absent(wanted_packages())))
    _apt(["update"], {**os.environ})


def _known(names: Sequence[str]) -> set[str]:
    """Return those of the packages that are in the lists."""
    shown = subprocess.run(
        ["apt-cache", "show", "--no-all-versions", *names], capture_output=True, text=True, check=False
    ).stdout
    return set(re.findall(r"^Package: (\S+)$", shown, re.MULTILINE)) & set(names)


def _unpack(program: str) -> None:
    """Download the packages of a program and unpack them; nothing outside the cache changes."""
    with tempfile.TemporaryDirectory(dir=PROGRAMS, prefix="download-") as folder:
        try:
            _download(UNPACKED[program], Path(folder))
        except subprocess.CalledProcessError:
            if os.geteuid() != 0:
                raise PackagesMissing("sudo apt-get update") from None
            _apt(["update"], {**os.environ})  # the lists name a version that the archive no longer has
            _download(UNPACKED[program], Path(folder))
        tree = Path(folder) / program
        for package in sorted(Path(folder).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), str(tree)], check=True)
            control = subprocess.run(["dpkg-deb", "-f", str(package), "Depends"], capture_output=True, check=True)
            with (tree / "depends").open("ab") as depends:
                depends.write(control.stdout)
        for file in tree.rglob("*"):
            # Exim as packed becomes root for any user that starts it: not wanted here, and libnss-wrapper would be shut out
            if file.is_file() and not file.is_symlink() and file.stat().st_mode & (stat.S_ISUID | stat.S_ISGID):
                file.chmod(0o755)
        tree.rename(unpacked(program))


def _download(names: Sequence[str], folder: Path) -> None:
    # root's apt hands the download to the user _apt, who must be able to write here
    folder.chmod(0o777)
    absent_here = SEPARATE_SINCE_DEBIAN_13 - _known(names)
    wanted = [name for name in names if name not in absent_here]
    subprocess.run(["apt-get", "download", "-qq", *wanted], cwd=folder, check=True, capture_output=True)


def _libraries() -> list[str]:
    """Return the shared libraries that the unpacked packages depend on; harmless beside anything."""
    depends = "".join((unpacked(program) / "depends").read_text(encoding="utf-8") for program in UNPACKED)
    return sorted(set(re.findall(r"(?:^|[\n,]\s*)(z?lib(?!js-)[a-z0-9.+-]+)", depends)) - {"libc6"})


def _apt(arguments: Sequence[str], environment: dict[str, str]) -> None:
    command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PackagesMissing(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    raise SystemExit(main())
