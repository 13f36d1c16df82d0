"""A listener in a rootless container, whose port forwarding hides the clients' addresses."""

import subprocess
import sys
from pathlib import Path

import pytest

from senderproxy.cli.exit_codes import EX_CONFIG, exit_code
from senderproxy.config.model import Config, ListenerSettings
from senderproxy.config.values import IpNetwork
from senderproxy.listener import hidden_clients
from senderproxy.listener.hidden_clients import HiddenClients, driver_of, hidden_networks, refuse_if_open
from tests.peers.process import why_not_here
from tests.senderproxy.test_reload import Office

FIRST = "         0          0 4294967295\n"
ROOTLESS = "         0       1000          1\n         1     100000      65536\n"
HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def route(interface: str, destination: str, gateway: str, mask: str) -> str:
    """A line of /proc/net/route; the numbers are as an x86 machine prints them."""
    return f"{interface}\t{destination}\t{gateway}\t0003\t0\t0\t0\t{mask}\t0\t0\t0\n"


BRIDGE = route("eth0", "00000000", "0100590A", "00000000") + route("eth0", "0000590A", "00000000", "00FFFFFF")
SLIRP = route("tap0", "00000000", "0202000A", "00000000") + route("tap0", "0002000A", "00000000", "00FFFFFF")
PASTA = route("enp3s0", "00000000", "0101A8C0", "00000000") + route("enp3s0", "0001A8C0", "00000000", "00FFFFFF")


