"""What systemd is told: ready, reloading, stopping, alive, and one line for `systemctl status`.

Guarantees: nothing happens where we were not started by systemd; a message that cannot be sent is no fault.
sd_notify(3), systemd.service(5) Type=notify and WatchdogSec=.
"""

import os
import socket


class Notifier:
    """Speaks to the socket named in NOTIFY_SOCKET."""

    def __init__(self, address: str | None, watchdog_seconds: float | None) -> None:
        self._address = address
        self.watchdog_seconds = watchdog_seconds  # how often `alive` is wanted at least; None: not at all

    @classmethod
    def from_environment(cls) -> "Notifier":
        """The notifier systemd asked for, or a silent one."""
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog = int(microseconds) / 1_000_000 if microseconds.isdigit() and mine else None
        return cls(os.environ.get("NOTIFY_SOCKET"), watchdog)

    def ready(self, status: str) -> None:
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def reloading(self, monotonic_microseconds: int) -> None:
        self._send("RELOADING=1", f"MONOTONIC_USEC={monotonic_microseconds}")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=finishing the messages under way")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        name = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.setblocking(False)
                out.sendto("\n".join(lines).encode(), name)
        except OSError:
            pass  # a supervisor that does not listen must not stop the mail
