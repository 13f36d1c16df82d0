"""Hints for the operator: the fix for each cause of a refused login or a blocked account. PURE.

Guarantees: plain text without a final period; where the provider has a switch or a password for programs, the hint
names it. The provider is known by the name of its preset or of its server.
Not here: causes (delivery.causes), replies for clients (delivery.open_failures, delivery.account_health).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from senderproxy.delivery.causes import Cause
from senderproxy.translation import N_, _


@dataclass(frozen=True, slots=True)
class Login:
    """A login, as hints name it.

    `provider`: its section in the configuration; `host`: the server's name; `preset`: empty for a section of that name;
    `application`: that of the access tokens, empty for a password.
    """

    account_id: str
    login: str
    provider: str
    host: str
    mechanisms: tuple[str, ...] = ()
    preset: str = ""
    application: str = ""


@dataclass(frozen=True, slots=True)
class _Switches:
    """The settings of a provider that decide about logins of programs. Empty: it has none."""

    smtp: str = ""  # the switch for access by SMTP
    app_password: str = ""  # the password for programs; it is then stored


_UNITED_INTERNET: Final = _Switches(
    smtp=N_(
        "switch on access by POP3, IMAP and SMTP in the settings of the mailbox at {name} "
        "(E-Mail > Einstellungen > POP3/IMAP Abruf); after two-factor login was enabled, switch it on again"
    ),
    app_password=N_(
        "create an application-specific password at {name} (Account > Passwoerter > anwendungsspezifisches Passwort)"
    ),
)
_APP_PASSWORD: Final = N_("create an app password in the security settings of the {name} account")
_MICROSOFT: Final = _Switches(
    smtp=N_(
        "enable Authenticated SMTP for the mailbox (Microsoft 365 admin center > user > Mail > Manage email apps), "
        "and for the tenant if it is off there (Set-TransportConfig -SmtpClientAuthenticationDisabled $false); "
        "security defaults switch it off too"
    ),
    app_password=N_("create an app password (mysignins.microsoft.com > Security info)"),
)
_GOOGLE: Final = N_("enable 2-Step Verification and create an app password (myaccount.google.com/apppasswords)")
_CHINESE: Final = _Switches(
    smtp=N_("switch on the SMTP service in the settings of the mailbox at {name}"),
    app_password=N_("create an authorization code in the settings of the mailbox at {name}"),
)

_MICROSOFTS: Final = frozenset({"Microsoft 365", "Outlook.com"})
_OAUTH_SERVERS: Final[Mapping[str, str]] = MappingProxyType(
    {"Microsoft 365": "microsoft", "Outlook.com": "microsoft", "Google": "google"}
)
_MAILBOX_PERMISSION: Final = N_(
    "give the application access to the mailbox, in Exchange Online PowerShell: Add-MailboxPermission -Identity "
    "{login} -User OBJECT-ID -AccessRights FullAccess (OBJECT-ID: of the enterprise application); after a consent of "
    "the wrong user, consent again; then {verify}"
)

# By the end of the server's name, or the name of a preset. Sources: the help pages of these providers.
_PROVIDERS: Final[Mapping[str, tuple[str, _Switches]]] = MappingProxyType(
    {
        "gmx": ("GMX", _UNITED_INTERNET),
        "gmx.net": ("GMX", _UNITED_INTERNET),
        "gmx.com": ("GMX", _UNITED_INTERNET),
        "web.de": ("WEB.DE", _UNITED_INTERNET),
        "mail.com": ("mail.com", _UNITED_INTERNET),
        "t-online": (
            "T-Online",
            _Switches(
                app_password=N_(
                    "set the separate password for mail programs (Telekom Kundencenter > E-Mail > E-Mail-Passwort)"
                )
            ),
        ),
        "gmail": ("Google", _Switches(smtp=_GOOGLE, app_password=_GOOGLE)),
        "m365": ("Microsoft 365", _MICROSOFT),
        "office365.com": ("Microsoft 365", _MICROSOFT),
        "outlook.com": ("Outlook.com", _MICROSOFT),
        "yahoo.com": ("Yahoo", _Switches(app_password=_APP_PASSWORD)),
        "aol.com": ("AOL", _Switches(app_password=_APP_PASSWORD)),
        "me.com": ("Apple", _Switches(app_password=N_("create an app-specific password (account.apple.com)"))),
        "zoho.com": ("Zoho", _Switches(app_password=_APP_PASSWORD)),
        "zoho.eu": ("Zoho", _Switches(app_password=_APP_PASSWORD)),
        "yandex.com": (
            "Yandex",
            _Switches(
                smtp=N_("allow mail programs in the settings of the mailbox at {name} (All settings > Email clients)"),
                app_password=_APP_PASSWORD,
            ),
        ),
        "163.com": ("163.com", _CHINESE),
        "126.com": ("126.com", _CHINESE),
        "qq.com": ("QQ Mail", _CHINESE),
    }
)
_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "googlemail.com": "gmail",
        "gmail.com": "gmail",
        "google.com": "gmail",
        "t-online.de": "t-online",
        "office365.us": "office365.com",
        "hotmail.com": "outlook.com",
        "icloud.com": "me.com",
        "yandex.ru": "yandex.com",
        "gmx.de": "gmx.net",
        "zoho.in": "zoho.com",
    }
)


def hint(cause: Cause, login: Login) -> str:
    """Return the fix for this cause; empty where there is none, because senderproxy tries again by itself."""
    name, switches = _provider(login)
    set_password = f"senderproxy account set-password {login.account_id}"
    verify = f"senderproxy account verify {login.account_id}"
    section = f"[providers.{login.provider}]"

    match cause:
        case Cause.PASSWORD if login.application:
            if name in _MICROSOFTS:
                return _(_MAILBOX_PERMISSION).format(login=login.login, verify=verify)
            return _("consent again: senderproxy account consent {account}").format(account=login.account_id)
        case Cause.TOKEN:
            return f"senderproxy account verify {login.account_id}"
        case Cause.PASSWORD:
            return _with_switches(set_password, [_(text).format(name=name) for text in _stated(switches)])
        case Cause.SMTP_OFF if not switches.smtp:
            text = _("enable access by SMTP for the mailbox at {name}; then {verify}")
            return text.format(name=name, verify=verify)
        case Cause.SMTP_OFF if switches.smtp != switches.app_password:
            switch = _(switches.smtp).format(name=name)
            return _("{switch}; then {verify}").format(switch=switch, verify=verify)
        case Cause.SMTP_OFF | Cause.APP_PASSWORD:
            own = switches.app_password or N_("create a password for mail programs (app password) at {name}")
            text = _("{switch}, and store it: {set_password}")
            return text.format(switch=_(own).format(name=name), set_password=set_password)
        case Cause.PASSWORDS_OFF:
            server = _OAUTH_SERVERS.get(name, "NAME")
            text = _(
                "log in with OAuth: senderproxy oauth add {server}, then senderproxy account consent {account} --oauth "
                "{server} (senderproxy help oauth)"
            )
            return text.format(server=server, account=login.account_id)
        case Cause.LOCKED:
            return _("unlock the mailbox in the customer menu of {name}; then {verify}").format(
                name=name, verify=verify
            )
        case Cause.METHOD:
            others = [each for each in ("LOGIN", "PLAIN") if (each,) != login.mechanisms] or ["LOGIN"]
            text = _('set mechanisms = ["{other}"] in {section}, or ask {name} for the login method; then {verify}')
            return text.format(other=others[0], section=section, name=name, verify=verify)
        case Cause.BACKEND | Cause.PASSWORD_RETRY:
            text = _("wait: it is tried again after 5, 15 and 60 minutes; to try it at once: {verify}")
            return text.format(verify=verify)
        case Cause.CUT:
            text = _(
                "check the password and whether {name} blocks this machine's address after failed logins; "
                "it is tried again after 5, 15 and 60 minutes; to try it at once: {verify}"
            )
            return text.format(name=name, verify=verify)
        case Cause.LOGIN_LIMIT:
            text = _("wait: {name} limits logins; senderproxy tries again by itself; to try it at once: {verify}")
            return text.format(name=name, verify=verify)
        case Cause.NO_TLS:
            return _('set security = "starttls" or "tls" in {section}').format(section=section)
        case Cause.EHLO_NAME:
            return _('set identity.hostname to the full name of this machine, such as "mail.firma.example"')
        case Cause.ADDRESS_BLOCKED:
            return _(
                "ask {name} why it blocks this machine's IP address; look for infected devices behind the same "
                "address and for a missing reverse DNS name"
            ).format(name=name)
        case Cause.CONNECTIONS:
            text = _("set a lower number of connections in {section} if this happens often")
            return text.format(section=section)
        case Cause.LIMIT | Cause.CLOSING:
            text = _("set messages_per_hour in {section} below the limit of {name} if this happens often")
            return text.format(section=section, name=name)
        case Cause.OWN_MAILBOX:
            text = _("make space in the mailbox at {name} (old and deleted mail), or have it enabled there")
            return text.format(name=name)
        case _:
            return ""


def _stated(switches: _Switches) -> list[str]:
    """The settings of a provider that refuses a right password as if it were wrong."""
    return [text for text in dict.fromkeys((switches.smtp, switches.app_password)) if text]


def _with_switches(set_password: str, switches: Sequence[str]) -> str:
    match switches:
        case [one]:
            text = _("{set_password}. If it is right: {switch}")
            return text.format(set_password=set_password, switch=one)
        case [one, other]:
            text = _("{set_password}. If it is right: {switch}, or {other}")
            return text.format(set_password=set_password, switch=one, other=other)
        case _:
            return set_password


def _provider(login: Login) -> tuple[str, _Switches]:
    """Return the provider's name and its settings."""
    host = login.host.lower().rstrip(".")
    labels = host.split(".")
    ends = [".".join(labels[start:]) for start in range(len(labels))]
    for name in (*ends, login.preset, login.provider.lower()):
        if (found := _PROVIDERS.get(_ALIASES.get(name, name))) is not None:
            return found
    return login.host or login.provider, _Switches()
