"""Entry point: exit codes, errors without a traceback, help that loads no verb."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from senderproxy.cli.main import VERBS
from tests.senderproxy.cli.conftest import Office


def test_a_wrong_command_line_ends_with_64_and_the_usage(office: Office) -> None:
    ended = office.type("acount", "list")
    assert ended.code == 64
    assert "usage: senderproxy" in ended.err


def _modules_after(*words: str) -> set[str]:
    """The modules that a fresh interpreter has loaded when the command ends."""
    program = (
        "import sys\nfrom senderproxy.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    print(*sys.modules, sep='\\n', file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout
    return set(ended.stderr.split())


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help_load_no_verb_and_no_large_library(option: str) -> None:
    modules = _modules_after(option)
    assert "senderproxy.cli.main" in modules
    loaded = {name for name in modules if name.partition(".")[0] in {"pydantic", "cryptography", "dns", "asyncio"}}
    assert not loaded
    assert not modules & {f"senderproxy.cli.{verb}" for verb in VERBS}


def test_the_help_of_a_verb_loads_no_other_verb() -> None:
    modules = _modules_after("client", "--help")
    assert modules & {f"senderproxy.cli.{verb}" for verb in VERBS} == {"senderproxy.cli.client"}


def test_every_verb_is_listed_in_the_help(office: Office) -> None:
    ended = office.bare("--help")
    assert ended.code == 0
    assert re.findall(r"^    (\w+) ", ended.out, re.MULTILINE) == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_text(office: Office, verb: str) -> None:
    ended = office.bare(verb, "--help")
    assert ended.code == 0
    assert f"usage: senderproxy {verb}" in ended.out


def test_without_a_configuration_the_hint_is_setup(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SENDERPROXY_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(office.folder / "nowhere"))
    monkeypatch.setattr("senderproxy.cli.common.SYSTEM_CONFIG", office.folder / "etc" / "senderproxy.toml")
    ended = office.bare("account", "list")
    assert ended.code == 66
    assert "To fix: senderproxy setup" in ended.err


def test_the_environment_names_the_configuration(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDERPROXY_CONFIG", str(office.config))
    assert office.bare("account", "list").code == 0


@pytest.mark.parametrize("place", range(3))
def test_the_configuration_is_named_before_or_after_verb_and_action(office: Office, place: int) -> None:
    words = ["account", "list"]
    words[place:place] = ["--config", str(office.config)]
    assert office.bare(*words).out == office.type("account", "list").out


@pytest.mark.parametrize("place", range(3))
def test_the_unlock_is_named_before_or_after_verb_and_action(office: Office, place: int) -> None:
    words = ["account", "list"]
    words[place:place] = ["--unlock", f"key-file:{office.folder / 'nowhere.key'}"]
    ended = office.type(*words)
    assert ended.code != 0
    assert "nowhere.key" in ended.err


def test_an_invalid_configuration_is_78_with_all_its_problems(office: Office) -> None:
    office.write_config('[log]\nlevel = "loud"\nformt = "text"\n')
    ended = office.type("account", "list")
    assert ended.code == 78
    assert "log.level" in ended.err
    assert "format" in ended.err


def test_a_wrong_key_is_77_and_names_the_unlocks_of_the_vault(office: Office) -> None:
    (office.folder / "vault.key").write_bytes(os.urandom(32))
    ended = office.type("account", "list")
    assert ended.code == 77
    assert "key-file" in ended.err


def test_a_vault_that_other_users_can_read_is_refused_with_the_chmod(office: Office) -> None:
    vault = office.folder / "accounts.vault"
    vault.chmod(0o644)
    ended = office.type("account", "list")
    assert ended.code == 77
    assert f"chmod 600 {vault}" in ended.err


def test_a_damaged_vault_is_65(office: Office) -> None:
    vault = office.folder / "accounts.vault"
    vault.write_bytes(vault.read_bytes()[:-5])
    assert office.type("account", "list").code == 65


def test_a_closed_pipe_is_not_an_error(office: Office) -> None:
    office.add("anna@firma.example")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "senderproxy", "--config", str(office.config), "account", "list"],
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
            cwd=Path(__file__).parents[3],
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")
