"""Networks of their own for instances, in a network that this process has for itself, and cuts in them.

Guarantees: nothing of the machine's network is touched: the process runs under `unshare --net`, and what it makes ends with
it. A cut by dropped packets sends no RST, in neither direction.
Not here: what happens because of a cut (tests.crash.cuts).
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Final

from tests.peers.packages import PROJECT
from tests.peers.process import Program, wait_until, why_not_here

HOST: Final = "10.77.0.1"  # of the database and the provider
NETWORK: Final = "10.77.0.0/24"
PROGRAMS: Final = ("ip", "nft", "nsenter", "unshare")
_SECONDS: Final = 30


class How(Enum):
    """A way to end a connection."""

    RESET = "reset"  # a firewall that says so
    DROP = "drop"  # half-open: neither side hears of it


class Networks:
    """Networks behind a bridge with the address HOST. The n-th one has the address `address(n)`."""

    def __init__(self, holders: Sequence[Program]) -> None:
        self._holders = holders

    def address(self, number: int) -> str:
        """The address in that network."""
        return f"10.77.0.{number + 2}"

    def prefix(self, number: int) -> Sequence[str]:
        """Words before a command that runs in that network."""
        return ("nsenter", f"--net=/proc/{self._holders[number].pid}/ns/net")

    def cut(self, number: int, ports: Sequence[int], how: How) -> None:
        """Cut a network off from these ports of HOST."""
        address, wanted = self.address(number), ", ".join(map(str, ports))
        if how is How.RESET:
            _nft(f"add rule inet cut input ip saddr {address} tcp dport {{ {wanted} }} reject with tcp reset")
            return
        # Dropped where they arrive: a drop on the way out would tell the sender.
        _nft(f"add rule inet cut input ip saddr {address} tcp dport {{ {wanted} }} drop")
        _run(*self.prefix(number), "nft", f"add rule inet cut input ip saddr {HOST} tcp sport {{ {wanted} }} drop")

    def heal(self, number: int) -> None:
        """End all cuts. Those by drops have been of this network."""
        _nft("flush chain inet cut input")
        _run(*self.prefix(number), "nft", "flush chain inet cut input")


def why_no_networks() -> str | None:
    """Why this machine cannot have them, in words for a skip; None if it can."""
    if missing := why_not_here(*PROGRAMS):
        return missing
    words = ["unshare", "--net", "nft", "add table inet probe"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False)
    return f"networks of one's own need root: {done.stderr.strip()}" if done.returncode else None


def in_own_network(module: str, *words: str) -> list[str]:
    """The command that runs a module of the tests in a network of its own."""
    return ["unshare", "--net", sys.executable, "-m", module, *words]


@contextmanager
def networks(folder: Path, count: int) -> Iterator[Networks]:
    """So many networks. For a process that runs as `in_own_network` says."""
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "bridge", "type", "bridge")
    _run("ip", "address", "add", f"{HOST}/24", "dev", "bridge")
    _run("ip", "link", "set", "bridge", "up")
    _make_chain()
    holders: list[Program] = []
    try:
        for number in range(count):
            words = ["unshare", "--net", "sleep", "infinity"]
            holder = Program("network", words, folder / f"network-{number}.log")
            holders.append(holder)
            wait_until(lambda: _network(holders[-1].pid) != _network("self"), "the network is there")
            _run("ip", "link", "add", f"to{number}", "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
            _run("ip", "link", "set", f"to{number}", "master", "bridge", "up")
            inside = Networks(holders)
            for command in (
                "ip link set lo up",
                f"ip address add {inside.address(number)}/24 dev eth0",
                "ip link set eth0 up",
            ):
                _run(*inside.prefix(number), *command.split())
            _make_chain(*inside.prefix(number))
        yield Networks(holders)
    finally:
        for holder in holders:
            holder.kill()


def _network(process: int | str) -> Path:
    return Path(f"/proc/{process}/ns/net").readlink()


def _make_chain(*prefix: str) -> None:
    _run(*prefix, "nft", "add table inet cut")
    _run(*prefix, "nft", "add chain inet cut input { type filter hook input priority 0; }")


def _nft(text: str) -> None:
    _run("nft", text)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False, cwd=PROJECT)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
