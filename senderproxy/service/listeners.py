"""The open listeners of the service: start, replacement after a reload, stop.

Guarantees: a replacement opens every new listener before it closes an old one; if one cannot be opened, the old ones
stay as they are. A listener on the same address takes over the socket, and no client is refused: those connected go on
for `service.stop_seconds`, and then to the end of their message. systemd keeps each socket beyond a restart.
Not here: connections and the SMTP conversation (listener), systemd's sockets (control.socket_store).
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Final

from senderproxy.clock import Clock
from senderproxy.config.model import Config, ListenerSettings
from senderproxy.config.values import SQLITE_ENGINE, split_address
from senderproxy.control.socket_store import Place, SocketStore
from senderproxy.listener.body import SpillDirectory
from senderproxy.listener.hidden_clients import refuse_if_open
from senderproxy.listener.login_throttle import LoginThrottle
from senderproxy.listener.memory_files import MemoryFiles
from senderproxy.listener.password_threads import PasswordThreads
from senderproxy.listener.server import Listener
from senderproxy.listener.turned_away import TurnedAwayClients
from senderproxy.relay.ports import Intake
from senderproxy.service.descriptors import provide_descriptors
from senderproxy.straight.path import StraightPath
from senderproxy.wiring import same_listener_environment

_MAX_RETIRING: Final = 10  # replaced listeners with clients; of more, the oldest is stopped: a bound on connections


class Listeners:
    """The open listeners, in the order of the configuration."""

    def __init__(
        self,
        intake: Intake,
        clock: Clock,
        spool_is_open: Callable[[], bool],
        throttle: LoginThrottle,
        sockets: SocketStore,
        straight: StraightPath | None = None,
    ) -> None:
        """`throttle` counts the failed logins at all listeners, also after a reload; `sockets` are systemd's."""
        self._intake = intake
        self._clock = clock
        self._spool_is_open = spool_is_open
        self._passwords = PasswordThreads()
        self._memory_files = MemoryFiles()
        self._throttle = throttle
        self._sockets = sockets
        self._straight = straight
        self.turned_away = TurnedAwayClients()  # of all listeners
        self._draining = False
        self._open: list[Listener] = []
        self._retiring: dict[Listener, asyncio.Task[None]] = {}  # the one replaced first is the first

    @property
    def open(self) -> tuple[Listener, ...]:
        """The listeners that accept connections."""
        return tuple(self._open)

    @property
    def all(self) -> tuple[Listener, ...]:
        """The listeners with clients: the open ones, and replaced ones whose clients go on."""
        return (*self._open, *self._retiring)

    @property
    def addresses(self) -> str:
        """Their addresses and ports, separated by commas."""
        return ", ".join(listener.address for listener in self._open)

    async def start(self, config: Config) -> None:
        """Open all listeners. Raises SenderproxyError at the first that cannot be opened; the others stay open."""
        provide_descriptors(config)
        places = [_place(settings) for settings in config.listeners]
        self._sockets.check_units(places)
        self._sockets.close_others(places)
        for settings in config.listeners:
            listener = self._open_listener(config, settings)
            self._open.append(listener)
            listener.accept()
        self._store_sockets()

    async def replace(self, old: Config, new: Config) -> None:
        """Open what is new, keep what is unchanged, retire the rest. Raises SenderproxyError, with nothing changed."""
        provide_descriptors(new)
        self._sockets.check_units([_place(settings) for settings in new.listeners])
        by_address = {listener.settings.address: listener for listener in self._open}
        opened: list[Listener] = []
        wanted: list[Listener] = []
        try:
            for settings in new.listeners:
                listener = by_address.get(settings.address)
                if listener is not None and listener.settings == settings and same_listener_environment(old, new):
                    listener.renew_certificate()
                else:
                    listener = self._open_listener(new, settings, instead_of=listener)
                    opened.append(listener)
                wanted.append(listener)
        except BaseException:
            for listener in opened:
                await listener.stop(0)
            raise
        replaced = [listener for listener in self._open if listener not in wanted]
        # In one step of the event loop: from here on, the new ones accept what waits in the kernel.
        for listener in replaced:
            listener.stop_accepting()
        for listener in opened:
            listener.accept()
        self._open = wanted
        self._store_sockets()
        for place in {listener.place for listener in replaced} - {listener.place for listener in wanted}:
            self._sockets.give_up(place)
        for listener in replaced:
            self._retire(listener, new.service.stop_seconds)

    def drain(self, *, on: bool) -> None:
        """Refuse the health checks of proxies from now on, at the listeners of a later reload too; or no longer."""
        self._draining = on
        for listener in self._open:
            listener.drain(on=on)

    async def stop(self, grace_seconds: float) -> None:
        """Close all listeners; transactions in progress have so many seconds to finish."""
        for task in self._retiring.values():
            task.cancel()
        await asyncio.gather(*(listener.stop(grace_seconds) for listener in self.all))
        self._open.clear()

    def _retire(self, listener: Listener, grace_seconds: float) -> None:
        if len(self._retiring) >= _MAX_RETIRING:
            oldest = next(iter(self._retiring))
            self._retiring.pop(oldest).cancel()
            self._end(oldest, oldest.stop(0))
        self._end(listener, listener.retire(grace_seconds))

    def _end(self, listener: Listener, ending: Coroutine[None, None, None]) -> None:
        """Run the end of a listener beside the others, until `stop` ends it with all of them."""
        task = asyncio.create_task(ending)
        self._retiring[listener] = task
        task.add_done_callback(lambda _: self._forget(listener, task))

    def _forget(self, listener: Listener, task: "asyncio.Task[None]") -> None:
        if self._retiring.get(listener) is task:
            del self._retiring[listener]

    def _open_listener(
        self, config: Config, settings: ListenerSettings, instead_of: Listener | None = None
    ) -> Listener:
        refuse_if_open(settings)
        # A large message for the queue is received into the spool's folder: it is only renamed then, and not copied.
        has_folder = config.spool.engine == SQLITE_ENGINE
        into_spool = settings.mode == "queue" and has_folder and self._spool_is_open()
        # Pass-through needs no disk: while the one for temporary files is full, large messages are buffered in memory.
        folder = Path(config.spool_directory) if into_spool else None
        spill = SpillDirectory(folder=folder, memory=None if into_spool else self._memory_files)
        listener = Listener(
            settings,
            config.clients,
            config.identity.hostname,
            self._intake,
            self._clock,
            spill=spill,
            throttle=self._throttle,
            passwords=self._passwords,
            turned_away=self.turned_away,
            straight=self._straight,
        )
        listener.drain(on=self._draining)
        listener.open(instead_of.share_socket() if instead_of else self._sockets.take(_place(settings)))
        return listener

    def _store_sockets(self) -> None:
        for listener in self._open:
            with closing(listener.share_socket()) as sock:
                self._sockets.keep(listener.place, sock)


def _place(settings: ListenerSettings) -> Place:
    host, port = split_address(settings.address)
    return str(host), port
