"""load_config: the TOML file becomes a Config, or every problem in it at once.

Guarantees: whoever mends all that is listed has a configuration that loads, unless the file is no TOML at all: then
that comes first, with its line and column. Paths that do not start at the root are seen from the file's folder.
Not here: what can be known only by trying (ports, certificates, the vault).
"""

import re
import socket
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from senderproxy.config import toml_lines
from senderproxy.config.model import CONFLICTS, Config, Conflict
from senderproxy.config.problems import Complaint, ConfigError, Problem, key_of, nearest_known, put_in_words
from senderproxy.config.toml_lines import line_of, locate_settings
from senderproxy.config.values import read_hostname

__all__ = ["ConfigError", "Problem", "find_doubts", "load_config", "machine_name", "read_settings"]

# A value that is wrong is put aside, and the rest looked at again; each round puts something aside.
_ROUNDS: Final = 1000
_STAND_INS: Final[Mapping[toml_lines.Path, str]] = {
    ("identity", "hostname"): "localhost",
    ("vault", "unlock"): "passphrase",
}
_SYNTAX_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def load_config(path: Path) -> Config:
    """Read the configuration. Raises ConfigError with all its problems."""
    text = _read_text(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(path), [_syntax_problem(error, text)]) from None
    config, complaints = read_settings(data, path.parent)
    if config is None:
        where = locate_settings(text)
        problems = [Problem(key_of(c.path), c.wrong, c.mend, line_of(c.path, where)) for c in complaints]
        raise ConfigError(str(path), sorted(problems, key=lambda problem: problem.line or 0))
    return config


def find_doubts(path: Path, config: Config) -> tuple[Problem, ...]:
    """What is allowed but hardly meant, about the file itself: for `senderproxy check` and the log."""
    mode = path.stat().st_mode
    doubts: list[Problem] = []
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        wrong = f"others than its owner can change {path}, and so who may send as whom"
        doubts.append(Problem("", wrong, f"type: chmod go-w {path}"))
    if mode & stat.S_IROTH and any(client.password for client in config.clients):
        wrong = f"{path} holds hashes of passwords, and everybody on this machine can read it"
        doubts.append(Problem("", wrong, f"type: chmod o-r {path}"))
    for index, listener in enumerate(config.listeners):
        if listener.key and _is_readable_for_all(Path(listener.key)):
            wrong = f"{listener.key} can be read by everybody on this machine"
            doubts.append(Problem(f"listeners[{index}].key", wrong, f"type: chmod o-r {listener.key}"))
    return tuple(doubts)


def read_settings(data: Mapping[str, Any], folder: Path) -> tuple[Config | None, list[Complaint]]:
    """A Config of what tomllib made of the file, or all that is wrong with it."""
    settings = _completed(data, folder)
    config, complaints = _settle(settings)
    complaints += _missing_files(settings)
    return (None if complaints else config), complaints


def _settle(settings: dict[str, Any]) -> tuple[Config | None, list[Complaint]]:
    """Put aside what is wrong until the rest can be judged; `settings` is what is left in the end."""
    complaints: list[Complaint] = []
    spoiled: list[toml_lines.Path] = []
    for _ in range(_ROUNDS):
        try:
            config = Config.model_validate(settings)
        except ValidationError as error:
            details = error.errors(include_url=False)
            if details[0]["type"] == CONFLICTS:
                conflicts: tuple[Conflict, ...] = details[0]["ctx"]["conflicts"]
                return None, complaints + list(_not_explained(conflicts, spoiled))
            # Unknown ones first: a name that is missing may be there, but misspelt.
            for detail in sorted(details, key=lambda each: each["type"] != "extra_forbidden"):
                complaint = put_in_words(detail)
                if not _touches(complaint.path, spoiled):
                    complaints.append(complaint)
                spoiled += [complaint.path]
                if detail["type"] == "extra_forbidden" and not _holds(settings, meant := nearest_known(complaint.path)):
                    spoiled.append(meant)
                _put_aside(settings, complaint.path)
        else:
            return config, complaints
    raise AssertionError("a configuration that cannot be read to its end")


