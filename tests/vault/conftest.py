"""Fixture: a vault with a key file."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from vault import KeyFile, Vault

FIRST = {"anna": b"geheim-anna-1", "bert": b"geheim-bert-1", "carl": b""}


class Cabinet:
    """A folder with a vault and its key file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "office.vault"
        self.key_path = folder / "office.key"
        self.key = KeyFile.generate(self.key_path)
        Vault.create(self.path, unlock=self.key)

    def write(self, records: Mapping[str, bytes]) -> None:
        with Vault.open(self.path, unlock=self.key, write=True) as box:
            for name, record in records.items():
                box.put(name, record)
            box.save()

    def read(self) -> dict[str, bytes]:
        with Vault.open(self.path, unlock=self.key) as box:
            return {name: box.get(name) for name in box.names()}

    def generation(self) -> int:
        return Vault.inspect(self.path).generation

    def files(self) -> set[str]:
        return {entry.name for entry in self.folder.iterdir()}


@pytest.fixture
def cabinet(tmp_path: Path) -> Cabinet:
    """Generation 2, three records."""
    made = Cabinet(tmp_path)
    made.write(FIRST)
    return made
