"""Reading of the configuration file: a Config, or all of its problems at once.

Guarantees: a configuration in which every listed problem is fixed can be loaded, unless the file is not TOML: then that
is the only problem listed, with its line and column. Relative paths start at the file's folder.
Not here: what only a try can show (ports, certificates, the vault).
"""

import re
import socket
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from senderproxy.config.model import CONFLICTS, Config, ServiceSettings, VaultSettings, own_vault_files
from senderproxy.config.problems import ConfigError, Problem, closest_setting, problem_of
from senderproxy.config.schema import PydanticCustomError, ValidationError
from senderproxy.config.section import Conflict
from senderproxy.config.toml_lines import SettingPath, line_of, locate_settings
from senderproxy.config.values import SQLITE_ENGINE, VAULT_IN_DATABASE, read_hostname
from senderproxy.daemon_thread import DaemonThread
from senderproxy.translation import N_, _

__all__ = [
    "ConfigError",
    "InstallationPaths",
    "Problem",
    "find_control_socket",
    "find_warnings",
    "installation_paths",
    "load_config",
    "parse_config",
    "read_settings",
    "system_hostname",
]

_LISTS: Final = ("listeners", "clients", "footers", "routes")  # sections of which there may be several
_NAME_TIMEOUT: Final = 2.0  # seconds for the look-up of this machine's own name, which usually is in /etc/hosts
_ROUNDS: Final = 1000  # validations at most; each removes an invalid setting, so this is far above any real file
_STAND_INS: Final[Mapping[SettingPath, str]] = {
    ("identity", "hostname"): "localhost",
    ("vault", "unlock"): "passphrase",
}
_ROUTE: Final[Mapping[str, object]] = {"recipients": ["stand-in@stand-in.invalid"], "via": "account stand-in"}
_SMARTHOST_FILES: Final = ("ca_file", "certificate", "key")
_CONTROL_SOCKET: Final = re.compile(r"""^[ \t]*control_socket[ \t]*=[ \t]*(["'])([^"'\n]*)\1""", re.MULTILINE)
_SYNTAX_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def load_config(path: Path) -> Config:
    """Read the configuration. Raises ConfigError with all its problems."""
    return parse_config(path, _read_text(path))


def parse_config(path: Path, text: str) -> Config:
    """The configuration of this text in place of the file's. Raises ConfigError with all its problems."""
    try:
        config, problems = read_settings(_parsed(path, text), path.parent)
    except RecursionError:
        problem = Problem((), _("values are nested too deeply"), _("see docs/config.md for the settings"))
        raise ConfigError(str(path), [problem]) from None
    if config is None:
        lines = locate_settings(text)
        located = [replace(problem, line=line_of(problem.path, lines)) for problem in problems]
        raise ConfigError(str(path), sorted(located, key=lambda problem: problem.line or 0))
    return config


def find_control_socket(path: Path) -> Path:
    """The control socket that a file names, also if the file is invalid; the default if it names none."""
    try:
        text = _read_text(path)
    except ConfigError:
        text = ""
    try:
        service = tomllib.loads(text).get("service")
        named = service.get("control_socket") if isinstance(service, dict) else None
    except (ValueError, RecursionError):  # also tomllib.TOMLDecodeError
        found = _CONTROL_SOCKET.search(text)
        named = found[2] if found else None
    default = str(ServiceSettings.model_fields["control_socket"].default)
    return path.parent.absolute() / (named if isinstance(named, str) and named.strip() else default)


@dataclass(frozen=True, slots=True)
class InstallationPaths:
    """The files of an installation, from its configuration."""

    vault: Path  # of a vault in the database: of the copy that a restore writes
    unlock: str
    spool: Path
    control_socket: Path
    vault_in_database: bool = False
    spool_in_database: bool = False


