"""What is wrong with a configuration, as people read it. PURE.

Guarantees: each problem names its key, what is wrong and the mend, in our words and never in pydantic's; no value that
may be a secret is repeated.
Not here: finding them (config.load).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from senderproxy.config.model import SECTIONS, Config
from senderproxy.config.toml_lines import Path
from senderproxy.config.values import COMPLAINT, UNLOCK_WAYS
from senderproxy.errors import SenderproxyError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that must be mended. `key` is empty where it is about the file as a whole."""

    key: str
    wrong: str
    mend: str
    line: int | None = None

    def __str__(self) -> str:
        place = ", ".join(part for part in (f"line {self.line}" if self.line else "", self.key) if part)
        return f"{place}: {self.wrong}; {self.mend}" if place else f"{self.wrong}; {self.mend}"


class ConfigError(SenderproxyError):
    """The configuration cannot be meant; `problems` are all of them."""

    def __init__(self, path: object, problems: Sequence[Problem]) -> None:
        self.path = str(path)
        self.problems = tuple(problems)
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join((f"The configuration {path} has {count}:", *(f"  {each}" for each in problems))))


@dataclass(frozen=True, slots=True)
class Complaint:
    """A problem whose key is still a path."""

    path: Path
    wrong: str
    mend: str


def key_of(path: Path) -> str:
    """`listeners[0].address` for ("listeners", 0, "address")."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = f'"{part}"' if "." in part else part
            text += f".{name}" if text else name
    return text


def put_in_words(error: ErrorDetails) -> Complaint:
    """One of pydantic's findings, in our words."""
    path = tuple(part for part in error["loc"] if part != "[key]")
    if error["type"] == COMPLAINT:
        words = error["ctx"]
        return Complaint(path, str(words["wrong"]), str(words["mend"]))
    name = str(path[-1]) if path else ""
    match error["type"]:
        case "missing":
            return Complaint(path, "is missing", _EXAMPLES.get(path, f"write {name} = ..."))
        case "extra_forbidden":
            return Complaint(path, "is no setting", _nearest_setting(path))
        case "tuple_type" if path in _LISTS and isinstance(error["input"], dict):
            return Complaint(path, "is a single section", f"write [[{name}]] with two brackets, there may be several")
        case "tuple_type":
            return Complaint(path, "is no list", f"put it in square brackets: {name} = [...]")
        case "model_type" | "model_attributes_type" | "dict_type":
            return Complaint(path, "is no section", f"write {_heading(path)} and the settings below it")
        case _:
            return Complaint(path, "cannot be read", "look it up in docs/config.md")


_LISTS: Final = (("listeners",), ("clients",))
_EXAMPLES: Final[dict[Path, str]] = {
    ("vault", "unlock"): f"write unlock = {UNLOCK_WAYS}",
    ("identity", "hostname"): 'this machine has no usable name of its own: write hostname = "mail.firma.example"',
}


def _heading(path: Path) -> str:
    names = ".".join(f'"{part}"' if "." in part else part for part in path if isinstance(part, str))
    return f"[[{names}]]" if path[:1] in _LISTS else f"[{names}]"


def _nearest_setting(path: Path) -> str:
    """What was meant: a name that looks alike, or the section to which this name belongs."""
    name = _usual(path[-1])
    known = list(section_at(path[:-1]).model_fields)
    very_near, near = (get_close_matches(name, known, 1, cutoff) for cutoff in (0.8, 0.6))
    homes = list(_homes(name))
    if homes and not very_near:
        return f"it belongs to {' or '.join(homes)}"
    return f'did you mean "{near[0]}"?' if near else f"there are {', '.join(known)}"


def _usual(name: str | int) -> str:
    """As names of settings are written here."""
    return str(name).lower().replace("-", "_")


def nearest_known(path: Path) -> Path:
    """The setting that was probably meant by an unknown one."""
    near = get_close_matches(_usual(path[-1]), section_at(path[:-1]).model_fields, 1)
    return (*path[:-1], near[0]) if near else path


def section_at(path: Path) -> type[BaseModel]:
    """The section that has its settings at this path."""
    shape = tuple(
        "*" if isinstance(part, int) or (path[:1] == ("providers",) and n) else part for n, part in enumerate(path)
    )
    return SECTIONS.get(shape, Config)


def _homes(name: str) -> Iterator[str]:
    for shape, section in SECTIONS.items():
        if shape and name in section.model_fields:
            plain = ".".join("NAME" if part == "*" else part for part in shape)
            yield f"[[{shape[0]}]]" if shape[:1] in _LISTS else f"[{plain}]"
