"""Notifications to systemd: ready, reloading, stopping, alive, the line of `systemctl status`, stored sockets.

Guarantees: no effect if the process was not started by systemd; a notification that cannot be sent is not an error.
sd_notify(3), systemd.service(5) Type=notify and WatchdogSec=.
"""

import os
import socket
from collections.abc import Sequence


class SystemdNotifier:
    """Sends to the socket of NOTIFY_SOCKET. `watchdog_seconds`: longest time between two `alive`; None: no watchdog."""

    def __init__(self, address: str | None, watchdog_seconds: float | None) -> None:
        self._address = address
        self.watchdog_seconds = watchdog_seconds

    @classmethod
    def from_environment(cls) -> "SystemdNotifier":
        """The notifier that systemd asks for, or one without effect."""
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        is_ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog = int(microseconds) / 1_000_000 if microseconds.isdigit() and is_ours else None
        return cls(os.environ.get("NOTIFY_SOCKET"), watchdog)

    def ready(self, status: str) -> None:
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def reloading(self, monotonic_microseconds: int) -> None:
        self._send("RELOADING=1", f"MONOTONIC_USEC={monotonic_microseconds}")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=finishing transactions in progress")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def store(self, name: str, sock: socket.socket) -> None:
        """Have systemd keep a duplicate of the socket under this name and pass it to the next start of the service."""
        self._send("FDSTORE=1", f"FDNAME={name}", descriptors=[sock.fileno()])

    def remove_stored(self, name: str) -> None:
        """Have systemd close the socket that it keeps under this name."""
        self._send("FDSTOREREMOVE=1", f"FDNAME={name}")

    def _send(self, *lines: str, descriptors: Sequence[int] = ()) -> None:
        if not self._address:
            return
        name = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.setblocking(False)
                out.connect(name)
                socket.send_fds(out, ["\n".join(lines).encode()], descriptors)
        except OSError:
            pass  # systemd does not receive: mail goes on
