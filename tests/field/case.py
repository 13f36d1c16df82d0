"""Cases of the field: one small input of a provider, server or device, read from a TOML file.

Guarantees: a file with an unknown or missing key, or with an invalid pattern, is refused with the key's name; a case
never holds because of a misspelled expectation.
Not here: execution (tests.field.run), the meaning of the keys for people (the README beside this module).
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from senderproxy.simulator.faults import Drop, Fault, FaultStage, ReplyWith
from senderproxy.simulator.provider_replies import ServerReply

SECRET: Final = "geheim-1"  # password of every account
_ACCOUNTS: Final = (
    ("anna", "anna@firma.example"),
    ("bert", "bert@firma.example"),
    ("shop", "post@laden.example", "@laden.example"),
)
_COUNTS: Final = ("received", "recipients", "logins_max")
_TEXTS: Final = ("header", "content", "log", "status", "check")
_OFFICE: Final = (
    "preset", "provider", "listener", "more", "hostname", "accounts", "clients", "tz", "env", "no_ca", "upstream",
)  # fmt: skip
_KEYS: Final = frozenset((*_OFFICE, "title", "kind", "source", "expect_in_words", "fault", "step", "expect"))
_STEP_KEYS: Final = {
    "send": {"raw", "eml", "from", "to", "author"},
    "people": {"count"},
    "cli": {"args", "stdin_b64", "env"},
    "dialogue": {"pieces", "wait"},
    "tls-client": {"version", "ciphers"},
    "wait": {"seconds"},
}


class CaseError(ValueError):
    """A case file that cannot be used."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """A pattern that a text must match, or must not match."""

    pattern: re.Pattern[str]
    wanted: bool = True

    def holds(self, text: str) -> bool:
        return bool(self.pattern.search(text)) is self.wanted

    def __str__(self) -> str:
        return f"should {'' if self.wanted else 'not '}match /{self.pattern.pattern}/"


@dataclass(frozen=True, slots=True)
class Step:
    """One action, and the expectations about its result."""

    action: str
    arguments: Mapping[str, Any]
    expectations: tuple[Expectation, ...]


@dataclass(frozen=True, slots=True)
class OfficeSettings:
    """The set-up of the office and its provider. One attribute for each key."""

    preset: str = "ionos-de"
    provider: str = ""  # further TOML lines of the provider
    listener: str = ""  # further TOML lines of the listener
    more: str = ""  # further TOML tables
    hostname: str = "senderproxy.firma.example"
    accounts: tuple[tuple[str, ...], ...] = _ACCOUNTS  # id, address, further patterns
    clients: Mapping[str, str] = field(default_factory=dict)  # password by user
    tz: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    no_ca: bool = False
    upstream: str = "twin"  # the simulator


@dataclass(frozen=True, slots=True)
class Case:
    """One case: the office, the faults of its provider, the steps, and what must hold afterwards."""

    path: Path
    title: str
    office: OfficeSettings
    faults: tuple[Fault, ...]
    steps: tuple[Step, ...]
    counts: Mapping[str, int]  # received, recipients, logins_max
    texts: tuple[tuple[str, Expectation], ...]  # the text's name, the expectation


def read_case(path: Path) -> Case:
    """Read one case file. Raises CaseError with the file's name and the wrong key."""
    try:
        return _case(path, tomllib.loads(path.read_text("utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise CaseError(f"{path.name}: {error}") from error


def _case(path: Path, table: dict[str, Any]) -> Case:
    _refuse_unknown(table, _KEYS, "the case")
    office = {key: table[key] for key in _OFFICE if key in table}
    if "accounts" in office:
        office["accounts"] = tuple(map(tuple, office["accounts"]))
    expect = table.get("expect", {})
    _refuse_unknown(expect, {*_COUNTS, *_TEXTS, *(f"not_{name}" for name in _TEXTS)}, "expect")
    return Case(
        path=path,
        title=table["title"],
        office=OfficeSettings(**office),
        faults=tuple(map(_fault, table.get("fault", []))),
        steps=tuple(map(_step, table["step"])),
        counts={key: expect[key] for key in _COUNTS if key in expect},
        texts=tuple((name, expectation) for name in _TEXTS for expectation in _expectations(expect, name)),
    )


def _fault(table: dict[str, Any]) -> Fault:
    conditions = ("session", "transaction", "after", "times")
    _refuse_unknown(table, {"stage", "code", "lines", "drop", *conditions}, "fault")
    action: Drop | ReplyWith
    if "code" in table:
        reply = ServerReply(table["code"], tuple(table["lines"]))
        action = ReplyWith(reply, then_drop=table.get("drop", False))
    elif table.get("drop"):
        action = Drop()
    else:
        raise CaseError("a fault needs `code` and `lines`, or `drop`")
    stage = {"greeting": "banner"}.get(table["stage"], table["stage"])
    return Fault(FaultStage(stage), action, **{key: table[key] for key in conditions if key in table})


def _step(table: dict[str, Any]) -> Step:
    action = table["do"]
    if action not in _STEP_KEYS:
        raise CaseError(f"no such step: {action}")
    _refuse_unknown(table, {"do", "reply", "not_reply", *_STEP_KEYS[action]}, f"step {action}")
    return Step(action, table, tuple(_expectations(table, "reply")))


def _expectations(table: Mapping[str, Any], name: str) -> list[Expectation]:
    found = [(table.get(key), wanted) for key, wanted in ((name, True), (f"not_{name}", False))]
    return [
        Expectation(re.compile(pattern, re.DOTALL | re.IGNORECASE), wanted)
        for pattern, wanted in found
        if pattern is not None
    ]


def _refuse_unknown(table: Mapping[str, Any], known: frozenset[str] | set[str], place: str) -> None:
    if unknown := sorted(set(table) - known):
        raise CaseError(f"unknown keys in {place}: {', '.join(unknown)}")
