"""Finding: one result of `senderproxy check`. PURE.

A module of its own: check imports check_local, check_dns and check_senders, which all make findings.
"""

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """The level of a finding. Only WRONG makes the check fail."""

    OK = "ok"
    ADVICE = "advice"  # it works, and could be better
    UNKNOWN = "unknown"  # it could not be checked
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `hint` is empty if there is nothing to fix."""

    level: Level
    subject: str
    message: str
    hint: str = ""
