"""421 replies on the sockets of a `.socket` unit while the service cannot start.

Without them the process would end, systemd would start it again for the client that still waits, and after some starts
give up the unit with its socket for good.

Guarantees: each client gets the reply at once, and nothing that it sends is read. It ends on SIGTERM and SIGINT; for
another start by systemd also on SIGHUP, after a change of the configuration file since the failed start began, and
after half a minute if the cause may be over then.
Not here: the cause (cli.run).
RFC 5321 section 3.1, systemd.socket(5), sd_notify(3).
"""

import asyncio
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from senderproxy.control.systemd import SystemdNotifier
from senderproxy.wire import replies

_BATCH: Final = 16  # connections in one pass of the event loop
_LOOK: Final = 2.0  # seconds between two looks at the configuration file; RestartSec= of the unit takes as long again
_RETRY: Final = 30.0  # seconds; with RestartSec= nine starts within StartLimitIntervalSec=, of 20 that it permits


class RefusingListeners:
    """To be made before the configuration is read: its change from then on ends the refusal of all clients."""

    def __init__(self, configuration: Path, notifier: SystemdNotifier) -> None:
        self._configuration = configuration
        self._version = self._read_version()
        self._notifier = notifier
        self._ended = asyncio.Event()
        self._start_again = False

    async def run(self, sockets: Sequence[socket.socket], why: str, *, retry: bool) -> bool:
        """Refuse the clients of these sockets. True: the service should start again; False: it was stopped.

        `why`: the cause, for `systemctl status`; `retry`: end after half a minute.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        loop.add_signal_handler(signal.SIGHUP, self._end_to_start_again)
        reply = replies.not_started(socket.gethostname()).render()
        for sock in sockets:
            sock.setblocking(False)
            loop.add_reader(sock, _refuse, sock, reply)
        self._notifier.ready(f"cannot start, all clients get 421: {' '.join(why.split())}")
        if retry:
            loop.call_later(_RETRY, self._end_to_start_again)
        while not self._ended.is_set():
            self._notifier.alive()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _LOOK)
            if self._read_version() != self._version:
                self._end_to_start_again()
        for sock in sockets:
            loop.remove_reader(sock)
        self._notifier.stopping()
        return self._start_again

    def _end_to_start_again(self) -> None:
        self._start_again = True
        self._ended.set()

    def _read_version(self) -> tuple[int, ...]:
        try:
            status = self._configuration.stat()
        except OSError:
            return ()
        return status.st_ino, status.st_mtime_ns, status.st_size


def _refuse(sock: socket.socket, reply: bytes) -> None:
    for _ in range(_BATCH):
        try:
            client, _address = sock.accept()
        except OSError:
            return  # no more clients, or one that has left already
        with client, suppress(OSError):
            client.setblocking(False)
            client.send(reply)
            client.shutdown(socket.SHUT_WR)
