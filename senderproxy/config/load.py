"""A TOML file -> Config, or every problem in it at once.

Promises: a file that loads can be meant; one that does not is refused whole, with each problem's key, what is wrong and
what would be right. No value that stands in the file is quoted where it could be a password.
"""

import socket
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from senderproxy.config.model import CONFLICTS, Config
from senderproxy.errors import SenderproxyError

_PATHS = {("vault", "path"), ("service", "control_socket")}
_LISTENER_PATHS = ("certificate", "key")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, and what would be right."""

    key: str
    wrong: str
    mend: str

    def __str__(self) -> str:
        return f"{self.key}: {self.wrong}; {self.mend}" if self.mend else f"{self.key}: {self.wrong}"


class ConfigError(SenderproxyError):
    """The configuration cannot be meant; `problems` has all that is wrong with it."""

    exit_code = 78  # EX_CONFIG, sysexits(3)

    def __init__(self, path: Path, problems: tuple[Problem, ...]) -> None:
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"The configuration {path} is refused:{lines}", hint=f"Mend {path}, then: senderproxy check")
        self.path = path
        self.problems = problems


def load_config(path: Path) -> Config:
    """Read the file. Raises ConfigError."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            path, (Problem(str(path), f"cannot be read: {error.strerror}", "senderproxy setup makes one"),)
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(path, (Problem(str(path), "is not UTF-8", "save it as UTF-8"),)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, (Problem(str(path), f"is no TOML: {error}", "mend that line"),)) from error
    _settle(entries, path.resolve().parent)
    try:
        return Config.model_validate(entries)
    except ValidationError as error:
        raise ConfigError(path, tuple(_problems(error))) from None


def _settle(entries: dict[str, Any], folder: Path) -> None:
    """Fill in this machine's name, and see relative paths from the file's folder."""
    identity = entries.setdefault("identity", {})
    if isinstance(identity, dict):
        identity.setdefault("hostname", socket.getfqdn())
    for section, key in _PATHS:
        _anchor(entries.get(section), key, folder)
    for listener in _tables(entries.get("listeners")):
        for key in _LISTENER_PATHS:
            _anchor(listener, key, folder)
    providers = entries.get("providers")
    for provider in providers.values() if isinstance(providers, dict) else ():
        _anchor(provider, "ca_file", folder)
    vault = entries.get("vault")
    unlock = vault.get("unlock") if isinstance(vault, dict) else None
    if isinstance(vault, dict) and isinstance(unlock, str) and unlock.startswith("key-file:"):
        vault["unlock"] = f"key-file:{folder / unlock.removeprefix('key-file:')}"


def _tables(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _anchor(section: object, key: str, folder: Path) -> None:
    if isinstance(section, dict) and isinstance(section.get(key), str):
        section[key] = str(folder / section[key])


def _problems(error: ValidationError) -> list[Problem]:
    found: list[Problem] = []
    for entry in error.errors(include_url=False, include_input=False):
        if entry["type"] == CONFLICTS:
            found += [Problem(_spoken(c.path), c.wrong, c.mend) for c in entry["ctx"]["conflicts"]]
        else:
            found.append(_problem(entry["type"], entry["loc"], entry["msg"]))
    return found


def _problem(kind: str, where: tuple[int | str, ...], words: str) -> Problem:
    key = _spoken(where)
    if kind == "extra_forbidden":
        near = get_close_matches(str(where[-1]), _known(where[:-1]), n=1)
        return Problem(key, "is no setting", f"did you mean {near[0]}?" if near else "take it out")
    if kind == "missing":
        return Problem(key, "is missing", "docs/config.md says what it is for")
    return Problem(key, words, "")


def _known(where: tuple[int | str, ...]) -> list[str]:
    """The settings of the section at that place."""
    section: type[BaseModel] = Config
    for step in where:
        if isinstance(step, int) or (section is Config and step not in section.model_fields):
            continue
        annotation = section.model_fields[step].annotation if step in section.model_fields else None
        for candidate in (annotation, *get_args(annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                section = candidate
    return list(section.model_fields)


def _spoken(where: tuple[int | str, ...]) -> str:
    spoken = ""
    for step in where:
        spoken += f"[{step}]" if isinstance(step, int) else f".{step}" if spoken else step
    return spoken or "the file"
