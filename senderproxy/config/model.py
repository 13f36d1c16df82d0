"""Config and its sections: every setting, its default and what it is for. PURE.

Guarantees: a Config that exists can be meant: what contradicts itself, and what would make an open relay, is refused.
It never changes; a new one replaces it. There is no secret in it, only hashes, and where a key is found.
Not here: the file it stands in (config.load), complaints as people read them (config.problems).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from senderproxy.config.toml_lines import Path
from senderproxy.config.values import (
    AccountId,
    CandidateSource,
    Count,
    Endpoint,
    FilePath,
    Flag,
    ForeignWords,
    Host,
    HostName,
    IpNetwork,
    LoginName,
    Mailbox,
    MapKey,
    MapValue,
    Mechanism,
    Name,
    Network,
    NullPathWords,
    PasswordHash,
    Pattern,
    Port,
    Rule,
    Size,
    SocketPath,
    Text,
    TlsMode,
    Unlock,
    listed,
    one_of,
    seconds,
    shown,
    split_address,
    split_choice,
    whole,
)
from senderproxy.mail.address import Address, AddressPattern, parse_pattern
from senderproxy.retry import RetryPolicy
from senderproxy.routing.author_policy import AuthorMap, AuthorPolicy, ForeignAuthorPolicy
from senderproxy.routing.presets import IMPLICIT_TLS_PORT, PRESETS, STARTTLS_PORT
from senderproxy.routing.provider import Limits, NullPolicy, Provider, Security, Smarthost
from senderproxy.routing.route import RoutingPolicy, Source

CONFLICTS: Final = "senderproxy_conflicts"  # the error type that carries Conflicts

_LOOPBACK: Final[tuple[IpNetwork, ...]] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_PRIVATE_EXAMPLE: Final = 'allow = ["192.168.1.0/24"]'


@dataclass(frozen=True, slots=True)
class Conflict:
    """Settings that are good each for itself, but not together. `because`: all that take part."""

    path: Path
    wrong: str
    mend: str
    because: tuple[Path, ...]


class Section(BaseModel):
    """What all sections have in common: they do not change, and know no other setting than their own."""

    # Input may hold a password somebody typed in the wrong place: pydantic must not quote it.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Identity(Section):
    """Who we are, to the internal server and to the providers."""

    hostname: HostName = Field(
        description="This machine's fully qualified name, for EHLO and the Received field. Left out: the name the"
        " operating system has.",
    )


class VaultSettings(Section):
    """Where the accounts and their passwords are, sealed."""

    path: FilePath = Field(
        default="/var/lib/senderproxy/accounts.vault",
        description="The vault's file. A path that does not start with `/` is seen from this configuration file's"
        " folder; so it is with every path below.",
    )
    unlock: Unlock = Field(
        description="Where the key is: `key-file:PATH`, `credential:NAME` (one that systemd hands over,"
        " `LoadCredential=` or `LoadCredentialEncrypted=`), `keyring:SERVICE` (the operating system's key store) or"
        " `passphrase` (is asked for at each start).",
    )


class ListenerSettings(Section):
    """A door at which the internal server, scanners and programs submit mail. There may be several `[[listeners]]`."""

    name: Name = Field(default="office", description="What logs and `senderproxy status` call it.")
    address: Endpoint = Field(
        default="127.0.0.1:2525",
        description="The IP address and port on which to listen; `0.0.0.0:2525` for all addresses of IPv4, `[::]:2525`"
        " for all of IPv6. Port 0 takes any that is free.",
    )
    tls: Annotated[Literal["none", "starttls", "implicit"], BeforeValidator(one_of("none", "starttls", "implicit"))] = (
        Field(
            default="none",
            description="`starttls` offers it, `implicit` speaks TLS from the first octet on. Both need `certificate`"
            " and `key`.",
        )
    )
    certificate: FilePath | None = Field(
        default=None, description="PEM file with the certificate and those between it and its authority."
    )
    key: FilePath | None = Field(
        default=None, description="PEM file with the certificate's private key, without a passphrase."
    )
    allow: tuple[Network, ...] = Field(
        default=_LOOPBACK, description="The networks from which mail is taken. Nobody else gets in."
    )
    auth: Annotated[Literal["off", "optional", "required"], BeforeValidator(one_of("off", "optional", "required"))] = (
        Field(
            default="off",
            description="SMTP AUTH. `optional`: whoever is outside `allow` must log in. `required`: everybody must, and"
            " must be inside `allow` as well.",
        )
    )
    sender: Mailbox | None = Field(
        default=None,
        description="Everything that is submitted here leaves with this address as its sender, whatever the device"
        " itself says.",
    )
    lenient: Flag = Field(
        default=False,
        description="Take what scanners and other devices send although it is against the rules: addresses without"
        " brackets, a greeting without a name, or none.",
    )
    old_tls: Flag = Field(
        default=False,
        description="Take TLS 1.0 and 1.1 with their ciphers, for devices that know nothing newer. They protect little:"
        " give such devices a listener of their own.",
    )
    bare_lf: Annotated[Literal["normalize", "reject"], BeforeValidator(one_of("normalize", "reject"))] = Field(
        default="normalize",
        description="A line that ends in LF alone, as old scripts send: mend it, or refuse the message. It never ends"
        " a message.",
    )
    mode: Annotated[Literal["pass-through", "queue"], BeforeValidator(one_of("pass-through", "queue"))] = Field(
        default="pass-through",
        description="`pass-through`: a message is offered to the provider while the client waits, and the client hears"
        " the provider's answer; for a mail server, which has a queue of its own. `queue`: it is kept here, safe on the"
        " disk, and delivered from here; for scanners and programs that try only once.",
    )
    on_deferral: Annotated[Literal["defer", "queue"], BeforeValidator(one_of("defer", "queue"))] = Field(
        default="defer",
        description="With `pass-through`, where nobody could be reached for now (no network, a limit, a refused"
        " password): `defer` tells the client, whose own queue then shows it; `queue` keeps the message here.",
    )
    patience_seconds: Annotated[float, BeforeValidator(seconds(1, 540))] = Field(
        default=240.0,
        description="With `pass-through`, a provider that has not answered after so long: the message is kept here and"
        " the client is told that it is taken. Exchange gives up after ten minutes, and would send it again.",
    )
    max_connections: Count = Field(
        default=200, description="Clients connected at once; the next ones are told to come later."
    )
    max_connections_per_client: Count = Field(default=50, description="The same, for one IP address.")
    max_recipients: Count = Field(default=1000, description="Recipients of one message.")
    max_message_size: Size = Field(default=150 * 10**6, description='The largest message, as `"150 MB"` or in octets.')
    idle_seconds: Annotated[float, BeforeValidator(seconds(1, 86400))] = Field(
        default=660.0, description="How long a client may be silent. Exchange keeps connections for ten minutes."
    )
    spill_bytes: Size = Field(
        default=2**18, description="What is larger waits in a temporary file and not in memory while it is relayed."
    )


class ClientSettings(Section):
    """A client that is known: by its networks, or by the user name it logs in with. Says which senders it may use."""

    user: Text | None = Field(default=None, description="The user name for SMTP AUTH. Either this or `networks`.")
    password: PasswordHash | None = Field(
        default=None, repr=False, description="The user's password, hashed by `senderproxy client hash-password`."
    )
    networks: tuple[Network, ...] = Field(
        default=(), description="The networks or addresses of this client. Of several that fit, the smallest counts."
    )
    senders: tuple[Pattern, ...] | None = Field(
        default=None,
        description="The addresses, or `@domains`, it may send as: in the reverse-path and in From alike. Left out: any"
        " that has an account.",
    )


class RoutingSettings(Section):
    """How the account that carries a message is chosen."""

    author_order: tuple[CandidateSource, ...] = Field(
        default=RoutingPolicy().author_order,
        description="Where to look for an address that has an account; the first that has one decides. An exact match"
        " beats one without the `+tag`, and this one a whole domain, wherever it stands.",
    )
    default_account: AccountId | None = Field(
        default=None,
        description="The account for senders that have none. Left out: their mail is refused, with the reason.",
    )


class SendersSettings(Section):
    """Senders who have no mailbox: foreign authors of forwarded mail, bounces, programs and servers."""

    foreign_author: ForeignWords = Field(
        default="reject",
        description="Mail whose From names nobody of this office, as redirects and mailing lists have: `reject` it,"
        ' `rewrite` From to `"Alice Example via Firma"` (answers go to Alice), or `account ID`: the same,'
        " carried by that account.",
    )
    bounce_account: AccountId | None = Field(
        default=None,
        description="Carries mail with an empty reverse-path whose author has no account (`postmaster@...`), and gets"
        " what comes back of all such mail where the provider lets it.",
    )
    automatic_per_hour: Count = Field(
        default=10, description="Bounces and automatic replies from one author to one recipient within an hour."
    )
    remove_bcc: Flag = Field(
        default=False, description="Take Bcc fields out of what is relayed. Mail servers do that by themselves."
    )
    map: dict[MapKey, MapValue] = Field(
        default={},
        description='Foreign or local addresses, and own ones that stand for them: `"root@server.local" ='
        ' "it@firma.example"`. `"@server.local"` stands for all of a domain; to `"@firma.example"` keeps what is before'
        " the @.",
    )

    def policy(self) -> AuthorPolicy:
        """What routing and rewriting need to know."""
        foreign, account = split_choice(ForeignAuthorPolicy, self.foreign_author)
        exact: dict[str, Address] = {}
        domains: dict[str, AddressPattern] = {}
        for text, stands in self.map.items():
            key = parse_pattern(text)
            if key.local_part is None:
                domains[key.domain] = stands
            elif stands.local_part is not None:
                exact[Address(key.local_part, key.domain).key] = Address(stands.local_part, stands.domain)
        return AuthorPolicy(
            foreign=foreign,
            foreign_account=account,
            bounce_account=self.bounce_account,
            automatic_per_hour=self.automatic_per_hour,
            remove_bcc=self.remove_bcc,
            mapped=AuthorMap(exact, domains),
        )


_Limit: TypeAlias = Annotated[int, BeforeValidator(whole(0, 10_000_000))]


class ProviderSettings(Section):
    """A provider that is no preset, or a preset with something changed. Accounts refer to it by its name.

    The section's name is the provider's: `[providers.office-hoster]`. What is left out is as in its preset.
    """

    preset: Text | None = Field(
        default=None,
        description="The preset to start from. Left out: the one of the section's own name, else `generic`.",
    )
    host: Host | None = Field(default=None, description="The submission server. Needed where no preset names one.")
    port: Port | None = Field(
        default=None, description="Its port. Left out: 465, and 587 where no connection to 465 can be made."
    )
    security: TlsMode | None = Field(
        default=None,
        description="`tls` (from the first octet; what port 465 means), `starttls` (required, what any other port"
        " means) or `none` (to this machine itself only).",
    )
    ca_file: FilePath | None = Field(
        default=None,
        description="PEM file with the authorities that may have signed its certificate. Left out: those the operating"
        " system trusts. The certificate is verified in any case.",
    )
    mechanisms: tuple[Mechanism, ...] | None = Field(
        default=None, description="How to log in, the preferred one first. One of them is tried, once."
    )
    login_form: LoginName | None = Field(
        default=None,
        description="What its user names look like: the mailbox's `address`, its `local-part`, or `other`. Only decides"
        " what `senderproxy account add` proposes.",
    )
    sender_rule: Rule | None = Field(
        default=None,
        description="Whom it lets a mailbox name as the sender: `address` (one of the mailbox's own), `domain` (any of"
        " the mailbox's domain) or `any`.",
    )
    from_rule: Rule | None = Field(
        default=None,
        description="The same for the From field; what it does not take is rewritten, or refused where the author is"
        " foreign. Left out: as `sender_rule`.",
    )
    takes_null_reverse_path: Flag | None = Field(
        default=None, description="It takes mail with an empty reverse-path, as bounces and receipts have."
    )
    on_null_reverse_path: NullPathWords | None = Field(
        default=None,
        description="What becomes of such mail where it does not: `rewrite` (an own address takes its place),"
        " `discard` (with a line in the log), `reject`, or `account ID` (that account carries it). Left out:"
        " `rewrite`.",
    )
    connections: Annotated[int, BeforeValidator(whole(1, 100))] | None = Field(
        default=None, description="Connections at once, for one account."
    )
    messages_per_connection: _Limit | None = Field(
        default=None, description="Messages on one connection. 0: no limit known."
    )
    idle_seconds: Annotated[float, BeforeValidator(seconds(0, 3600))] | None = Field(
        default=None, description="How long a connection is kept for the next message."
    )
    recipients_per_message: _Limit | None = Field(
        default=None, description="Recipients of one message. 0: no limit known."
    )
    messages_per_hour: _Limit | None = Field(
        default=None, description="Messages in an hour, for one account. 0: no limit."
    )
    recipients_per_hour: _Limit | None = Field(
        default=None, description="Recipients in an hour, for one account. 0: no limit."
    )
    message_size: Size | None = Field(
        default=None, description="The largest message it takes. What its server itself names counts as well."
    )

    def provider(self, name: str) -> Provider:
        """The provider these settings describe: the preset, with everything replaced that is named here."""
        base = PRESETS[self.base(name)]
        changed: dict[str, Any] = {
            field: value
            for field in ("mechanisms", "login_form", "sender_rule", "from_rule", "takes_null_reverse_path")
            if (value := getattr(self, field)) is not None
        }
        if self.sender_rule is not None and self.from_rule is None:
            changed["from_rule"] = self.sender_rule
        if self.on_null_reverse_path is not None:
            changed["null_policy"], changed["null_account"] = split_choice(NullPolicy, self.on_null_reverse_path)
        return replace(base, name=name, smarthosts=self._smarthosts(base), limits=self._limits(base.limits), **changed)

    def base(self, name: str) -> str:
        """The name of the preset to start from."""
        return self.preset or (name if name in PRESETS else "generic")

    def _smarthosts(self, base: Provider) -> tuple[Smarthost, ...]:
        host = self.host or (base.smarthosts[0].host if base.smarthosts else None)
        if host is None:
            return ()
        if self.port is None and self.security is None:
            servers = base.smarthosts or (
                Smarthost(host, IMPLICIT_TLS_PORT, Security.IMPLICIT_TLS),
                Smarthost(host, STARTTLS_PORT, Security.STARTTLS),
            )
            return tuple(replace(server, host=host, ca_file=self.ca_file) for server in servers)
        return (Smarthost(host, self._port, self._security, self.ca_file),)

    @property
    def _security(self) -> Security:
        if self.security is not None:
            return self.security
        return Security.IMPLICIT_TLS if self.port == IMPLICIT_TLS_PORT else Security.STARTTLS

    @property
    def _port(self) -> int:
        if self.port is not None:
            return self.port
        return {Security.IMPLICIT_TLS: IMPLICIT_TLS_PORT, Security.STARTTLS: STARTTLS_PORT, Security.NONE: 25}[
            self._security
        ]

    def _limits(self, base: Limits) -> Limits:
        named: dict[str, Any] = {
            "connections": self.connections,
            "messages_per_connection": self.messages_per_connection,
            "idle_seconds": self.idle_seconds,
            "recipients_per_message": self.recipients_per_message,
            "messages_per_hour": self.messages_per_hour,
            "recipients_per_hour": self.recipients_per_hour,
            "message_size": self.message_size,
        }
        unlimited = {"messages_per_connection", "recipients_per_message", "messages_per_hour", "recipients_per_hour"}
        changed: dict[str, Any] = {
            field: None if field in unlimited and value == 0 else value
            for field, value in named.items()
            if value is not None
        }
        return replace(base, **changed)


_Patience: TypeAlias = Annotated[float, BeforeValidator(seconds(0.05, 3600))]


class DeliverySettings(Section):
    """How long a provider's server may take for each step. The defaults are those of RFC 5321 section 4.5.3.2."""

    connect_seconds: _Patience = Field(
        default=30.0, description="One look-up of the address, one connection, one TLS handshake: each."
    )
    greeting_seconds: _Patience = Field(default=300.0, description="The server's first line.")
    ehlo_seconds: _Patience = Field(default=300.0, description="The answer to EHLO.")
    auth_seconds: _Patience = Field(default=120.0, description="The answer to the login.")
    mail_seconds: _Patience = Field(default=300.0, description="The answer to MAIL.")
    rcpt_seconds: _Patience = Field(default=300.0, description="The answer to each RCPT.")
    data_seconds: _Patience = Field(default=120.0, description="The answer to DATA.")
    block_seconds: _Patience = Field(default=180.0, description="Without any progress while the message is sent.")
    final_dot_seconds: _Patience = Field(
        default=540.0,
        description="The answer to the end of the message. Must stay below the ten minutes after which the internal"
        " server gives up on us: it would send the message again.",
    )
    quit_seconds: _Patience = Field(default=5.0, description="The answer to QUIT.")
    free_session_seconds: _Patience = Field(
        default=120.0, description="For a free connection, while all those of an account are busy."
    )


