"""The configuration: all sections and settings with their defaults and descriptions. PURE.

Guarantees: a Config is valid as a whole: contradictions, and settings that would make an open relay, are refused. It is
immutable; a reload replaces it. It contains no secret, only hashes and the place of the vault's key.
Not here: the file (config.load), the presentation of problems (config.problems).
The descriptions are printed in docs/config.md; their German is in docs/config.de.po.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from senderproxy.config.mx_settings import MX_VIAS, MxSection, mx_conflicts
from senderproxy.config.route_settings import (
    RouteSettings,
    SmarthostSettings,
    named_accounts,
    recipient_routes,
    route_conflicts,
    smarthost_conflicts,
)
from senderproxy.config.schema import BeforeValidator, Field, PydanticCustomError, model_validator
from senderproxy.config.section import Conflict, Section
from senderproxy.config.toml_lines import SettingPath
from senderproxy.config.values import (
    SQLITE_ENGINE,
    UNIX,
    VAULT_IN_DATABASE,
    AccountId,
    CandidateSource,
    Count,
    Endpoint,
    Engine,
    FilePath,
    Flag,
    FooterText,
    ForeignPolicy,
    Host,
    HostName,
    IpNetwork,
    LoginName,
    Mailbox,
    Mailboxes,
    MapKey,
    MapValue,
    Mechanism,
    MetricsAddress,
    Name,
    Network,
    NullPathPolicy,
    PasswordHash,
    Pattern,
    Port,
    Rule,
    SecretPlace,
    Size,
    SocketPath,
    Text,
    TlsMode,
    Unlock,
    WebUrl,
    Weekly,
    alternatives,
    duration,
    integer,
    one_of,
    quoted,
    split_address,
    split_policy,
)
from senderproxy.footer.footer import Footer, FooterTable
from senderproxy.mail.address import Address, AddressPattern, is_local_name, parse_pattern
from senderproxy.retry import RetryPolicy
from senderproxy.routing.author_policy import AuthorMap, AuthorPolicy, ForeignAuthorPolicy
from senderproxy.routing.hops import Hop
from senderproxy.routing.presets import (
    IMAP_PORT,
    IMAP_TLS_PORT,
    IMPLICIT_TLS_PORT,
    PRESETS,
    STARTTLS_PORT,
    usual_imap_security,
    usual_security,
)
from senderproxy.routing.provider import ImapServer, Limits, NullPolicy, Provider, Security, Smarthost
from senderproxy.routing.recipient_routes import RecipientRoutes, ServerVia
from senderproxy.routing.route import ORDERED_SOURCES, RoutingPolicy
from senderproxy.translation import _

CONFLICTS: Final = "senderproxy_conflicts"  # the type of the error that carries Conflicts

_STATE: Final = "/var/lib/senderproxy"  # folder of the package, of the service's user
_LOOPBACK: Final[tuple[IpNetwork, ...]] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_PRIVATE_EXAMPLE: Final = 'allow = ["192.168.1.0/24"]'
_PROXY_EXAMPLE: Final = 'proxy_from = ["192.168.1.5"]'


class Identity(Section):
    """The name of this server towards clients and providers."""

    hostname: HostName = Field(
        description="This machine's fully qualified name, for EHLO and the Received field. Left out: the operating"
        " system's name.",
    )


class VaultSettings(Section):
    """The place of the encrypted accounts and their passwords."""

    path: FilePath = Field(
        default=f"{_STATE}/accounts.vault",
        description="The vault's file, or `database`: in the database of `[spool] engine`, for all instances; see"
        " [cluster.md](cluster.md). A relative path starts at the configuration file's folder; this holds for"
        " every path below. A change needs a restart.",
    )
    directory: FilePath | None = Field(
        default=None,
        description=f'With `path = "database"`: the folder of this machine\'s own files about the vault, such as the'
        f" note of its newest generation. Left out: `{_STATE}`. A change needs a restart.",
    )
    unlock: Unlock = Field(
        description="The place of the key: `key-file:PATH`, `credential:NAME` (from systemd's `LoadCredential=` or"
        " `LoadCredentialEncrypted=`), `keyring:SERVICE` (the operating system's key store) or `passphrase` (asked for"
        " at each start). A change needs a restart.",
    )

    @property
    def in_database(self) -> bool:
        """True if the vault is in the spool's database."""
        return self.path == VAULT_IN_DATABASE

    @property
    def files(self) -> str:
        """The path with which the names of this machine's files about the vault begin: that of the file itself."""
        return own_vault_files(self.directory) if self.in_database else self.path


def own_vault_files(directory: str | None) -> str:
    """The path with which the names of a machine's files about a vault in the database begin."""
    return f"{directory or _STATE}/accounts.vault"


