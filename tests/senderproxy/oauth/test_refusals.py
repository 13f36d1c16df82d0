"""Causes of refused token requests, by the codes and words of Microsoft, Google and others."""

import pytest

from senderproxy.oauth.hints import SENTENCES, TokenSubject, hint
from senderproxy.oauth.refusals import TEMPORARY, RefusalCause, cause_of_refusal, cause_of_status


@pytest.mark.parametrize(
    ("error", "words", "codes", "cause"),
    [
        # Microsoft: https://learn.microsoft.com/entra/identity-platform/reference-error-codes
        ("invalid_client", "AADSTS7000215: Invalid client secret provided.", [7000215], RefusalCause.SECRET_WRONG),
        ("invalid_client", "AADSTS7000222: keys are expired", [7000222], RefusalCause.SECRET_EXPIRED),
        ("invalid_client", "AADSTS700027: signature validation", [700027], RefusalCause.CERTIFICATE_WRONG),
        ("invalid_client", "AADSTS700024: not within its valid time range", [700024], RefusalCause.CLOCK),
        ("unauthorized_client", "AADSTS700016: not found in the directory", [700016], RefusalCause.APPLICATION_UNKNOWN),
        ("invalid_request", "AADSTS90002: Tenant 'x' not found.", [90002], RefusalCause.TENANT_UNKNOWN),
        ("invalid_scope", "AADSTS70011: scope is not valid", [70011], RefusalCause.SCOPE_WRONG),
        ("invalid_resource", "AADSTS500011: resource principal", [500011], RefusalCause.SCOPE_WRONG),
        ("invalid_grant", "AADSTS65001: has not consented", [65001], RefusalCause.CONSENT_NEEDED),
        ("invalid_grant", "AADSTS50173: revoked", [50173], RefusalCause.PASSWORD_CHANGED),
        ("invalid_grant", "AADSTS700082: inactivity", [700082], RefusalCause.GRANT_ENDED),
        ("invalid_grant", "AADSTS50076: multi-factor", [50076], RefusalCause.SECOND_FACTOR),
        ("interaction_required", "AADSTS50076: multi-factor", [50076], RefusalCause.SECOND_FACTOR),
        ("access_denied", "AADSTS53003: Conditional Access", [53003], RefusalCause.POLICY),
        ("invalid_grant", "AADSTS50057: disabled", [50057], RefusalCause.USER_DISABLED),
        ("invalid_grant", "AADSTS50034: does not exist", [50034], RefusalCause.USER_UNKNOWN),
        ("temporarily_unavailable", "AADSTS90033: MSODS", [90033], RefusalCause.AWAY),
        ("invalid_request", "AADSTS90055: too many requests", [90055], RefusalCause.AWAY),
        ("invalid_client", "AADSTS7000218: client_assertion or client_secret", [7000218], RefusalCause.FLOW_OFF),
        # the numbers in the words alone, or unknown ones
        ("invalid_client", "AADSTS7000222: keys are expired", [], RefusalCause.SECRET_EXPIRED),
        ("invalid_grant", "AADSTS99999999: new", [99999999], RefusalCause.GRANT_ENDED),
        ("invalid_grant", "AADSTS" + "9" * 300, [], RefusalCause.GRANT_ENDED),
        ("brand_new_error", "AADSTS1: new", [1], RefusalCause.OTHER),
        # Google: https://developers.google.com/identity/protocols/oauth2/service-account#error-codes
        ("invalid_grant", "Token has been expired or revoked.", [], RefusalCause.GRANT_ENDED),
        ("invalid_grant", "Bad Request", [], RefusalCause.GRANT_ENDED),
        ("invalid_grant", "Invalid JWT Signature.", [], RefusalCause.SECRET_WRONG),
        ("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes)", [], RefusalCause.CLOCK),
        ("invalid_grant", "Invalid grant: account not found", [], RefusalCause.APPLICATION_UNKNOWN),
        ("invalid_grant", "Invalid email or User ID", [], RefusalCause.USER_UNKNOWN),
        ("invalid_grant", "Not a valid email or user ID.", [], RefusalCause.USER_UNKNOWN),
        (
            "unauthorized_client",
            "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any ...",
            [],
            RefusalCause.SCOPE_WRONG,
        ),
        ("invalid_client", "The OAuth client was not found.", [], RefusalCause.APPLICATION_UNKNOWN),
        ("deleted_client", "The OAuth client was deleted.", [], RefusalCause.APPLICATION_UNKNOWN),
        ("admin_policy_enforced", "", [], RefusalCause.POLICY),
        ("internal_failure", "", [], RefusalCause.AWAY),
        # any server: RFC 6749 section 5.2, RFC 8628 section 3.5
        ("invalid_grant", "grant request is invalid", [], RefusalCause.GRANT_ENDED),
        ("invalid_client", "client authentication failed", [], RefusalCause.SECRET_WRONG),
        ("unsupported_grant_type", "", [], RefusalCause.FLOW_OFF),
        ("authorization_pending", "", [], RefusalCause.PENDING),
        ("slow_down", "", [], RefusalCause.SLOW_DOWN),
        ("expired_token", "", [], RefusalCause.CODE_EXPIRED),
        ("access_denied", "", [], RefusalCause.DENIED),
        ("server_error", "", [], RefusalCause.AWAY),
    ],
)
def test_causes(error: str, words: str, codes: list[int], cause: RefusalCause) -> None:
    assert cause_of_refusal(error, words, codes) is cause


@pytest.mark.parametrize(
    ("status", "cause"), [(429, RefusalCause.AWAY), (503, RefusalCause.AWAY), (404, RefusalCause.INVALID_ANSWER)]
)
def test_causes_of_a_status(status: int, cause: RefusalCause) -> None:
    assert cause_of_status(status) is cause


def test_a_refusal_that_needs_a_person_is_not_temporary() -> None:
    assert {
        RefusalCause.AWAY, RefusalCause.GRANT_FILE, RefusalCause.GRANT_DATABASE, RefusalCause.INVALID_ANSWER, RefusalCause.CLOCK
    } == TEMPORARY  # fmt: skip


@pytest.mark.parametrize("server", ["microsoft", "google", "keycloak"])
@pytest.mark.parametrize("cause", RefusalCause)
def test_each_cause_has_a_sentence_and_a_hint(cause: RefusalCause, server: str) -> None:
    text = hint(cause, TokenSubject("anna", "office", server))
    assert SENTENCES[cause]
    assert text
    assert not text.endswith(".")
    assert "{" not in text
