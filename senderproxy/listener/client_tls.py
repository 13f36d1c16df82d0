"""TLS failures of clients in words: the cause and the fix for each. PURE.

Guarantees: an old version, a cipher, a certificate that the client does not accept, and plain text at a port that
starts with TLS each name the setting that changes it.
Not here: handshakes (listener.relay_smtp), failures towards providers (delivery.tls_failures). RFC 8996, RFC 8314.
"""

from typing import Final

_OLD_VERSION: Final = frozenset(
    {"UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "TLSV1_ALERT_PROTOCOL_VERSION", "LENGTH_MISMATCH"}
)
_CIPHER: Final = frozenset({"NO_SHARED_CIPHER", "NO_SUITABLE_SIGNATURE_ALGORITHM", "NO_SHARED_SIGNATURE_ALGORITHMS"})
_PLAIN_TEXT: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL"})
_REFUSED_CERTIFICATE: Final = frozenset(
    {"TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
     "SSLV3_ALERT_CERTIFICATE_EXPIRED", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"}
)  # fmt: skip


def explain_client_tls_failure(error: OSError, *, implicit: bool, old_tls: bool) -> tuple[str, str]:
    """The cause of a failed handshake and its fix; empty without a known fix.

    `implicit`: the listener starts with TLS. `old_tls`: it permits TLS 1.0 and 1.1.
    """
    reason = str(getattr(error, "reason", None) or "")
    if reason in _OLD_VERSION and not old_tls:
        return (
            "the client offers TLS 1.1 or older only",
            "enable TLS 1.2 in the client (its firmware may need an update), or set old_tls = true for this listener",
        )
    if reason in _OLD_VERSION:
        return "the client offers SSL 3.0 or older only, which is not safe", "update the client, or use no encryption"
    if reason in _CIPHER:
        return "the client offers no cipher that this machine supports", "update the client's firmware"
    if reason in _PLAIN_TEXT:
        hint = 'choose TLS (SSL) in the client, or set tls = "starttls" for this listener' if implicit else ""
        return "the client sends plain text where TLS begins", hint
    if reason in _REFUSED_CERTIFICATE:
        return (
            "the client does not accept the certificate of this listener",
            "let the client trust its authority, and use the name in the certificate as the client's server name",
        )
    return reason.replace("_", " ").lower() or str(error) or type(error).__name__, ""