class ListenerSettings(Section):
    """An address for the internal server, devices and programs to submit mail. There may be several `[[listeners]]`.

    One attribute for each setting.
    """

    name: Name = Field(default="office", description="Its name in logs and in `senderproxy status`.")
    address: Endpoint = Field(
        default="127.0.0.1:2525",
        description="The IP address and port to listen on; `0.0.0.0:2525` for all IPv4 addresses, `[::]:2525` for all"
        " IPv6 addresses. Port 0: any free port.",
    )
    tls: Annotated[Literal["none", "starttls", "implicit"], BeforeValidator(one_of("none", "starttls", "implicit"))] = (
        Field(
            default="none",
            description="TLS for clients. `starttls`: offered. `implicit`: TLS from the first octet. Both need"
            " `certificate` and `key`.",
        )
    )
    certificate: FilePath | None = Field(
        default=None, description="PEM file with the certificate and its intermediate certificates."
    )
    key: FilePath | None = Field(default=None, description="PEM file with the private key, without a passphrase.")
    allow: tuple[Network, ...] = Field(
        default=_LOOPBACK, description="The networks that may submit mail. All other clients are refused."
    )
    auth: Annotated[Literal["off", "optional", "required"], BeforeValidator(one_of("off", "optional", "required"))] = (
        Field(
            default="off",
            description="SMTP AUTH. `optional`: clients outside `allow` must log in. `required`: all clients must log"
            " in and be inside `allow`.",
        )
    )
    proxy_from: tuple[Network, ...] = Field(
        default=(),
        description="The addresses of proxies in front of this listener, such as haproxy, that begin each connection"
        " with a PROXY header (version 2 or 1) with the client's address. From these addresses the header is required;"
        " from all others it is not read. `allow` and all limits are then for the client's address: [proxy.md]"
        "(proxy.md).",
    )
    sender: Mailbox | None = Field(
        default=None,
        description="The sender address of all messages from this listener, whatever the device itself uses. Left out:"
        " the message's own.",
    )
    lenient: Flag = Field(
        default=False,
        description="Accept protocol errors of scanners and other devices: addresses without brackets, HELO without a"
        " name, no HELO.",
    )
    old_tls: Flag = Field(
        default=False,
        description="Accept TLS 1.0 and 1.1 with their ciphers, for devices without anything newer. They protect"
        " little: use a listener of its own for such devices.",
    )
    accept_hidden_clients: Flag = Field(
        default=False,
        description="Open this listener also if a container's port forwarding hides the addresses of its clients, so"
        " that `allow` admits everyone who reaches the published port.",
    )
    bare_lf: Annotated[Literal["normalize", "reject"], BeforeValidator(one_of("normalize", "reject"))] = Field(
        default="normalize",
        description="Lines that end in LF alone, as old scripts send: `normalize` converts them to CRLF, `reject`"
        " refuses the message. They never end a message.",
    )
    mode: Annotated[Literal["pass-through", "queue"], BeforeValidator(one_of("pass-through", "queue"))] = Field(
        default="pass-through",
        description="`pass-through`: the message is sent to the provider while the client waits, and the client gets"
        " the provider's reply; for a mail server with its own queue. `queue`: the message is stored on disk, and"
        " delivered from there; for devices and programs that try only once.",
    )
    on_deferral: Annotated[Literal["defer", "queue"], BeforeValidator(one_of("defer", "queue"))] = Field(
        default="defer",
        description="With `pass-through`, if the provider cannot take the message now (no network, a limit, a refused"
        " password): `defer` replies 4xx, and the message stays in the client's queue; `queue` queues it here.",
    )
    patience_seconds: Annotated[float, BeforeValidator(duration(1, 540))] = Field(
        default=240.0,
        description="With `pass-through`, the longest wait for the provider's reply. Then the message is queued here"
        " and the client gets 250. Exchange gives up after 600 seconds and would send the message again.",
    )
    max_connections: Count = Field(
        default=200,
        description="Connections at the same time. A further one takes the place of the one that is longest without a"
        " message in progress; if there is none, it gets 421.",
    )
    max_connections_per_client: Count = Field(
        default=50,
        description="Connections at the same time from one IP address, or from one IPv6 network of 64 bits unless its"
        " address is in `[[clients]]`.",
    )
    reserved_connections: Annotated[int, BeforeValidator(integer(0, 1_000_000))] | None = Field(
        default=None,
        description="The part of `max_connections` for this machine and for `[[clients]]` alone. Left out: a tenth."
        " Without `[[clients]]` nothing is reserved.",
    )
    max_connections_per_minute: Count = Field(
        default=300,
        description="New connections of one client within a minute; further ones get 421. This limit and the next two"
        " do not apply to this machine and to `[[clients]]`.",
    )
    max_messages_per_minute: Count = Field(
        default=600, description="Messages of one client within a minute; further ones get 450."
    )
    max_recipients_per_minute: Count = Field(
        default=6000, description="Recipients of one client within a minute; further ones get 450."
    )
    max_recipients: Count = Field(default=1000, description="Recipients of one message.")
    max_message_size: Size = Field(default=150 * 10**6, description='The largest message, as `"150 MB"` or in octets.')
    max_header_size: Size = Field(
        default=256 * 2**10,
        description="The largest header section of a message; with a larger one it is refused.",
    )
    max_header_fields: Count = Field(
        default=1000, description="Fields in the header section of a message; with more it is refused."
    )
    idle_seconds: Annotated[float, BeforeValidator(duration(1, 86400))] = Field(
        default=660.0, description="The longest silence of a client. Exchange keeps idle connections for 600 seconds."
    )
    idle_before_mail_seconds: Annotated[float, BeforeValidator(duration(1, 86400))] = Field(
        default=30.0,
        description="The longest silence of a client that has not begun its first message yet. `idle_seconds` applies"
        " if it is shorter.",
    )
    spill_bytes: Size = Field(
        default=2**18,
        description="The largest message that is relayed in memory; a larger one is buffered in a temporary file.",
    )


class ClientSettings(Section):
    """A known client and the senders it may use. It is recognised by its networks, or by the user name of its login."""

    user: Text | None = Field(default=None, description="The user name for SMTP AUTH. Use either this or `networks`.")
    password: PasswordHash | None = Field(
        default=None, repr=False, description="The user's password, hashed by `senderproxy client hash-password`."
    )
    networks: tuple[Network, ...] = Field(
        default=(),
        description="The networks or addresses of this client. If several clients match, the smallest network counts.",
    )
    default: Flag = Field(
        default=False,
        description="This entry is for every admitted host that no other entry names. Write it without `user` and"
        " `networks`.",
    )
    senders: tuple[Pattern, ...] | None = Field(
        default=None,
        description="The addresses, or `@domains`, that it may use in the reverse-path and in From. Left out: every"
        " address with an account. Empty (`[]`): none, all its mail is refused.",
    )


class RoutingSettings(Section):
    """The choice of the account that sends a message."""

    author_order: tuple[CandidateSource, ...] = Field(
        default=RoutingPolicy().author_order,
        description="The fields to search for an address with an account; the first match decides. But an exact match"
        " in any field has priority over a match without the `+tag`, and this over a match of the whole domain.",
    )
    default_account: AccountId | None = Field(
        default=None,
        description="The account for authors without one. Left out: their mail is refused with the reason.",
    )


class SendersSettings(Section):
    """Senders without a mailbox: foreign authors of forwarded mail, bounces, programs and servers."""

    foreign_author: ForeignPolicy = Field(
        default="reject",
        description="Mail whose From has no account here, as from redirects and mailing lists. `reject`: refuse it."
        ' `rewrite`: change From to `"Alice Example via Firma"`; answers go to Alice. It is sent by the mailbox that'
        " redirected it: the reverse-path, or Resent-From, X-Sieve-Redirected-From or Delivered-To above the topmost"
        " Received field. `account ID`: the same, all of it through that account.",
    )
    foreign_account: AccountId | None = Field(
        default=None,
        description='With `foreign_author = "rewrite"`, the account for redirected mail that names no own mailbox, as'
        " from aliases. Left out: it is refused, unless there is a `default_account`.",
    )
    srs: Flag = Field(
        default=False,
        description="The reverse-path of redirected mail is an SRS address of the own domain: its bounces go on to the"
        " original reverse-path, and not to the mailbox that redirected it. Needs a key in the vault (`senderproxy"
        " vault make-srs-key`), a mailbox at the provider that gets all mail of the domain (catch-all), and a mail"
        " server that relays mail for `SRS0=...` and `SRS1=...` to senderproxy. Not under the rule `address`.",
    )
    bounce_account: AccountId | None = Field(
        default=None,
        description="The account for mail with the null reverse-path whose author has no account (`postmaster@...`). It"
        " also gets the bounces of all such mail, if the provider accepts its address.",
    )
    automatic_per_hour: Count = Field(
        default=10,
        description="Bounces and automatic replies from one author to one recipient within an hour.",
    )
    remove_bcc: Flag = Field(
        default=False, description="Remove Bcc fields from relayed messages. Mail servers do that themselves."
    )
    map: dict[MapKey, MapValue] = Field(
        default={},
        description='Replacements of foreign or local sender addresses by own ones: `"root@server.local" ='
        ' "it@firma.example"`. `"@server.local"` matches its whole domain, `"root"` a From field'
        ' without an address (`From: root (Cron Daemon)`); the value `"@firma.example"` keeps the part before the @.',
    )

    def policy(self) -> AuthorPolicy:
        """These settings for routing and rewriting."""
        foreign, account = split_policy(ForeignAuthorPolicy, self.foreign_author)
        exact: dict[str, Address] = {}
        domains: dict[str, AddressPattern] = {}
        names: dict[str, Address] = {}
        for text, replacement in self.map.items():
            if is_local_name(text):
                assert replacement.local_part is not None  # see _senders_conflicts
                names[text] = Address(replacement.local_part, replacement.domain)
                continue
            key = parse_pattern(text)
            if key.local_part is None:
                domains[key.domain] = replacement
            elif replacement.local_part is not None:
                exact[Address(key.local_part, key.domain).key] = Address(replacement.local_part, replacement.domain)
        return AuthorPolicy(
            foreign=foreign,
            foreign_account=account or self.foreign_account,
            bounce_account=self.bounce_account,
            automatic_per_hour=self.automatic_per_hour,
            remove_bcc=self.remove_bcc,
            srs=self.srs,
            mapped=AuthorMap(exact, domains, names),
        )


