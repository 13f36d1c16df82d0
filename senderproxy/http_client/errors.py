"""Errors of HTTP requests, in words for the operator. PURE.

Guarantees: no error contains a secret part of a URL, a header or a body: at most scheme, host and port.
"""

from senderproxy.errors import SenderproxyError


class HttpError(SenderproxyError):
    """A request without a usable answer: no connection, no time left, no HTTP, too long an answer."""


class InvalidUrl(HttpError):
    """A text is no URL for this client."""
