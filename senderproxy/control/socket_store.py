"""Listening sockets that systemd passes at the start, and those it keeps for the next one.

Guarantees: a socket that systemd keeps stays open during a restart and after a crash: connections wait in the kernel,
none is refused. A socket of a `.socket` unit is used and never stored; without a listener it is an error, because its
clients would wait without an end. A stored socket without a listener is given up. Without systemd nothing happens.
Not here: the listeners (service.listeners), clients that no listener can serve (service.refusing_listeners).
sd_listen_fds(3), sd_notify(3) FDSTORE=1, systemd.service(5) FileDescriptorStoreMax=.
"""

import os
import socket
from collections.abc import Collection, MutableMapping
from typing import Final

from senderproxy.control.systemd import SystemdNotifier
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _

_FIRST: Final = 3  # SD_LISTEN_FDS_START
_PREFIX: Final = "listener-"  # names of the stored ones; a `.socket` unit's bear the unit's name
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
Place = tuple[str, int]  # numeric address, port


class SocketWithoutListener(SenderproxyError):
    """A `.socket` unit has an address without a listener."""


class SocketStore:
    """The sockets that systemd has passed and stored, by address."""

    def __init__(self, notifier: SystemdNotifier, passed: dict[str, list[socket.socket]] | None = None) -> None:
        """`passed`: the sockets of this start by systemd's name."""
        self._notifier = notifier
        self._stored: set[Place] = set()
        self._of_units: dict[Place, socket.socket] = {}
        self._waiting: dict[Place, socket.socket] = {}
        for name, sockets in (passed or {}).items():
            for sock in sockets:
                self._receive(name, sock)

    @property
    def of_units(self) -> tuple[socket.socket, ...]:
        """The sockets of `.socket` units."""
        return tuple(self._of_units.values())

    def take(self, place: Place) -> socket.socket | None:
        """Return the socket that systemd has passed for this address; None: there is none.

        A stored one is returned once, one of a unit as a duplicate each time: it is there as long as the unit.
        """
        if place in self._of_units:
            return self._of_units[place].dup()
        return self._waiting.pop(place, None)

    def check_units(self, places: Collection[Place]) -> None:
        """Raise SocketWithoutListener if a `.socket` unit has a socket for none of these addresses."""
        for host, port in sorted(self._of_units.keys() - set(places)):
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise SocketWithoutListener(
                _("systemd has opened {address} for the service, but no listener has this address.").format(
                    address=address
                ),
                hint=_(
                    "Give ListenStream= and the listener's `address` the same value: systemctl edit senderproxy.socket"
                ),
            )

    def keep(self, place: Place, sock: socket.socket) -> None:
        """Let systemd keep the listener's socket beyond this process, unless a unit of systemd keeps it anyway."""
        if place not in self._stored and place not in self._of_units:
            self._stored.add(place)
            self._notifier.store(_name(place), sock)

    def give_up(self, place: Place) -> None:
        """End the storage of a socket whose listener is no longer configured."""
        if place in self._stored:
            self._stored.remove(place)
            self._notifier.remove_stored(_name(place))

    def close_others(self, places: Collection[Place]) -> None:
        """Close the stored sockets of all other addresses, and end their storage."""
        for place in self._waiting.keys() - set(places):
            self.give_up(place)
            self._waiting.pop(place).close()

    def _receive(self, name: str, sock: socket.socket) -> None:
        if not _is_listening(sock):
            sock.close()
            return
        place: Place = sock.getsockname()[:2]
        if (
            place in self._waiting or place in self._of_units
        ):  # of two sockets of one address, the kernel would give each half of the clients
            sock.close()
            return
        if name.startswith(_PREFIX):
            self._waiting[place] = sock
            self._stored.add(place)
        else:
            self._of_units[place] = sock


def sockets_of_systemd(environment: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """Return the sockets passed to this process by name, and remove the variables: they are not meant for a child.

    A variable that is missing, damaged or meant for another process means no sockets.
    """
    pid = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    passed: dict[str, list[socket.socket]] = {}
    for index in range(int(count)):
        name = names[index] if index < len(names) else "unknown"
        try:
            sock = socket.socket(fileno=_FIRST + index)
        except OSError:
            continue  # not a socket
        sock.set_inheritable(False)
        passed.setdefault(name, []).append(sock)
    return passed


def _is_listening(sock: socket.socket) -> bool:
    if sock.family not in _FAMILIES or sock.type != socket.SOCK_STREAM:
        return False
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _name(place: Place) -> str:
    """Return the name in systemd's store: without the colon, which FDNAME forbids."""
    return f"{_PREFIX}{place[0]}-{place[1]}".replace(":", "_")