class FooterSettings(Section):
    """A text below the mail of some senders, such as a company's details: [footers.md](footers.md)."""

    senders: tuple[Pattern, ...] = Field(
        description="The addresses in From, or `@domains`, whose mail gets it. An address has priority over its domain."
    )
    text: FooterText = Field(
        description="The lines for texts. `{name}` is the author's name in From, or the address without one;"
        " `{address}` is the address."
    )
    html: FooterText | None = Field(
        default=None, description="The same for HTML, as it would be in `<body>`. Left out: made from `text`."
    )


_Limit: TypeAlias = Annotated[int, BeforeValidator(integer(0, 10_000_000))]


class ProviderSettings(Section):
    """A provider without a preset, or a preset with changes. Accounts refer to it by the section's name.

    One attribute for each setting.

    Example: `[providers.office-hoster]`. A setting that is left out has the preset's value.
    """

    preset: Text | None = Field(
        default=None,
        description="The preset to start from. Left out: the preset with the section's name, else `generic`.",
    )
    host: Host | None = Field(default=None, description="The submission server. Required if the preset has none.")
    port: Port | None = Field(
        default=None, description="Its port. Left out: 465, then 587 if no connection to 465 is possible."
    )
    security: TlsMode | None = Field(
        default=None,
        description="`tls` (from the first octet), `starttls` (required before the login) or `none` (only to this"
        " machine itself). Left out: `tls` on port 465, `starttls` on any other.",
    )
    ca_file: FilePath | None = Field(
        default=None,
        description="PEM file with the authorities for its certificate. Left out: the operating system's. The"
        " certificate is always verified.",
    )
    mechanisms: tuple[Mechanism, ...] | None = Field(
        default=None,
        description="SASL mechanisms, the preferred one first. The first that the server offers is tried, once.",
    )
    login_form: LoginName | None = Field(
        default=None,
        description="The form of its user names: the mailbox's `address`, its `local-part`, or `other`. Used only for"
        " the proposal of `senderproxy account add`.",
    )
    sender_rule: Rule | None = Field(
        default=None,
        description="The reverse-paths that it accepts from an account: `address` (the mailbox's own addresses),"
        " `domain` (all of the mailbox's domain) or `any`.",
    )
    from_rule: Rule | None = Field(
        default=None,
        description="The same for the From field. An address that it does not accept is rewritten, or refused if the"
        " author is foreign. Left out: as `sender_rule`.",
    )
    takes_sub_addresses: Flag | None = Field(
        default=None,
        description="With the rule `address`, it accepts an own address with a `+tag` too. Bounces and automatic"
        " replies then leave with a signed tag, by which senderproxy stops an automatic answer to them, if the vault"
        " has a key (`senderproxy vault make-srs-key`).",
    )
    takes_null_reverse_path: Flag | None = Field(
        default=None, description="It accepts the null reverse-path (`<>`) of bounces and receipts."
    )
    on_null_reverse_path: NullPathPolicy | None = Field(
        default=None,
        description="Handling of such mail if it does not: `rewrite` (to an own address), `discard` (with a line in the"
        " log), `reject`, or `account ID` (send it through that account). Left out: `rewrite`.",
    )
    signs: Flag | None = Field(
        default=None,
        description="It adds a DKIM signature of the author's domain by itself, so senderproxy adds none"
        " (`senderproxy dkim`).",
    )
    imap_host: Host | None = Field(
        default=None,
        description="The IMAP server of its mailboxes, for copies in the Sent folder. Left out: the preset's, unless"
        " `host` is another server than the preset's.",
    )
    imap_port: Port | None = Field(default=None, description="Its port. Left out: 993, or 143 without TLS at first.")
    imap_security: TlsMode | None = Field(
        default=None,
        description="`tls` (from the first octet), `starttls` (required before the login) or `none` (only to this"
        " machine itself). Left out: `tls` on port 993, `starttls` on any other.",
    )
    stores_sent: Flag | None = Field(
        default=None,
        description="It puts a copy of each message that it sends into the mailbox's Sent folder by itself.",
    )
    connections: Annotated[int, BeforeValidator(integer(1, 100))] | None = Field(
        default=None, description="Connections at the same time, for each account."
    )
    messages_per_connection: _Limit | None = Field(
        default=None, description="Messages on one connection. 0: no known limit."
    )
    idle_seconds: Annotated[float, BeforeValidator(duration(0, 3600))] | None = Field(
        default=None, description="The time that an idle connection is kept for the next message."
    )
    recipients_per_message: _Limit | None = Field(
        default=None, description="Recipients of one message. 0: no known limit."
    )
    messages_per_hour: _Limit | None = Field(
        default=None, description="Messages in an hour, for each account. 0: no limit."
    )
    recipients_per_hour: _Limit | None = Field(
        default=None, description="Recipients in an hour, for each account. 0: no limit."
    )
    message_size: Size | None = Field(
        default=None, description="The largest message it accepts. A limit that its server announces counts as well."
    )

    def provider(self, name: str) -> Provider:
        """The provider of this name: the preset, with the values of these settings."""
        base = PRESETS[self.base(name)]
        changed: dict[str, Any] = {
            field: value
            for field in (
                "mechanisms",
                "login_form",
                "sender_rule",
                "from_rule",
                "takes_sub_addresses",
                "takes_null_reverse_path",
                "signs",
                "stores_sent",
            )
            if (value := getattr(self, field)) is not None
        }
        if self.sender_rule is not None and self.from_rule is None:
            changed["from_rule"] = self.sender_rule
        if self.on_null_reverse_path is not None:
            changed["null_policy"], changed["null_account"] = split_policy(NullPolicy, self.on_null_reverse_path)
        changed |= {"smarthosts": self._smarthosts(base), "imap": self.imap(base), "limits": self._limits(base.limits)}
        return replace(base, name=name, preset=base.name, **changed)

    def base(self, name: str) -> str:
        """The name of the preset to start from."""
        return self.preset or (name if name in PRESETS else "generic")

    def imap(self, base: Provider) -> ImapServer | None:
        """The IMAP server of its mailboxes; None: unknown. A preset's is not that of another submission server."""
        known = base.imap if self.host in (None, *(server.host for server in base.smarthosts)) else None
        host = self.imap_host or (None if known is None else known.host)
        if host is None:
            return None
        if self.imap_port is None and self.imap_security is None and known is not None:
            return replace(known, host=host, ca_file=self.ca_file)
        security = self.imap_security or usual_imap_security(self.imap_port)
        port = self.imap_port or (IMAP_TLS_PORT if security is Security.IMPLICIT_TLS else IMAP_PORT)
        return ImapServer(host, port, security, self.ca_file)

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
        return usual_security(self.port) if self.security is None else self.security

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


