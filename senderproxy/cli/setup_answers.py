"""The answers for `senderproxy setup` from its options and the answers file.

Guarantees: an option has priority over the file; an unknown key, a value of the wrong kind and a password in the file
are errors that name the key. A password comes from standard input or from a file of its own.
Not here: questions (cli.setup_questions), the meaning of the answers for an installation (cli.setup_plan).
"""

import argparse
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from senderproxy.cli.common import typed_address
from senderproxy.cli.errors import InputError, UsageError
from senderproxy.cli.terminal import ask_new_secret, is_interactive, print_error, secrets_of_file
from senderproxy.mail.address import Address
from senderproxy.translation import _

NO_TEST_MESSAGE: Final = "none"  # the answer `test_to` for no test message
_SIZE_LIMIT: Final = 1024 * 1024  # octets of an answers file; a thousand mailboxes need less


@dataclass(frozen=True, slots=True)
class MailboxAnswer:
    """One mailbox. None: not answered, so the usual value of a new account, or that of the existing one."""

    address: Address
    login: str | None = None
    provider: str | None = None
    catch_all: bool | None = None
    display_name: str | None = None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers. One attribute for each answer. None: not answered."""

    provider: str | None = None
    host: str | None = None
    port: int | None = None
    security: str | None = None
    ca_file: str | None = None
    mailboxes: tuple[MailboxAnswer, ...] = ()
    table: Path | None = None
    allow: tuple[str, ...] | None = None  # mail server, scanners and others that connect
    listen: str | None = None
    hostname: str | None = None
    alerts_to: tuple[str, ...] | None = None  # addresses
    key: str | None = None
    verify: bool = True
    start: bool = True
    test_to: Address | None = None
    no_test: bool = False


def may_ask(chosen: argparse.Namespace) -> bool:
    """True if there is a terminal and the answers are not said to be complete."""
    return not chosen.yes and chosen.answers is None and is_interactive()


def given_answers(chosen: argparse.Namespace) -> Answers:
    """The answers of the file and the options, passwords included. Raises InputError, UsageError."""
    return _with_passwords(
        _with_options(read_answers_file(chosen.answers) if chosen.answers else _Given(), chosen), chosen
    )


# ---- the file ----


@dataclass(frozen=True, slots=True)
class _Given:
    """Answers before their passwords were read."""

    answers: Answers = Answers()
    password_files: Mapping[str, Path] = field(default_factory=dict)  # by the address


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _texts(value: object) -> tuple[str, ...] | None:
    if isinstance(value, list) and all(isinstance(each, str) and each.strip() for each in value):
        return tuple(value)
    return None


def _tables(value: object) -> list[dict[str, Any]] | None:
    return value if isinstance(value, list) and all(isinstance(each, dict) for each in value) else None


_TEXT: Final = '"…"'
_KINDS: Final[Mapping[str, tuple[Callable[[object], object], str]]] = MappingProxyType(
    dict.fromkeys(
        ("provider", "host", "security", "ca_file", "table", "listen", "hostname", "key", "test_to"), (_text, _TEXT)
    )
    | {"port": (_number, "465")}
    | dict.fromkeys(("verify", "start"), (_flag, "true"))
    | {
        "allow": (_texts, '["192.168.1.20"]'),
        "alerts_to": (_texts, '["it@firma.example"]'),
        "mailboxes": (_tables, "[[mailboxes]]"),
    }
)
_MAILBOX_KINDS: Final[Mapping[str, tuple[Callable[[object], object], str]]] = MappingProxyType(
    dict.fromkeys(("address", "login", "provider", "display_name", "password_file"), (_text, _TEXT))
    | {"catch_all": (_flag, "true")}
)
_SECRETS: Final = ("password", "passwort", "secret", "passphrase")


def read_answers_file(path: Path) -> _Given:
    """Read the file; relative paths in it start at its folder. Raises InputError, UsageError."""
    try:
        with path.open("rb") as file:
            octets = file.read(_SIZE_LIMIT + 1)
        document = tomllib.loads(octets[:_SIZE_LIMIT].decode("utf-8-sig"))
    except OSError as error:
        raise InputError(_("Cannot read {path}: {error}.").format(path=path, error=error.strerror)) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            _("{path} is not valid TOML: {error}.").format(path=path, error=error), hint=_see_page()
        ) from error
    values = _checked(path, document, _KINDS, "")
    folder = path.absolute().parent
    mailboxes, files = [], {}
    for index, entry in enumerate(values.pop("mailboxes", ())):
        cells = _checked(path, entry, _MAILBOX_KINDS, f"mailboxes[{index}].")
        if "address" not in cells:
            raise _missing(f"mailboxes[{index}].address", path)
        address = _address(path, f"mailboxes[{index}].address", cells.pop("address"))
        if name := cells.pop("password_file", None):
            files[address.key] = folder / name
        mailboxes.append(MailboxAnswer(address, **cells))
    for key in ("table", "ca_file"):
        if key in values:
            values[key] = folder / values[key]
    if "ca_file" in values:
        values["ca_file"] = str(values["ca_file"])
    if "alerts_to" in values:
        values["alerts_to"] = tuple(str(_address(path, "alerts_to", text)) for text in values["alerts_to"])
    if "key" in values:
        values["key"] = _absolute_key(values["key"], folder)
    if (recipient := values.pop("test_to", None)) is not None:
        values |= _test_message(recipient, lambda text: _address(path, "test_to", text))
    return _Given(Answers(mailboxes=tuple(mailboxes), **values), files)


def _checked(
    path: Path, entry: dict[str, Any], kinds: Mapping[str, tuple[Callable[[object], object], str]], before: str
) -> dict[str, Any]:
    """The entry, if all of its keys are known and all values of their kind."""
    for key, value in entry.items():
        if key in _SECRETS:
            raise UsageError(
                _("{path}: {key} is not allowed: no secret belongs into this file.").format(
                    path=path, key=before + key
                ),
                hint=_('Write the password into a file of its own (chmod 600), and: password_file = "NAME"'),
            )
        if key not in kinds:
            near = get_close_matches(key, kinds, 1)
            hint = _("did you mean {key}?").format(key=near[0]) if near else ", ".join(kinds)
            raise UsageError(_("{path}: there is no answer {key}.").format(path=path, key=before + key), hint=hint)
        convert, example = kinds[key]
        if convert(value) is None:
            raise UsageError(
                _("{path}: {key} is of the wrong kind or empty.").format(path=path, key=before + key),
                hint=_("Write it like: {example}").format(example=example if "[[" in example else f"{key} = {example}"),
            )
    return {key: kinds[key][0](value) for key, value in entry.items()}


def _address(path: Path, key: str, text: str) -> Address:
    try:
        return typed_address(text)
    except UsageError as error:
        raise UsageError(f"{path}: {key}: {error.message}") from error


def _test_message(text: str, read: Callable[[str], Address]) -> dict[str, Any]:
    return {"test_to": None, "no_test": True} if text == NO_TEST_MESSAGE else {"test_to": read(text), "no_test": False}


def _absolute_key(way: str, folder: Path) -> str:
    """The unlock with an absolute path: the configuration would read a relative one from its own folder."""
    kind, _colon, path = way.partition(":")
    return f"{kind}:{folder / path}" if kind == "key-file" and path else way


def _missing(key: str, path: Path) -> UsageError:
    return UsageError(_("{path}: {key} is missing.").format(path=path, key=key), hint=_see_page())


def _see_page() -> str:
    return _("See docs/setup.md for the answers.")


# ---- the options ----


def _with_options(given: _Given, chosen: argparse.Namespace) -> _Given:
    answers = given.answers
    named = {
        "provider": chosen.provider,
        "host": chosen.host,
        "port": chosen.port,
        "security": chosen.security,
        "ca_file": str(Path(chosen.ca_file).absolute()) if chosen.ca_file else None,
        "table": chosen.table,
        "allow": tuple(chosen.allow) if chosen.allow else None,
        "listen": chosen.listen,
        "hostname": chosen.hostname,
        "alerts_to": tuple(str(typed_address(text)) for text in chosen.alerts_to) if chosen.alerts_to else None,
        "key": _absolute_key(chosen.key, Path.cwd()) if chosen.key else None,
        "verify": False if chosen.no_verify else None,
        "start": False if chosen.no_start else None,
    }
    changes: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if chosen.test_to:
        changes |= _test_message(chosen.test_to, typed_address)
    if chosen.mailbox:
        changes["mailboxes"] = tuple(MailboxAnswer(typed_address(text)) for text in chosen.mailbox)
    answers = replace(answers, **changes)
    if chosen.login or chosen.catch_all is not None:
        if chosen.login and len(answers.mailboxes) != 1:
            raise UsageError(_("--login requires exactly one mailbox."), hint=_("Use --answers for several."))
        answers = replace(
            answers,
            mailboxes=tuple(
                replace(
                    mailbox,
                    login=chosen.login or mailbox.login,
                    catch_all=mailbox.catch_all if chosen.catch_all is None else chosen.catch_all,
                )
                for mailbox in answers.mailboxes
            ),
        )
    require_single_mailboxes(answers.mailboxes)
    return replace(given, answers=answers)


def require_single_mailboxes(mailboxes: Sequence[MailboxAnswer]) -> None:
    """Raise UsageError if a mailbox is named twice."""
    keys = [mailbox.address.key for mailbox in mailboxes]
    if twice := next((mailbox for n, mailbox in enumerate(mailboxes) if mailbox.address.key in keys[:n]), None):
        raise UsageError(
            _("The mailbox {address} is named twice.").format(address=twice.address), hint=_("Name it once.")
        )


# ---- passwords ----


def _with_passwords(given: _Given, chosen: argparse.Namespace) -> Answers:
    """Passwords of each mailbox: from a file of its own; else the next line of --password-file or standard input."""
    mailboxes = given.answers.mailboxes
    secrets: dict[str, str] = {}
    for mailbox in mailboxes:
        if path := given.password_files.get(mailbox.address.key):
            secrets[mailbox.address.key] = _secrets(path, [mailbox])[0]
    others = [mailbox for mailbox in mailboxes if mailbox.address.key not in secrets]
    if chosen.password_file is not None:
        found = _secrets(chosen.password_file, others)
        secrets |= {mailbox.address.key: secret for mailbox, secret in zip(others, found, strict=True)}
    elif chosen.password_stdin:
        for mailbox in others:
            secrets[mailbox.address.key] = ask_new_secret(password_prompt(mailbox), from_stdin=True)
    return replace(
        given.answers,
        mailboxes=tuple(replace(mailbox, secret=secrets.get(mailbox.address.key)) for mailbox in mailboxes),
    )


def password_prompt(mailbox: MailboxAnswer) -> str:
    """The words that ask for the password of a mailbox."""
    return _("Password of {login}").format(login=mailbox.login or mailbox.address)


def _secrets(path: Path, mailboxes: Sequence[MailboxAnswer]) -> list[str]:
    try:
        if path.is_file() and path.stat().st_mode & 0o077:
            print_error(
                _("{path} contains passwords, and other users may read it.").format(path=path), f"chmod 600 {path}"
            )
        return secrets_of_file(path, [password_prompt(mailbox) for mailbox in mailboxes])
    except OSError as error:
        raise InputError(_("Cannot read {path}: {error}.").format(path=path, error=error.strerror)) from error
