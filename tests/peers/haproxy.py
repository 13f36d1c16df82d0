"""haproxy with the configuration of docs/proxy.md, before instances of senderproxy, or of docs/cluster.md, before the database."""

import contextlib
import csv
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.peers.packages import HAPROXY, PROJECT
from tests.peers.process import LOOPBACK, Program, private_folder, wait_until

PAGE: Final = PROJECT / "docs" / "proxy.md"
DATABASE_PAGE: Final = PROJECT / "docs" / "cluster.md"


class Haproxy:
    """A running haproxy. `port`: of its frontend."""

    def __init__(self, folder: Path, port: int, program: Program) -> None:
        self._folder = folder
        self.port = port
        self.program = program

    def states(self) -> Mapping[str, str]:
        """The state of each server by name, UP or DOWN, and the result of its last check: "UP L7OK"."""
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(str(self._folder / "stats"))
            stats.sendall(b"show stat\n")
            with stats.makefile(encoding="utf-8") as lines:
                rows = list(csv.DictReader(lines.read().removeprefix("# ").strip().splitlines()))
        return {
            row["svname"]: f"{row['status']} {row['check_status']}"
            for row in rows
            if row["svname"] not in ("FRONTEND", "BACKEND")
        }

    def wait_for(self, server: str, state: str) -> None:
        """Return when the server is in that state."""
        wait_until(lambda: self.states()[server] == state, f"{server} is {state}", 120, peer=self.program)


def documented_configuration(address: str, servers: Mapping[str, int], *, faster: bool = True) -> str:
    """The example of the page, with other addresses and checks at a short interval."""
    return _example(PAGE, "192.168.1.5:2525", address, servers, "inter 2s" if faster else "")


def _example(page: Path, documented: str, address: str, servers: Mapping[str, int], interval: str) -> str:
    block = re.search(r"^```haproxy\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert block is not None
    text, found = re.subn(r"^ +server .*\n", "", block[1], flags=re.MULTILINE)
    assert found == 2
    assert text.count(f"bind {documented}") == 1
    text = text.replace(documented, address)
    if interval:
        assert text.count(interval) == 1
        text = text.replace(interval, "inter 100ms")
    return text + "".join(f"    server {name} {LOOPBACK}:{port}\n" for name, port in servers.items())


@contextlib.contextmanager
def running_haproxy(
    port: int, servers: Mapping[str, int], *, without: str = "", faster: bool = True
) -> Iterator[Haproxy]:
    """haproxy on a port of loopback before the ports of the servers; `without`: a word to leave out; `faster`: checks every 0.1 s."""
    text = documented_configuration(f"{LOOPBACK}:{port}", servers, faster=faster)
    if without:
        assert without in text
        text = text.replace(without, "")
    with _running(text, port) as haproxy:
        yield haproxy


@contextlib.contextmanager
def running_database_proxy(port: int, servers: Mapping[str, int]) -> Iterator[Haproxy]:
    """haproxy on a port of loopback before a primary of PostgreSQL and its standby; checks every 0.1 s."""
    with _running(
        _example(DATABASE_PAGE, "192.168.1.5:5432", f"{LOOPBACK}:{port}", servers, "inter 2s"), port
    ) as haproxy:
        yield haproxy


@contextlib.contextmanager
def _running(text: str, port: int) -> Iterator[Haproxy]:
    with private_folder("haproxy") as folder:
        file = folder / "haproxy.cfg"
        file.write_text(f"global\n    stats socket {folder}/stats\n\n{text}", encoding="utf-8")
        program = Program("haproxy", [HAPROXY, "-db", "-f", file], folder / "haproxy.log")
        try:
            program.wait_until((folder / "stats").is_socket, "haproxy listens")
            yield Haproxy(folder, port, program)
        finally:
            program.end()