_Timeout: TypeAlias = Annotated[float, BeforeValidator(duration(0.05, 3600))]


class DeliverySettings(Section):
    """Timeouts of a session with a provider's server. The defaults are from RFC 5321 section 4.5.3.2."""

    connect_seconds: _Timeout = Field(
        default=30.0, description="The DNS look-up, the connection and the TLS handshake: each."
    )
    greeting_seconds: _Timeout = Field(default=300.0, description="The server's greeting.")
    ehlo_seconds: _Timeout = Field(default=300.0, description="The reply to EHLO.")
    auth_seconds: _Timeout = Field(default=120.0, description="The reply to AUTH.")
    mail_seconds: _Timeout = Field(default=300.0, description="The reply to MAIL.")
    rcpt_seconds: _Timeout = Field(default=300.0, description="The reply to each RCPT.")
    data_seconds: _Timeout = Field(default=120.0, description="The reply to DATA.")
    block_seconds: _Timeout = Field(default=180.0, description="A pause without progress while the message is sent.")
    final_dot_seconds: _Timeout = Field(
        default=540.0,
        description="The reply to the end of the message. Keep it below 600 seconds: the internal server gives up then"
        " and would send the message again.",
    )
    quit_seconds: _Timeout = Field(default=5.0, description="The reply to QUIT.")
    free_session_seconds: _Timeout = Field(
        default=120.0, description="The wait for a free connection while all connections of the account are in use."
    )
    straight_path: Flag = Field(
        default=True,
        description="Usual messages take a shorter way through the program, which needs less CPU time."
        " What is sent and replied is the same; `false` is for the search for an error.",
    )


class SpoolSettings(Section):
    """The queue on disk: its folder, the retries, and the reports to the authors."""

    engine: Engine = Field(
        default=SQLITE_ENGINE,
        description="`sqlite`: files of this machine. `postgresql://ROLE@HOST/DATABASE`: a database that several"
        " instances share; see [cluster.md](cluster.md). A change needs a restart.",
    )
    engine_password: SecretPlace | None = Field(
        default=None,
        description="The place of the role's password: `file:PATH` (mode 600, of the service's user) or"
        " `credential:NAME` (from systemd). A change needs a restart.",
    )
    engine_ca_file: FilePath | None = Field(
        default=None,
        description="The authorities whose certificate of the database server is accepted. Left out: those of the"
        " system. With another host than this machine, TLS and a valid certificate are always required. A change needs"
        " a restart.",
    )
    directory: FilePath | None = Field(
        default=None,
        description="The folder. Left out: `spool` beside the vault's file. Each service needs its own."
        " A change needs a restart.",
    )
    first_retry_seconds: Annotated[float, BeforeValidator(duration(1, 86400))] = Field(
        default=60.0, description="The wait after the first failed attempt. It doubles with each further one."
    )
    longest_retry_seconds: Annotated[float, BeforeValidator(duration(1, 86400))] = Field(
        default=1800.0, description="The longest wait between two attempts."
    )
    give_up_hours: Annotated[float, BeforeValidator(duration(0.01, 1000, "hours"))] = Field(
        default=48.0, description="The time after which a message is returned to its author."
    )
    report_delay_hours: Annotated[float, BeforeValidator(duration(0, 1000, "hours"))] = Field(
        default=4.0, description="The time after which its author gets one report about the delay. 0: never."
    )
    reports_to: Endpoint | None = Field(
        default=None,
        description="The internal server, as `192.168.1.20:25`, which then gets the reports on undelivered mail. Left"
        " out: they are sent to the author through the author's own account.",
    )
    returned_size: Size = Field(
        default=50_000,
        description="The largest message that is returned whole with its report. Of a larger one only the header is.",
    )
    history_days: Annotated[float, BeforeValidator(duration(0, 3650, "days"))] = Field(
        default=30.0,
        description="The age up to which `senderproxy track` knows a message. Contents are deleted as soon as it ends.",
    )
    keep_subjects: Flag = Field(
        default=False,
        description="Keep the subject of each message as long as its history, for `senderproxy track --subject` and the"
        " search of the page. It applies to messages that arrive afterwards.",
    )
    history_size: Size = Field(
        default=1_000_000_000,
        description="The size of the history on disk, above which the oldest is deleted, however old it is.",
    )
    min_free: Size = Field(
        default=100_000_000,
        description="The free space on the disk below which no message is queued: clients get 4xx. Below twice as"
        " much, no history is stored.",
    )
    reserve_size: Size = Field(
        default=4_000_000,
        description="The size of a file that is allocated in advance. On a full disk it is released, so that results of"
        " deliveries can be stored.",
    )

    def retry_policy(self) -> RetryPolicy:
        """These settings for retry."""
        return RetryPolicy(
            first=timedelta(seconds=self.first_retry_seconds),
            longest=timedelta(seconds=self.longest_retry_seconds),
            give_up=timedelta(hours=self.give_up_hours),
            report_delay=timedelta(hours=self.report_delay_hours) if self.report_delay_hours else None,
        )


