"""The service reads its configuration by another process, and holds it without pydantic: nothing else differs."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from senderproxy import late_import
from senderproxy.config import reader
from senderproxy.config.load import load_config
from senderproxy.config.problems import ConfigError
from senderproxy.config.reader import Reading, _Pickler
from senderproxy.errors import SenderproxyError
from senderproxy.translation import language, translated
from tests.peers.packages import PROJECT
from tests.senderproxy.test_reload import OTHER, Office

VALID = '[identity]\nhostname = "relay.firma.example"\n[vault]\nunlock = "passphrase"\n'

# Reads pickled configurations from standard input; prints all their values, and what their methods return.
SHOW = """
import json, pickle, sys
if sys.argv[1] == "plain":
    from senderproxy.config.plain import use_plain_sections
    use_plain_sections()
from senderproxy.config.model import Config

def values(value):
    if hasattr(value, "model_copy"):
        return {name: values(one) for name, one in vars(value).items()}
    if isinstance(value, dict):
        return {name: values(one) for name, one in value.items()}
    return [values(one) for one in value] if isinstance(value, tuple) else repr(value)

def show(config):
    return {
        "values": values(config),
        "methods": [
            repr(config.provider_table()), repr(config.footers), repr(config.recipient_routes()),
            repr(config.hops()), repr(config.routing_policy()), repr(sorted(config.mx_vias)), config.spool_directory,
            repr(list(config.named_accounts())), repr(config.senders.policy()), repr(config.spool.retry_policy()),
            [(name, config.preset_of(name)) for name in config.providers],
            [(one.effective_security.value, repr(one.via(name))) for name, one in config.smarthosts.items()],
        ],
    }

configs = pickle.load(sys.stdin.buffer)
first, *others = configs
again = pickle.loads(pickle.dumps(first))
assert again == first and hash(again.vault) == hash(first.vault) and again is not first
assert all(other != first for other in others)
try:
    first.vault.path = "elsewhere"
except Exception:
    pass
else:
    raise AssertionError("a section can be changed")
moved = first.model_copy(update={"vault": first.vault.model_copy(update={"unlock": "passphrase"})})
assert (moved.vault.unlock, moved.vault.path, moved.identity) == ("passphrase", first.vault.path, first.identity)
assert moved != first and type(moved) is Config
print(json.dumps([show(config) for config in configs]))
print([name for name in sys.modules if name.partition(".")[0] in ("pydantic", "pydantic_core")] == [])
"""


def shown(kind: str, pickled: bytes) -> tuple[list[Any], bool]:
    """What a process with these sections makes of the configurations; True if it has no pydantic."""
    printed = subprocess.run(
        [sys.executable, "-c", SHOW, kind],
        input=pickled,
        stdout=subprocess.PIPE,
        cwd=PROJECT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=True,
    ).stdout.splitlines()
    return json.loads(printed[0]), printed[1] == b"True"


def test_each_setting_has_the_same_value_without_pydantic(tmp_path: Path) -> None:
    office = Office(tmp_path)
    stream = io.BytesIO()
    _Pickler(stream).dump([office.with_other(), *map(office.with_other, sorted(OTHER))])
    plain, without = shown("plain", stream.getvalue())
    usual, without_too = shown("pydantic", stream.getvalue())
    assert (without, without_too) == (True, False)
    assert len(plain) == len(OTHER) + 1
    assert plain == usual


def test_a_reading_is_that_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "senderproxy.toml"
    file.write_text(VALID + '[[routes]]\nrecipients = ["@kunde.example"]\nvia = "account anna"\n')
    assert Reading(file).result() == load_config(file)


def test_all_problems_are_listed_and_can_be_translated(tmp_path: Path) -> None:
    file = tmp_path / "senderproxy.toml"
    file.write_text(VALID + "[listenerss]\n[spool]\nmin_fre = 1\n")
    with pytest.raises(ConfigError) as expected:
        load_config(file)
    with pytest.raises(ConfigError) as refused:
        Reading(file).result()
    assert refused.value.problems == expected.value.problems
    assert refused.value.message == expected.value.message
    with language("de"):
        german = translated(expected.value.message)
        assert translated(refused.value.message) == german
    assert german != expected.value.message


def test_a_file_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        Reading(tmp_path / "senderproxy.toml").result()


def test_the_answer_of_a_replaced_program_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "senderproxy.toml"
    file.write_text(VALID)
    monkeypatch.setattr(late_import, "_STARTED", (0, 0, 0))
    with pytest.raises(late_import.ProgramReplaced):
        Reading(file).result()


def test_a_disk_that_does_not_respond_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "senderproxy.toml"
    os.mkfifo(file)
    monkeypatch.setattr(reader, "LONGEST", 0.5)
    reading = Reading(file)
    with pytest.raises(SenderproxyError, match="cannot be read"):
        reading.result()
    assert reading._process.returncode is not None


def test_a_process_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_PROGRAM", "raise SystemExit(3)")
    with pytest.raises(SenderproxyError, match="exit code 3"):
        Reading(tmp_path / "senderproxy.toml").result()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(SenderproxyError, match="cannot be read"):
        Reading(tmp_path / "senderproxy.toml")
