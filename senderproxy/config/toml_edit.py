"""Changes of single text settings in a TOML file, with everything else as it was, comments included. PURE.

Guarantees: the changed file has the new values and otherwise the same settings, or EditFailed is raised.
Not here: the meaning of the settings (config.model).
"""

import json
import re
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from senderproxy.config.toml_lines import SettingPath, locate_settings
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _

_TEXT_VALUE: Final = re.compile(r"""(\s*+[^=#"']++=\s*+)(?:"(?>[^"\\]++|\\.)*"|'[^']*+')(\s*+(?:#.*)?)""", re.DOTALL)


class EditFailed(SenderproxyError):
    """The file is written so that the setting cannot be changed on its line."""


def with_settings(text: str, values: Mapping[SettingPath, str]) -> str:
    """The file with these values; a missing setting of a section is added. Raises EditFailed."""
    wanted = deepcopy(_parsed(text))
    for path, value in values.items():
        text = _with_setting(text, path, value)
        try:
            section: Any = wanted
            for part in path[:-1]:
                section = section.setdefault(part, {}) if isinstance(section, dict) else section[part]
            section[path[-1]] = value
        except (TypeError, IndexError):  # a value where a section should be
            raise _failed(_dotted(path)) from None
    if _parsed(text) != wanted:
        raise _failed(", ".join(map(_dotted, values)))
    return text


def _with_setting(text: str, path: SettingPath, value: str) -> str:
    lines = text.splitlines(keepends=True)
    known = locate_settings(text)
    quoted = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if path in known:
        line = lines[known[path] - 1]
        found = _TEXT_VALUE.fullmatch(line)
        if found is None:
            raise _failed(_dotted(path))
        lines[known[path] - 1] = f"{found[1]}{quoted}{found[2]}"
        return "".join(lines)
    entry = f"{path[-1]} = {quoted}\n"
    if path[:-1] in known:
        return "".join([*lines[: known[path[:-1]]], entry, *lines[known[path[:-1]] :]])
    return f"{text.rstrip()}\n\n[{_dotted(path[:-1])}]\n{entry}"


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):  # also tomllib.TOMLDecodeError
        return {}


def _dotted(path: SettingPath) -> str:
    return ".".join(map(str, path))


def _failed(name: str) -> EditFailed:
    return EditFailed(
        _("The setting {name} cannot be changed in the configuration.").format(name=name),
        hint=_("Write it on a line of its own: name = value"),
    )