class AlertSettings(Section):
    """Alerts about new, worse and ended conditions. Without a recipient nothing is sent.

    One attribute for each setting.
    """

    to: Mailboxes = Field(
        default=(),
        description="The addresses that get alerts by mail, through an account that works. One may be written without"
        " brackets. Left out: no mail. Prefer an address at another provider than the accounts.",
    )
    language: Annotated[Literal["both", "de", "en"], BeforeValidator(one_of("both", "de", "en"))] = Field(
        default="both", description="The language of the mails: German, English, or `both` in one mail."
    )
    level: Annotated[Literal["warning", "error"], BeforeValidator(one_of("warning", "error"))] = Field(
        default="warning", description="The lowest severity that is alerted."
    )
    error_delay_seconds: Annotated[float, BeforeValidator(duration(0, 86400))] = Field(
        default=30.0, description="The time that an error must last before it is alerted; several become one alert."
    )
    warning_delay_seconds: Annotated[float, BeforeValidator(duration(0, 86400))] = Field(
        default=120.0, description="The same for a warning."
    )
    over_delay_seconds: Annotated[float, BeforeValidator(duration(0, 86400))] = Field(
        default=300.0,
        description="The time that a condition must stay away before the alert that it is over. It grows for one that"
        " comes and goes.",
    )
    max_at_once: Count = Field(default=5, description="Alerts at the same time; more become one digest.")
    max_per_hour: Count = Field(
        default=10, description="Alerts in an hour. Further ones wait, and then become one digest."
    )
    reminder_hours: Annotated[float, BeforeValidator(duration(0, 8760, "hours"))] = Field(
        default=24.0, description="The time after which an error that goes on is alerted again. 0: never."
    )
    weekly: Weekly | None = Field(
        default=None,
        description="The day and the local time of a weekly alert with the numbers of messages sent and refused, also"
        " if all is well, like `monday 08:00`. Left out: none.",
    )
    webhook: SecretPlace | None = Field(
        default=None,
        description="The place of the URL that gets each alert by HTTP POST: `file:PATH` (mode 600, of the service's"
        " user) or `credential:NAME` (from systemd's `LoadCredential=` or `LoadCredentialEncrypted=`). docs/webhook.md"
        " has the form. Left out: no webhook.",
    )
    webhook_format: Annotated[
        Literal["json", "text", "slack", "teams"], BeforeValidator(one_of("json", "text", "slack", "teams"))
    ] = Field(
        default="json",
        description="`json` for programs; `text` for ntfy; `slack` for Slack, Mattermost, Rocket.Chat and Google Chat;"
        " `teams` for Microsoft Teams.",
    )
    webhook_secret: SecretPlace | None = Field(
        default=None,
        description="The place of the secret that signs each request, as standardwebhooks.com describes it. Left out:"
        " no signature.",
    )
    ping: SecretPlace | None = Field(
        default=None,
        description="The place of a URL that is requested at an interval while the service works, so that a receiver"
        " such as healthchecks.io alerts when it stays away. Left out: no pings.",
    )
    ping_minutes: Annotated[float, BeforeValidator(duration(1, 1440, "minutes"))] = Field(
        default=5.0, description="The interval of the pings."
    )
    ping_fail: Flag = Field(
        default=False,
        description="Request the URL with `/fail` at its end while the service runs but cannot work. healthchecks.io"
        " and its kin know it.",
    )
    ca_file: FilePath | None = Field(
        default=None,
        description="PEM file with authorities for the servers of `webhook` and `ping`, beside the system's. Their"
        " certificates are always verified.",
    )


class ServiceSettings(Section):
    """The service itself."""

    control_socket: SocketPath = Field(
        default="/run/senderproxy/control.sock",
        description="The socket on which `senderproxy status` and other commands reach the service. A change needs a"
        " restart.",
    )
    stop_seconds: Annotated[float, BeforeValidator(duration(0, 3600))] = Field(
        default=30.0, description="The time that transactions have to finish when the service stops."
    )


class MetricsSettings(Section):
    """Figures for a monitoring system, in Prometheus' text format: metrics.md."""

    listen: MetricsAddress | None = Field(
        default=None,
        description='The address for `GET /metrics`, such as `"127.0.0.1:9464"`, or a socket:'
        ' `"unix:/run/senderproxy/metrics.sock"`, for the users of its group. Left out: no metrics. Switching them on'
        " or off needs a restart; another address does not.",
    )
    allow: tuple[Network, ...] = Field(
        default=_LOOPBACK,
        description="The networks that may ask, on an IP address. There is neither encryption nor a login.",
    )
    addresses: Flag = Field(
        default=False,
        description="`true`: an account whose id has a mail address appears under it; `false`: under a stable number,"
        " which `senderproxy status --json` translates. A change needs a restart.",
    )


class WebSettings(Section):
    """The page for the browser: web.md. Its process asks the service over sockets of its own."""

    role: Annotated[
        Literal["off", "read", "operate", "accounts"],
        BeforeValidator(one_of("off", "read", "operate", "accounts")),
    ] = Field(
        default="off",
        description="The most that anyone may do on the page: `read`; `operate`, which is also to retry, hold,"
        " release and cancel messages and to resume accounts; or `accounts`, which is also to add mailboxes and to"
        " change their passwords. A change needs a restart.",
    )
    url: WebUrl = Field(
        default="http://127.0.0.1:8525/",
        description="The address of the page in the browser, with the path if it has one behind another web server. It"
        " is in the links of `senderproxy web link`, and its host is one under which the page answers.",
    )
    hosts: tuple[Host, ...] = Field(
        default=(),
        description="Further names and addresses of this machine under which the page answers, beside `url` and those"
        " of loopback.",
    )
    certificate: FilePath | None = Field(
        default=None,
        description="PEM file with the certificate and its intermediate certificates. Without it the page answers on"
        " loopback addresses alone. The user senderproxy-web must be able to read it.",
    )
    key: FilePath | None = Field(
        default=None, description="PEM file with the private key. The user senderproxy-web must be able to read it."
    )
    sockets: FilePath = Field(
        default="/run/senderproxy-web",
        description="The folder of the sockets on which the page's process asks the service. A change needs a restart.",
    )


class WatchSettings(Section):
    """Observations of the running service beyond itself, for its conditions."""

    dns: Flag = Field(
        default=True,
        description="Look once a day at SPF, DKIM, DMARC and MX of the accounts' domains, at the name servers of this"
        " machine. Only domains at a provider whose records are known are looked at.",
    )
    no_mail: Flag = Field(
        default=True, description="Report that no message was accepted for much longer than usual: condition `no_mail`."
    )
    no_mail_hours: Annotated[float, BeforeValidator(duration(0, 8760, "hours"))] = Field(
        default=0.0,
        description="The time without a message after which that is reported, at any hour. 0: what is usual, which is"
        " learned for each hour of the week and takes two weeks.",
    )