def installation_paths(text: str, folder: Path) -> InstallationPaths:
    """The paths in a configuration, whether the files exist or not. Raises ConfigError.

    `folder`: the one of the configuration, where relative paths start.
    """
    settings = _completed(_parsed(folder, text), folder)
    sections = {name: settings.get(name) for name in ("vault", "spool", "service")}
    given = {name: section if isinstance(section, dict) else {} for name, section in sections.items()}
    named = given["vault"].get("path") or VaultSettings.model_fields["path"].default
    in_database = named == VAULT_IN_DATABASE
    vault = Path(own_vault_files(given["vault"].get("directory")) if in_database else named)
    return InstallationPaths(
        vault,
        str(given["vault"].get("unlock", "")),
        Path(given["spool"].get("directory") or vault.parent / "spool"),
        Path(given["service"].get("control_socket") or ServiceSettings.model_fields["control_socket"].default),
        in_database,
        given["spool"].get("engine", SQLITE_ENGINE) != SQLITE_ENGINE,
    )


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(path), [_syntax_problem(error, text)]) from None
    except ValueError:  # of int(), whose limit is 4300 digits
        problem = Problem((), _("a number has too many digits"), _("see docs/config.md for the settings"))
        raise ConfigError(str(path), [problem]) from None


def find_warnings(path: Path, config: Config) -> tuple[Problem, ...]:
    """Unsafe permissions of the file and of the keys it names, for `senderproxy check`."""
    mode = path.stat().st_mode
    warnings: list[Problem] = []
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        message = _("users other than the owner can change {path}, and with it who may send as whom").format(path=path)
        warnings.append(Problem((), message, f"chmod go-w {path}"))
    if mode & stat.S_IROTH and any(client.password for client in config.clients):
        message = _("{path} contains password hashes, and every user of this machine can read it").format(path=path)
        warnings.append(Problem((), message, f"chmod o-r {path}"))
    for index, listener in enumerate(config.listeners):
        if listener.key and _is_readable_for_all(Path(listener.key)):
            message = _("every user of this machine can read {path}").format(path=listener.key)
            warnings.append(Problem(("listeners", index, "key"), message, f"chmod o-r {listener.key}"))
    for name, smarthost in config.smarthosts.items():
        if smarthost.key and _is_readable_for_all(Path(smarthost.key)):
            message = _("every user of this machine can read {path}").format(path=smarthost.key)
            warnings.append(Problem(("smarthosts", name, "key"), message, f"chmod o-r {smarthost.key}"))
    return tuple(warnings)


def read_settings(data: Mapping[str, Any], folder: Path) -> tuple[Config | None, list[Problem]]:
    """The Config, or its problems. `data`: the TOML document, `folder`: where relative paths start."""
    settings = _completed(data, folder)
    config, problems = _validate(settings)
    problems += _missing_files(settings)
    return (None if problems else config), problems


def _validate(settings: dict[str, Any]) -> tuple[Config | None, list[Problem]]:
    """Validate, remove the invalid settings and validate the rest again, until all problems are found."""
    problems: list[Problem] = []
    invalid: list[SettingPath] = []
    for _round in range(_ROUNDS):
        try:
            config = Config.model_validate(settings)
        except ValidationError as error:
            details = error.errors(include_url=False)
            if details[0]["type"] == CONFLICTS:
                conflicts: tuple[Conflict, ...] = details[0]["ctx"]["conflicts"]
                return None, problems + list(_independent(conflicts, invalid))
            # Unknown settings first: a missing one may be there with a misspelt name.
            for detail in sorted(details, key=lambda each: each["type"] != "extra_forbidden"):
                problem = problem_of(detail)
                if not _overlaps(problem.path, invalid):
                    problems.append(problem)
                invalid.append(problem.path)
                if detail["type"] == "extra_forbidden":
                    intended = closest_setting(problem.path)
                    if not _contains(settings, intended):
                        invalid.append(intended)
                _remove(settings, problem.path)
        else:
            return config, problems
    raise AssertionError("the validation does not end")