class SpoolSettings(Section):
    """Where messages wait that are not delivered yet, and what their authors are told."""

    directory: FilePath | None = Field(
        default=None, description="The folder. Left out: `spool` beside the vault's file. One service to one folder."
    )
    first_retry_seconds: Annotated[float, BeforeValidator(seconds(1, 86400))] = Field(
        default=60.0, description="The wait after the first try that failed; it doubles from try to try."
    )
    longest_retry_seconds: Annotated[float, BeforeValidator(seconds(1, 86400))] = Field(
        default=1800.0, description="The longest wait between two tries."
    )
    give_up_hours: Annotated[float, BeforeValidator(seconds(0.01, 1000, "hours"))] = Field(
        default=48.0, description="After so long a message goes back to its author."
    )
    report_delay_hours: Annotated[float, BeforeValidator(seconds(0, 1000, "hours"))] = Field(
        default=4.0, description="After so long its author is told, once, that it is still being tried. 0: never."
    )
    reports_to: Endpoint | None = Field(
        default=None,
        description="The internal server, as `192.168.1.20:25`: it is handed the reports on mail that could not be"
        " delivered. Left out: they go to the author through the author's own account.",
    )
    returned_size: Size = Field(
        default=50_000,
        description="A message up to this size is returned whole with its report, a larger one as its header alone.",
    )
    history_days: Annotated[float, BeforeValidator(seconds(0, 3650, "days"))] = Field(
        default=30.0, description="What `senderproxy track` tells goes back so far; contents are deleted at once."
    )
    min_free: Size = Field(
        default=100_000_000,
        description="With less room on the disk nothing more is taken into the spool, and clients are told to come"
        " again.",
    )

    def retry_policy(self) -> RetryPolicy:
        """What retry needs to know."""
        return RetryPolicy(
            first=timedelta(seconds=self.first_retry_seconds),
            longest=timedelta(seconds=self.longest_retry_seconds),
            give_up=timedelta(hours=self.give_up_hours),
            report_delay=timedelta(hours=self.report_delay_hours) if self.report_delay_hours else None,
        )


