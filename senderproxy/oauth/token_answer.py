"""Answers of an authorization server's token endpoint: tokens, or a refusal with its cause. PURE.

Guarantees: never raises, whatever the server sends; reads at most `LONGEST` octets. No repr shows a token. Words of the
server are one line without control characters, and without the secrets of the request, which some servers repeat.
Not here: causes of refusals (oauth.refusals), requests (oauth.token_request). RFC 6749 section 5, RFC 8628 section 3.5.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, quote_plus

from senderproxy.oauth.refusals import RefusalCause, TokenRefusal, cause_of_refusal, cause_of_status

LONGEST: Final = 65536  # octets of an answer; Microsoft's tokens have 2 to 4 KB
_TOKEN: Final = 16384  # characters of one token
_LIFETIME: Final = 3600.0  # seconds, where the server names none: what Microsoft and Google grant usually
_LONGEST_LIFETIME: Final = 86400.0  # seconds; a token is renewed once a day at least
_WORDS: Final = 300  # characters of the server's words
_DEEP: Final = 32  # an answer with more brackets open is none; json would need as much of the stack


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one answer. `lifetime`: of the access token, in seconds, greater than 0.

    `refresh`: the new refresh token; empty if the old one stays in force.
    """

    access: str = field(repr=False)
    lifetime: float
    refresh: str = field(default="", repr=False)


def read_token_answer(status: int, body: bytes, secrets: Sequence[str] = ()) -> Tokens | TokenRefusal:
    """Read the answer to a token request: the status of HTTP and the body. `secrets`: those of the request."""
    entry = _object(body)
    if status == 200 and entry is not None and "error" not in entry:
        return _tokens(entry)
    if entry is not None and isinstance(error := entry.get("error"), str):
        said = _line(error, secrets)
        words = _line(entry.get("error_description"), secrets) or said
        codes = _codes(entry.get("error_codes"))
        return TokenRefusal(cause_of_refusal(error, words, codes), said, words)
    return TokenRefusal(cause_of_status(status), str(status), "")


def read_object(body: bytes) -> Mapping[str, Any] | None:
    """The JSON object of an answer; None if it is none."""
    return _object(body)


def lifetime_of(value: object, otherwise: float = _LIFETIME) -> float:
    """The value of `expires_in` in seconds: a number, or a text with one, as some servers send it.

    Returns `otherwise` if it is missing or not a positive number; at most a day.
    """
    if isinstance(value, str) and len(value) <= 20:
        try:
            value = float(value)
        except ValueError:
            return otherwise
    if isinstance(value, bool) or not isinstance(value, int | float):
        return otherwise
    if isinstance(value, float) and not math.isfinite(value):
        return otherwise
    return float(min(value, _LONGEST_LIFETIME)) if value > 0 else otherwise


def is_token(value: object) -> bool:
    """True for a usable token: visible ASCII, of a bounded length. RFC 6749 appendix A.12, A.17."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= _TOKEN
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def _tokens(entry: Mapping[str, Any]) -> Tokens | TokenRefusal:
    access, kind = entry.get("access_token"), entry.get("token_type", "bearer")
    if not is_token(access):
        return TokenRefusal(RefusalCause.INVALID_ANSWER, "", "the answer has no usable access_token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        return TokenRefusal(RefusalCause.INVALID_ANSWER, "", "the token is of a type that SMTP cannot use")
    refresh = entry.get("refresh_token")
    if refresh not in (None, "") and not is_token(refresh):
        return TokenRefusal(RefusalCause.INVALID_ANSWER, "", "the answer has no usable refresh_token")
    return Tokens(str(access), lifetime_of(entry.get("expires_in")), refresh or "")


def _object(body: bytes) -> dict[str, Any] | None:
    if len(body) > LONGEST or _is_deep(body):
        return None
    try:
        entry = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _is_deep(body: bytes) -> bool:
    """True if more brackets could be open at the same time than an answer has. Counts those in texts, too."""
    return body.count(b"[") + body.count(b"{") > _DEEP


def _line(value: object, secrets: Sequence[str] = ()) -> str:
    """The first line of the server's words, bounded; empty if it is no text."""
    if not isinstance(value, str):
        return ""
    for secret in secrets:  # before the text is cut, which could leave a part of one
        for form in {secret, quote(secret, safe=""), quote_plus(secret)}:
            value = value.replace(form, "***")
    line = value[: 2 * _WORDS].strip().split("\n")[0]
    return "".join(character if character.isprintable() else " " for character in line)[:_WORDS].strip()


def _codes(value: object) -> Sequence[int]:
    if not isinstance(value, list):
        return ()
    return tuple(code for code in value[:8] if isinstance(code, int) and not isinstance(code, bool))
