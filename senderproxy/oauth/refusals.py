"""Causes of refused token requests, from error codes and words of authorization servers. PURE.

Guarantees: a cause is temporary only if the server reports a fault of its own, sends no valid answer or was not asked;
every other one needs a person. An unknown number with a known error has that error's cause.
Not here: the hints for each cause (oauth.hints), the reading of an answer (oauth.token_answer).
RFC 6749 sections 4.1.2.1 and 5.2, RFC 8628 section 3.5,
https://learn.microsoft.com/entra/identity-platform/reference-error-codes,
https://developers.google.com/identity/protocols/oauth2/service-account#error-codes
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final


class RefusalCause(Enum):
    """The causes of a request without a token. The value is shown in logs."""

    AWAY = "server away"  # it reports a fault of its own, or too many requests
    GRANT_FILE = "grant file"  # the server was not asked: the newest refresh token cannot be read
    GRANT_DATABASE = "grant database"  # the server was not asked: the same, where several instances share it
    INVALID_ANSWER = "invalid answer"  # not an answer of a token endpoint
    GRANT_ENDED = "grant ended"  # refresh token or code used, expired, revoked, or replaced
    PASSWORD_CHANGED = "password changed"  # which ended the grant
    CONSENT_NEEDED = "consent needed"  # nobody has consented, or the consent was withdrawn
    SECOND_FACTOR = "second factor needed"  # only a person at a browser can give it
    POLICY = "policy"  # the organization forbids this login: conditional access, blocked application
    USER_DISABLED = "user disabled"
    USER_UNKNOWN = "user unknown"
    SECRET_WRONG = "secret wrong"
    SECRET_EXPIRED = "secret expired"
    CERTIFICATE_WRONG = "certificate wrong"  # unknown to the server, or expired
    APPLICATION_UNKNOWN = "application unknown"  # wrong client id, deleted, or of another organization
    TENANT_UNKNOWN = "tenant unknown"
    FLOW_OFF = "flow off"  # the application may not use this kind of grant
    SCOPE_WRONG = "scope wrong"  # a permission is missing or misspelt
    CLOCK = "clock"  # the time of a signed request is not accepted
    PENDING = "pending"  # device code: the person has not finished
    SLOW_DOWN = "slow down"  # device code: asked too often
    DENIED = "denied"  # the person said no
    CODE_EXPIRED = "code expired"  # device code: too late
    OTHER = "other"


TEMPORARY: Final = frozenset(
    {
        RefusalCause.AWAY,
        RefusalCause.GRANT_FILE,
        RefusalCause.GRANT_DATABASE,
        RefusalCause.INVALID_ANSWER,
        RefusalCause.CLOCK,
    }
)


@dataclass(frozen=True, slots=True)
class TokenRefusal:
    """A refused token request. `error`: its code (RFC 6749 section 5.2); `words`: the server's, one line."""

    cause: RefusalCause
    error: str
    words: str

    @property
    def is_temporary(self) -> bool:
        """True if the same request can succeed later without a person."""
        return self.cause in TEMPORARY