def machine(folder: Path, uid_map: str, routes: str) -> Path:
    """The files of /proc that tell, and Docker's mark."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / ".dockerenv").touch()
    (folder / "proc/self/uid_map").write_text(uid_map)
    (folder / "proc/net").mkdir()
    (folder / "proc/net/route").write_text(HEAD + routes)
    return folder


def networks_in(root: Path, driver: str, **environment: str) -> tuple[IpNetwork, ...]:
    """The networks of hidden clients where each interface has this driver."""
    return hidden_networks(root, environment, lambda _interface: driver)


@pytest.mark.parametrize(
    ("uid_map", "routes", "driver", "expected"),
    [
        (ROOTLESS, BRIDGE, "veth", "10.89.0.0/24"),  # rootless Podman or Docker, a bridge network
        (ROOTLESS, SLIRP, "tun", "10.0.2.0/24"),  # rootless Podman before 5.0
        (ROOTLESS, PASTA, "tun", None),  # pasta copies address and routes of the machine
        (ROOTLESS, PASTA, "virtio_net", None),  # the network of the machine
        (FIRST, BRIDGE, "veth", None),  # Docker as root keeps the addresses
        (FIRST, PASTA, "virtio_net", None),  # no container
        (ROOTLESS, "", "veth", None),  # no network
        (ROOTLESS, "eth0\tXYZ\n", "veth", None),  # nothing that can be read
        (ROOTLESS, BRIDGE, "", None),  # the kernel names no driver
    ],
)
def test_the_networks_of_hidden_clients(
    tmp_path: Path, uid_map: str, routes: str, driver: str, expected: str | None
) -> None:
    found = [str(network) for network in networks_in(machine(tmp_path, uid_map, routes), driver)]
    assert found == ([expected, "127.0.0.0/8", "::1/128"] if expected else [])


def test_a_user_namespace_without_a_container_hides_nothing(tmp_path: Path) -> None:
    """Such as a unit with PrivateUsers= in LXC, whose interface is one end of a pair."""
    root = machine(tmp_path, ROOTLESS, BRIDGE)
    (root / ".dockerenv").unlink()
    assert networks_in(root, "veth") == ()
    assert networks_in(root, "veth", container="lxc") == ()
    (root / "run").mkdir()
    (root / "run/.containerenv").touch()
    assert len(networks_in(root, "veth")) == 3


def test_podman_is_known_by_its_variable_where_a_read_only_root_hides_its_mark(tmp_path: Path) -> None:
    root = machine(tmp_path, ROOTLESS, SLIRP)
    (root / ".dockerenv").unlink()
    assert len(networks_in(root, "tun", container="podman")) == 3


def test_the_kernel_names_the_driver_of_an_interface() -> None:
    assert driver_of("lo") == ""
    assert driver_of("no-such") == ""
    assert driver_of("a name that is longer than sixteen octets") == ""


without_namespaces = why_not_here("unshare", "ip", root=True)


@pytest.mark.skipif(without_namespaces is not None, reason=str(without_namespaces))
@pytest.mark.parametrize(
    ("words", "driver"),
    [("link add eth0 type veth peer name eth1", "veth"), ("tuntap add dev eth0 mode tap", "tun")],
)
def test_the_driver_of_a_pair_and_of_a_tap(words: str, driver: str) -> None:
    script = "from senderproxy.listener.hidden_clients import driver_of; print(driver_of('eth0'))"
    inside = f'ip {words} && exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", inside, sys.executable, script], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == (driver, "")


def test_without_proc_nothing_is_hidden(tmp_path: Path) -> None:
    assert hidden_networks(tmp_path) == ()


def hide_clients(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Run as in a rootless container with a bridge network."""
    networks = networks_in(machine(folder, ROOTLESS, BRIDGE), "veth")
    monkeypatch.setattr(hidden_clients, "hidden_networks", lambda: networks)


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({}, "127.0.0.0/8, ::1/128"),  # the default: this machine alone, and here that is everyone
        ({"allow": ["10.89.0.0/16"]}, "10.89.0.0/16"),
        ({"allow": ["0.0.0.0/0"]}, "0.0.0.0/0"),
        ({"allow": ["192.168.1.0/24", "10.0.0.0/8"]}, "10.0.0.0/8"),
        ({"auth": "optional"}, "127.0.0.0/8, ::1/128"),
        ({"allow": ["192.168.1.0/24"]}, None),  # admits nobody there, which is safe
        ({"auth": "required"}, None),
        ({"accept_hidden_clients": True}, None),
    ],
)
def test_an_open_listener_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], refused: str | None
) -> None:
    hide_clients(monkeypatch, tmp_path)
    listener = ListenerSettings(**({"name": "office", "address": "0.0.0.0:2525"} | settings))  # type: ignore[arg-type]
    if refused is None:
        refuse_if_open(listener)
        return
    with pytest.raises(HiddenClients) as caught:
        refuse_if_open(listener)
    assert "Listener office would be open to everyone" in caught.value.message
    assert caught.value.message.endswith(
        f"all of them come from 10.89.0.0/24, 127.0.0.0/8, ::1/128, and allow has {refused}."
    )
    assert "accept_hidden_clients = true" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"proxy_from": ["10.89.0.1"]}, True),
        ({"proxy_from": ["10.89.0.1"], "auth": "required"}, True),
        ({"proxy_from": ["192.168.1.5"]}, False),
        ({"proxy_from": ["10.89.0.1"], "accept_hidden_clients": True}, False),
    ],
)
def test_a_proxy_that_everyone_seems_to_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], *, refused: bool
) -> None:
    hide_clients(monkeypatch, tmp_path)
    base = {"name": "office", "address": "0.0.0.0:2525", "allow": ["192.168.1.0/24"]}
    listener = ListenerSettings(**(base | settings))  # type: ignore[arg-type]
    if not refused:
        refuse_if_open(listener)
        return
    with pytest.raises(HiddenClients) as caught:
        refuse_if_open(listener)
    assert "On listener office everyone could claim any address" in caught.value.message
    assert caught.value.message.endswith("and proxy_from has 10.89.0.1/32.")
    assert "accept_hidden_clients = true" in caught.value.hint


async def test_the_service_does_not_start_and_a_reload_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office(tmp_path)
    closed = office.with_other("listeners.auth")  # required
    service = office.service(closed)
    hide_clients(monkeypatch, tmp_path / "machine")
    with pytest.raises(HiddenClients) as caught:
        await office.service(Config.model_validate(office.base())).start()
    assert exit_code(caught.value) == EX_CONFIG
    await service.start()
    try:
        (before,) = service.listeners
        office.loaded = Config.model_validate(office.base())
        with pytest.raises(HiddenClients):
            await service.reload()
        assert service.listeners == (before,)
    finally:
        await service.stop()
