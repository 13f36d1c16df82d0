"""What a person learns from the script that fetches the peers."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import packages
from tests.peers.process import private_folder
from tests.peers.unpacked import without

SCRIPT = Path(packages.__file__)
PYTHON = "/usr/bin/python3"  # the script must do with Debian's own, before there is a virtual environment

pytestmark = pytest.mark.skipif(
    shutil.which("dpkg-query") is None or not Path(PYTHON).exists(), reason="not a Debian with its own Python"
)


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A checkout, and a cache with all unpacked programs, on a machine whose dpkg knows of swaks and msmtp only."""
    with private_folder("packages") as folder:
        copy = folder / "tests" / "peers" / "packages.py"
        copy.parent.mkdir(parents=True)
        shutil.copy(SCRIPT, copy)
        for program in packages.UNPACKED:
            tree = folder / "senderproxy-tests" / packages.unpacked(program).relative_to(packages.PROGRAMS.parents[1])
            tree.mkdir(parents=True)
        dpkg_query = folder / "bin" / "dpkg-query"
        dpkg_query.parent.mkdir()
        dpkg_query.write_text(
            "#!/bin/sh\necho swaks installed\necho msmtp installed\necho dbus config-files\nexit 1\n", encoding="ascii"
        )
        for command in packages.NODE:
            (dpkg_query.parent / command).touch()
        for file in dpkg_query.parent.iterdir():
            file.chmod(0o755)
        yield folder


def run(checkout: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, checkout / "tests" / "peers" / "packages.py"],
        env={"PATH": path, "XDG_CACHE_HOME": str(checkout)},
        user="nobody" if os.geteuid() == 0 else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_without_the_right_to_install_the_one_line_to_type_is_printed(checkout: Path) -> None:
    done = run(checkout, f"{checkout}/bin:/usr/bin:/bin")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line == (
        "sudo apt-get install --no-install-recommends libsasl2-modules netbase fetchmail getmail6 "
        "libnet-ssleay-perl mutt libnss-wrapper gcc libc6-dev libssl-dev strace gnome-keyring dbus openssl e2fsprogs iproute2 mount systemd ansible-core debootstrap lintian php-cli s-nail git-email libmailtools-perl libmail-dkim-perl opendkim-tools chromium chromium-driver fonts-dejavu-core libsisimai-perl"
    )
    assert done.stdout == ""


def test_node_is_named_where_there_is_none(checkout: Path) -> None:
    for command in packages.NODE:
        (checkout / "bin" / command).unlink()
    done = run(checkout, f"{checkout}/bin")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("sudo apt-get install ")
    assert line.endswith(" nodejs npm")


def test_no_package_brings_a_mail_server_along() -> None:
    """A machine that has none would have one afterwards."""
    listed = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package}\t${Pre-Depends}, ${Depends}\n"],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    depends = {
        package: set(re.findall(r"[a-z0-9][a-z0-9.+-]+(?=[ ,|:]|$)", text))
        for package, _, text in (line.partition("\t") for line in listed.splitlines())
    }
    if packages.absent(packages.PACKAGES):
        pytest.skip("the peers are not here yet: python3 tests/peers/packages.py")
    brought, new = set[str](), set(packages.PACKAGES)
    while new:
        brought |= new
        new = {each for package in new for each in depends.get(package, ())} - brought
    assert "libsasl2-2" in brought
    assert brought.isdisjoint({"mail-transport-agent", "default-mta", "postfix", "dovecot-core", "exim4-base"})


def test_the_user_of_an_installed_exim_is_replaced(tmp_path: Path) -> None:
    users = tmp_path / "passwd"
    users.write_text("root:x:0:0::/root:/bin/sh\nDebian-exim:x:118:120::/:/usr/sbin/nologin\nDebian:x:1:1::/:/bin/sh\n")
    assert [line.split(":")[0] for line in without({"Debian-exim"}, users).splitlines()] == ["root", "Debian"]


def test_a_machine_that_is_no_debian_is_told_so(checkout: Path) -> None:
    done = run(checkout, "/nonexistent")
    assert done.returncode == 1
    assert "Debian 12" in done.stderr
    assert "Traceback" not in done.stderr


def test_when_all_is_there_nothing_is_said() -> None:
    if packages.absent(packages.wanted_packages()) or not all(
        packages.unpacked(each).exists() for each in packages.UNPACKED
    ):
        pytest.skip("the peers are not here yet: python3 tests/peers/packages.py")
    done = subprocess.run([PYTHON, SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
