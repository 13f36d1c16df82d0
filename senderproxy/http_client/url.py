"""URLs with secret path, query and user information: a webhook's token is a part of its URL.

Guarantees: neither `str` nor `repr` of a Url, nor an error about it, shows more than scheme, host and port.
Not here: the check of the address behind a name of plain HTTP (http_client.exchange).
"""

import base64
import re
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from senderproxy.http_client.errors import InvalidUrl
from senderproxy.translation import _

_LONGEST: Final = 4096  # characters; servers refuse longer ones
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_HOST: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63}){0,40}\.?")


@dataclass(frozen=True, slots=True, repr=False)
class Url:
    """An absolute URL of https or http."""

    scheme: str
    host: str  # a name, or an IP address without brackets
    port: int
    target: str  # path and query
    authorization: str = ""  # the value for the field Authorization, from the user information

    @property
    def place(self) -> str:
        """Host and port, without the scheme's default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def below(self, name: str) -> "Url":
        """The URL with another segment at the end of its path."""
        path, mark, query = self.target.partition("?")
        return replace(self, target=f"{path.rstrip('/')}/{name}{mark}{query}")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}"

    def __repr__(self) -> str:
        return f"<Url {self}>"


def parse_url(text: str) -> Url:
    """The URL in a text. Raises InvalidUrl, without the text in its message."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidUrl(
            _("The URL contains a blank, a control character or a letter that is not ASCII."),
            hint=_("write the host's name in its xn-- form, and other characters as %XX"),
        )
    if len(text) > _LONGEST:
        raise InvalidUrl(_("The URL has more than {limit} characters.").format(limit=_LONGEST))
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InvalidUrl(_("The URL has an invalid host or port."), hint="https://host.example/path") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise InvalidUrl(_("The URL begins with neither https:// nor http://."), hint="https://host.example/path")
    host = parts.hostname or ""
    if port == 0 or not _is_host(host):
        raise InvalidUrl(_("The URL has an invalid host or port."), hint="https://host.example/path")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], target, _authorization(parts))


def _is_host(host: str) -> bool:
    if ":" not in host:
        return _HOST.fullmatch(host) is not None
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return not (isinstance(address, IPv6Address) and address.scope_id)


def _authorization(parts: SplitResult) -> str:
    """RFC 7617."""
    if parts.username is None and parts.password is None:
        return ""
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"
