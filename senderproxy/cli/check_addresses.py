"""Addresses of the listeners and of the metrics while the service is stopped: can the service listen on them?

Guarantees: an address is bound and released at once. The result is that of the service's user and unit, also if root
asks: a port below 1024 needs the capability of the unit. A socket that systemd holds for the service is no obstacle.
Not here: the listeners themselves (listener.server).
capabilities(7) CAP_NET_BIND_SERVICE, ip(7) ip_unprivileged_port_start, systemd.socket(5).
"""

import errno
import socket
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from senderproxy.cli.common import SYSTEM_CONFIG
from senderproxy.cli.findings import Finding, Level
from senderproxy.config.model import Config
from senderproxy.config.values import UNIX, split_address
from senderproxy.translation import _

_INIT: Final = Path("/proc/1/fd")  # the descriptors of systemd, readable for root
_UNPRIVILEGED: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
_FIRST_UNPRIVILEGED: Final = 1024  # the default of that setting
_SYSTEMCTL_TIMEOUT: Final = 5.0  # seconds; it answers within milliseconds
_CAPABILITY: Final = "cap_net_bind_service"


def check_addresses(config: Config, path: Path) -> Iterator[Finding]:
    """A finding for each address. `path`: of the configuration; the system's is used by the unit."""
    unit = _unit() if path == SYSTEM_CONFIG else {}
    for listener in config.listeners:
        yield _check_address(_("listener {name}").format(name=listener.name), listener.address, unit)
    if config.metrics.listen is not None:
        yield _check_metrics(config.metrics.listen, unit)


def _check_metrics(listen: str, unit: Mapping[str, str]) -> Finding:
    """The address of the metrics. The folder of a socket may be one that systemd makes at the start."""
    subject, path = _("metrics"), Path(listen.removeprefix(UNIX))
    if not listen.startswith(UNIX):
        return _check_address(subject, listen, unit)
    with suppress(OSError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            reason = _("it is another file")
            text = _("cannot listen on {address}: {error}").format(address=listen, error=reason)
            return Finding(Level.WRONG, subject, text, _("Move it, or use another path."))
    return Finding(Level.OK, subject, _("{address} is free").format(address=listen))


def _check_address(subject: str, address: str, unit: Mapping[str, str]) -> Finding:
    host, port = split_address(address)
    with socket.socket(socket.AF_INET6 if host.version == 6 else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(host), port))
        except PermissionError:
            return _not_permitted(subject, address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and _is_held_by_systemd(port):
                text = _("systemd holds {address}; it must be for the service: systemctl list-sockets")
                return Finding(Level.OK, subject, text.format(address=address))
            return Finding(
                Level.WRONG,
                subject,
                _("cannot listen on {address}: {error}").format(address=address, error=error.strerror),
                _("Find the process: ss -ltnp 'sport = :{port}'; list the addresses: ip address").format(port=port),
            )
    if 0 < port < _first_unprivileged() and unit and not _may_bind(unit):
        return _not_permitted(subject, address)
    return Finding(Level.OK, subject, _("{address} is free").format(address=address))


def _not_permitted(subject: str, address: str) -> Finding:
    return Finding(
        Level.WRONG,
        subject,
        _("the service's user may not listen on {address}").format(address=address),
        _("Use a port from 1024, or let systemd open this one with senderproxy.socket: docs/operating.md, Install"),
    )


def _unit() -> dict[str, str]:
    """The properties of the service's unit; empty without one."""
    names = ("LoadState", "User", "AmbientCapabilities", "CapabilityBoundingSet", "PrivateUsers")
    try:
        shown = subprocess.run(  # noqa: S603
            ["systemctl", "show", "senderproxy.service", *(f"--property={name}" for name in names)],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=_SYSTEMCTL_TIMEOUT,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    unit = dict(line.partition("=")[::2] for line in shown.splitlines())
    return unit if unit.get("LoadState") == "loaded" else {}


def _may_bind(unit: Mapping[str, str]) -> bool:
    """True if the unit's process may listen on a port below 1024."""
    is_root = unit.get("User", "") in ("", "root", "0")
    capabilities = unit.get("CapabilityBoundingSet" if is_root else "AmbientCapabilities", "")
    return _CAPABILITY in capabilities.lower().split() and unit.get("PrivateUsers", "no") == "no"


def _first_unprivileged() -> int:
    try:
        return int(_UNPRIVILEGED.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return _FIRST_UNPRIVILEGED


def _is_held_by_systemd(port: int) -> bool:
    """True if process 1 has a socket that listens on this port; False if that cannot be seen."""
    inodes: set[str] = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A: TCP_LISTEN
                    inodes.add(f"socket:[{fields[9]}]")
    with suppress(OSError):
        for descriptor in _INIT.iterdir():
            with suppress(OSError):
                if str(descriptor.readlink()) in inodes:
                    return True
    return False
