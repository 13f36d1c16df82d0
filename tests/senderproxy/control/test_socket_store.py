"""Sockets of systemd: those that it passes, those that it keeps. The other side is a socket as systemd opens it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from senderproxy.control.socket_store import SocketStore, SocketWithoutListener, sockets_of_systemd
from senderproxy.control.systemd import SystemdNotifier


class Systemd:
    """Receives the notifications of a service."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._socket.setblocking(False)
        self.notifier = SystemdNotifier(str(folder / "notify"), None)

    def received(self) -> tuple[list[str], list[socket.socket]]:
        """Return the lines of the next notification and the sockets with it."""
        text, descriptors, _flags, _address = socket.recv_fds(self._socket, 4096, 4)
        return text.decode().splitlines(), [socket.socket(fileno=number) for number in descriptors]

    def is_silent(self) -> bool:
        try:
            self._socket.recv(4096)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    systemd = Systemd(tmp_path)
    yield systemd
    systemd.close()


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def listening(opened: ExitStack, address: str = "127.0.0.1") -> tuple[socket.socket, tuple[str, int]]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = opened.enter_context(socket.create_server((address, 0), family=family))
    return sock, sock.getsockname()[:2]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_kept_socket_accepts_after_the_process_closed_its_own(
    systemd: Systemd, opened: ExitStack, address: str
) -> None:
    sock, place = listening(opened, address)
    SocketStore(systemd.notifier).keep(place, sock)
    sock.close()
    lines, (stored,) = systemd.received()
    opened.enter_context(stored)
    assert lines == ["FDSTORE=1", f"FDNAME=listener-{place[0].replace(':', '_')}-{place[1]}"]
    opened.enter_context(socket.create_connection(place))
    opened.enter_context(stored.accept()[0])


def test_a_stored_socket_is_taken_once_and_not_stored_again(systemd: Systemd, opened: ExitStack) -> None:
    sock, place = listening(opened)
    store = SocketStore(systemd.notifier, {"listener-x": [sock]})
    assert store.take(place) is sock
    assert store.take(place) is None
    store.keep(place, sock)
    assert systemd.is_silent()


def test_a_stored_socket_without_a_listener_is_closed_and_given_up(systemd: Systemd, opened: ExitStack) -> None:
    sock, place = listening(opened)
    other, elsewhere = listening(opened)
    store = SocketStore(systemd.notifier, {"listener-x": [sock, other]})
    store.close_others([elsewhere])
    assert systemd.received()[0] == ["FDSTOREREMOVE=1", f"FDNAME=listener-127.0.0.1-{place[1]}"]
    assert sock.fileno() == -1
    assert store.take(place) is None
    assert store.take(elsewhere) is other
    assert systemd.is_silent()


def test_a_listener_that_is_no_longer_configured_is_given_up_once(systemd: Systemd, opened: ExitStack) -> None:
    sock, place = listening(opened)
    store = SocketStore(systemd.notifier)
    store.keep(place, sock)
    systemd.received()[1][0].close()
    store.give_up(place)
    assert systemd.received()[0][0] == "FDSTOREREMOVE=1"
    store.give_up(place)
    assert systemd.is_silent()


def test_a_socket_of_a_socket_unit_is_never_stored_nor_given_up(systemd: Systemd, opened: ExitStack) -> None:
    sock, place = listening(opened)
    store = SocketStore(systemd.notifier, {"senderproxy.socket": [sock]})
    store.close_others([])
    for _ in range(2):  # a listener may leave the configuration and come back
        taken = store.take(place)
        assert taken is not None
        assert opened.enter_context(taken).getsockname() == place
        store.keep(place, taken)
        store.give_up(place)
        taken.close()
    assert store.of_units == (sock,)
    assert systemd.is_silent()


def test_a_socket_of_a_socket_unit_without_a_listener_is_an_error(systemd: Systemd, opened: ExitStack) -> None:
    sock, place = listening(opened)
    store = SocketStore(systemd.notifier, {"senderproxy.socket": [sock]})
    store.check_units([("127.0.0.1", 1), place])
    with pytest.raises(SocketWithoutListener) as error:
        store.check_units([("127.0.0.1", 1)])
    assert f"127.0.0.1:{place[1]}" in error.value.message


def test_only_listening_tcp_sockets_are_taken_one_for_each_address(systemd: Systemd, opened: ExitStack) -> None:
    sock, place = listening(opened)
    double = opened.enter_context(sock.dup())
    unix = opened.enter_context(socket.socket(socket.AF_UNIX))
    datagram = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    closed_port = opened.enter_context(socket.socket())
    store = SocketStore(systemd.notifier, {"listener-x": [sock, double, unix, datagram, closed_port]})
    assert store.take(place) is sock
    assert {double.fileno(), unix.fileno(), datagram.fileno(), closed_port.fileno()} == {-1}


@pytest.mark.parametrize(
    "damage",
    [
        {"LISTEN_PID": "1"},
        {"LISTEN_PID": ""},
        {"LISTEN_FDS": "many"},
        {"LISTEN_FDS": "-1"},
        {"LISTEN_FDS": "²"},
        {"LISTEN_FDS": "0"},
    ],
)
def test_variables_of_another_process_or_damaged_ones_pass_nothing_and_are_removed(damage: dict[str, str]) -> None:
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "HOME": "/"} | damage
    assert sockets_of_systemd(environment) == {}
    assert environment == {"HOME": "/"}


_CHILD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)  # as systemd does it; 4 is no socket
os.dup2(os.open(os.devnull, os.O_RDONLY), 4)
from senderproxy.control.socket_store import sockets_of_systemd
os.environ["LISTEN_PID"] = str(os.getpid())
passed = sockets_of_systemd(os.environ)
print({name: [sock.getsockname()[1] for sock in sockets] for name, sockets in passed.items()})
print([os.get_inheritable(sock.fileno()) for sockets in passed.values() for sock in sockets])
print([name for name in os.environ if name.startswith("LISTEN")])
"""


def test_the_sockets_of_a_start_are_found_by_their_names(opened: ExitStack) -> None:
    sock, place = listening(opened)
    environment = {**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "listener-a"}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(sock.fileno())],
        env=environment,
        pass_fds=[sock.fileno()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [str({"listener-a": [place[1]]}), "[False]", "[]"]
