"""Secrets of the configuration: files and credentials, and errors without them."""

import asyncio
import os
import threading
from pathlib import Path
from unittest.mock import patch

import pytest

from senderproxy.service.secrets import SecretReader, SecretUnreadable, read_secret


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "webhook"
    path.write_text("geheim-url\n")
    path.chmod(0o600)
    return path


def test_a_file(file: Path) -> None:
    assert read_secret(f"file:{file}") == "geheim-url"
    file.chmod(0o640)
    assert read_secret(f"file:{file}") == "geheim-url"


def test_a_file_for_everybody_is_refused(file: Path) -> None:
    file.chmod(0o644)
    with pytest.raises(SecretUnreadable, match="Every user") as caught:
        read_secret(f"file:{file}")
    assert caught.value.hint == f"chmod 600 {file}"


def test_a_file_that_is_missing_or_empty(file: Path) -> None:
    file.write_text(" \n")
    with pytest.raises(SecretUnreadable, match="is empty"):
        read_secret(f"file:{file}")
    file.unlink()
    with pytest.raises(SecretUnreadable, match="No such file") as caught:
        read_secret(f"file:{file}")
    assert "chown" in caught.value.hint


def test_a_credential(file: Path) -> None:
    file.chmod(0o444)  # as systemd may mount it
    assert read_secret("credential:webhook", {"CREDENTIALS_DIRECTORY": str(file.parent)}) == "geheim-url"
    for environment in ({}, {"CREDENTIALS_DIRECTORY": str(file.parent / "other")}):
        with pytest.raises(SecretUnreadable, match="There is no credential webhook"):
            read_secret("credential:webhook", environment)


def test_root_decrypts_a_sealed_credential(file: Path) -> None:
    with (
        patch("senderproxy.accounts.sealed_credential.sealed_file", return_value=file),
        patch("senderproxy.accounts.sealed_credential.decrypt", return_value=b"geheim-sealed\n"),
        patch("os.geteuid", return_value=0),
    ):
        assert read_secret("credential:webhook", {}) == "geheim-sealed"


async def test_a_disk_that_hangs_is_an_error(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    reader = SecretReader()
    with patch("senderproxy.service.secrets._SECONDS", 0.05):
        with pytest.raises(SecretUnreadable, match="does not respond"):
            await reader.read(f"file:{fifo}")
        for _ in range(8):
            with pytest.raises(SecretUnreadable, match="does not respond"):
                await reader.read(f"file:{fifo}")
    reader.close()
    released = threading.Thread(target=lambda: fifo.write_bytes(b"x"))
    released.start()
    await asyncio.to_thread(released.join)