def _completed(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A copy with absolute paths, and with this machine's name if the file has none."""
    settings = deepcopy(dict(data))
    for needed in ("identity", "vault"):
        settings.setdefault(needed, {})
    identity = settings["identity"]
    if isinstance(identity, dict) and "hostname" not in identity and (name := system_hostname()):
        identity["hostname"] = name

    def is_database(section: dict[str, Any], name: str) -> bool:
        return section is settings["vault"] and name == "path" and section[name] == VAULT_IN_DATABASE

    for section, names in _paths_in(settings):
        for name in names:
            if isinstance(value := section.get(name), str) and value.strip() and not is_database(section, name):
                section[name] = str(folder.absolute() / value)
    vault = settings["vault"]
    if isinstance(vault, dict) and isinstance(unlock := vault.get("unlock"), str):
        kind, colon, place = unlock.partition(":")
        if kind == "key-file" and place.strip():
            vault["unlock"] = f"{kind}{colon}{folder.absolute() / place}"
    for part, names in (("alerts", ("webhook", "webhook_secret", "ping")), ("spool", ("engine_password",))):
        if not isinstance(secrets := settings.get(part), dict):
            continue
        for name in names:
            kind, _colon, place = str(secrets.get(name, "")).partition(":")
            if kind == "file" and place.strip():
                secrets[name] = f"{kind}:{folder.absolute() / place}"
    return settings


def _paths_in(settings: dict[str, Any]) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """Each section with settings that are paths, and the names of these settings."""
    listeners, providers, smarthosts = (settings.get(name) for name in ("listeners", "providers", "smarthosts"))
    found: list[tuple[Any, tuple[str, ...]]] = [
        (settings["vault"], ("path", "directory")),
        (settings.get("service"), ("control_socket",)),
        (settings.get("spool"), ("directory", "engine_ca_file")),
        (settings.get("alerts"), ("ca_file",)),
    ]
    found += [(each, ("certificate", "key")) for each in (listeners if isinstance(listeners, list) else [])]
    found += [(each, ("ca_file",)) for each in (providers.values() if isinstance(providers, dict) else [])]
    found += [(each, _SMARTHOST_FILES) for each in (smarthosts.values() if isinstance(smarthosts, dict) else [])]
    yield from ((section, names) for section, names in found if isinstance(section, dict))


def system_hostname() -> str | None:
    """This machine's name in the operating system, fully qualified if known; None if it is not a valid host name."""
    name = socket.gethostname()
    for candidate in (name, _full_name(name)) if "." not in name else (name,):
        if "." in candidate and not candidate.startswith("localhost"):
            name = candidate
    try:
        return read_hostname(name)
    except PydanticCustomError:
        return None


def _full_name(name: str) -> str:
    """The full name that the resolver knows; the short one if no name server answers in time."""
    found = [name]
    thread = DaemonThread(lambda: found.append(socket.getfqdn(name)), "full-name")
    thread.start()
    thread.join(_NAME_TIMEOUT)
    return found[-1]


def _remove(settings: dict[str, Any], path: SettingPath) -> None:
    """Remove the smallest setting around an invalid value; a required one gets a valid value instead."""
    section: Any = settings
    name: Any = path[0]
    parent: Any = settings
    for part in path:
        if not isinstance(parent, dict) and parent not in [settings.get(name) for name in _LISTS]:
            break
        section, name = parent, part
        if isinstance(parent, dict) and part not in parent:
            break
        parent = parent[part]
    if path[:1] == ("routes",) and len(path) > 1 and isinstance(settings["routes"], list):
        _stand_in_for_route(settings["routes"], path)
    elif path in _STAND_INS:
        section[name] = _STAND_INS[path]
    elif isinstance(section, list) or path in (("identity",), ("vault",)):
        section[name] = {}
    else:
        section.pop(name, None)


def _stand_in_for_route(routes: list[Any], path: SettingPath) -> None:
    """Replace an invalid part of a route: both of its settings are required."""
    index: Any = path[1]
    route, setting = routes[index], path[2] if len(path) > 2 else None
    if not isinstance(route, dict) or setting is None:
        routes[index] = dict(_ROUTE)
    elif setting in _ROUTE:
        route[setting] = _ROUTE[str(setting)]
    else:
        route.pop(setting, None)


def _contains(settings: dict[str, Any], path: SettingPath) -> bool:
    section: Any = settings
    for part in path[:-1]:
        section = section[part]
    return path[-1] in section


def _independent(conflicts: Iterable[Conflict], invalid: list[SettingPath]) -> Iterator[Problem]:
    """The conflicts of valid settings only: the fix of an invalid one may end the others."""
    for conflict in conflicts:
        if not any(_overlaps(path, invalid) for path in conflict.involved):
            yield Problem(conflict.path, conflict.message, conflict.hint)


def _overlaps(path: SettingPath, others: list[SettingPath]) -> bool:
    """True if the path is one of the others, or inside one, or around one."""
    return any(path[: len(other)] == other or other[: len(path)] == path for other in others)


def _missing_files(settings: dict[str, Any]) -> Iterator[Problem]:
    for index, listener in enumerate(settings.get("listeners", [])):
        for name in ("certificate", "key"):
            yield from _missing_file(("listeners", index, name), listener.get(name), must_be_readable=False)
    for provider, each in settings.get("providers", {}).items():
        yield from _missing_file(("providers", provider, "ca_file"), each.get("ca_file"), must_be_readable=True)
    for smarthost, each in settings.get("smarthosts", {}).items():
        for name in _SMARTHOST_FILES:
            path = ("smarthosts", smarthost, name)
            yield from _missing_file(path, each.get(name), must_be_readable=name != "key")
    yield from _missing_file(("alerts", "ca_file"), settings.get("alerts", {}).get("ca_file"), must_be_readable=True)


def _missing_file(path: SettingPath, name: str | None, *, must_be_readable: bool) -> Iterator[Problem]:
    """The problem with a PEM file. A key is readable for the service's user only, and other users run `explain`."""
    hint = _("write the path of the PEM file")
    try:
        if name is None:
            return
        if Path(name).is_dir():
            yield Problem(path, _('"{path}" is a folder').format(path=name), hint)
        elif must_be_readable:
            Path(name).read_bytes()
        else:
            Path(name).stat()
    except FileNotFoundError:
        yield Problem(path, _('the file "{path}" does not exist').format(path=name), hint)
    except OSError as error:
        if must_be_readable:
            message = _('cannot read "{path}": {reason}').format(path=name, reason=error.strerror)
            yield Problem(path, message, _("make it readable for the service's user"))


def _is_readable_for_all(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problem = Problem((), _("the file does not exist"), _("write one with: senderproxy setup"))
    except IsADirectoryError:
        problem = Problem((), _("this is a folder"), _("write the path of the file in it"))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = Problem((), _("a character is not UTF-8"), _("save the file as UTF-8"), line)
    except OSError as error:
        message = _("cannot read the file: {reason}").format(reason=error.strerror)
        problem = Problem((), message, _("run this as a user who may read the file"))
    raise ConfigError(str(path), [problem])


# tomllib's messages by their first words, each with our message and hint. The first match counts.
_SYNTAX: Final = (
    ("Invalid value", N_("the text after = is not a value"), N_("put text in quotation marks")),
    ("Invalid initial character for a key part", N_("the name of a setting is invalid"), N_("write: name = value")),
    ("Invalid statement", N_("this line is not a setting"), N_("write: name = value")),
    ("Expected '=' after a key", N_("= is missing after the name"), N_("write: name = value")),
    ("Expected newline or end of document", N_("there is more text after the value"), N_("start a new line for it")),
    ("Cannot overwrite a value", N_("this setting is there twice"), N_("remove one of them")),
    ("Cannot declare", N_("this section is there twice"), N_("put all its settings into one")),
    ("Cannot mutate", N_("this section is there twice"), N_("put all its settings into one")),
    (
        "Unescaped '\\' in a string",
        N_("a backslash between double quotation marks starts an escape sequence"),
        N_("use single quotation marks"),
    ),
    (
        "Invalid hex value",
        N_("a backslash between double quotation marks starts an escape sequence"),
        N_("use single quotation marks"),
    ),
    ("Illegal character '\\n'", N_("a quotation mark is not closed on its line"), N_("close it")),
    ("Unterminated string", N_("a quotation mark is not closed"), N_("close it")),
    ('Expected "\'"', N_("a quotation mark is not closed"), N_("close it")),
    ("Unclosed array", N_("a square bracket is not closed"), N_("close it, and put commas between the values")),
    ("Expected ']]'", N_("the brackets of a section are not closed"), N_("write it like: [[listeners]]")),
    ("Expected ']'", N_("the bracket of a section is not closed"), N_("write it like: [vault]")),
)


def _syntax_problem(error: tomllib.TOMLDecodeError, text: str) -> Problem:
    reported = str(error)
    place = _SYNTAX_PLACE.search(reported)
    reason = reported[: place.start()] if place else reported
    line, column = (place.group(1), place.group(2)) if place else (None, None)
    for start, message, hint in _SYNTAX:
        if reason.startswith(start):
            message, hint = _(message), _(hint)
            break
    else:
        message, hint = _("this is not TOML ({reason})").format(reason=reason), _("see https://toml.io")
    where = _("column {column}").format(column=column) if column else _("at the end of the file")
    return Problem((), f"{message} ({where})", hint, int(line) if line else len(text.splitlines()) or 1)