class LogSettings(Section):
    """The level and the format of the log."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(one_of("debug", "info", "warning", "error"))
    ] = Field(default="info", description="The lowest level that is logged.")
    format: Annotated[Literal["text", "json"], BeforeValidator(one_of("text", "json"))] = Field(
        default="text", description="`text` for people; `json` for programs, one object a line."
    )


class Config(Section):
    """The whole configuration. One attribute for each section."""

    identity: Identity
    vault: VaultSettings
    listeners: tuple[ListenerSettings, ...] = (ListenerSettings(),)
    clients: tuple[ClientSettings, ...] = ()
    routing: RoutingSettings = RoutingSettings()
    routes: tuple[RouteSettings, ...] = ()
    smarthosts: dict[Name, SmarthostSettings] = Field(default={})
    mx: MxSection = MxSection()
    senders: SendersSettings = SendersSettings()
    footers: tuple[FooterSettings, ...] = ()
    providers: dict[Name, ProviderSettings] = Field(default={})
    delivery: DeliverySettings = DeliverySettings()
    spool: SpoolSettings = SpoolSettings()
    alerts: AlertSettings = AlertSettings()
    service: ServiceSettings = ServiceSettings()
    metrics: MetricsSettings = MetricsSettings()
    web: WebSettings = WebSettings()
    watch: WatchSettings = WatchSettings()
    log: LogSettings = LogSettings()

    def provider_table(self) -> Mapping[str, Provider]:
        """All providers by name: the presets with a server, and, with priority, those of the configuration."""
        presets = {name: preset for name, preset in PRESETS.items() if preset.smarthosts}
        named = {name: settings.provider(name) for name, settings in self.providers.items()}
        return MappingProxyType(presets | named)

    def footer_table(self) -> FooterTable | None:
        """The footers by sender; None without one."""
        footers = [Footer(each.senders, each.text, each.html or "") for each in self.footers]
        return FooterTable(footers) if footers else None

    def preset_of(self, provider: str) -> str:
        """The preset that a provider is derived from, or its own name."""
        settings = self.providers.get(provider)
        return settings.base(provider) if settings else provider

    def named_accounts(self) -> Iterator[tuple[str, str]]:
        """The settings that name an account, each with the account's id."""
        policies = {"senders.foreign_author": self.senders.foreign_author}
        for name, provider in self.providers.items():
            policies[f"providers.{name}.on_null_reverse_path"] = provider.on_null_reverse_path or ""
        named = {
            "routing.default_account": self.routing.default_account,
            "senders.bounce_account": self.senders.bounce_account,
            "senders.foreign_account": self.senders.foreign_account,
        } | {setting: policy.partition(" ")[2] for setting, policy in policies.items()}
        yield from ((setting, account) for setting, account in named.items() if account)
        yield from named_accounts(self.routes, self.smarthosts)

    def recipient_routes(self) -> RecipientRoutes:
        """The routes by recipient."""
        return RecipientRoutes(recipient_routes(self.routes, self.smarthosts))

    @property
    def mx_vias(self) -> frozenset[str]:
        """The ways to mail servers of recipients that routes use: `mx`, `provider-mx`."""
        return MX_VIAS & {route.via for route in self.routes}

    def hops(self) -> frozenset[Hop]:
        """The servers without a login that routes name."""
        return frozenset(route.via.hop for route in self.recipient_routes().routes if isinstance(route.via, ServerVia))

    @property
    def vault_name(self) -> str:
        """The path of the vault's file, or the address of the database that has it."""
        return self.spool.engine if self.vault.in_database else self.vault.path

    @property
    def spool_directory(self) -> str:
        """The spool's folder."""
        return self.spool.directory or f"{self.vault.files.rpartition('/')[0] or '.'}/spool"

    def routing_policy(self) -> RoutingPolicy:
        """The routing settings for routing.route."""
        return RoutingPolicy(self.routing.author_order, self.routing.default_account)

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if conflicts := tuple(_conflicts(self)):
            text = " ".join(f"{conflict.message}. To fix: {conflict.hint}." for conflict in conflicts)
            # pydantic takes the text as a template: values in it must not act as placeholders.
            text = text.replace("{", "(").replace("}", ")")
            raise PydanticCustomError(CONFLICTS, text, {"conflicts": conflicts})
        return self


