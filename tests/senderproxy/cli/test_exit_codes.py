"""Exit code of each error; one module names them all."""

import ast
from pathlib import Path

import pytest

from senderproxy.accounts.errors import (
    AccountsError,
    InvalidVaultRequest,
    UnknownAccount,
    VaultDiskError,
    VaultExists,
    VaultUnreadable,
)
from senderproxy.accounts.record import RecordError
from senderproxy.cli import exit_codes
from senderproxy.cli.errors import FileInTheWay, InputError, LoginFailed, LoginRejected, UsageError
from senderproxy.config.problems import ConfigError
from senderproxy.control.client import NotPermitted, NotRunning
from senderproxy.errors import SenderproxyError
from senderproxy.routing.directory import DirectoryError
from senderproxy.routing.fallback import FallbackError

SOURCES = Path(exit_codes.__file__).parents[1]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LoginRejected("x"), 1),
        (UsageError("x"), 64),
        (InvalidVaultRequest("x"), 64),
        (FallbackError("x"), 64),
        (VaultUnreadable("x"), 65),
        (UnknownAccount("x"), 65),
        (RecordError("x"), 65),
        (InputError("x"), 66),
        (EOFError(), 66),
        (LoginFailed("x"), 69),
        (NotRunning("x"), 69),
        (NotPermitted("x"), 69),
        (DirectoryError("x"), 69),
        (SenderproxyError("x"), 69),
        (FileInTheWay("x"), 73),
        (VaultExists("x"), 73),
        (VaultDiskError("x"), 74),
        (OSError(5, "Input/output error"), 74),
        (AccountsError("x"), 77),
        (ConfigError("senderproxy.toml", []), 78),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_each_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert exit_codes.exit_code(error) == code


def test_no_other_module_defines_an_exit_code() -> None:
    defined = {
        (path.name, target.id)
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id.lstrip("_").upper().startswith(("EX_", "EXIT_"))
    }
    assert {name for name, _ in defined} == {"exit_codes.py"}
    assert len(defined) == 12
