"""Errors of keys and certificates."""

from senderproxy.errors import SenderproxyError


class SigningKeyError(SenderproxyError):
    """A private key or a certificate is not usable. The message never contains the key."""
