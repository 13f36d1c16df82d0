"""A finding of `senderproxy check`: what was looked at, how it is, what to do."""

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How a thing is. Only WRONG lets the check fail."""

    OK = "ok"
    ADVICE = "advice"  # it works, and could be better
    UNKNOWN = "unknown"  # it could not be asked
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `mend` is empty where nothing is to be done."""

    level: Level
    what: str
    words: str
    mend: str = ""
