"""Presets: settings of known providers, with sources. PURE.

Guarantees: every value has a source. If a provider does not publish a value, the safest one is used: only the mailbox's
own addresses as the sender (every other rule accepts them too), no null reverse-path, few connections. The
configuration can override every value.

Not here: values that the upstream announces itself (delivery): SIZE, AUTH mechanisms.

Hosts and ports, unless a line says otherwise: the autoconfiguration database of Thunderbird
(github.com/thunderbird/autoconfig), also those of IMAP. If both are offered, implicit TLS comes first (RFC 8314
section 3.3).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from senderproxy.routing.provider import ImapServer, Limits, LoginForm, Provider, Security, SenderRule, Smarthost

IMPLICIT_TLS_PORT: Final = 465  # RFC 8314 section 7.3
STARTTLS_PORT: Final = 587  # RFC 6409 section 3.1
IMAP_TLS_PORT: Final = 993  # RFC 8314 section 7.2
IMAP_PORT: Final = 143  # RFC 9051 section 2.1


def usual_security(port: int | None) -> Security:
    """The protection of a submission server on this port; None: no port is given."""
    return Security.IMPLICIT_TLS if port == IMPLICIT_TLS_PORT else Security.STARTTLS


def usual_imap_security(port: int | None) -> Security:
    """The protection of an IMAP server on this port; None: no port is given."""
    return Security.IMPLICIT_TLS if port in (None, IMAP_TLS_PORT) else Security.STARTTLS


def smarthosts(host: str, *ports: int, ca_file: str | None = None) -> tuple[Smarthost, ...]:
    """Submission servers of one host: port 465 with implicit TLS, any other port with STARTTLS."""
    return tuple(Smarthost(host, port, _security(port), ca_file) for port in ports)


def _security(port: int) -> Security:
    return Security.IMPLICIT_TLS if port == IMPLICIT_TLS_PORT else Security.STARTTLS


_UNPUBLISHED: Final = Limits(connections=2, idle_seconds=30.0)


def _imap(host: str) -> ImapServer:
    return ImapServer(host, IMAP_TLS_PORT, Security.IMPLICIT_TLS)


def _cautious(
    name: str,
    host: str,
    *ports: int,
    imap: str | None,
    limits: Limits = _UNPUBLISHED,
    signs: bool = False,
    stores_sent: bool = False,
) -> Provider:
    """A provider that accepts only own addresses as the sender, or does not publish its rule.

    `imap`: the IMAP server's host, on port 993.
    """
    return Provider(
        name,
        smarthosts(host, *(ports or (IMPLICIT_TLS_PORT, STARTTLS_PORT))),
        sender_rule=SenderRule.ADDRESS,
        from_rule=SenderRule.ADDRESS,
        signs=signs,
        imap=None if imap is None else _imap(imap),
        stores_sent=stores_sent,
        limits=limits,
    )


# Since 29 January 2024 the sender's domain must be the mailbox's domain, the part before the @ is free; empty senders
# are refused: ionos.com/help/email/general-topics/important-change-for-sending-emails-with-different-sender-addresses/
# It is not published whether the rule applies to the header From too; the preset assumes that it does.
# At most 200 recipients in a message, and between 400 (mailboxes of less than a month) and 5000 recipients or 500
# messages in an hour:
# ionos.de/hilfe/e-mail/allgemeine-themen/welche-beschraenkungen-gibt-es-beim-versand-von-massenmails/
# (in a mailbox's first two weeks it is 50, then 100: lower recipients_per_hour for it).
# It signs for domains whose zone has its keys (s1-ionos, s2-ionos), as the records of such zones show.
# Connections, messages in a session and the idle time are not published; "451 Mails per session limit" is handled when
# it occurs. User name: the whole address. IMAP: imap.ionos.de, and imap. with the other countries' names, e.g.
# ionos.fr/assistance/email/mise-en-place-demail-made-in-germany/serveur-entrant
_IONOS: Final = Provider(
    "ionos-de",
    smarthosts("smtp.ionos.de", IMPLICIT_TLS_PORT, STARTTLS_PORT),
    sender_rule=SenderRule.DOMAIN,
    from_rule=SenderRule.DOMAIN,
    signs=True,
    imap=_imap("imap.ionos.de"),
    limits=Limits(connections=2, idle_seconds=30.0, recipients_per_message=200, recipients_per_hour=400),
)


def _like_ionos(name: str, domain: str) -> Provider:
    servers = smarthosts(f"smtp.{domain}", IMPLICIT_TLS_PORT, STARTTLS_PORT)
    return replace(_IONOS, name=name, smarthosts=servers, imap=_imap(f"imap.{domain}"))


_ALL: Final[Iterable[Provider]] = (
    _IONOS,
    _like_ionos("ionos-com", "ionos.com"),
    _like_ionos("ionos-uk", "ionos.co.uk"),
    _like_ionos("ionos-es", "ionos.es"),
    _like_ionos("ionos-fr", "ionos.fr"),
    _like_ionos("1und1", "1und1.de"),  # the older name of ionos-de
    # IONOS hosted Exchange accepts only the mailbox as the sender (same page as above), and 500 recipients; 1 to 10
    # messages a minute, by the age of the account: the lowest of these. STARTTLS only. The name of its IMAP server is
    # not published.
    _cautious(
        "ionos-exchange",
        "smtp.exchange.ionos.eu",
        STARTTLS_PORT,
        imap=None,
        limits=Limits(connections=2, idle_seconds=30.0, recipients_per_message=500, messages_per_hour=60),
    ),
    # The same platform as IONOS, with a stricter rule: `550 Sender address is not allowed.` at MAIL FROM for all but
    # the own addresses (github.com/infertux/zeyple issue 49).
    _cautious("gmx", "mail.gmx.net", imap="imap.gmx.net"),
    replace(_cautious("web.de", "smtp.web.de", imap="imap.web.de"), login_form=LoginForm.LOCAL_PART),
    _cautious("mail.com", "smtp.mail.com", imap="imap.mail.com"),
    # EHLO shows LIMITS RCPTMAX=1000 MAILMAX=1000 (github.com/jstedfast/MailKit issue 1745). Sender rule not published.
    _cautious(
        "strato",
        "smtp.strato.de",
        imap="imap.strato.de",
        limits=Limits(connections=2, messages_per_connection=1000, idle_seconds=30.0, recipients_per_message=1000),
    ),
    # Needs the separate "E-Mail-Passwort". Sender rule not published.
    _cautious("t-online", "securesmtp.t-online.de", imap="secureimap.t-online.de"),
    _cautious("hetzner", "mail.your-server.de", IMPLICIT_TLS_PORT, imap="mail.your-server.de"),
    # `550 envelope sender not allowed` (github.com/in2code-de/femanager issue 404).
    _cautious("domainfactory", "sslout.df.eu", imap="sslin.df.eu"),
    # OVH's Exchange: `550 5.7.60 SMTP; Client does not have permissions to send as this sender`.
    _cautious("ovh", "ssl0.ovh.net", IMPLICIT_TLS_PORT, imap="ssl0.ovh.net"),
    _cautious("posteo", "posteo.de", imap="posteo.de"),
    _cautious("vodafone", "smtp.vodafonemail.de", IMPLICIT_TLS_PORT, imap="imap.vodafonemail.de"),
    # Needs an app password or OAuth (docs/oauth.md). Another From than the account's or a verified alias is reported to
    # be rewritten. At most 100 recipients in a message; 500 recipients a day, 2000 with Workspace: enforced here as a
    # limit for each hour. It signs all mail, with the domain's own key if there is one:
    # support.google.com/a/answer/174124
    # It stores what is submitted in the Sent folder (support.google.com/mail/answer/78892).
    _cautious(
        "gmail",
        "smtp.gmail.com",
        imap="imap.gmail.com",
        signs=True,
        stores_sent=True,
        limits=Limits(connections=2, idle_seconds=30.0, recipients_per_message=100, recipients_per_hour=500),
    ),
    # No implicit TLS. The header From is checked at the end of DATA (`554 5.2.252 SendAsDenied`); three connections at
    # once (`432 4.3.2 sender thread limit exceeded`), 30 messages a minute: learn.microsoft.com, "How to set up a
    # multifunction device". Password logins will be disabled by default after 2026 (`550 5.7.30`); OAuth:
    # docs/microsoft-365.md. It signs for domains of which DKIM is enabled:
    # learn.microsoft.com/powershell/module/exchange/new-dkimsigningconfig
    # It stores what is submitted in Sent Items: Exchange team blog, 20 April 2018, "Changes coming to the SMTP
    # Authenticated Submission client protocol".
    _cautious(
        "m365",
        "smtp.office365.com",
        STARTTLS_PORT,
        imap="outlook.office365.com",
        signs=True,
        stores_sent=True,
        limits=Limits(connections=2, idle_seconds=30.0, messages_per_hour=1800),
    ),
    # Any other server; the configuration names its host. A Postfix, Plesk or mailcow host that checks senders replies
    # `553 5.7.1 Sender address rejected: not owned by user ...`.
    Provider("generic", (), sender_rule=SenderRule.ADDRESS, from_rule=SenderRule.ADDRESS, limits=_UNPUBLISHED),
)

PRESETS: Final[Mapping[str, Provider]] = MappingProxyType({provider.name: provider for provider in _ALL})
