"""The open listeners of the service: start, replacement after a reload, stop.

Guarantees: a replacement opens every new listener before it closes an old one; if one cannot be opened, the old ones
stay as they are. A replaced listener finishes its transactions for `service.stop_seconds` at most.
Not here: connections and the SMTP conversation (listener).
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from senderproxy.clock import Clock
from senderproxy.config.model import Config, ListenerSettings
from senderproxy.listener.body import SpillDirectory
from senderproxy.listener.password_threads import PasswordThreads
from senderproxy.listener.server import Listener
from senderproxy.relay.intake import RelayIntake
from senderproxy.wiring import same_listener_environment


class Listeners:
    """The open listeners, in the order of the configuration."""

    def __init__(self, intake: RelayIntake, clock: Clock, spool_is_open: Callable[[], bool]) -> None:
        self._intake = intake
        self._clock = clock
        self._spool_is_open = spool_is_open
        self._passwords = PasswordThreads()
        self._open: list[Listener] = []
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> tuple[Listener, ...]:
        """The listeners that accept connections."""
        return tuple(self._open)

    @property
    def addresses(self) -> str:
        """Their addresses and ports, separated by commas."""
        return ", ".join(listener.address for listener in self._open)

    async def start(self, config: Config) -> None:
        """Open all listeners. Raises SenderproxyError at the first that cannot be opened; the others stay open."""
        for settings in config.listeners:
            self._open.append(await self._start(config, settings))

    async def replace(self, old: Config, new: Config) -> None:
        """Open what is new, keep what is unchanged, close the rest. Raises SenderproxyError, with nothing changed."""
        by_address = {listener.settings.address: listener for listener in self._open}
        started: list[Listener] = []
        wanted: list[Listener] = []
        try:
            for settings in new.listeners:
                listener = by_address.get(settings.address)
                if listener is not None and listener.settings == settings and same_listener_environment(old, new):
                    listener.renew_certificate()
                else:
                    listener = await self._start(new, settings, instead_of=listener)
                    started.append(listener)
                wanted.append(listener)
        except BaseException:
            for listener in started:
                await listener.stop(0)
            raise
        replaced = [listener for listener in self._open if listener not in wanted]
        self._open = wanted
        for listener in replaced:
            task = asyncio.create_task(listener.stop(new.service.stop_seconds))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def stop(self, grace_seconds: float) -> None:
        """Close all listeners; transactions in progress have so many seconds to finish."""
        await asyncio.gather(*(listener.stop(grace_seconds) for listener in self._open), *self._closing)
        self._open.clear()

    async def _start(self, config: Config, settings: ListenerSettings, instead_of: Listener | None = None) -> Listener:
        # A large message for the queue is received into the spool's folder: it is only renamed then, and not copied.
        into_spool = settings.mode == "queue" and self._spool_is_open()
        spill = SpillDirectory(folder=Path(config.spool_directory)) if into_spool else None
        listener = Listener(
            settings,
            config.clients,
            config.identity.hostname,
            self._intake,
            self._clock,
            spill=spill,
            passwords=self._passwords,
        )
        await listener.start(instead_of.share_socket() if instead_of else None)
        return listener
