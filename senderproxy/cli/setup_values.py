"""Values of answers, checked one by one: provider, networks, the listener's address.

Guarantees: a value that is returned can be written into the configuration; any other is a UsageError with a hint, so
that a dialogue can ask again.
Not here: who answered (cli.setup_questions, cli.setup_answers), contradictions between settings (config.model).
"""

import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final, TypeVar

from senderproxy.cli.errors import UsageError
from senderproxy.cli.terminal import print_progress
from senderproxy.config.model import covers_everything
from senderproxy.config.values import (
    InvalidValue,
    IpNetwork,
    read_address,
    read_alone,
    read_host,
    read_name,
    read_network,
    split_address,
)
from senderproxy.dns_client.client import DnsClient
from senderproxy.dns_client.errors import LookupFailed
from senderproxy.routing.provider_names import (
    has_countries,
    preset_named,
    preset_names,
    preset_of_mail_servers,
    preset_of_server,
    similar_presets,
)
from senderproxy.translation import _

DEFAULT_PORT: Final = 2525  # free on most machines, and needs no privilege
LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
_LOWEST_PORT: Final = 1024  # a lower one needs a privilege that the service does not have
V = TypeVar("V")


def checked(read: Callable[[object], V], value: object, name: str) -> V:
    """The value as the configuration reads it. Raises UsageError; `name` is that of the answer."""
    try:
        return read_alone(read, value)
    except InvalidValue as error:
        raise UsageError(f"{name}: {error.message}.", hint=error.hint) from error


# ---- provider ----


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """A provider by its name in the configuration; `host` if it has no preset."""

    name: str
    host: str | None = None
    port: int | None = None
    security: str | None = None


def proposed_preset(domain: str) -> str | None:
    """The preset for a mailbox of this domain: by the domain itself or by its MX records; None without a reply."""
    if preset := preset_of_mail_servers([domain]):
        return preset
    print_progress(_("Looking up the mail servers of {domain} ...").format(domain=domain))
    try:
        return preset_of_mail_servers(DnsClient().mail_servers(domain))
    except LookupFailed:
        return None


def choose_provider(text: str, domain: str, proposed: Callable[[], str | None]) -> ProviderChoice:
    """The provider of a typed name, mail address or server.

    A server may have its port, and behind it `tls` or `starttls`.

    `domain`: that of a mailbox; `proposed`: the preset for it, looked up only if needed. Raises UsageError.
    """
    text = text.strip()
    if "@" in text:
        if preset := proposed_preset(text.rpartition("@")[2].lower()):
            return ProviderChoice(preset)
        raise UsageError(
            _("The provider of {address} is unknown.").format(address=text),
            hint=_("Name its submission server, such as smtp.hoster.example."),
        )
    if preset := preset_named(text, domain, proposed() if has_countries(text) else None):
        return ProviderChoice(preset)
    if "." in text or ":" in text:
        return _server(text)
    names = similar_presets(text)
    raise UsageError(
        _("There is no built-in provider {name}.").format(name=text),
        hint=_("Name its submission server, such as smtp.hoster.example, or one of: {names}").format(
            names=", ".join(names or preset_names())
        ),
    )


def _server(text: str) -> ProviderChoice:
    text, _blank, security = text.partition(" ")
    if (security := security.strip().lower()) not in ("", "tls", "starttls"):
        raise UsageError(
            _("{text} is neither tls nor starttls.").format(text=security),
            hint=_("Write it like: smtp.hoster.example:587 starttls"),
        )
    host, port = text, None
    bare, _colon, number = text.rpartition(":")
    if bare and number.isdecimal() and (":" not in bare or bare.endswith("]")):
        host, port = bare, int(number)
        if not 0 < port < 65536:  # a port has 16 bits (RFC 9293 section 3.1)
            raise UsageError(_("{port} is not a port.").format(port=port))
    host = checked(read_host, host.strip("[]"), _("provider"))
    if preset := preset_of_server(host):
        return ProviderChoice(preset, None, port, security or None)
    return ProviderChoice(name_of_server(host), host, port, security or None)


