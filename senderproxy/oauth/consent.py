"""A person's consent: the address for the browser, its answer, and the codes of a device. PURE.

Guarantees: a code is taken only with the state of this very request (RFC 6749 section 10.12), and is of no use without
the verifier (RFC 7636). Reads what a person pastes: the whole address, or what follows its question mark.
Not here: the listener for the answer and the questions (cli), token requests (oauth.token_request).
RFC 6749 section 4.1, RFC 7636, RFC 8252 section 7.3, RFC 8628 section 3.2.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

from senderproxy.errors import SenderproxyError
from senderproxy.oauth.refusals import RefusalCause, TokenRefusal, cause_of_refusal
from senderproxy.oauth.token_answer import is_token, lifetime_of, read_object
from senderproxy.oauth.token_request import Application
from senderproxy.translation import _

_LONGEST: Final = 16384  # characters of a pasted address; Microsoft's codes have 1,000
_PARAMETERS: Final = 32  # of an answer; servers send up to five
_WORDS: Final = 300  # characters of the server's words
_INTERVAL: Final = 5.0  # seconds between requests, where the server names none. RFC 8628 section 3.2
_LONGEST_INTERVAL: Final = 60.0  # seconds; a code lives for 15 minutes
_CODE_LIFETIME: Final = 900.0  # seconds, where the server names none


class ConsentError(SenderproxyError):
    """The browser's address is not the answer to this request."""


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """One request for a person's consent. `url` may be shown: it has no secret."""

    url: str
    redirect: str
    state: str = field(repr=False)
    verifier: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeviceCodes:
    """The codes of a device: the person opens `url` and enters `user_code`. Times in seconds."""

    device_code: str = field(repr=False)
    user_code: str
    url: str
    interval: float
    lifetime: float


def consent_request(application: Application, redirect: str, login: str, random: bytes) -> ConsentRequest:
    """Return the request for one mailbox. `random`: 64 octets of a secure source. `login`: the mailbox's user."""
    if len(random) != 64:
        raise ValueError("a consent needs 64 random octets")
    state, verifier = _base64url(random[:32]), _base64url(random[32:])
    parameters = {
        "client_id": application.client_id,
        "response_type": "code",
        "redirect_uri": redirect,
        "scope": application.server.scopes,
        "state": state,
        "code_challenge": _base64url(hashlib.sha256(verifier.encode("ascii")).digest()),
        "code_challenge_method": "S256",
        "login_hint": login,
        **dict(application.server.authorization_parameters),
    }
    base = application.server.authorization_url
    url = base + ("&" if "?" in base else "?") + urlencode(parameters)
    return ConsentRequest(url, redirect, state, verifier)


def read_redirect(request: ConsentRequest, pasted: str) -> str | TokenRefusal:
    """Return the code in the browser's last address, or the refusal in it.

    Raises ConsentError if it is no answer to this request.
    """
    parameters = _parameters(pasted.strip())
    if "state" not in parameters and "code" not in parameters and "error" not in parameters:
        raise ConsentError(
            _("This is not the address that the browser was sent to."),
            hint=_("Copy the whole address bar after the login; it begins with {redirect}.").format(
                redirect=request.redirect
            ),
        )
    if not hmac.compare_digest(parameters.get("state", "").encode(), request.state.encode()):
        raise ConsentError(
            _("This address belongs to another attempt."),
            hint=_("Open the address that was shown last, and copy the one that follows from it."),
        )
    if "error" in parameters:
        error, words = parameters["error"][:_WORDS], parameters.get("error_description", "")[:_WORDS]
        words = "".join(character if character.isprintable() else " " for character in words).strip()
        return TokenRefusal(cause_of_refusal(error, words), error, words)
    code = parameters.get("code", "")
    if not is_token(code):
        raise ConsentError(
            _("The address has no usable code."), hint=_("Copy the whole address bar, without line breaks.")
        )
    return code


def read_device_answer(status: int, body: bytes) -> DeviceCodes | TokenRefusal:
    """Read the answer to a request for device codes. Never raises."""
    entry = read_object(body)
    if entry is None or status != 200:
        error = entry.get("error") if entry is not None else None
        text = error[:_WORDS] if isinstance(error, str) and error.isprintable() else str(status)
        return TokenRefusal(cause_of_refusal(text, ""), text, "")
    url = entry.get("verification_uri", entry.get("verification_url"))  # Google used the other name
    device_code, user_code = entry.get("device_code"), entry.get("user_code")
    if not is_token(device_code) or not _is_line(user_code) or not _is_line(url):
        return TokenRefusal(RefusalCause.INVALID_ANSWER, "", "the answer has no usable codes")
    interval = min(max(lifetime_of(entry.get("interval"), _INTERVAL), 1.0), _LONGEST_INTERVAL)
    lifetime = lifetime_of(entry.get("expires_in"), _CODE_LIFETIME)
    return DeviceCodes(str(device_code), str(user_code), str(url), interval, lifetime)


def _is_line(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _WORDS and value.isprintable()


def _parameters(pasted: str) -> Mapping[str, str]:
    if len(pasted) > _LONGEST:
        return {}
    try:
        query = urlsplit(pasted).query if "?" in pasted else pasted
        found = parse_qs(query, max_num_fields=_PARAMETERS)
    except ValueError:
        return {}
    return {name: values[0] for name, values in found.items()}


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