def _completed(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A copy to work on, with absolute paths and with what the machine knows by itself."""
    settings = deepcopy(dict(data))
    for needed in ("identity", "vault"):
        settings.setdefault(needed, {})
    identity = settings["identity"]
    if isinstance(identity, dict) and "hostname" not in identity and (name := machine_name()):
        identity["hostname"] = name
    for section, names in _paths_in(settings):
        for name in names:
            if isinstance(value := section.get(name), str) and value.strip():
                section[name] = str(folder.absolute() / value)
    vault = settings["vault"]
    if isinstance(vault, dict) and isinstance(unlock := vault.get("unlock"), str):
        kind, colon, place = unlock.partition(":")
        if kind == "key-file" and place.strip():
            vault["unlock"] = f"{kind}{colon}{folder.absolute() / place}"
    return settings


def _paths_in(settings: dict[str, Any]) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """Each section that has paths in it, and their names."""
    listeners, providers = settings.get("listeners"), settings.get("providers")
    found: list[tuple[Any, tuple[str, ...]]] = [
        (settings["vault"], ("path",)),
        (settings.get("service"), ("control_socket",)),
        (settings.get("spool"), ("directory",)),
    ]
    found += [(each, ("certificate", "key")) for each in (listeners if isinstance(listeners, list) else [])]
    found += [(each, ("ca_file",)) for each in (providers.values() if isinstance(providers, dict) else [])]
    yield from ((section, names) for section, names in found if isinstance(section, dict))


def machine_name() -> str | None:
    """The operating system's name for this machine, the full one where it knows it."""
    name = socket.gethostname()
    for candidate in (name, socket.getfqdn(name)) if "." not in name else (name,):
        if "." in candidate and not candidate.startswith("localhost"):
            name = candidate
    try:
        return read_hostname(name)
    except PydanticCustomError:
        return None


def _put_aside(settings: dict[str, Any], path: toml_lines.Path) -> None:
    """Take away the smallest setting that holds what is wrong; where it is needed, something else stands in."""
    section: Any = settings
    name: Any = path[0]
    holder: Any = settings
    for part in path:
        if not isinstance(holder, dict) and holder not in (settings.get("listeners"), settings.get("clients")):
            break
        section, name = holder, part
        if isinstance(holder, dict) and part not in holder:
            break
        holder = holder[part]
    if path in _STAND_INS:
        section[name] = _STAND_INS[path]
    elif isinstance(section, list) or path in (("identity",), ("vault",)):
        section[name] = {}
    else:
        section.pop(name, None)


def _holds(settings: dict[str, Any], path: toml_lines.Path) -> bool:
    holder: Any = settings
    for part in path[:-1]:
        holder = holder[part]
    return path[-1] in holder


def _not_explained(conflicts: Iterable[Conflict], spoiled: list[toml_lines.Path]) -> Iterator[Complaint]:
    """Those that would still be there after what was complained about is mended."""
    for conflict in conflicts:
        if not any(_touches(path, spoiled) for path in conflict.because):
            yield Complaint(conflict.path, conflict.wrong, conflict.mend)


def _touches(path: toml_lines.Path, spoiled: list[toml_lines.Path]) -> bool:
    return any(path[: len(other)] == other or other[: len(path)] == path for other in spoiled)


def _missing_files(settings: dict[str, Any]) -> Iterator[Complaint]:
    for index, listener in enumerate(settings.get("listeners", [])):
        for name in ("certificate", "key"):
            yield from _missing_file(("listeners", index, name), listener.get(name), must_be_readable=False)
    for provider, each in settings.get("providers", {}).items():
        yield from _missing_file(("providers", provider, "ca_file"), each.get("ca_file"), must_be_readable=True)


def _missing_file(path: toml_lines.Path, name: str | None, *, must_be_readable: bool) -> Iterator[Complaint]:
    """A key is for the service's user only, so another user's `explain` must not stumble over it."""
    try:
        if name is None:
            return
        if Path(name).is_dir():
            yield Complaint(path, f'"{name}" is a folder', "name the PEM file in it")
        elif must_be_readable:
            Path(name).read_bytes()
        else:
            Path(name).stat()
    except FileNotFoundError:
        yield Complaint(path, f'there is no file "{name}"', "name the PEM file")
    except OSError as error:
        if must_be_readable:
            yield Complaint(path, f'"{name}" cannot be read: {error.strerror}', "make it readable for the service")


def _is_readable_for_all(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problem = Problem("", "there is no such file", "write one with: senderproxy setup")
    except IsADirectoryError:
        problem = Problem("", "this is a folder", "name the file in it")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = Problem("", "there is a character that is not UTF-8", "save the file as UTF-8", line)
    except OSError as error:
        problem = Problem("", f"it cannot be read: {error.strerror}", "run this as a user who may read it")
    raise ConfigError(str(path), [problem])


# What tomllib says, and what a person can do about it. The first one that fits counts.
_SYNTAX: Final = (
    ("Invalid value", "what stands behind = is no value", "put text in quotation marks"),
    (
        "Invalid initial character for a key part",
        "no name of a setting begins like this",
        "write it like: name = value",
    ),
    ("Invalid statement", "this line is no setting", "write it like: name = value"),
    ("Expected '=' after a key", "there is no = behind the name", "write it like: name = value"),
    ("Expected newline or end of document", "something stands behind the value", "begin a new line for it"),
    ("Cannot overwrite a value", "this setting is there twice", "keep one of them"),
    ("Cannot declare", "this section is there twice", "put all its settings in one"),
    ("Cannot mutate", "this section is there twice", "put all its settings in one"),
    ("Unescaped '\\' in a string", "a backslash in quotation marks means something else", "use single quotation marks"),
    ("Invalid hex value", "a backslash in quotation marks means something else", "use single quotation marks"),
    ("Illegal character '\\n'", "a quotation mark is not closed on its line", "close it"),
    ("Unterminated string", "a quotation mark is never closed", "close it"),
    ('Expected "\'"', "a quotation mark is never closed", "close it"),
    ("Unclosed array", "a square bracket is never closed", "close it, and put commas between the values"),
    ("Expected ']'", "a section's bracket is never closed", "write it like: [vault]"),
)


def _syntax_problem(error: tomllib.TOMLDecodeError, text: str) -> Problem:
    message = str(error)
    place = _SYNTAX_PLACE.search(message)
    said = message[: place.start()] if place else message
    line, column = (place.group(1), place.group(2)) if place else (None, None)
    wrong, mend = next(
        ((words, cure) for start, words, cure in _SYNTAX if said.startswith(start)),
        (f"this is no TOML ({said})", "see toml.io for how it is written"),
    )
    where = f" (column {column})" if column else " (at the end of the file)"
    return Problem("", f"{wrong}{where}", mend, int(line) if line else len(text.splitlines()) or 1)
