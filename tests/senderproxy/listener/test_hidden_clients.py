"""A listener in a rootless container, whose port forwarding hides the clients' addresses."""

from pathlib import Path

import pytest

from senderproxy.cli.exit_codes import EX_CONFIG, exit_code
from senderproxy.config.model import Config, ListenerSettings
from senderproxy.listener import hidden_clients
from senderproxy.listener.hidden_clients import HiddenClients, hidden_networks, refuse_if_open
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


def machine(folder: Path, uid_map: str, routes: str, interface: str, *, link: str = "2", tap: bool = False) -> Path:
    """The files of /proc and /sys that tell; `link`: the index of the interface that this one is linked to."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / ".dockerenv").touch()
    (folder / "proc/self/uid_map").write_text(uid_map)
    (folder / "proc/net").mkdir()
    (folder / "proc/net/route").write_text(HEAD + routes)
    place = folder / "sys/class/net" / interface
    place.mkdir(parents=True)
    (place / "ifindex").write_text("2\n")
    (place / "iflink").write_text(f"{link}\n")
    if tap:
        (place / "tun_flags").write_text("0x1002\n")
    return folder


@pytest.mark.parametrize(
    ("uid_map", "routes", "interface", "link", "tap", "expected"),
    [
        (ROOTLESS, BRIDGE, "eth0", "7", False, "10.89.0.0/24"),  # rootless Podman or Docker, a bridge network
        (ROOTLESS, SLIRP, "tap0", "2", True, "10.0.2.0/24"),  # rootless Podman before 5.0
        (ROOTLESS, PASTA, "enp3s0", "2", True, None),  # pasta copies address and routes of the machine
        (ROOTLESS, PASTA, "enp3s0", "2", False, None),  # the network of the machine
        (FIRST, BRIDGE, "eth0", "7", False, None),  # Docker as root keeps the addresses
        (FIRST, PASTA, "enp3s0", "2", False, None),  # no container
        (ROOTLESS, "", "eth0", "7", False, None),  # no network
        (ROOTLESS, "eth0\tXYZ\n", "eth0", "7", False, None),  # nothing that can be read
    ],
)
def test_the_networks_of_hidden_clients(
    tmp_path: Path, uid_map: str, routes: str, interface: str, link: str, *, tap: bool, expected: str | None
) -> None:
    root = machine(tmp_path, uid_map, routes, interface, link=link, tap=tap)
    found = [str(network) for network in hidden_networks(root)]
    assert found == ([expected, "127.0.0.0/8", "::1/128"] if expected else [])


def test_a_user_namespace_without_a_container_hides_nothing(tmp_path: Path) -> None:
    """Such as a unit with PrivateUsers= in LXC, whose interface is one end of a pair."""
    root = machine(tmp_path, ROOTLESS, BRIDGE, "eth0", link="7")
    (root / ".dockerenv").unlink()
    assert hidden_networks(root) == ()
    (root / "run").mkdir()
    (root / "run/.containerenv").touch()
    assert len(hidden_networks(root)) == 3


def test_without_proc_nothing_is_hidden(tmp_path: Path) -> None:
    assert hidden_networks(tmp_path) == ()


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
def test_an_open_listener_is_refused(tmp_path: Path, settings: dict[str, object], refused: str | None) -> None:
    root = machine(tmp_path, ROOTLESS, BRIDGE, "eth0", link="7")
    listener = ListenerSettings(**({"name": "office", "address": "0.0.0.0:2525"} | settings))  # type: ignore[arg-type]
    if refused is None:
        refuse_if_open(listener, root)
        return
    with pytest.raises(HiddenClients) as caught:
        refuse_if_open(listener, root)
    assert "Listener office would be open to everyone" in caught.value.message
    assert caught.value.message.endswith(
        f"all of them come from 10.89.0.0/24, 127.0.0.0/8, ::1/128, and allow has {refused}."
    )
    assert "accept_hidden_clients = true" in caught.value.hint


async def test_the_service_does_not_start_and_a_reload_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = machine(tmp_path / "machine", ROOTLESS, BRIDGE, "eth0", link="7")
    networks = hidden_networks(root)
    office = Office(tmp_path)
    closed = office.with_other("listeners.auth")  # required
    service = office.service(closed)
    monkeypatch.setattr(hidden_clients, "hidden_networks", lambda _root: networks)
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
