"""Answers about the mail servers of a domain. PURE.

A module of its own: functions that take an answer as an argument need no dnspython.
"""

from dataclasses import dataclass
from typing import Final

NULL_MX: Final = "."  # RFC 7505: the domain accepts no mail


@dataclass(frozen=True, slots=True)
class Exchanger:
    """One MX record. `host` in lower case without the last dot; NULL_MX for the root."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class ExchangerAnswer:
    """The MX records of a domain. `exists`: the name does; without records it may have addresses all the same."""

    exchangers: tuple[Exchanger, ...]
    exists: bool
    seconds: float  # how long the answer holds: the TTL, or 0 for an answer without records


@dataclass(frozen=True, slots=True)
class AddressAnswer:
    """The addresses of a host, IPv4 and IPv6, as text. `seconds`: as in ExchangerAnswer."""

    addresses: tuple[str, ...]
    seconds: float
