"""Requests and answers of HTTP.

Guarantees: the `repr` of neither shows a field or the body: both may contain secrets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from senderproxy.http_client.url import Url


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `Host`, `Content-Length`, `User-Agent` and the URL's own `Authorization` are added."""

    method: str
    url: Url
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer, whatever its status. Names of `headers` are in lower case; of a repeated one, the first counts."""

    status: int
    reason: str  # the words after the status, printable and short; often empty
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def is_success(self) -> bool:
        """True for 2xx."""
        return 200 <= self.status <= 299
