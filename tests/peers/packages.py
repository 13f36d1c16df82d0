#!/usr/bin/env python3
"""Fetch the real mail programs that the slow tests talk to, from Debian's archive.

Guarantees: when all is there, says nothing and takes a fraction of a second. As root it installs what is missing
without starting, enabling or replacing any service of this machine. Otherwise it prints the one line to type and
ends with exit code 1. Exim cannot be installed beside Postfix (both are the machine's mail transport agent), so its
package is only unpacked, below `.cache/peers`; so is Prometheus, whose package would start a service. A machine that has another mail transport agent than Postfix keeps it: the
tests with Postfix are skipped there, which is said.
Not here: running any of it (the other modules here).

Runs before the virtual environment matters: nothing but the standard library.
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = PROJECT / ".cache" / "peers"
EXIM: Final = CACHE / "exim" / "usr" / "sbin" / "exim4"
EXIM_PACKAGES: Final = ("exim4-daemon-light", "exim4-base")
PROMETHEUS: Final = CACHE / "prometheus" / "usr" / "bin" / "prometheus"
PROMTOOL: Final = PROMETHEUS.with_name("promtool")
POLICY: Final = Path("/usr/sbin/policy-rc.d")
SERVICES: Final = {"postfix": "postfix", "dovecot-core": "dovecot"}  # by the package that brings them

PACKAGES: Final = (
    "postfix",  # the office's server, and the provider's
    "libsasl2-modules",  # Postfix logging in by itself, to show what happens without us
    "dovecot-core",  # the provider's logins (SASL)
    "dovecot-sieve",  # redirects and vacation answers
    "dovecot-pop3d",  # the mailbox that gets all mail of a domain
    "fetchmail",
    "getmail6",
    "swaks",
    "libnet-ssleay-perl",  # swaks' TLS
    "msmtp",
    "libnss-wrapper",  # shows Exim the user its package would have made
    "gcc",  # builds the disk and name server that fail, loaded into the service
    "libc6-dev",
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
    "php-cli",  # PHP's mail(), and other callers of sendmail
    "bsd-mailx",
    "s-nail",
    "git-email",
    "libmailtools-perl",  # git send-email
    "libsisimai-perl",  # reads bounces; ours must be among those that it understands
)


class PackagesMissing(Exception):
    """What is missing and cannot be had from here; the text says what to type or do."""


def main() -> int:
    """Bring everything here, or say what to type."""
    try:
        ensure()
    except PackagesMissing as missing:
        print(missing, file=sys.stderr)
        return 1
    return 0


def ensure() -> None:
    """Return when every package is here; raise PackagesMissing when a person is needed."""
    if shutil.which("dpkg-query") is None:
        raise PackagesMissing(
            "The tests with real mail servers take them from Debian packages, and this is neither Debian nor kin.\n"
            "Run `make fast`, or `make test` on Debian 12."
        )
    wished = _beside_the_mail_server(PACKAGES)
    missing = absent(wished)
    unpacked = EXIM.exists() and PROMETHEUS.exists()
    if not missing and unpacked:
        return
    if missing and unpacked and os.geteuid() != 0:
        raise PackagesMissing(apt_line(missing))
    with _one_at_a_time():
        _refresh_if_unknown([*wished, *EXIM_PACKAGES, "prometheus"])
        if not EXIM.exists():
            _unpack("exim", EXIM_PACKAGES)
        if not PROMETHEUS.exists():
            _unpack("prometheus", ["prometheus"])
        wanted = absent([*wished, *_libraries_of_exim()])
        if not wanted:
            return
        install(wanted)


def _beside_the_mail_server(names: Sequence[str]) -> list[str]:
    """Return the packages that can be installed beside this machine's mail transport agent; say what is left out."""
    provided = subprocess.run(
        ["dpkg-query", "-W", "-f=${db:Status-Status} ${Package} ${Provides}\n"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    agents = [line.split()[1] for line in provided if line.startswith("installed ") and "mail-transport-agent" in line]
    if not agents or "postfix" in agents:
        return list(names)
    print(
        f"{agents[0]} is this machine's mail server, and Postfix cannot be installed beside it: its tests are skipped."
    )
    return [name for name in names if name != "postfix"]


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
    if "postfix" in names:
        # no main.cf, so that this machine has no mail server of its own afterwards
        subprocess.run(
            ["debconf-set-selections"],
            input="postfix postfix/main_mailer_type select No configuration\n",
            text=True,
            check=True,
        )
    with _no_service_starts():
        _apt(["install", "-y", "--no-install-recommends", *names], environment)
    new_services = [service for package, service in SERVICES.items() if package in names]  # not those it had before
    if new_services and shutil.which("systemctl"):
        subprocess.run(["systemctl", "disable", "--quiet", *new_services], check=False, capture_output=True)


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
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _refresh_if_unknown(names: Sequence[str]) -> None:
    """Fetch the lists of packages, but only when one that we need is in none of them."""
    known = subprocess.run(
        ["apt-cache", "show", "--no-all-versions", *names], capture_output=True, text=True, check=False
    )
    if all(re.search(rf"^Package: {re.escape(name)}$", known.stdout, re.MULTILINE) for name in names):
        return
    if os.geteuid() != 0:
        raise PackagesMissing("sudo apt-get update && " + apt_line(absent(names)))
    _apt(["update"], {**os.environ})


def _unpack(name: str, packages: Sequence[str]) -> None:
    """Download packages and unpack them; nothing outside `.cache/peers` changes."""
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="download-") as folder:
        try:
            _download(Path(folder), packages)
        except subprocess.CalledProcessError:
            if os.geteuid() != 0:
                raise PackagesMissing("sudo apt-get update") from None
            _apt(["update"], {**os.environ})  # the lists name a version that the archive no longer has
            _download(Path(folder), packages)
        unpacked = Path(folder) / name
        for package in sorted(Path(folder).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), str(unpacked)], check=True)
            control = subprocess.run(["dpkg-deb", "-f", str(package), "Depends"], capture_output=True, check=True)
            with (unpacked / "depends").open("ab") as depends:
                depends.write(control.stdout)
        if (exim := unpacked / EXIM.relative_to(CACHE / "exim")).exists():
            # as packed it becomes root for whoever starts it: not wanted here, and libnss-wrapper would be shut out
            exim.chmod(0o755)
        unpacked.rename(CACHE / name)


def _download(folder: Path, packages: Sequence[str]) -> None:
    # root's apt hands the download to the user _apt, who must be able to write here
    folder.chmod(0o777)
    subprocess.run(["apt-get", "download", "-qq", *packages], cwd=folder, check=True, capture_output=True)


def _libraries_of_exim() -> list[str]:
    """Return the shared libraries that Exim's package asks for; harmless beside anything."""
    depends = (CACHE / "exim" / "depends").read_text(encoding="utf-8")
    return sorted(set(re.findall(r"(?:^|[\n,|]\s*)(lib[a-z0-9.+-]+)", depends)) - {"libc6"})


def _apt(arguments: Sequence[str], environment: dict[str, str]) -> None:
    command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PackagesMissing(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    raise SystemExit(main())
