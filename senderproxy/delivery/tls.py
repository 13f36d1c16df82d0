"""TLS towards upstreams: one context for each set of authorities, made once.

Promises: TLS 1.2 or newer, chain and host name verified, always. There is no switch that turns it off, only a file that
names another authority. A file that changed on disk is read again.
RFC 8314 section 4, RFC 9325.
"""

import ssl
from pathlib import Path
from typing import TypeAlias

_Stamp: TypeAlias = tuple[int, int] | None


class Contexts:
    """The contexts in use. Making one costs 20 ms, so they are kept."""

    def __init__(self) -> None:
        self._made: dict[str | None, tuple[_Stamp, ssl.SSLContext]] = {}

    def context(self, ca_file: str | None) -> ssl.SSLContext:
        """The context for these authorities; raises OSError or ssl.SSLError where the file cannot be used."""
        stamp = _stamp(ca_file)
        kept = self._made.get(ca_file)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._made[ca_file] = (stamp, context)
        return context


def _stamp(ca_file: str | None) -> _Stamp:
    if ca_file is None:
        return None
    status = Path(ca_file).stat()
    return (status.st_mtime_ns, status.st_size)
