"""The Debian package as a file: reproducible, without an error of lintian."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.package.conftest import FIRST, build

pytestmark = pytest.mark.slow


def test_the_same_sources_give_the_same_octets(package: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        elsewhere = {
            "COLUMNS": "40",
            "TZ": "Asia/Tokyo",
            "LANGUAGE": "de",
            "LC_ALL": "de_DE.UTF-8",
            "PYTHONHASHSEED": "7",
        }
        again = build(FIRST, tmp_path, **elsewhere)
    finally:
        os.umask(before)
    assert again.read_bytes() == package.read_bytes()


def test_lintian_finds_no_error(package: Path) -> None:
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on=error", str(package)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_holds_what_an_administrator_looks_for(package: Path) -> None:
    listed = subprocess.run(["dpkg-deb", "--contents", str(package)], capture_output=True, text=True, check=True).stdout
    paths = {line.split()[5].removeprefix("./"): line.split()[:2] for line in listed.splitlines()}
    for path in (
        "usr/bin/senderproxy",
        "usr/lib/senderproxy/sendmail",
        "usr/lib/systemd/system/senderproxy-failed@.service",
        "usr/lib/systemd/system/senderproxy-web.service",
        "usr/lib/systemd/system/senderproxy-web.socket",
        "usr/lib/systemd/system/senderproxy.service",
        "usr/lib/systemd/system/senderproxy.socket",
        "usr/lib/sysusers.d/senderproxy.conf",
        "usr/lib/tmpfiles.d/senderproxy.conf",
        "usr/share/bash-completion/completions/senderproxy",
        "usr/share/doc/senderproxy/README.de.md",
        "usr/share/doc/senderproxy/changelog.gz",
        "usr/share/doc/senderproxy/copyright",
        "usr/share/doc/senderproxy/examples/prometheus/prometheus.yml",
        "usr/share/doc/senderproxy/examples/prometheus/senderproxy-dashboard.json",
        "usr/share/doc/senderproxy/examples/prometheus/senderproxy-rules.yml",
        "usr/share/doc/senderproxy/guides/exchange.de.md",
        "usr/share/doc/senderproxy/metrics.md",
        "usr/share/doc/senderproxy/operating.de.md",
        "usr/share/doc/senderproxy/operating.md",
        "usr/share/doc/senderproxy/web.de.md",
        "usr/share/doc/senderproxy/web.md",
        "usr/share/man/man1/senderproxy.1.gz",
        "usr/share/zsh/vendor-completions/_senderproxy",
    ):
        assert path in paths
    assert not [path for path in paths if path.startswith(("opt/", "home/", "root/", "usr/local/", "etc/"))]
    assert {owner for _mode, owner in paths.values()} == {"root/root"}
    assert not [path for path, (mode, _owner) in paths.items() if mode[5] == "w" or mode[8] == "w"]


def test_each_library_names_its_licence(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--extract", str(package), str(tmp_path)], check=True)
    text = (tmp_path / "usr/share/doc/senderproxy/copyright").read_text()
    infos = [path.name.removesuffix(".dist-info") for path in (tmp_path / "usr/lib/senderproxy").glob("*/*.dist-info")]
    assert len(infos) > 15
    titles = {_normal(line) for line in text.splitlines()}
    assert not [info for info in infos if _normal(info.replace("-", " ")) not in titles]


def _normal(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")
