"""Refusal of a listener that a container's port forwarding would open to everyone.

A rootless runtime passes the connections to a published port on by a process of its own: each client then has an
address of the container's network or of loopback, whoever it is, and `allow` admits everyone who reaches the port.

The program finds it out from three facts: Podman's or Docker's mark is there; it is in a user namespace, so the runtime
is rootless; and the default route leaves by one end of a pair of virtual interfaces (a bridge network) or by
slirp4netns' tap. A container with the host's network, or with pasta, sees the clients' addresses and has neither. A
unit with PrivateUsers= in a virtual machine or in LXC has no mark.

The interface's kind is asked of the kernel: in a rootless container, /sys may show the interfaces of the machine. The
mark in /run is hidden by `podman run --read-only`, which mounts a folder there; the variable `container` is set anyway.

Guarantees: what cannot be read is taken for an ordinary machine. No connection is made.
Not here: the admission of a client (listener.client_auth).
user_namespaces(7), slirp4netns(1), pasta(1), podman-run(1), linux/ethtool.h.
"""

import fcntl
import os
import socket
import struct
import sys
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

from senderproxy.config.model import ListenerSettings
from senderproxy.config.values import IpNetwork
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _

_MARKS: Final = ("run/.containerenv", ".dockerenv")  # Podman's, Docker's
_VARIABLE: Final = ("container", "podman")  # set by Podman for each process
_WHOLE_RANGE: Final = ["0", "0", "4294967295"]  # the map of the first user namespace
_SLIRP: Final = IPv4Network("10.0.2.0/24")  # slirp4netns' network, unless told otherwise
_SIOCETHTOOL: Final = 0x8946  # linux/sockios.h
_ETHTOOL_GDRVINFO: Final = 3  # linux/ethtool.h: the driver's name in the octets 4 to 36 of 196
_LOOPBACK: Final[tuple[IpNetwork, ...]] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


class HiddenClients(SenderproxyError):
    """A listener is refused, because it could not tell the clients that it admits from all others."""


@dataclass(frozen=True, slots=True)
class _Route:
    interface: str
    network: IPv4Network
    is_direct: bool  # without a gateway: the interface's own network


def refuse_if_open(settings: ListenerSettings) -> None:
    """Raise HiddenClients if this listener would admit everyone without a login."""
    if settings.accept_hidden_clients or (settings.auth == "required" and not settings.proxy_from):
        return
    hidden = hidden_networks()
    _refuse_everyone_as_proxy(settings, hidden)
    if settings.auth == "required":
        return
    admitted = [network for network in settings.allow if any(_overlap(network, other) for other in hidden)]
    if not admitted:
        return
    raise HiddenClients(
        _(
            "Listener {name} would be open to everyone: the port forwarding of this container hides the addresses of"
            " the clients, all of them come from {hidden}, and allow has {admitted}."
        ).format(
            name=settings.name, hidden=", ".join(map(str, hidden)), admitted=", ".join(str(one) for one in admitted)
        ),
        hint=_(
            'Set auth = "required" with [[clients]], or use a network that keeps the addresses (--network=pasta or'
            " host). If only your own clients reach the port: accept_hidden_clients = true."
        ),
    )


def _refuse_everyone_as_proxy(settings: ListenerSettings, hidden: tuple[IpNetwork, ...]) -> None:
    """Raise HiddenClients if everyone who reaches the port could send a PROXY header."""
    proxies = [network for network in settings.proxy_from if any(_overlap(network, other) for other in hidden)]
    if not proxies:
        return
    raise HiddenClients(
        _(
            "On listener {name} everyone could claim any address: the port forwarding of this container hides the"
            " addresses of the clients, all of them come from {hidden}, and proxy_from has {proxies}."
        ).format(
            name=settings.name, hidden=", ".join(map(str, hidden)), proxies=", ".join(str(one) for one in proxies)
        ),
        hint=_(
            "Use a network that keeps the addresses (--network=pasta or host). If only the proxy reaches the port:"
            " accept_hidden_clients = true."
        ),
    )


def driver_of(interface: str) -> str:
    """The driver of a network interface, such as `veth` or `tun`; empty if the kernel names none."""
    answer = array("B", struct.pack("I192x", _ETHTOOL_GDRVINFO))
    request = struct.pack("16sP16x", interface.encode(), answer.buffer_info()[0])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
    except OSError:
        return ""
    return answer.tobytes()[4:36].partition(b"\0")[0].decode("ascii", "replace")


def hidden_networks(
    root: Path = Path("/"), environment: Mapping[str, str] = os.environ, driver: Callable[[str], str] = driver_of
) -> tuple[IpNetwork, ...]:
    """The networks from which all clients seem to come; empty where their addresses are not hidden.

    `root`: of /proc and of the marks; `environment`: the variables of this process.
    """
    name, value = _VARIABLE
    if environment.get(name) != value and not any((root / mark).exists() for mark in _MARKS):
        return ()
    if not _is_in_user_namespace(root):
        return ()
    routes = _routes(root)
    leaves_by = next((route.interface for route in routes if route.network.prefixlen == 0), None)
    if leaves_by is None:
        return ()
    own = tuple(route.network for route in routes if route.interface == leaves_by and route.is_direct)
    match driver(leaves_by):
        case "veth":
            return (*own, *_LOOPBACK)
        case "tun" if _SLIRP in own:
            return (*own, *_LOOPBACK)
        case _:
            return ()


def _is_in_user_namespace(root: Path) -> bool:
    try:
        return (root / "proc/self/uid_map").read_text(encoding="ascii").split() != _WHOLE_RANGE
    except (OSError, ValueError):
        return False


def _routes(root: Path) -> list[_Route]:
    """The IPv4 routes; addresses in /proc/net/route are hexadecimal, in the byte order of the machine."""
    try:
        lines = (root / "proc/net/route").read_text(encoding="ascii").splitlines()[1:]
        return [_route(line.split()) for line in lines]
    except (OSError, ValueError, IndexError):
        return []


def _route(fields: list[str]) -> _Route:
    network = IPv4Network((str(_address(fields[1])), str(_address(fields[7]))))
    return _Route(fields[0], network, is_direct=int(fields[2], 16) == 0)


def _address(text: str) -> IPv4Address:
    return IPv4Address(bytes.fromhex(text)[:: -1 if sys.byteorder == "little" else 1])


def _overlap(one: IpNetwork, other: IpNetwork) -> bool:
    return type(one) is type(other) and one.overlaps(other)
