"""Settings of routes by recipient, and of the smarthosts that they name. PURE.

Guarantees: a route names a way that exists; a server without a login is reached by TLS, or at a private address; no
route leads to an own listener.
Not here: the whole configuration (config.model), the look-up of a route (routing.recipient_routes).
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Annotated, Any, Final

from senderproxy.config.schema import BeforeValidator, Field
from senderproxy.config.section import Conflict, Section
from senderproxy.config.toml_lines import SettingPath
from senderproxy.config.values import (
    AccountId,
    FilePath,
    Host,
    Port,
    RecipientPattern,
    Size,
    TlsMode,
    ViaText,
    duration,
    integer,
    quoted,
    split_address,
)
from senderproxy.mail.address import AddressPattern
from senderproxy.routing.hops import ClientCertificate, InternalHop, SmarthostHop, is_internal_ip
from senderproxy.routing.presets import IMPLICIT_TLS_PORT, usual_security
from senderproxy.routing.provider import Limits, Security, Smarthost
from senderproxy.routing.recipient_routes import (
    EVERYONE,
    AccountVia,
    MxVia,
    ProviderMxVia,
    RecipientRoute,
    ServerVia,
    Via,
)
from senderproxy.translation import _

SMTP_PORT: Final = 25  # RFC 5321 section 4.5.4.2
_SERVER_SETTINGS: Final = (
    "host",
    "port",
    "security",
    "ca_file",
    "certificate",
    "key",
    "connections",
    "messages_per_connection",
    "idle_seconds",
    "recipients_per_message",
    "message_size",
)


class RouteSettings(Section):
    """A way for some recipients, in place of the author's account. There may be several `[[routes]]`: routes.md."""

    recipients: tuple[RecipientPattern, ...] = Field(
        description='The recipients: `"carl@kunde.example"`, `"@kunde.example"` for a whole domain, or `"*"` for all.'
        " The first route with a matching one is used.",
    )
    via: ViaText = Field(
        description="The way. `account ID`: that account logs in and sends. `smarthost NAME`: the one of"
        " `[smarthosts.NAME]`. `internal 192.168.1.20:25`: a server in the own network, without TLS. `provider-mx`: the"
        " mail servers of the recipient's domain, if they are those of the author's provider, else the author's"
        " account. `mx`: the mail servers of the recipient's domain. docs/mx.md is about these two.",
    )


class SmarthostSettings(Section):
    """A server for routes: by an account's login, by this machine's address, or by a client certificate.

    One attribute for each setting.

    Example: `[smarthosts.relay]`.
    """

    account: AccountId | None = Field(
        default=None,
        description="The account that logs in there: its provider has the server. Left out: no login, and the server"
        " knows this machine by its address or by `certificate`.",
    )
    host: Host | None = Field(default=None, description="The server. Required without `account`.")
    port: Port | None = Field(default=None, description="Its port. Left out: 465 with `tls`, 25 with any other.")
    security: TlsMode | None = Field(
        default=None,
        description="`tls` (from the first octet), `starttls` (required) or `none` (only to a loopback or private"
        " address). Left out: `tls` on port 465, `starttls` on any other.",
    )
    ca_file: FilePath | None = Field(
        default=None,
        description="PEM file with the authorities for its certificate. Left out: the operating system's. The"
        " certificate is always verified.",
    )
    certificate: FilePath | None = Field(
        default=None,
        description="PEM file with the client certificate that the server asks for, and its intermediate certificates.",
    )
    key: FilePath | None = Field(
        default=None, description="PEM file with its private key, without a passphrase; readable for the service alone."
    )
    connections: Annotated[int, BeforeValidator(integer(1, 100))] = Field(
        default=4, description="Connections at the same time."
    )
    messages_per_connection: Annotated[int, BeforeValidator(integer(0, 10_000_000))] = Field(
        default=0, description="Messages on one connection. 0: no known limit."
    )
    idle_seconds: Annotated[float, BeforeValidator(duration(0, 3600))] = Field(
        default=30.0, description="The time that an idle connection is kept for the next message."
    )
    recipients_per_message: Annotated[int, BeforeValidator(integer(0, 10_000_000))] = Field(
        default=100, description="Recipients of one message. 0: no known limit."
    )
    message_size: Size | None = Field(
        default=None, description="The largest message it accepts. A limit that its server announces counts as well."
    )

    def via(self, name: str) -> Via:
        """The way to this smarthost. It is valid: see smarthost_conflicts."""
        if self.account is not None:
            return AccountVia(self.account)
        client = None
        if self.certificate is not None and self.key is not None:
            client = ClientCertificate(self.certificate, self.key)
        limits = Limits(
            connections=self.connections,
            messages_per_connection=self.messages_per_connection or None,
            idle_seconds=self.idle_seconds,
            recipients_per_message=self.recipients_per_message or None,
            message_size=self.message_size,
        )
        assert self.host is not None
        server = Smarthost(self.host, self._port, self.effective_security, self.ca_file)
        return ServerVia(SmarthostHop(name, server, client, limits))

    @property
    def effective_security(self) -> Security:
        """The protection, also if it is left out."""
        return usual_security(self.port) if self.security is None else self.security

    @property
    def _port(self) -> int:
        if self.port is not None:
            return self.port
        return IMPLICIT_TLS_PORT if self.effective_security is Security.IMPLICIT_TLS else SMTP_PORT


