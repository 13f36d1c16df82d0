"""Settings of the page, and the hosts and origins that it accepts. PURE.

Guarantees: a host that is not listed is refused, whatever address its name has now (DNS rebinding); a change comes from
the page itself (cross-site request forgery). A browser cannot set `Host` and `Origin` freely.
Not here: the configuration that the settings come from (config.model WebSettings), the answer (service.page).
RFC 9110 section 7.2, RFC 6454.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class PageSettings:
    """The settings. One attribute for each."""

    hostname: str = ""
    role: str = "read"
    url: str = "http://127.0.0.1:8525/"
    hosts: tuple[str, ...] = ()
    certificate: str | None = None
    key: str | None = None
    history_days: float = 0.0
    keep_subjects: bool = False

    @classmethod
    def of_answer(cls, answer: Mapping[str, Any]) -> Self:
        """The settings in the service's answer, or in the copy of it. Raises ValueError or KeyError for another one."""
        return cls(
            hostname=str(answer["hostname"]),
            role=str(answer["role"]),
            url=str(answer["url"]),
            hosts=tuple(str(host) for host in answer["hosts"]),
            certificate=str(answer["certificate"]) if answer["certificate"] else None,
            key=str(answer["key"]) if answer["key"] else None,
            history_days=float(answer["history_days"]),
            keep_subjects=bool(answer.get("keep_subjects")),
        )

    @property
    def prefix(self) -> str:
        """The path of the page behind another web server, without a slash at its end; empty: none."""
        return urlsplit(self.url).path.rstrip("/")

    @property
    def is_encrypted(self) -> bool:
        """True if browsers reach the page with TLS, of the page itself or of a server in front of it."""
        return self.url.startswith("https:")

    @property
    def cookie(self) -> str:
        """The name of the cookie. A browser accepts the prefix with TLS only, and from this very host (RFC 6265bis)."""
        return "__Host-senderproxy" if self.is_encrypted else "senderproxy"

    def accepts_host(self, host: str | None) -> bool:
        """True if the page answers under this value of `Host`."""
        name = _host_name(host or "")
        return name is not None and name in {
            *_LOOPBACK,
            (urlsplit(self.url).hostname or "").lower(),
            *(listed.lower() for listed in self.hosts),
        }

    def accepts_origin(self, origin: str | None, host: str | None) -> bool:
        """True if a change with these values of `Origin` and `Host` comes from the page itself."""
        if not origin or origin == "null":
            return False
        return _origin(origin) is not None and _origin(origin) in {
            _origin(self.url),
            _origin(f"{'https' if self.certificate else 'http'}://{host}"),
        }


def _host_name(host: str) -> str | None:
    """The name or address in a value of `Host`, in lower case; None: invalid."""
    if not host or not host.isascii() or any(c in host for c in "/@?#\\ \t,%"):
        return None
    try:
        parts = urlsplit(f"//{host}")
        _port = parts.port
    except ValueError:
        return None
    return (parts.hostname or "").rstrip(".") or None


def _origin(url: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme]
