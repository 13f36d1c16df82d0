"""The service starts only with supported libraries."""

from pathlib import Path

import aiosmtplib
import pytest

from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.unlock import make_key_file, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.app import Service
from senderproxy.config.model import Config
from senderproxy.delivery.aiosmtplib_adapter import UnsupportedAiosmtplib


async def test_an_unsupported_aiosmtplib_stops_the_start_before_anything_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, vault = tmp_path / "vault.key", tmp_path / "accounts.vault"
    make_key_file(key)
    unlock = f"key-file:{key}"
    AccountEditor.create(vault, unlock_method(unlock, None))
    config = Config.model_validate(
        {
            "identity": {"hostname": "mail.firma.example"},
            "vault": {"path": str(vault), "unlock": unlock},
            "service": {"control_socket": str(tmp_path / "control.sock")},
            "spool": {"directory": str(tmp_path / "spool")},
            "listeners": [{"address": "127.0.0.1:0"}],
        }
    )
    service = Service(config, VaultAccounts.open(vault, unlock_method(unlock, None)))
    monkeypatch.setattr(aiosmtplib, "__version__", "6.0.0")
    with pytest.raises(UnsupportedAiosmtplib, match=r"6\.0\.0"):
        await service.start()
    assert service.listeners == ()
    assert not (tmp_path / "control.sock").exists()
    assert not (tmp_path / "spool").exists()
