"""Instances that are cut off from the database, from the provider, or from both, in mid-load.

Guarantees: an instance that cannot renew its leases closes the session of an attempt before they end, and sends nothing
of the queue any more; another one sends that message. Nothing is lost.
As a program it needs a network of its own (tests.crash.networks.in_own_network). It prints one line for each cut.
"""

import asyncio
import os
import random
import re
import shutil
import sys
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Final

import aiosmtplib

from senderproxy.simulator.observations import ReceivedMessage, SessionRecord
from senderproxy.spool.postgresql.instance import LEASE
from tests.crash.members import Cluster, Place, cluster
from tests.crash.networks import HOST, NETWORK, How, Networks, networks
from tests.crash.traffic import HELD, Reckoning
from tests.peers.certificates import Authority
from tests.peers.postgresql import DATABASE, OWNER, SERVICE, PostgresqlServer, running_postgresql
from tests.peers.process import private_folder

_MORE: Final = 15  # messages acknowledged before a cut, and after it
_PROVIDER_AWAY: Final = 20.0  # seconds of a cut from the provider alone
_HALF_OPEN_NOTICED: Final = 120.0  # seconds until another instance has the message; forty on an idle machine
_NO_LIMITS: Final = "\n".join(f"max_{what}_per_minute = 1000000" for what in ("connections", "messages", "recipients"))
_BY: Final = re.compile(rb"^Received: .*?\bby (\S+)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Cut:
    """One cut of one instance."""

    of_database: bool
    of_provider: bool
    how: How

    def __str__(self) -> str:
        what = " and ".join(
            word for word, cut in (("database", self.of_database), ("provider", self.of_provider)) if cut
        )
        return f"{what}, {self.how.value}"


ALL: Final = (
    Cut(of_database=True, of_provider=False, how=How.DROP),
    Cut(of_database=True, of_provider=False, how=How.RESET),
    Cut(of_database=False, of_provider=True, how=How.DROP),
    Cut(of_database=False, of_provider=True, how=How.RESET),
    Cut(of_database=True, of_provider=True, how=How.DROP),
    Cut(of_database=True, of_provider=True, how=How.RESET),
)


class Cuts:
    """Three instances, each in a network of its own."""

    def __init__(self, it: Cluster, database: PostgresqlServer, nets: Networks) -> None:
        self.cluster = it
        self._ports = (database.port, it.simulator.port_tls)
        self._nets = nets
        self._letters = 0

    async def rage(self, cuts: Sequence[Cut]) -> Reckoning:
        """One cut after the other while everybody submits; then let what waits go out."""
        it = self.cluster
        it.traffic.start(it.doors, each=1)
        try:
            for number, cut in enumerate(cuts):
                await it.traffic.until_more_acknowledged(_MORE)
                victim = number % len(it.members)
                said = await (self._lose_leases(victim, cut) if cut.of_database else self._lose_provider(victim, cut))
                print(f"{cut}: {said}", flush=True)
                self._nets.heal(victim)
                await it.traffic.until_more_acknowledged(_MORE)
                await self._until_back(victim)
        finally:
            await it.traffic.stop()
        return await it.settle("cut off before it was written down")

    async def _lose_provider(self, victim: int, cut: Cut) -> str:
        """The lease goes on. What this instance cannot send, waits; the others send."""
        it = self.cluster
        self._nets.cut(victim, self._ports[1:], cut.how)
        before = len(it.simulator.received)
        await asyncio.sleep(_PROVIDER_AWAY)  # how long the provider is away is the test's subject
        assert len(it.simulator.received) > before
        return f"others sent {len(it.simulator.received) - before} in {_PROVIDER_AWAY:.0f} s"

    async def _lose_leases(self, victim: int, cut: Cut) -> str:
        """The instance has an attempt before its final dot, and stops it in time; another one takes the message over."""
        it, loop = self.cluster, asyncio.get_running_loop()
        name = await self._hold_one(victim)
        session = await self._held_session(it.members[victim].hostname)
        begun = loop.time()
        self._nets.cut(victim, self._ports if cut.of_provider else self._ports[:1], cut.how)
        it.weather.holds = False
        lost = await asyncio.to_thread(it.members[victim].wait_for_new_loss)
        stopped = loop.time() - begun
        assert stopped < LEASE, f"lost after {stopped:.1f} s"
        if not cut.of_provider:  # else the provider does not hear of it
            async with asyncio.timeout(LEASE):
                while session.ended is None:
                    await asyncio.sleep(0.02)
            stopped = loop.time() - begun
            assert stopped < LEASE, f"the session was open for {stopped:.1f} s"
        async with asyncio.timeout(_HALF_OPEN_NOTICED):
            while not (copies := [taken for taken in it.simulator.received if name in taken.content]):
                await asyncio.sleep(0.02)
        [copy] = copies
        taken_over = loop.time() - begun
        assert self._sender(copy) != it.members[victim].hostname
        late = [one for one in it.simulator.received if one.at > begun + LEASE and self._is_of_others(one, victim)]
        assert late == [], f"sent after the lease: {late}"
        return f"stopped after {stopped:.1f} s ({lost}), taken over after {taken_over:.1f} s"

    async def _hold_one(self, victim: int) -> bytes:
        """Queue a message at the instance whose attempt gets no reply to DATA. A word that only it contains."""
        it = self.cluster
        it.weather.holds = True
        self._letters += 1
        letter = EmailMessage()
        letter["From"], letter["To"], letter["Subject"] = HELD, "held@kunde.example", "held"
        letter["Message-ID"] = f"<held-{self._letters}@firma.example>"
        letter.set_content("held\n")
        host, port = it.members[victim].doors[1]
        async with aiosmtplib.SMTP(hostname=host, port=port, timeout=60, start_tls=False) as client:
            await client.send_message(letter)
        return f"held-{self._letters}@firma.example".encode()

    async def _held_session(self, name: str) -> SessionRecord:
        """The session of that instance; the provider may not know yet that earlier ones of others have ended."""
        async with asyncio.timeout(60):
            while True:
                for record in self.cluster.simulator.observations.sessions:
                    waits = record.login == HELD and record.ended is None and record.verbs[-1] == "DATA"
                    if waits and record.ehlo_names == [name]:
                        return record
                await asyncio.sleep(0.02)

    def _sender(self, taken: ReceivedMessage) -> str:
        return self.cluster.simulator.observations.sessions[taken.session - 1].ehlo_names[0]

    def _is_of_others(self, taken: ReceivedMessage, victim: int) -> bool:
        """True if this instance has sent what another one accepted: from the queue, that is."""
        name = self.cluster.members[victim].hostname
        by = _BY.search(taken.content)
        return self._sender(taken) == name and by is not None and by[1].decode() != name

    async def _until_back(self, victim: int) -> None:
        """Until the instance takes mail into the queue again."""
        async with asyncio.timeout(120):
            while (await asyncio.to_thread(self.cluster.members[victim].status))["queue"]["problem"]:
                await asyncio.sleep(0.1)


@asynccontextmanager
async def cuts(seed: int) -> AsyncIterator[Cuts]:
    """Three instances in networks of their own. For a process that has a network for itself."""
    with private_folder("networks") as folder, networks(folder, 3) as nets:
        certificate = Authority(folder).issue(HOST)
        if os.geteuid() == 0:
            shutil.chown(certificate.key, "nobody")
        settings = (
            "fsync=off",
            "full_page_writes=off",
            f"listen_addresses=127.0.0.1,{HOST}",
            "ssl=on",
            f"ssl_cert_file={certificate.chain}",
            f"ssl_key_file={certificate.key}",
        )
        access = f"hostssl all {OWNER},{SERVICE} {NETWORK} trust\n"
        with running_postgresql(*settings, more_access=access) as database:
            places = [Place(nets.address(number), nets.prefix(number)) for number in range(3)]
            async with cluster(
                seed,
                database,
                places=places,
                engine=f"postgresql://{SERVICE}@{HOST}:{database.port}/{DATABASE}",
                simulator_address=HOST,
                listener_settings=f'allow = ["{NETWORK}"]\n{_NO_LIMITS}',
                more_spool_settings=f'engine_ca_file = "{folder / "ca.pem"}"',
                is_fair=True,
            ) as it:
                yield Cuts(it, database, nets)


async def _main(chosen: Sequence[Cut], seed: int) -> bool:
    async with cuts(seed) as it:
        try:
            reckoning = await it.rage(chosen)
        except Exception:
            traceback.print_exc()  # a service that does not end in time, because of it, would hide it
            raise
    print(reckoning)
    for what in (*reckoning.lost, *reckoning.unexplained):
        print(what)
    return reckoning.is_kept


if __name__ == "__main__":
    which = [ALL[int(number)] for number in sys.argv[1].split(",")] if sys.argv[1:] else ALL
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1_000_000)
    print(f"seed {seed}", flush=True)
    sys.exit(not asyncio.run(_main(which, seed)))