def recipient_routes(
    routes: Sequence[RouteSettings], smarthosts: Mapping[str, SmarthostSettings]
) -> tuple[RecipientRoute, ...]:
    """The routes for routing.recipient_routes."""
    return tuple(
        RecipientRoute(route.recipients, _via(route.via, smarthosts), f"routes[{index}]")
        for index, route in enumerate(routes)
    )


def _via(text: str, smarthosts: Mapping[str, SmarthostSettings]) -> Via:
    kind, _space, name = text.partition(" ")
    match kind:
        case "account":
            return AccountVia(name)
        case "smarthost":
            return smarthosts[name].via(name)
        case "internal":
            host, port = split_address(name)
            return ServerVia(InternalHop(Smarthost(str(host), port, Security.NONE)))
        case "provider-mx":
            return ProviderMxVia()
        case _:
            return MxVia()


# ---- contradictions ----


def route_conflicts(
    routes: Sequence[RouteSettings], smarthosts: Mapping[str, SmarthostSettings], listeners: Sequence[str]
) -> Iterator[Conflict]:
    """Contradictions of the routes. `listeners`: the addresses of the own listeners."""
    seen: dict[AddressPattern, int] = {}
    for index, route in enumerate(routes):
        at: SettingPath = ("routes", index)
        yield from _way_conflicts((*at, "via"), route.via, smarthosts, listeners)
        path = (*at, "recipients")
        if not route.recipients:
            yield Conflict(
                path, _("is empty: no recipient would take this route"), _('write "@kunde.example"'), (path,)
            )
        for pattern in route.recipients:
            other = seen.get(EVERYONE, seen.setdefault(pattern, index))
            if other != index:
                shown = "*" if pattern == EVERYONE else str(pattern)
                message = _("{value} is never used: {other} has it already").format(
                    value=quoted(shown), other=f"routes[{other}]"
                )
                hint = _("remove it, or move this route before the other one")
                yield Conflict(path, message, hint, (path, ("routes", other, "recipients")))


def _way_conflicts(
    path: SettingPath, via: str, smarthosts: Mapping[str, SmarthostSettings], listeners: Sequence[str]
) -> Iterator[Conflict]:
    kind, _space, name = via.partition(" ")
    if kind == "smarthost" and name not in smarthosts:
        near = get_close_matches(name, smarthosts, 1)
        hint = _("add a section {section}").format(section=f"[smarthosts.{name}]")
        if near:
            hint = _("did you mean {value}?").format(value=quoted(f"smarthost {near[0]}"))
        yield Conflict(
            path, _("there is no smarthost {value}").format(value=quoted(name)), hint, (path, ("smarthosts",))
        )
    if kind == "internal" and any(_is_same_server(name, listener) for listener in listeners):
        hint = _("write the address of the internal server")
        yield Conflict(path, _("is a listener of this service: its mail would go in a circle"), hint, (path,))


def _is_same_server(server: str, listener: str) -> bool:
    """True if a connection to the server certainly reaches the listener."""
    (host, port), (own_host, own_port) = split_address(server), split_address(listener)
    return port == own_port and (host == own_host or (own_host.is_unspecified and host.is_loopback))


def smarthost_conflicts(at: SettingPath, smarthost: SmarthostSettings) -> Iterator[Conflict]:
    """Contradictions of one smarthost."""
    account, host, certificate, key, security = (
        (*at, field) for field in ("account", "host", "certificate", "key", "security")
    )
    if smarthost.account is not None:
        for field in _SERVER_SETTINGS:
            if field in smarthost.model_fields_set:
                path = (*at, field)
                hint = _("remove it, and set it in [providers.NAME] of the account's provider")
                yield Conflict(
                    path, _("has no effect with an account, which logs in at its provider"), hint, (path, account)
                )
        return
    if smarthost.host is None:
        hint = _('write host = "relay.example.com", or account = "ID" for a login')
        yield Conflict(host, _("is missing"), hint, (host, account))
    for path, value, other, other_value in (
        (certificate, smarthost.certificate, key, smarthost.key),
        (key, smarthost.key, certificate, smarthost.certificate),
    ):
        if value is None and other_value is not None:
            message = _("is missing, but {setting} needs it").format(setting=other[-1])
            yield Conflict(path, message, _("write the path of the PEM file"), (path, other))
    if smarthost.security is Security.NONE:
        if smarthost.certificate is not None:
            hint = _('write security = "starttls"')
            yield Conflict(security, _('is "none", but a client certificate needs TLS'), hint, (security, certificate))
        if smarthost.host is not None and _is_public_address(smarthost.host):
            message = _('is "none": the mail for {host} would be sent in the clear').format(host=smarthost.host)
            yield Conflict(security, message, _('write security = "tls" or "starttls"'), (security, host))


def _is_public_address(host: str) -> bool:
    """True for an address outside the own network; of a name only a connection tells."""
    try:
        return not is_internal_ip(ip_address(host))
    except ValueError:
        return False


def named_accounts(
    routes: Sequence[RouteSettings], smarthosts: Mapping[str, SmarthostSettings]
) -> Iterator[tuple[str, Any]]:
    """The settings here that name an account, each with the account's id."""
    for index, route in enumerate(routes):
        kind, _space, name = route.via.partition(" ")
        if kind == "account":
            yield f"routes[{index}].via", name
    for name, smarthost in smarthosts.items():
        if smarthost.account is not None:
            yield f"smarthosts.{name}.account", smarthost.account
