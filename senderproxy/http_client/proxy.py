"""Choice of the proxy from environment variables, as curl and Python's own client do it.

`https_proxy` (or HTTPS_PROXY) names an HTTP proxy, `no_proxy` the hosts that are reached without it. Plain HTTP, which
is for this machine and its network only, never takes a proxy.
"""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from senderproxy.http_client.errors import InvalidUrl
from senderproxy.http_client.url import Url, parse_url
from senderproxy.translation import _


def proxy_for(url: Url, environment: Mapping[str, str]) -> Url | None:
    """The proxy of this URL; None: a direct connection. Raises InvalidUrl."""
    named = environment.get("https_proxy") or environment.get("HTTPS_PROXY") or ""
    if url.scheme != "https" or not named:
        return None
    if _is_excepted(url, environment.get("no_proxy") or environment.get("NO_PROXY") or ""):
        return None
    try:
        proxy = parse_url(named if "://" in named else f"http://{named}")
    except InvalidUrl as error:
        raise InvalidUrl(_("https_proxy: {problem}").format(problem=error.message), hint=error.hint) from None
    if proxy.scheme != "http":
        raise InvalidUrl(
            _("https_proxy: the proxy itself is reached by http:// only."), hint="http://proxy.example:3128"
        )
    return proxy


def _is_excepted(url: Url, exceptions: str) -> bool:
    host = url.host.lower().rstrip(".")
    return any(_matches(host, url.port, entry.strip().lower()) for entry in exceptions.split(","))


def _matches(host: str, port: int, entry: str) -> bool:
    """`*`, a domain with or without its first dot, an address, a network; with a port or without."""
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        pass
    name, colon, of_port = entry.partition(":")
    if colon and of_port != str(port):
        return False
    name = name.strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))
