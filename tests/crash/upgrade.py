"""A rolling upgrade of three instances under load, behind haproxy: no client is refused, and nothing is lost.

The newer program is the same one with another version and a further migration, which programs of the older version allow.
"""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import senderproxy
from senderproxy.spool.postgresql.migrations import scripts
from tests.crash.members import Cluster, StormMember, cluster
from tests.crash.traffic import Reckoning
from tests.peers.haproxy import Haproxy, running_haproxy
from tests.peers.packages import PROJECT
from tests.peers.postgresql import running_postgresql
from tests.peers.process import LOOPBACK, private_folder, reserved_ports

NEWER: Final = "999.0.0"
_MORE: Final = 20  # messages acknowledged between two steps
_MESSAGES: Final = 5  # of a client on one connection
_DRAINED_WITHIN: Final = 120  # seconds


class Upgrade:
    """Three instances of the older version, and the sources of the newer one."""

    def __init__(self, it: Cluster, proxies: list[Haproxy], newer: Path) -> None:
        self.cluster = it
        self._proxies = proxies
        self._newer = newer

    async def rage(self) -> Reckoning:
        """Change the tables, then one instance after the other, while everybody submits."""
        it = self.cluster
        it.traffic.start([(LOOPBACK, proxy.port) for proxy in self._proxies], messages=_MESSAGES)
        try:
            await it.traffic.until_more_acknowledged(_MORE)
            await asyncio.to_thread(self._migrate)
            for number, member in enumerate(it.members):
                await it.traffic.until_more_acknowledged(_MORE)
                await asyncio.to_thread(self._replace, member, f"relay{number}")
                await it.traffic.until_more_acknowledged(_MORE)
        finally:
            await it.traffic.stop()
        assert [member.status()["version"] for member in it.members] == [NEWER] * len(it.members)
        return await it.settle("an attempt ended with its instance")

    def _migrate(self) -> None:
        first = self.cluster.members[0]
        first.tree = self._newer
        first.migrate()
        first.tree = PROJECT

    def _replace(self, member: StormMember, name: str) -> None:
        assert member.status()["version"] == senderproxy.__version__
        member.command("drain", "--wait", str(_DRAINED_WITHIN), seconds=_DRAINED_WITHIN + 30)
        for proxy in self._proxies:
            assert proxy.states()[name] == "DOWN L7STS"
        member.stop()
        member.tree = self._newer
        member.start()
        for proxy in self._proxies:
            proxy.wait_for(name, "UP L7OK")


def make_newer(folder: Path) -> None:
    """The sources with another version, and a migration that adds a comment."""
    for package in ("senderproxy", "vault"):
        shutil.copytree(PROJECT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    start = folder / "senderproxy" / "__init__.py"
    text, found = re.subn(
        r'^__version__ = ".*"$', f"__version__ = {json.dumps(NEWER)}", start.read_text(), flags=re.MULTILINE
    )
    assert found == 1
    start.write_text(text, encoding="utf-8")
    now = len(scripts())
    script = folder / "senderproxy" / "spool" / "postgresql" / "schema" / f"{now + 1:04}_harmless.sql"
    script.write_text(f"-- oldest: {now}\nCOMMENT ON TABLE message IS 'upgraded';\n", encoding="ascii")


@asynccontextmanager
async def upgrade(seed: int) -> AsyncIterator[Upgrade]:
    """Three instances behind haproxy, for each of their listeners."""
    proxied = f'allow = ["{LOOPBACK}", "192.168.1.0/24"]\nproxy_from = ["{LOOPBACK}"]'
    async with AsyncExitStack() as things:
        folder = things.enter_context(private_folder("newer"))
        make_newer(folder)
        database = things.enter_context(running_postgresql())
        it = await things.enter_async_context(cluster(seed, database, listener_settings=proxied, is_fair=True))
        proxies: list[Haproxy] = []
        for mode in (0, 1):
            [port] = things.enter_context(reserved_ports(1))
            servers = {f"relay{number}": member.doors[mode][1] for number, member in enumerate(it.members)}
            proxies.append(things.enter_context(running_haproxy(port, servers, faster=False)))
        for proxy in proxies:
            for number in range(len(it.members)):
                await asyncio.to_thread(proxy.wait_for, f"relay{number}", "UP L7OK")
        yield Upgrade(it, proxies, folder)