# The sections by their place in the file; "*" is any name, or any index of a list.
SECTIONS: Final[Mapping[tuple[str, ...], type[Section]]] = MappingProxyType(
    {
        (): Config,
        ("identity",): Identity,
        ("vault",): VaultSettings,
        ("listeners", "*"): ListenerSettings,
        ("clients", "*"): ClientSettings,
        ("routing",): RoutingSettings,
        ("routes", "*"): RouteSettings,
        ("smarthosts", "*"): SmarthostSettings,
        ("mx",): MxSection,
        ("senders",): SendersSettings,
        ("footers", "*"): FooterSettings,
        ("providers", "*"): ProviderSettings,
        ("delivery",): DeliverySettings,
        ("spool",): SpoolSettings,
        ("alerts",): AlertSettings,
        ("service",): ServiceSettings,
        ("metrics",): MetricsSettings,
        ("web",): WebSettings,
        ("watch",): WatchSettings,
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
    yield from route_conflicts(config.routes, config.smarthosts, [each.address for each in config.listeners])
    for name, smarthost in config.smarthosts.items():
        yield from smarthost_conflicts(("smarthosts", name), smarthost)
    yield from mx_conflicts(config.routes, config.mx, config.identity.hostname)
    yield from _senders_conflicts(config.senders)
    yield from _footers_conflicts(config.footers)
    yield from _vault_conflicts(config.vault, config.spool)
    yield from _spool_conflicts(config.spool)
    yield from _metrics_conflicts(config.metrics)
    yield from _web_conflicts(config.web)
    for name, provider in config.providers.items():
        yield from _provider_conflicts(("providers", name), name, provider)


def _vault_conflicts(vault: VaultSettings, spool: SpoolSettings) -> Iterator[Conflict]:
    path, engine, directory = ("vault", "path"), ("spool", "engine"), ("vault", "directory")
    if vault.in_database and spool.engine == SQLITE_ENGINE:
        hint = _("write the database server to engine in section [spool], or the path of a file to path")
        yield Conflict(path, _("needs a spool in a database server"), hint, (path, engine))
    if vault.directory is not None and not vault.in_database:
        text = _("has no meaning with a vault in a file")
        yield Conflict(directory, text, _("remove it"), (directory, path))


# Settings of one engine; with the other one they would do nothing.
_ENGINE_ONLY: Final = frozenset({"engine_password", "engine_ca_file"})
_SQLITE_ONLY: Final = frozenset({"directory", "history_size", "min_free", "reserve_size"})


def _spool_conflicts(spool: SpoolSettings) -> Iterator[Conflict]:
    first, longest = ("spool", "first_retry_seconds"), ("spool", "longest_retry_seconds")
    if spool.first_retry_seconds > spool.longest_retry_seconds:
        hint = _("write a shorter one, or raise longest_retry_seconds")
        yield Conflict(first, _("is longer than longest_retry_seconds"), hint, (first, longest))
    engine: SettingPath = ("spool", "engine")
    unfit = _ENGINE_ONLY if spool.engine == SQLITE_ENGINE else _SQLITE_ONLY
    for name in sorted(unfit & spool.model_fields_set):
        if getattr(spool, name) is not None:
            text = _("has no meaning with this engine of the spool")
            yield Conflict(("spool", name), text, _("remove it"), (("spool", name), engine))
    if spool.reports_to is not None and split_address(spool.reports_to)[1] == 0:
        path: SettingPath = ("spool", "reports_to")
        hint = _('write the server with its port, like "192.168.1.20:25"')
        yield Conflict(path, _("has no port"), hint, (path,))


def _metrics_conflicts(metrics: MetricsSettings) -> Iterator[Conflict]:
    """An address that no one could ask, or that everyone could."""
    if metrics.listen is None or metrics.listen.startswith(UNIX) or split_address(metrics.listen)[0].is_loopback:
        return
    allow, listen = ("metrics", "allow"), ("metrics", "listen")
    hint = _("list the monitoring system, like {setting}, or listen on 127.0.0.1").format(
        setting='allow = ["192.168.1.30"]'
    )
    if all(_is_loopback(network) for network in metrics.allow):
        text = _("allows this machine only, but {address} is for other machines")
        yield Conflict(allow, text.format(address=metrics.listen), hint, (allow, listen))
    elif covers_everything(metrics.allow):
        yield Conflict(allow, _("allows everyone to read the metrics"), hint, (allow, listen))


def _web_conflicts(web: WebSettings) -> Iterator[Conflict]:
    certificate, key, url = ("web", "certificate"), ("web", "key"), ("web", "url")
    if web.certificate is not None and web.key is None:
        hint = _("write {setting}").format(setting='key = "/etc/senderproxy/web-key.pem"')
        yield Conflict(key, _("is missing, but certificate is set"), hint, (key, certificate))
    if web.key is not None and web.certificate is None:
        hint = _("write {setting}").format(setting='certificate = "/etc/senderproxy/web.pem"')
        yield Conflict(certificate, _("is missing, but key is set"), hint, (certificate, key))
    if web.certificate is not None and web.url.startswith("http:"):
        yield Conflict(url, _("begins with http://, but certificate is set"), _("write https://"), (url, certificate))


def _senders_conflicts(senders: SendersSettings) -> Iterator[Conflict]:
    if senders.foreign_account is not None and senders.foreign_author == "reject":
        account: SettingPath = ("senders", "foreign_account")
        message = _('has no effect with foreign_author = "reject"')
        hint = _('write foreign_author = "rewrite", or remove it')
        yield Conflict(account, message, hint, (account, ("senders", "foreign_author")))
    for key, value in senders.map.items():
        if value.local_part is None and not key.startswith("@"):
            at: SettingPath = ("senders", "map", key)
            yield Conflict(at, _("maps one address to a whole domain"), _("write one address as the value"), (at,))


def _footers_conflicts(footers: tuple[FooterSettings, ...]) -> Iterator[Conflict]:
    first: dict[str, int] = {}
    for index, footer in enumerate(footers):
        path: SettingPath = ("footers", index, "senders")
        if not footer.senders:
            hint = _("write {setting}").format(setting='senders = ["@firma.example"]')
            yield Conflict(path, _("is empty: no mail would get this footer"), hint, (path,))
        for sender in footer.senders:
            other = first.setdefault(str(sender).lower(), index)
            if other != index:
                message = _("{value} is also used by {other}").format(
                    value=quoted(str(sender)), other=f"footers[{other}]"
                )
                yield Conflict(path, message, _("remove one of the two"), (path, ("footers", other, "senders")))


def _listener_conflicts(at: SettingPath, listener: ListenerSettings, users: bool) -> Iterator[Conflict]:
    tls = (*at, "tls")
    for field in ("certificate", "key"):
        path, value = (*at, field), getattr(listener, field)
        if listener.tls != "none" and value is None:
            message = _('is missing, but tls = "{tls}" needs it').format(tls=listener.tls)
            hint = _("write {setting}").format(setting=f'{field} = "/etc/senderproxy/{field}.pem"')
            yield Conflict(path, message, hint, (path, tls))
        if listener.tls == "none" and value is not None:
            message = _("is set, but this listener does not use TLS")
            yield Conflict(path, message, _('write tls = "starttls"'), (path, tls))
    if listener.old_tls and listener.tls == "none":
        path = (*at, "old_tls")
        hint = _('remove it, or write tls = "starttls"')
        yield Conflict(path, _('is true, but tls is "none"'), hint, (path, tls))
    auth = (*at, "auth")
    if listener.auth != "off" and not users:
        message = _('is "{auth}", but no client has a user name').format(auth=listener.auth)
        hint = _("add [[clients]] with a user and a password")
        yield Conflict(auth, message, hint, (auth, ("clients",)))
    if listener.reserved_connections is not None and listener.reserved_connections >= listener.max_connections:
        path, total = (*at, "reserved_connections"), (*at, "max_connections")
        hint = _("write a smaller number, or raise max_connections")
        yield Conflict(path, _("leaves no connection for other clients"), hint, (path, total))
    yield from _access_conflicts(at, listener)


def _access_conflicts(at: SettingPath, listener: ListenerSettings) -> Iterator[Conflict]:
    """Access for no client at all, or for every client."""
    allow, auth, address, tls = ((*at, field) for field in ("allow", "auth", "address", "tls"))
    if not listener.allow and listener.auth != "optional":
        hint = _("write {setting}").format(setting=_PRIVATE_EXAMPLE)
        yield Conflict(allow, _("is empty: no client could submit mail"), hint, (allow, auth))
    host, _port = split_address(listener.address)
    if listener.proxy_from:
        yield from _proxy_conflicts(at, listener)
    elif host.is_loopback:
        return
    if listener.auth != "required" and covers_everything(listener.allow):
        yield Conflict(
            allow,
            _("allows every client: this would be an open relay"),
            _('list your own networks only, or write auth = "required"'),
            (allow, auth, address),
        )
    admits_others = listener.auth == "optional" or not listener.allow or not all(map(_is_loopback, listener.allow))
    if not admits_others and not listener.proxy_from:
        yield Conflict(
            allow,
            _("allows this machine only, but {address} is for other machines").format(address=listener.address),
            _("list your own networks, like {setting}, or listen on 127.0.0.1").format(setting=_PRIVATE_EXAMPLE),
            (allow, auth, address),
        )
    if listener.auth != "off" and listener.tls == "none":
        yield Conflict(
            auth,
            _("is {auth} on {address} without TLS: passwords would be sent in the clear").format(
                auth=quoted(listener.auth), address=listener.address
            ),
            _('write tls = "starttls" with certificate and key'),
            (auth, tls, address),
        )


def _proxy_conflicts(at: SettingPath, listener: ListenerSettings) -> Iterator[Conflict]:
    """Everyone as a proxy, or no client behind one."""
    allow, auth, proxies = ((*at, field) for field in ("allow", "auth", "proxy_from"))
    if covers_everything(listener.proxy_from):
        message = _("names everyone: each client could claim any address")
        hint = _("list the addresses of the proxies only, like {setting}").format(setting=_PROXY_EXAMPLE)
        yield Conflict(proxies, message, hint, (proxies,))
    if split_address(listener.address)[0].is_loopback and not any(map(_is_loopback, listener.proxy_from)):
        message = _("names no address of this machine, but {address} is reached from this machine alone")
        hint = _("write {setting}, or another address").format(setting='proxy_from = ["127.0.0.1"]')
        yield Conflict(proxies, message.format(address=listener.address), hint, (proxies, (*at, "address")))
    if listener.auth != "optional" and listener.allow and all(map(_is_loopback, listener.allow)):
        message = _("allows this machine only, but behind a proxy the clients have other addresses")
        hint = _("list your own networks, like {setting}").format(setting=_PRIVATE_EXAMPLE)
        yield Conflict(allow, message, hint, (allow, auth, proxies))


def _listeners_conflicts(listeners: tuple[ListenerSettings, ...]) -> Iterator[Conflict]:
    if not listeners:
        yield Conflict(("listeners",), _("is empty"), _("remove it, or add [[listeners]]"), (("listeners",),))
    for field in ("name", "address"):
        first: dict[str, int] = {}
        for index, listener in enumerate(listeners):
            value = getattr(listener, field)
            if field == "address" and split_address(value)[1] == 0:
                continue
            other = first.setdefault(value, index)
            if other != index:
                path, earlier = ("listeners", index, field), ("listeners", other, field)
                message = _("{value} is also used by {other}").format(value=quoted(value), other=f"listeners[{other}]")
                hint = _("give each listener its own {setting}").format(setting=field)
                yield Conflict(path, message, hint, (path, earlier))


def _client_conflicts(at: SettingPath, client: ClientSettings) -> Iterator[Conflict]:
    user, password, networks = ((*at, field) for field in ("user", "password", "networks"))
    identity = (user, networks)
    if client.user is None and not client.networks and not client.default:
        hint = _('write user = "..." or networks = ["..."], or default = true')
        yield Conflict(at, _("has neither a user nor networks"), hint, identity)
    if client.default and (client.user is not None or client.networks):
        hint = _("make two clients of it, one with default = true alone")
        yield Conflict((*at, "default"), _("is for hosts without an entry, but this one names its own"), hint, identity)
    if client.user is not None and client.networks:
        hint = _("make two clients of it, one with the user and one with the networks")
        yield Conflict(at, _("has a user and networks"), hint, identity)
    if client.user is not None and client.password is None:
        message = _("is missing for user {user}").format(user=client.user)
        hint = _("write the output of: senderproxy client hash-password")
        yield Conflict(password, message, hint, (user, password))
    if client.user is None and client.password is not None:
        yield Conflict(password, _("has no user"), _('write user = "..."'), (user, password))


def _clients_conflicts(clients: tuple[ClientSettings, ...]) -> Iterator[Conflict]:
    first: dict[object, int] = {}
    for index, client in enumerate(clients):
        entries: list[tuple[str, object]] = [("networks", network) for network in client.networks]
        entries += [("user", client.user)] if client.user is not None else []
        entries += [("default", True)] if client.default else []
        for field, value in entries:
            other = first.setdefault(value, index)
            path = ("clients", index, field)
            if other != index:
                message = _("{value} is also used by {other}").format(
                    value=quoted(str(value)), other=f"clients[{other}]"
                )
                yield Conflict(path, message, _("remove one of the two"), (path, ("clients", other, field)))


def _routing_conflicts(routing: RoutingSettings) -> Iterator[Conflict]:
    path = ("routing", "author_order")
    order = [source.value for source in routing.author_order]
    if not order:
        fields = alternatives([source.value for source in ORDERED_SOURCES])
        hint = _("write at least one of {fields}").format(fields=fields)
        yield Conflict(path, _("is empty: no message could have an author"), hint, (path,))
    for repeated in sorted({field for field in order if order.count(field) > 1}):
        message = _("contains {value} more than once").format(value=quoted(repeated))
        yield Conflict(path, message, _("write each field once"), (path,))


def _provider_conflicts(at: SettingPath, name: str, provider: ProviderSettings) -> Iterator[Conflict]:
    preset, host, security = ((*at, field) for field in ("preset", "host", "security"))
    base = PRESETS.get(provider.base(name))
    if base is None:
        message = _("{value} is not a preset").format(value=quoted(provider.preset))
        yield Conflict(preset, message, _preset_hint(str(provider.preset)), (preset,))
        return
    address = provider.host or (base.smarthosts[0].host if base.smarthosts else None)
    if address is None:
        message = _('is missing, and preset "{preset}" has no server').format(preset=base.name)
        hint = _('write host = "smtp.example.com", or another preset')
        yield Conflict(host, message, hint, (host, preset))
    elif provider.security is Security.NONE and not _is_this_machine(address):
        message = _('is "none": the password for {host} would be sent in the clear').format(host=address)
        yield Conflict(security, message, _('write security = "tls" or "starttls"'), (security, host))
    yield from _imap_conflicts(at, provider, provider.imap(base))
    if provider.mechanisms == ():
        path = (*at, "mechanisms")
        yield Conflict(path, _("is empty: no login would be possible"), _("remove it"), (path,))


def _imap_conflicts(at: SettingPath, provider: ProviderSettings, imap: ImapServer | None) -> Iterator[Conflict]:
    host, port, security = ((*at, field) for field in ("imap_host", "imap_port", "imap_security"))
    if imap is None:
        for path, value in ((port, provider.imap_port), (security, provider.imap_security)):
            if value is not None:
                hint = _("write {setting}").format(setting='imap_host = "imap.example.com"')
                yield Conflict(path, _("has no effect without imap_host"), hint, (path, host))
    elif imap.security is Security.NONE and not _is_this_machine(imap.host):
        message = _('is "none": the password for {host} would be sent in the clear').format(host=imap.host)
        yield Conflict(security, message, _('write imap_security = "tls" or "starttls"'), (security, host))


def _preset_hint(name: str) -> str:
    """The presets with a similar name, or all of them."""
    begun = [preset for preset in PRESETS if preset.startswith(name.lower())]
    if near := begun or get_close_matches(name.lower(), PRESETS, 1):
        return _("did you mean {presets}?").format(presets=alternatives(near))
    return _("use one of {names}").format(names=", ".join(PRESETS))


def covers_everything(networks: tuple[IpNetwork, ...]) -> bool:
    """True if the networks together contain all IPv4 addresses, or all IPv6 addresses."""
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