def name_of_server(host: str) -> str:
    """A name for a provider without a preset: the label before the top-level domain, or the host."""
    labels = host.split(".")
    name = labels[-2] if len(labels) > 1 and not labels[-1].isdecimal() else host.replace(":", "-").strip("-")
    return name if name not in preset_names() else host


def checked_provider_name(name: str) -> str:
    """A name for a provider with a host of its own. Raises UsageError."""
    return checked(read_name, name, _("provider"))


# ---- the internal network ----


def clients_of(texts: Iterable[str]) -> tuple[str, ...]:
    """The addresses and networks of mail server and scanners, without those of this machine. Raises UsageError."""
    networks = tuple(checked(read_network, text.strip(), "allow") for text in texts)
    if covers_everything(networks):
        raise UsageError(
            _("This allows every client in the world: it would be an open relay."),
            hint=_("Name your own networks only, such as 192.168.1.0/24."),
        )
    return tuple(dict.fromkeys(network_text(network) for network in networks if not network.is_loopback))


def network_text(network: IpNetwork) -> str:
    """A network; one address without its length."""
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def fitting_allow(clients: Sequence[str], listen: str) -> tuple[str, ...]:
    """The networks of `allow`: this machine, the clients, and the listener's own address.

    A test message from this machine comes from the listener's address. Without clients the own address is left out:
    the configuration then refuses a listener for other machines that none may use.
    """
    host = split_address(listen)[0]
    own = () if host.is_loopback or host.is_unspecified or not clients else (str(host),)
    if any(host in ip_network(client) for client in clients):
        own = ()
    return (*LOOPBACK, *clients, *own)


def own_address_for(clients: Sequence[str]) -> str:
    """The address of this machine that all clients can reach: one of its own, any, or loopback without clients."""
    found = dict.fromkeys(own for client in clients if (own := _own_address_towards(client)))
    if not clients:
        return "127.0.0.1"
    if len(found) == 1:
        return next(iter(found))
    return "::" if found and all(":" in own for own in found) else "0.0.0.0"


def _own_address_towards(client: str) -> str | None:
    """The address of this machine that the system would use. Connecting a UDP socket sends nothing."""
    network = ip_network(client)
    target = network.network_address if network.num_addresses == 1 else network.network_address + 1
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as connection:
        try:
            connection.connect((str(target), 25))
        except OSError:
            return None
        return str(connection.getsockname()[0])


def listen_address(text: str, default_host: str) -> str:
    """The address of the listener: `IP:PORT`, or only an IP address or a port. Raises UsageError."""
    text = text.strip()
    if text.isdecimal():
        text = endpoint(default_host, int(text))
    else:
        with suppress(ValueError):  # it has a port
            text = endpoint(str(ip_address(text.strip("[]"))), DEFAULT_PORT)
    try:
        return read_alone(read_address, text)
    except InvalidValue as error:
        hint = _("Write it like {address}.").format(address=endpoint(default_host, DEFAULT_PORT))
        raise UsageError(_("listen: {reason}.").format(reason=error.message), hint=hint) from error


def endpoint(host: str, port: int) -> str:
    """`127.0.0.1:2525` or `[::1]:2525`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def require_free(address: str) -> None:
    """Raise UsageError if the service cannot listen there."""
    host, port = split_address(address)
    if 0 < port < _LOWEST_PORT:
        raise UsageError(
            _("Port {port} is below 1024, and the service has no privilege for it.").format(port=port),
            hint=_("Use 1024 or higher, such as 2525; for a lower one see docs/operating.md, Install."),
        )
    family = socket.AF_INET if host.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((str(host), port))
            listener.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UsageError(
                    _("Another program already listens on {address}.").format(address=address),
                    hint=_("Choose another port, such as {port}.").format(port=port + 1 if port < 65535 else 2525),
                ) from error
            if error.errno == errno.EADDRNOTAVAIL:
                raise UsageError(
                    _("{host} is no address of this machine.").format(host=host),
                    hint=_("Show its addresses: ip address. Any of them: 0.0.0.0"),
                ) from error
            raise UsageError(
                _("Cannot listen on {address}: {error}.").format(address=address, error=error.strerror)
            ) from error