class ServiceSettings(Section):
    """The service itself."""

    control_socket: SocketPath = Field(
        default="/run/senderproxy/control.sock", description="Where `senderproxy status` and its kin reach the service."
    )
    stop_seconds: Annotated[float, BeforeValidator(seconds(0, 3600))] = Field(
        default=30.0, description="What is under way when the service stops has so long to finish."
    )


class LogSettings(Section):
    """What is written to the log, and how."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(one_of("debug", "info", "warning", "error"))
    ] = Field(default="info", description="The least important kind of line that is written.")
    format: Annotated[Literal["text", "json"], BeforeValidator(one_of("text", "json"))] = Field(
        default="text", description="`text` for people, `json` with one object a line for programs."
    )


class Config(Section):
    """The whole configuration."""

    identity: Identity
    vault: VaultSettings
    listeners: tuple[ListenerSettings, ...] = (ListenerSettings(),)
    clients: tuple[ClientSettings, ...] = ()
    routing: RoutingSettings = RoutingSettings()
    senders: SendersSettings = SendersSettings()
    providers: dict[Name, ProviderSettings] = Field(default={})
    delivery: DeliverySettings = DeliverySettings()
    spool: SpoolSettings = SpoolSettings()
    service: ServiceSettings = ServiceSettings()
    log: LogSettings = LogSettings()

    def provider_table(self) -> Mapping[str, Provider]:
        """Every provider an account can be at: the presets, and those of the configuration in front of them."""
        presets = {name: preset for name, preset in PRESETS.items() if preset.smarthosts}
        named = {name: settings.provider(name) for name, settings in self.providers.items()}
        return MappingProxyType(presets | named)

    def named_accounts(self) -> Iterator[tuple[str, str]]:
        """The accounts that settings name by their id, each with the setting."""
        choices = {"senders.foreign_author": self.senders.foreign_author}
        for name, provider in self.providers.items():
            choices[f"providers.{name}.on_null_reverse_path"] = provider.on_null_reverse_path or ""
        named = {
            "routing.default_account": self.routing.default_account,
            "senders.bounce_account": self.senders.bounce_account,
        } | {setting: words.partition(" ")[2] for setting, words in choices.items()}
        yield from ((setting, account) for setting, account in named.items() if account)

    @property
    def spool_directory(self) -> str:
        """Where messages wait."""
        return self.spool.directory or f"{self.vault.path.rpartition('/')[0] or '.'}/spool"

    def routing_policy(self) -> RoutingPolicy:
        """What routing.route needs to know."""
        return RoutingPolicy(self.routing.author_order, self.routing.default_account)

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if conflicts := tuple(_conflicts(self)):
            words = " ".join(f"{conflict.wrong}; {conflict.mend}." for conflict in conflicts)
            # No braces: what people typed must not be taken for a template.
            words = words.replace("{", "(").replace("}", ")")
            raise PydanticCustomError(CONFLICTS, words, {"conflicts": conflicts})
        return self


# Where each section stands; "*" is any name, or any number in a list.
SECTIONS: Final[Mapping[tuple[str, ...], type[Section]]] = MappingProxyType(
    {
        (): Config,
        ("identity",): Identity,
        ("vault",): VaultSettings,
        ("listeners", "*"): ListenerSettings,
        ("clients", "*"): ClientSettings,
        ("routing",): RoutingSettings,
        ("senders",): SendersSettings,
        ("providers", "*"): ProviderSettings,
        ("delivery",): DeliverySettings,
        ("spool",): SpoolSettings,
        ("service",): ServiceSettings,
        ("log",): LogSettings,
    }
)


def _conflicts(config: Config) -> Iterator[Conflict]:
    users = any(client.user is not None for client in config.clients)
    for index, listener in enumerate(config.listeners):
        yield from _listener_conflicts(("listeners", index), listener, users)
    yield from _listeners_conflicts(config.listeners)
    for index, client in enumerate(config.clients):
        yield from _client_conflicts(("clients", index), client)
    yield from _clients_conflicts(config.clients)
    yield from _routing_conflicts(config.routing)
    yield from _senders_conflicts(config.senders)
    yield from _spool_conflicts(config.spool)
    for name, provider in config.providers.items():
        yield from _provider_conflicts(("providers", name), name, provider)


def _spool_conflicts(spool: SpoolSettings) -> Iterator[Conflict]:
    first, longest = ("spool", "first_retry_seconds"), ("spool", "longest_retry_seconds")
    if spool.first_retry_seconds > spool.longest_retry_seconds:
        wrong = "is longer than the longest wait"
        yield Conflict(first, wrong, "write a shorter one, or raise longest_retry_seconds", (first, longest))
    if spool.reports_to is not None and split_address(spool.reports_to)[1] == 0:
        path: Path = ("spool", "reports_to")
        yield Conflict(path, "has no port", 'write the server with its port, like "192.168.1.20:25"', (path,))


def _senders_conflicts(senders: SendersSettings) -> Iterator[Conflict]:
    for key, value in senders.map.items():
        if value.local_part is None and not key.startswith("@"):
            at: Path = ("senders", "map", key)
            yield Conflict(
                at,
                "stands for one address, and names a whole domain",
                "write the one address that stands for it",
                (at,),
            )


def _listener_conflicts(at: Path, listener: ListenerSettings, users: bool) -> Iterator[Conflict]:
    tls = (*at, "tls")
    for field in ("certificate", "key"):
        path, value = (*at, field), getattr(listener, field)
        if listener.tls != "none" and value is None:
            wrong = f'is missing, and tls = "{listener.tls}" needs it'
            yield Conflict(path, wrong, f'write {field} = "/etc/senderproxy/{field}.pem"', (path, tls))
        if listener.tls == "none" and value is not None:
            yield Conflict(path, "is named, but this listener speaks no TLS", 'write tls = "starttls"', (path, tls))
    if listener.old_tls and listener.tls == "none":
        path = (*at, "old_tls")
        yield Conflict(path, 'is true, but tls is "none"', 'leave it out, or write tls = "starttls"', (path, tls))
    auth = (*at, "auth")
    if listener.auth != "off" and not users:
        wrong = f'is "{listener.auth}", but no client has a user name'
        yield Conflict(auth, wrong, "add [[clients]] with a user and a password", (auth, ("clients",)))
    yield from _access_conflicts(at, listener)


def _access_conflicts(at: Path, listener: ListenerSettings) -> Iterator[Conflict]:
    """Is there anybody who may come in, and does not everybody?"""
    allow, auth, address, tls = ((*at, field) for field in ("allow", "auth", "address", "tls"))
    if not listener.allow and listener.auth != "optional":
        yield Conflict(allow, "is empty: nobody could submit", f"write {_PRIVATE_EXAMPLE}", (allow, auth))
    host, _ = split_address(listener.address)
    if host.is_loopback:
        return
    if listener.auth != "required" and covers_everything(listener.allow):
        yield Conflict(
            allow,
            "lets everybody in: this would be an open relay",
            'name your own networks only, or write auth = "required"',
            (allow, auth, address),
        )
    if listener.auth != "optional" and listener.allow and all(_is_loopback(network) for network in listener.allow):
        yield Conflict(
            allow,
            f"holds only this machine itself, but {listener.address} listens for others",
            f"write your own networks, like {_PRIVATE_EXAMPLE}, or listen on 127.0.0.1",
            (allow, auth, address),
        )
    if listener.auth != "off" and listener.tls == "none":
        yield Conflict(
            auth,
            f"is {shown(listener.auth)} on {listener.address} without TLS: passwords would travel in the clear",
            'write tls = "starttls" with certificate and key',
            (auth, tls, address),
        )


def _listeners_conflicts(listeners: tuple[ListenerSettings, ...]) -> Iterator[Conflict]:
    if not listeners:
        yield Conflict(("listeners",), "is empty", "leave it out, or add [[listeners]]", (("listeners",),))
    for field in ("name", "address"):
        first: dict[str, int] = {}
        for index, listener in enumerate(listeners):
            value = getattr(listener, field)
            if field == "address" and split_address(value)[1] == 0:
                continue
            other = first.setdefault(value, index)
            if other != index:
                path, earlier = ("listeners", index, field), ("listeners", other, field)
                wrong = f"{shown(value)} is what listeners[{other}] has as well"
                yield Conflict(path, wrong, f"give each listener its own {field}", (path, earlier))


def _client_conflicts(at: Path, client: ClientSettings) -> Iterator[Conflict]:
    user, password, networks, senders = ((*at, field) for field in ("user", "password", "networks", "senders"))
    who = (user, networks)
    if client.user is None and not client.networks:
        yield Conflict(at, "says nothing about who it is", 'write user = "..." or networks = ["..."]', who)
    if client.user is not None and client.networks:
        mend = "make two of it, one with user and one with networks"
        yield Conflict(at, "has a user and networks", mend, who)
    if client.user is not None and client.password is None:
        mend = "write what this prints: senderproxy client hash-password"
        yield Conflict(password, f"is missing for user {client.user}", mend, (user, password))
    if client.user is None and client.password is not None:
        yield Conflict(password, "belongs to no user", 'write user = "..."', (user, password))
    if client.senders == ():
        mend = "list what it may send as, or leave senders out for any address that has an account"
        yield Conflict(senders, "is empty: this client could send nothing", mend, (senders,))


def _clients_conflicts(clients: tuple[ClientSettings, ...]) -> Iterator[Conflict]:
    first: dict[object, int] = {}
    for index, client in enumerate(clients):
        entries: list[tuple[str, object]] = [("networks", network) for network in client.networks]
        entries += [("user", client.user)] if client.user is not None else []
        for field, value in entries:
            other = first.setdefault(value, index)
            path = ("clients", index, field)
            if other != index:
                wrong = f"{shown(str(value))} is what clients[{other}] has as well"
                yield Conflict(path, wrong, "keep one of the two", (path, ("clients", other, field)))


def _routing_conflicts(routing: RoutingSettings) -> Iterator[Conflict]:
    path = ("routing", "author_order")
    order = [source.value for source in routing.author_order]
    if not order:
        mend = f"write at least one of {listed([source.value for source in Source])}"
        yield Conflict(path, "is empty: no message could have an author", mend, (path,))
    for twice in sorted({word for word in order if order.count(word) > 1}):
        yield Conflict(path, f"names {shown(twice)} more than once", "name each place once", (path,))


def _provider_conflicts(at: Path, name: str, provider: ProviderSettings) -> Iterator[Conflict]:
    preset, host, security = ((*at, field) for field in ("preset", "host", "security"))
    base = PRESETS.get(provider.base(name))
    if base is None:
        yield Conflict(preset, f"{shown(provider.preset)} is no preset", _meant_preset(str(provider.preset)), (preset,))
        return
    address = provider.host or (base.smarthosts[0].host if base.smarthosts else None)
    if address is None:
        mend = 'write host = "smtp.example.com", or name a preset'
        yield Conflict(host, f'is missing, and preset "{base.name}" names no server', mend, (host, preset))
    elif provider.security is Security.NONE and not _is_this_machine(address):
        mend = 'write security = "tls" or "starttls"'
        wrong = f'is "none": the password for {address} would travel in the clear'
        yield Conflict(security, wrong, mend, (security, host))
    if provider.mechanisms == ():
        path = (*at, "mechanisms")
        yield Conflict(path, "is empty: there is no other way to log in", "leave it out", (path,))


def _meant_preset(name: str) -> str:
    begun = [preset for preset in PRESETS if preset.startswith(name.lower())]
    if near := begun or get_close_matches(name.lower(), PRESETS, 1):
        return f"did you mean {listed(near)}?"
    return f"there are {', '.join(PRESETS)}"


def covers_everything(networks: tuple[IpNetwork, ...]) -> bool:
    """True where the networks together hold every address of IPv4, or of IPv6."""
    four = collapse_addresses([network for network in networks if isinstance(network, IPv4Network)])
    six = collapse_addresses([network for network in networks if isinstance(network, IPv6Network)])
    return any(network.prefixlen == 0 for network in four) or any(network.prefixlen == 0 for network in six)


def _is_loopback(network: IpNetwork) -> bool:
    return any(network.version == own.version and network.subnet_of(own) for own in _LOOPBACK)  # type: ignore[arg-type]


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return _is_loopback(ip_network(host))
    except ValueError:
        return False
