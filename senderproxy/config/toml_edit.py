"""Changes of single settings in a TOML file, with everything else as it was, comments included. PURE.

Guarantees: the changed file has the new values and otherwise the same settings, or EditFailed is raised.
Not here: the meaning of the settings (config.model).
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any, Final, TypeAlias

from senderproxy.config.toml_lines import SettingPath, last_line_of_value, locate_settings
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _

TomlValue: TypeAlias = str | int | bool | Sequence[str]

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_BEFORE_VALUE: Final = re.compile(r"""(?>(?:[^=#"']++|"(?>[^"\\]++|\\.)*"|'[^']*+')+)=\s*+""", re.DOTALL)
# A string, or the comment that ends the line, with the blanks before it. An unclosed string has no end and no comment.
_STRING_OR_COMMENT: Final = re.compile(r""""(?>[^"\\]++|\\.)*(?:"|\Z)|'[^']*+(?:'|\Z)|(?<!\s)\s*+(#.*)""", re.DOTALL)


class EditFailed(SenderproxyError):
    """The file is written so that the setting cannot be changed on its line."""


def toml_value(value: TomlValue) -> str:
    """The value in TOML. A basic string is a JSON string, except for DEL (toml.io, v1.0.0, String)."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return f"[{', '.join(toml_value(each) for each in value)}]"
    return json.dumps(value)


def with_settings(text: str, values: Mapping[SettingPath, TomlValue]) -> str:
    """The file with these values; a missing setting is added to its section. Raises EditFailed."""
    wanted = deepcopy(_parsed(text))
    for path, value in values.items():
        text = _with_setting(text, path, value)
        try:
            section: Any = wanted
            for part, following in pairwise(path):
                section = _entered(section, part, [] if isinstance(following, int) else {})
            section[path[-1]] = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        except (TypeError, IndexError):  # a value where a section should be
            raise _failed(path, value) from None
        if _parsed(text) != wanted:
            raise _failed(path, value)
    return text


def _entered(section: Any, part: str | int, new: object) -> Any:  # noqa: ANN401
    """The part of a section, made if it is the next of a list or a missing one."""
    if isinstance(section, dict):
        return section.setdefault(part, new)
    if part == len(section):
        section.append({})
    return section[part]


def _with_setting(text: str, path: SettingPath, value: TomlValue) -> str:
    lines, known = text.splitlines(keepends=True), locate_settings(text)
    entry = f"{_key(path[-1])} = {toml_value(value)}\n"
    if path in known:
        first = known[path] - 1
        last = last_line_of_value(lines, first)
        before = _BEFORE_VALUE.match(lines[first])
        if before is None or last is None:
            raise _failed(path, value)
        line_end = lines[last][len(lines[last].rstrip("\r\n")) :]
        comment = _comment(lines[first][before.end() :].rstrip("\r\n")) if last == first else ""
        return "".join([*lines[:first], f"{before[0]}{toml_value(value)}{comment}{line_end}", *lines[last + 1 :]])
    if path[:-1] in known:
        return "".join([*lines[: known[path[:-1]]], entry, *lines[known[path[:-1]] :]])
    return f"{text.rstrip()}\n\n{_heading(path[:-1])}\n{entry}".lstrip("\n")


def _comment(value: str) -> str:
    """The comment behind a value, with the blanks before it."""
    for found in _STRING_OR_COMMENT.finditer(value):
        if found[1] is not None:
            return found[0]
    return ""


def _heading(section: SettingPath) -> str:
    names = ".".join(_key(part) for part in section if not isinstance(part, int))
    return f"[[{names}]]" if section and isinstance(section[-1], int) else f"[{names}]"


def _key(name: str | int) -> str:
    text = str(name)
    return text if _BARE_KEY.fullmatch(text) else toml_value(text)


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):  # also tomllib.TOMLDecodeError
        return {}


def _failed(path: SettingPath, value: TomlValue) -> EditFailed:
    return EditFailed(
        _("The setting {name} cannot be changed in the configuration.").format(name=".".join(map(str, path))),
        hint=_("Write it on a line of its own: {setting}").format(setting=f"{path[-1]} = {toml_value(value)}"),
    )
