"""Problems of a configuration, in words for the operator. PURE.

Guarantees: each problem names its setting, what is wrong and how to fix it, in our words and not in pydantic's. No
value that may be a secret is repeated.
Not here: the search for problems (config.load).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from senderproxy.config.model import SECTIONS, Config
from senderproxy.config.section import Section
from senderproxy.config.toml_lines import SettingPath
from senderproxy.config.values import INVALID_VALUE, UNLOCK_WAYS, alternatives
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _, joined, ngettext

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_SIMILAR: Final = 0.6  # ratio of get_close_matches from which a misspelt name is suggested; its default
_VERY_SIMILAR: Final = 0.8  # ratio from which the suggestion goes before the section to which the exact name belongs


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of the configuration. `path` is empty if it concerns the whole file; `line` counts from 1."""

    path: SettingPath
    message: str
    hint: str
    line: int | None = None

    @property
    def key(self) -> str:
        """The setting, as `listeners[0].address`."""
        return setting_name(self.path)

    def __str__(self) -> str:
        line = _("line {line}").format(line=self.line) if self.line else ""
        place = joined(", ", [part for part in (line, self.key) if part])
        text = _("{message}. To fix: {hint}").format(message=self.message, hint=self.hint)
        return joined(": ", (place, text)) if place else text


class ConfigError(SenderproxyError):
    """The configuration is invalid; `problems` are all of them."""

    def __init__(self, path: object, problems: Sequence[Problem]) -> None:
        self.path = str(path)
        self.problems = tuple(problems)
        head = ngettext(
            "The configuration {path} has {count} problem:",
            "The configuration {path} has {count} problems:",
            len(self.problems),
        ).format(path=path, count=len(self.problems))
        super().__init__(joined("\n  ", (head, *map(str, self.problems))))


def setting_name(path: SettingPath) -> str:
    """`listeners[0].address` for ("listeners", 0, "address")."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = f'"{part}"' if "." in part else part
            text += f".{name}" if text else name
    return text


def problem_of(error: "ErrorDetails") -> Problem:
    """The problem behind one of pydantic's errors."""
    path = tuple(part for part in error["loc"] if part != "[key]")
    if error["type"] == INVALID_VALUE:
        return Problem(path, error["ctx"]["message"], error["ctx"]["hint"])
    name = str(path[-1]) if path else ""
    match error["type"]:
        case "missing":
            return Problem(path, _("is missing"), _hint_for_missing(path))
        case "extra_forbidden":
            return Problem(path, _("is not a setting"), _hint_for_unknown(path))
        case "tuple_type" if path in _LISTS and isinstance(error["input"], dict):
            hint = _("write [[{name}]] with two brackets: there may be several").format(name=name)
            return Problem(path, _("is a single section"), hint)
        case "tuple_type":
            hint = _("put the values in square brackets: {name} = [...]").format(name=name)
            return Problem(path, _("is not a list"), hint)
        case "model_type" | "model_attributes_type" | "dict_type":
            hint = _("write {heading} and its settings below it").format(heading=_heading(path))
            return Problem(path, _("is not a section"), hint)
        case _:
            return Problem(path, _("is invalid"), _("see docs/config.md"))


_LISTS: Final = (("listeners",), ("clients",), ("footers",), ("routes",))


def _hint_for_missing(path: SettingPath) -> str:
    match path:
        case ("vault", "unlock"):
            return _("write unlock = {ways}").format(ways=alternatives(UNLOCK_WAYS))
        case ("identity", "hostname"):
            return _('this machine has no usable name of its own: write hostname = "mail.firma.example"')
        case _:
            return _("write {name} = ...").format(name=path[-1])


def _heading(path: SettingPath) -> str:
    names = ".".join(f'"{part}"' if "." in part else part for part in path if isinstance(part, str))
    return f"[[{names}]]" if path[:1] in _LISTS else f"[{names}]"


def _hint_for_unknown(path: SettingPath) -> str:
    """The known setting with a similar name, the section of the name, or the list of settings."""
    name = _normalized(path[-1])
    known = list(section_at(path[:-1]).model_fields)
    very_similar, similar = (get_close_matches(name, known, 1, cutoff) for cutoff in (_VERY_SIMILAR, _SIMILAR))
    sections = list(_sections_with(name))
    if sections and not very_similar:
        return _("move it to {sections}").format(sections=_(" or ").join(sections))
    if similar:
        return _('did you mean "{name}"?').format(name=similar[0])
    return _("use one of {names}").format(names=", ".join(known))


def _normalized(name: str | int) -> str:
    """The name in the spelling of our settings."""
    return str(name).lower().replace("-", "_")


def closest_setting(path: SettingPath) -> SettingPath:
    """The path of the known setting with the most similar name; the path itself if none is similar."""
    near = get_close_matches(_normalized(path[-1]), section_at(path[:-1]).model_fields, 1)
    return (*path[:-1], near[0]) if near else path


def section_at(path: SettingPath) -> type[Section]:
    """The section that has its settings at this path."""
    shape = tuple(
        "*" if isinstance(part, int) or (path[:1] in (("providers",), ("smarthosts",)) and n) else part
        for n, part in enumerate(path)
    )
    return SECTIONS.get(shape, Config)


def _sections_with(name: str) -> Iterator[str]:
    for shape, section in SECTIONS.items():
        if shape and name in section.model_fields:
            heading = ".".join("NAME" if part == "*" else part for part in shape)
            yield f"[[{shape[0]}]]" if shape[:1] in _LISTS else f"[{heading}]"