# Microsoft's numbers, with the names of its list (of April 2024), by cause.
_AADSTS: Final[Mapping[int, RefusalCause]] = MappingProxyType(
    {
        50033: RefusalCause.AWAY,  # RetryableError
        50087: RefusalCause.AWAY,  # SasRetryableError
        50196: RefusalCause.AWAY,  # LoopDetected: too many requests in a short time
        80001: RefusalCause.AWAY,  # OnPremiseStoreIsNotAvailable
        80002: RefusalCause.AWAY,  # OnPremisePasswordValidatorRequestTimedout
        80014: RefusalCause.AWAY,  # OnPremisePasswordValidationAuthenticationAgentTimeout
        90006: RefusalCause.AWAY,  # ExternalServerRetryableError
        90012: RefusalCause.AWAY,  # RequestTimeout
        90024: RefusalCause.AWAY,  # RequestBudgetExceededError
        90033: RefusalCause.AWAY,  # MsodsServiceUnavailable
        90055: RefusalCause.AWAY,  # TenantThrottlingError
        90090: RefusalCause.AWAY,  # GraphRetryableError
        90091: RefusalCause.AWAY,  # GraphServiceUnreachable
        50085: RefusalCause.GRANT_ENDED,  # the refresh token needs a new login
        50089: RefusalCause.GRANT_ENDED,  # the flow token expired
        54005: RefusalCause.GRANT_ENDED,  # the code was already redeemed
        70000: RefusalCause.GRANT_ENDED,  # InvalidGrant
        70008: RefusalCause.GRANT_ENDED,  # ExpiredOrRevokedGrant
        70043: RefusalCause.GRANT_ENDED,  # BadTokenDueToSignInFrequency
        700005: RefusalCause.GRANT_ENDED,  # InvalidGrantRedeemAgainstWrongTenant
        700082: RefusalCause.GRANT_ENDED,  # ExpiredOrRevokedGrantInactiveToken
        700084: RefusalCause.GRANT_ENDED,  # a refresh token of a single-page application lives for a day
        50055: RefusalCause.PASSWORD_CHANGED,  # InvalidPasswordExpiredPassword
        50126: RefusalCause.PASSWORD_CHANGED,  # InvalidUserNameOrPassword
        50132: RefusalCause.PASSWORD_CHANGED,  # SsoArtifactInvalidOrExpired
        50133: RefusalCause.PASSWORD_CHANGED,  # SsoArtifactRevoked
        50144: RefusalCause.PASSWORD_CHANGED,  # InvalidPasswordExpiredOnPremPassword
        50173: RefusalCause.PASSWORD_CHANGED,  # FreshTokenNeeded
        65001: RefusalCause.CONSENT_NEEDED,  # DelegationDoesNotExist
        90008: RefusalCause.CONSENT_NEEDED,  # TokenForItselfRequiresGraphPermission
        90094: RefusalCause.CONSENT_NEEDED,  # AdminConsentRequired
        90095: RefusalCause.CONSENT_NEEDED,  # AdminConsentRequiredRequestAccess
        90099: RefusalCause.CONSENT_NEEDED,  # the application has not been authorized in the tenant
        50072: RefusalCause.SECOND_FACTOR,  # UserStrongAuthEnrollmentRequiredInterrupt
        50074: RefusalCause.SECOND_FACTOR,  # UserStrongAuthClientAuthNRequiredInterrupt
        50076: RefusalCause.SECOND_FACTOR,  # UserStrongAuthClientAuthNRequired
        50078: RefusalCause.SECOND_FACTOR,  # UserStrongAuthExpired
        50079: RefusalCause.SECOND_FACTOR,  # UserStrongAuthEnrollmentRequired
        50158: RefusalCause.SECOND_FACTOR,  # ExternalSecurityChallenge
        53004: RefusalCause.SECOND_FACTOR,  # ProofUpBlockedDueToRisk
        700020: RefusalCause.SECOND_FACTOR,  # InteractionRequired
        50005: RefusalCause.POLICY,  # DevicePolicyError
        50053: RefusalCause.POLICY,  # IdsLocked: too many attempts, or a blocked address
        50097: RefusalCause.POLICY,  # DeviceAuthenticationRequired
        50105: RefusalCause.POLICY,  # EntitlementGrantsNotFound: the user is not assigned to the application
        50131: RefusalCause.POLICY,  # ConditionalAccessFailed
        53000: RefusalCause.POLICY,  # DeviceNotCompliant
        53001: RefusalCause.POLICY,  # DeviceNotDomainJoined
        53002: RefusalCause.POLICY,  # ApplicationUsedIsNotAnApprovedApp
        53003: RefusalCause.POLICY,  # BlockedByConditionalAccess
        53011: RefusalCause.POLICY,  # the user is blocked due to risk
        530032: RefusalCause.POLICY,  # BlockedByConditionalAccessOnSecurityPolicy
        530034: RefusalCause.POLICY,  # DelegatedAdminBlockedDueToSuspiciousActivity
        530035: RefusalCause.POLICY,  # BlockedBySecurityDefaults
        50057: RefusalCause.USER_DISABLED,  # UserDisabled
        50034: RefusalCause.USER_UNKNOWN,  # UserAccountNotFound
        51004: RefusalCause.USER_UNKNOWN,  # UserAccountNotInDirectory
        70002: RefusalCause.SECRET_WRONG,  # InvalidClient
        7000215: RefusalCause.SECRET_WRONG,  # the client secret is invalid
        7000222: RefusalCause.SECRET_EXPIRED,  # InvalidClientSecretExpiredKeysProvided
        50012: RefusalCause.CERTIFICATE_WRONG,  # AuthenticationFailed: thumbprint or signature
        700027: RefusalCause.CERTIFICATE_WRONG,  # the assertion failed signature validation
        700030: RefusalCause.CERTIFICATE_WRONG,  # the certificate's subject is not authorized
        70001: RefusalCause.APPLICATION_UNKNOWN,  # UnauthorizedClient: disabled
        700011: RefusalCause.APPLICATION_UNKNOWN,  # UnauthorizedClientAppNotFoundInOrgIdTenant
        700016: RefusalCause.APPLICATION_UNKNOWN,  # UnauthorizedClient_DoesNotMatchRequest
        7000112: RefusalCause.APPLICATION_UNKNOWN,  # UnauthorizedClientApplicationDisabled
        50059: RefusalCause.TENANT_UNKNOWN,  # MissingTenantRealmAndNoUserInformationProvided
        50194: RefusalCause.TENANT_UNKNOWN,  # not a multitenant application
        90002: RefusalCause.TENANT_UNKNOWN,  # InvalidTenantName
        9001023: RefusalCause.TENANT_UNKNOWN,  # this kind of grant is not supported at `common`
        70003: RefusalCause.FLOW_OFF,  # UnsupportedGrantType
        700025: RefusalCause.FLOW_OFF,  # a public client presents no secret
        7000218: RefusalCause.FLOW_OFF,  # a secret is required: public clients are not allowed
        28002: RefusalCause.SCOPE_WRONG,  # the scope is not valid
        28003: RefusalCause.SCOPE_WRONG,  # the scope is empty
        50001: RefusalCause.SCOPE_WRONG,  # InvalidResource
        65005: RefusalCause.SCOPE_WRONG,  # MisconfiguredApplication
        70011: RefusalCause.SCOPE_WRONG,  # InvalidScope
        500011: RefusalCause.SCOPE_WRONG,  # InvalidResourceServicePrincipalNotFound
        650056: RefusalCause.SCOPE_WRONG,  # the client has not listed any permissions
        650057: RefusalCause.SCOPE_WRONG,  # the resource is not listed in the permissions
        700022: RefusalCause.SCOPE_WRONG,  # InvalidMultipleResourcesScope
        700023: RefusalCause.SCOPE_WRONG,  # InvalidResourcelessScope
        80013: RefusalCause.CLOCK,  # OnPremisePasswordValidationTimeSkew
        500133: RefusalCause.CLOCK,  # the assertion is not within its valid time range
        700024: RefusalCause.CLOCK,  # the same, of a client's assertion; not in the list
        70016: RefusalCause.PENDING,  # AuthorizationPending
        65004: RefusalCause.DENIED,  # UserDeclinedConsent
        70018: RefusalCause.CODE_EXPIRED,  # BadVerificationCode
        70019: RefusalCause.CODE_EXPIRED,  # CodeExpired
    }
)
# Words by which Google tells the cases of one error apart; lower case. The first that fits decides.
_WORDS: Final[Sequence[tuple[str, str, RefusalCause]]] = (
    ("invalid_grant", "short-lived token", RefusalCause.CLOCK),
    ("invalid_grant", "invalid jwt signature", RefusalCause.SECRET_WRONG),
    ("invalid_grant", "account not found", RefusalCause.APPLICATION_UNKNOWN),
    ("invalid_grant", "email or user id", RefusalCause.USER_UNKNOWN),
    ("invalid_grant", "account disabled", RefusalCause.USER_DISABLED),
    ("invalid_client", "not found", RefusalCause.APPLICATION_UNKNOWN),
    ("unauthorized_client", "client is unauthorized to retrieve access tokens", RefusalCause.SCOPE_WRONG),
)
_ERRORS: Final[Mapping[str, RefusalCause]] = MappingProxyType(
    {
        "invalid_grant": RefusalCause.GRANT_ENDED,
        "invalid_client": RefusalCause.SECRET_WRONG,
        "unauthorized_client": RefusalCause.FLOW_OFF,
        "unsupported_grant_type": RefusalCause.FLOW_OFF,
        "unsupported_response_type": RefusalCause.FLOW_OFF,
        "invalid_scope": RefusalCause.SCOPE_WRONG,
        "invalid_resource": RefusalCause.SCOPE_WRONG,
        "access_denied": RefusalCause.DENIED,
        "authorization_declined": RefusalCause.DENIED,
        "consent_required": RefusalCause.CONSENT_NEEDED,
        "interaction_required": RefusalCause.SECOND_FACTOR,
        "login_required": RefusalCause.CONSENT_NEEDED,
        "authorization_pending": RefusalCause.PENDING,
        "slow_down": RefusalCause.SLOW_DOWN,
        "expired_token": RefusalCause.CODE_EXPIRED,
        "bad_verification_code": RefusalCause.CODE_EXPIRED,
        "server_error": RefusalCause.AWAY,
        "temporarily_unavailable": RefusalCause.AWAY,
        "internal_failure": RefusalCause.AWAY,
        "rate_limit_exceeded": RefusalCause.AWAY,
        "deleted_client": RefusalCause.APPLICATION_UNKNOWN,
        "disabled_client": RefusalCause.APPLICATION_UNKNOWN,
        "org_internal": RefusalCause.POLICY,
        "admin_policy_enforced": RefusalCause.POLICY,
    }
)
_NUMBER: Final = re.compile(r"AADSTS([0-9]{4,9})")


def cause_of_refusal(error: str, words: str, codes: Sequence[int] = ()) -> RefusalCause:
    """The cause of an error answer: `codes` are Microsoft's numbers; they are also read from the words."""
    numbers = (*codes, *(int(number) for number in _NUMBER.findall(words)))
    for number in numbers:
        if number in _AADSTS:
            return _AADSTS[number]
    lower = words.lower()
    for code, part, cause in _WORDS:
        if error == code and part in lower:
            return cause
    return _ERRORS.get(error, RefusalCause.OTHER)


def cause_of_status(status: int) -> RefusalCause:
    """The cause of an answer without an error code, by the status of HTTP."""
    if status == 429 or status >= 500:
        return RefusalCause.AWAY
    return RefusalCause.INVALID_ANSWER
