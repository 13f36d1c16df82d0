"""Hints for the operator: the fix for each cause of a refused token request. PURE.

Guarantees: plain text without a final period, with the command to type. Each cause has a sentence and a hint.
Not here: causes (oauth.refusals), the states of accounts (delivery.account_health).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from senderproxy.oauth.authorization_server import GOOGLE, MICROSOFT
from senderproxy.oauth.refusals import RefusalCause
from senderproxy.translation import N_, _


@dataclass(frozen=True, slots=True)
class TokenSubject:
    """The account and the application of a token, as hints name them. `server`: the name of its server."""

    account: str
    application: str
    server: str


# The beginning of a sentence: "<server> ...: <words>".
SENTENCES: Final[Mapping[RefusalCause, str]] = MappingProxyType(
    {
        RefusalCause.AWAY: "cannot give a token at the moment to",
        RefusalCause.GRANT_FILE: "was not asked for a token, because the newest refresh token cannot be read, of",
        RefusalCause.GRANT_DATABASE: "was not asked for a token, because the database has none to be used now, of",
        RefusalCause.INVALID_ANSWER: "sent no valid answer to the token request of",
        RefusalCause.GRANT_ENDED: "has ended the consent of",
        RefusalCause.PASSWORD_CHANGED: "has ended the consent, because the password was changed, of",
        RefusalCause.CONSENT_NEEDED: "has no consent to send mail as",
        RefusalCause.SECOND_FACTOR: "wants a person at a browser to log in for",
        RefusalCause.POLICY: "does not allow this login, by a rule of the organization, of",
        RefusalCause.USER_DISABLED: "has disabled the user of",
        RefusalCause.USER_UNKNOWN: "does not know the user of",
        RefusalCause.SECRET_WRONG: "refused the secret of the application of",
        RefusalCause.SECRET_EXPIRED: "reports that the secret of the application has expired of",
        RefusalCause.CERTIFICATE_WRONG: "refused the certificate of the application of",
        RefusalCause.APPLICATION_UNKNOWN: "does not know the application of",
        RefusalCause.TENANT_UNKNOWN: "does not know the tenant of",
        RefusalCause.FLOW_OFF: "does not allow the application this kind of request, of",
        RefusalCause.SCOPE_WRONG: "has not granted the application the permission to send mail, of",
        RefusalCause.CLOCK: "refused the time of the signed request of",
        RefusalCause.PENDING: "waits for a person to consent for",
        RefusalCause.SLOW_DOWN: "waits for a person to consent for",
        RefusalCause.DENIED: "was told not to allow access to",
        RefusalCause.CODE_EXPIRED: "waited too long for a person to consent for",
        RefusalCause.OTHER: "gave no token to",
    }
)
_HINTS: Final[Mapping[RefusalCause, str]] = MappingProxyType(
    {
        RefusalCause.AWAY: N_("nothing: it is tried again"),
        RefusalCause.GRANT_FILE: N_("correct what is said about the grant file; it is tried again"),
        RefusalCause.GRANT_DATABASE: N_("correct what is said about the database; it is tried again"),
        RefusalCause.INVALID_ANSWER: N_(
            "check the address of the token endpoint, and a proxy in between: senderproxy oauth show {application}"
        ),
        RefusalCause.GRANT_ENDED: N_("consent again: senderproxy account consent {account}"),
        RefusalCause.PASSWORD_CHANGED: N_("consent again: senderproxy account consent {account}"),
        RefusalCause.CONSENT_NEEDED: N_("consent: senderproxy account consent {account}"),
        RefusalCause.SECOND_FACTOR: N_("log in once with the second factor: senderproxy account consent {account}"),
        RefusalCause.POLICY: N_(
            "ask the administrator of the organization to allow the application; then: "
            "senderproxy account verify {account}"
        ),
        RefusalCause.USER_DISABLED: N_("enable the user; then: senderproxy account verify {account}"),
        RefusalCause.USER_UNKNOWN: N_("correct the login: senderproxy account edit {account} --login USER"),
        RefusalCause.SECRET_WRONG: N_("store the right secret: senderproxy oauth set-secret {application}"),
        RefusalCause.SECRET_EXPIRED: N_(
            "make a new secret in the application's registration, and store it: "
            "senderproxy oauth set-secret {application}"
        ),
        RefusalCause.CERTIFICATE_WRONG: N_(
            "upload the certificate in the application's registration, or store another "
            "one: senderproxy oauth set-secret {application} --certificate FILE --key FILE"
        ),
        RefusalCause.APPLICATION_UNKNOWN: N_(
            "the client id is wrong: senderproxy oauth edit {application} --client-id ID"
        ),
        RefusalCause.TENANT_UNKNOWN: N_("the tenant is wrong: senderproxy oauth edit {application} --tenant ID"),
        RefusalCause.FLOW_OFF: N_(
            "allow it in the application's registration; then: senderproxy account verify {account}"
        ),
        RefusalCause.SCOPE_WRONG: N_(
            "grant the permission in the application's registration; then: senderproxy account verify {account}"
        ),
        RefusalCause.CLOCK: N_("set the clock of this machine: timedatectl"),
        RefusalCause.PENDING: N_("finish the login in the browser"),
        RefusalCause.SLOW_DOWN: N_("finish the login in the browser"),
        RefusalCause.DENIED: N_("consent again, and allow the access: senderproxy account consent {account}"),
        RefusalCause.CODE_EXPIRED: N_("begin again: senderproxy account consent {account}"),
        RefusalCause.OTHER: N_("look at the words of the server; then: senderproxy account verify {account}"),
    }
)
_SPECIAL: Final[Mapping[tuple[str, RefusalCause], str]] = MappingProxyType(
    {
        (MICROSOFT, RefusalCause.APPLICATION_UNKNOWN): N_(
            "the client id or the tenant is wrong; both are in the Microsoft Entra admin center (App registrations > "
            "the application > Overview): senderproxy oauth edit {application} --client-id ID --tenant ID"
        ),
        (MICROSOFT, RefusalCause.TENANT_UNKNOWN): N_(
            "the tenant is wrong; it is in the Microsoft Entra admin center (App registrations > the application > "
            "Overview): senderproxy oauth edit {application} --tenant ID"
        ),
        (MICROSOFT, RefusalCause.SECRET_WRONG): N_(
            "store the secret's value, not its id: senderproxy oauth set-secret {application}"
        ),
        (MICROSOFT, RefusalCause.SCOPE_WRONG): N_(
            "add the application permission SMTP.SendAsApp (API permissions > APIs "
            "my organization uses > Office 365 Exchange Online) and grant admin consent; then: "
            "senderproxy account verify {account}"
        ),
        (MICROSOFT, RefusalCause.FLOW_OFF): N_(
            "allow public client flows in the application's registration "
            "(Authentication), or store a secret: senderproxy oauth set-secret {application}"
        ),
        (MICROSOFT, RefusalCause.POLICY): N_(
            "look at the sign-in logs in the Microsoft Entra admin center; a rule of "
            "Conditional Access blocks the application. Then: senderproxy account verify {account}"
        ),
        (GOOGLE, RefusalCause.GRANT_ENDED): N_(
            "consent again: senderproxy account consent {account}; an application in the state Testing loses "
            "its consents after 7 days: publish it in the Google Cloud console"
        ),
        (GOOGLE, RefusalCause.SCOPE_WRONG): N_(
            "allow the service account's client id the scope https://mail.google.com/ "
            "(Google Admin console > Security > API controls > Domain-wide delegation); then: "
            "senderproxy account verify {account}"
        ),
    }
)


def hint(cause: RefusalCause, subject: TokenSubject) -> str:
    """Return the fix for a refused token request."""
    text = _SPECIAL.get((subject.server, cause), _HINTS[cause])
    return _(text).format(account=subject.account, application=subject.application)
