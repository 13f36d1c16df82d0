"""TLS failures in words: the cause and the fix for each. PURE.

Guarantees: each failure of a handshake names the smarthost and what is wrong: the certificate (expired, not yet valid,
another name, unknown authority, no authority on this machine), the version, the key exchange or cipher, or a port that
does not speak TLS.
Not here: contexts (delivery.tls_contexts), handshakes (delivery.opening). RFC 8314, RFC 9325, OpenSSL's X509_V_ERR_*.
"""

import ssl
from dataclasses import dataclass
from typing import Final

from senderproxy.routing.provider import Security, Smarthost
from senderproxy.translation import N_, _


@dataclass(frozen=True, slots=True)
class Explained:
    """A failure and its fix, both without a final period."""

    text: str
    hint: str


_VERSIONS: Final = frozenset(
    {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE", "WRONG_SSL_VERSION"}
)
_PLAIN_TEXT: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}
)
_WEAK: Final = frozenset(
    {
        "SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_INSUFFICIENT_SECURITY", "DH_KEY_TOO_SMALL", "EE_KEY_TOO_SMALL",
        "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "NO_SHARED_CIPHER", "NO_CIPHERS_AVAILABLE", "WRONG_CIPHER_RETURNED",
        "UNSAFE_LEGACY_RENEGOTIATION_DISABLED", "WRONG_SIGNATURE_TYPE", "NO_SUITABLE_KEY_SHARE", "BAD_DH_VALUE",
        "UNKNOWN_CIPHER_RETURNED", "WRONG_CURVE", "UNSUPPORTED_ELLIPTIC_CURVE", "NO_SUITABLE_GROUPS", "BAD_ECPOINT",
        "LEGACY_SIGALG_DISALLOWED_OR_UNSUPPORTED", "NO_SHARED_SIGNATURE_ALGORITHMS", "TLSV13_ALERT_MISSING_EXTENSION",
    }
)  # fmt: skip
_CLIENT_CERTIFICATE: Final = frozenset({"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE"})
_SERVER_SIDE: Final = N_(
    "update that server or its TLS settings (it needs TLS 1.2 or newer with ECDHE key exchange and AES-GCM or ChaCha20)"
)


def explain_tls_failure(fault: ssl.SSLError, smarthost: Smarthost) -> Explained:
    """Explain an error of OpenSSL in a handshake with a smarthost."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        return _certificate(fault, smarthost)
    reason = str(fault.reason or "")
    if reason in _VERSIONS:
        return Explained(
            _("{smarthost} does not support TLS 1.2 or newer").format(smarthost=smarthost),
            _("enable TLS 1.2 or 1.3 on that server, or use another one; older versions are not safe"),
        )
    if reason in _PLAIN_TEXT:
        return Explained(
            _("{smarthost} does not start with TLS").format(smarthost=smarthost),
            _('if this is a STARTTLS port (587, 25), set security = "starttls" for the provider'),
        )
    if reason in _WEAK:
        what = reason.removeprefix("SSLV3_ALERT_").removeprefix("TLSV1_ALERT_").replace("_", " ").lower()
        text = _("{smarthost} offers no key exchange or cipher that is safe today ({what})")
        return Explained(text.format(smarthost=smarthost, what=what), _(_SERVER_SIDE))
    if reason in _CLIENT_CERTIFICATE:
        return Explained(
            _("{smarthost} asks for a client certificate").format(smarthost=smarthost),
            _(
                "use a port for logins with a password, usually 465 or 587; or set certificate and key of the"
                " smarthost of a route"
            ),
        )
    what = reason.replace("_", " ").lower() or _("handshake aborted")
    text = _("TLS with {smarthost} failed: {what}").format(smarthost=smarthost, what=what)
    return Explained(text, _("look for the cause in that server's log"))


def explain_closed_handshake(smarthost: Smarthost, stage: str) -> Explained:
    """Explain a connection that the server closed during the handshake. `stage`: its name, marked."""
    return Explained(
        _("{smarthost} closed the connection (stage: {stage})").format(smarthost=smarthost, stage=_(stage)),
        _(
            "if this repeats, the server may offer no TLS version, key exchange or cipher that is safe today: "
            "{fix}; or a device on the way blocks TLS"
        ).format(fix=_(_SERVER_SIDE)),
    )


def explain_no_authorities(smarthost: Smarthost) -> Explained:
    """Explain a machine without any certificate of an authority."""
    text = _("This machine has no certificates of authorities, so the certificate of {smarthost} cannot be verified")
    return Explained(
        text.format(smarthost=smarthost),
        _("install them: apt install ca-certificates (Alpine: apk add ca-certificates)"),
    )


def explain_silent_greeting(smarthost: Smarthost) -> str:
    """Return the hint for a server without an SMTP greeting: it may wait for TLS. Empty after TLS."""
    if smarthost.security is Security.IMPLICIT_TLS:
        return ""
    return _('if this port starts with TLS (465 does), set security = "tls" for the provider')


def _certificate(fault: ssl.SSLCertVerificationError, smarthost: Smarthost) -> Explained:
    # The numbers are OpenSSL's X509_V_ERR_*, part of its interface.
    match fault.verify_code:
        case 10:
            text = _("The certificate of {smarthost} has expired")
            hint = _("have it renewed by the operator of the server, and compare this machine's clock (timedatectl)")
        case 9:
            text = _("The certificate of {smarthost} is not valid yet")
            hint = _("compare this machine's clock (timedatectl), or have it replaced by the operator of the server")
        case 62 | 64:
            text = _("The certificate of {smarthost} is for another name")
            hint = _(
                "set host to a name in the certificate: "
                "openssl s_client -connect {smarthost} -starttls smtp (without -starttls for port 465)"
            ).format(smarthost=smarthost)
        case 18 | 19 | 20 | 21:
            text = _("The certificate of {smarthost} is not signed by an authority that this machine trusts")
            if smarthost.ca_file:
                text = _("The certificate of {smarthost} is not signed by an authority in {file}")
            hint = _(
                "for a server of your own, set ca_file to the certificate of its authority; for a provider, "
                "find out which device on the way replaces its certificate (virus scanner, firewall)"
            )
        case 66 | 67 | 68:
            text = _("The certificate of {smarthost} uses a key or signature that is not safe today")
            hint = _(_SERVER_SIDE)
        case _ if _is_strictness(fault.verify_message):
            text, hint = _("The certificate of {smarthost} is not valid: {why}"), _(_STRICT_HINT)
        case _:
            text = _("The certificate of {smarthost} is not valid: {why}")
            hint = _("have it replaced by the operator")
    return Explained(text.format(smarthost=smarthost, file=smarthost.ca_file, why=fault.verify_message), hint)


_STRICT_HINT: Final = N_(
    "Python 3.13 and newer verify certificates more strictly: the authority's certificate needs the extensions "
    "keyUsage, basicConstraints (critical) and subjectKeyIdentifier, the server's needs authorityKeyIdentifier"
)


def _is_strictness(message: str) -> bool:
    return any(sign in message.lower() for sign in ("key identifier", "key usage", "basic constraints", "pathlen"))
