"""The configuration that `senderproxy vault seal` writes. The rest needs a machine: tests/journeys/test_sealed_vault.py."""

import tomllib
from pathlib import Path

import pytest

from senderproxy.cli.errors import InputError
from senderproxy.cli.vault_seal import _with_unlock

NEW = "credential:vault-key"
REST = '[identity]\nhostname = "proxy.firma.example"\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('[vault]\nunlock = "key-file:/k"\n', '[vault]\nunlock = "credential:vault-key"\n'),
        ("[vault]\r\nunlock='passphrase'\r\n", '[vault]\r\nunlock="credential:vault-key"\r\n'),
        ('[vault]\n  "unlock" = "passphrase" # why\n', '[vault]\n  "unlock" = "credential:vault-key" # why\n'),
        ('vault.unlock = "passphrase"\n', 'vault.unlock = "credential:vault-key"\n'),
        (
            '[vault]\npath = "unlock = 1"\nunlock = "passphrase"',
            '[vault]\npath = "unlock = 1"\nunlock = "credential:vault-key"',
        ),
    ],
)
def test_only_the_value_changes(tmp_path: Path, before: str, after: str) -> None:
    file = tmp_path / "senderproxy.toml"
    file.write_bytes((before + "\n" + REST).encode())
    changed = _with_unlock(file, NEW)
    assert changed.encode().replace(b"\r\n", b"\n") == (after + "\n" + REST).replace("\r\n", "\n").encode()
    assert tomllib.loads(changed)["vault"]["unlock"] == NEW
    assert file.read_bytes() == (before + "\n" + REST).encode()


def test_a_setting_in_an_unusual_place_is_left_to_the_operator(tmp_path: Path) -> None:
    file = tmp_path / "senderproxy.toml"
    file.write_text(f'vault = {{ unlock = "passphrase" }}\n{REST}')
    with pytest.raises(InputError, match="written in an unusual way"):
        _with_unlock(file, NEW)
