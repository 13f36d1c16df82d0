"""Steps for a person at a provider before an OAuth login. PURE.

Not here: the questions (cli.oauth), the guide with its reasons (docs/microsoft-365.md).
Sources: https://learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth,
https://developers.google.com/identity/protocols/oauth2/service-account
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from senderproxy.accounts.oauth_application import Flow
from senderproxy.oauth.authorization_server import GOOGLE, MICROSOFT
from senderproxy.translation import _


def registration_steps(server: str, flow: Flow) -> Sequence[str]:
    """The steps to the registration of an application. Empty for an unknown server."""
    match server, flow:
        case "microsoft", Flow.APPLICATION:
            return (
                _(
                    "Open https://entra.microsoft.com > App registrations > New registration. Name: senderproxy."
                    " Accounts in this organizational directory only. No redirect URI. Register."
                ),
                _("The overview shows the Directory (tenant) ID and the Application (client) ID."),
                _(
                    "API permissions > Add a permission > APIs my organization uses > Office 365 Exchange Online >"
                    " Application permissions > SMTP.SendAsApp. Then: Grant admin consent."
                ),
                _("Certificates & secrets > New client secret. Copy its value, not its ID; it is shown once."),
            )
        case "microsoft", _flow:
            return (
                _(
                    "Open https://entra.microsoft.com > App registrations > New registration. Name: senderproxy."
                    " Accounts in this organizational directory only."
                ),
                _("Redirect URI: Public client/native (mobile & desktop), with http://localhost. Register."),
                _("The overview shows the Directory (tenant) ID and the Application (client) ID."),
                _(
                    "API permissions > Add a permission > Microsoft Graph > Delegated permissions > SMTP.Send and"
                    " offline_access."
                ),
            )
        case "google", Flow.SERVICE_ACCOUNT:
            return (
                _(
                    "Open https://console.cloud.google.com > IAM & Admin > Service accounts > Create service account."
                    " Then: Keys > Add key > Create new key > JSON."
                ),
                _("Enable the Gmail API for the project: APIs & Services > Library."),
                _(
                    "Open https://admin.google.com > Security > API controls > Domain-wide delegation > Add new. Client"
                    " ID: that of the service account. Scope: https://mail.google.com/"
                ),
            )
        case "google", _flow:
            return (
                _(
                    "Open https://console.cloud.google.com > APIs & Services > OAuth consent screen. With Google"
                    " Workspace choose Internal; else publish the application, because one in testing loses its"
                    " consents after 7 days."
                ),
                _("Credentials > Create credentials > OAuth client ID > Desktop app."),
                _("The console shows the client ID and the client secret."),
            )
        case _:
            return ()


def mailbox_steps(server: str, flow: Flow, client_id: str, mailbox: str) -> Sequence[str]:
    """The steps to open a mailbox to the application; empty if none are needed."""
    match server, flow:
        case "microsoft", Flow.APPLICATION:
            return (
                _("Open Exchange Online PowerShell: Connect-ExchangeOnline"),
                _("Once for the application; OBJECT-ID: that of the enterprise application, not of its registration:"),
                f"New-ServicePrincipal -AppId {client_id} -ObjectId OBJECT-ID -DisplayName senderproxy",
                _("Once for the mailbox:"),
                f"Add-MailboxPermission -Identity {mailbox} -User OBJECT-ID -AccessRights FullAccess",
                f"Set-CASMailbox -Identity {mailbox} -SmtpClientAuthenticationDisabled $false",
            )
        case "microsoft", _flow:
            return (
                _(
                    "Switch on authenticated SMTP for the mailbox: Microsoft 365 admin center > user > Mail > Manage"
                    " email apps."
                ),
            )
        case _:
            return ()


def usual_flow(server: str) -> Flow:
    """The flow of most offices: at Microsoft the application alone, elsewhere a person's consent."""
    return Flow.APPLICATION if server == MICROSOFT else Flow.CONSENT


KNOWN_SERVERS: Final = (MICROSOFT, GOOGLE)
USUAL_PROVIDERS: Final[Mapping[str, str]] = MappingProxyType({MICROSOFT: "m365", GOOGLE: "gmail"})  # presets
