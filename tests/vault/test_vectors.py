"""Test vectors of the file format: what a reader must accept and reject. Another implementation can use them too."""

import base64
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.vault import make_vectors, second_reader
from vault import Damaged, KeyFile, Keyring, Passphrase, TooNew, Unlock, Vault, WrongKey, _format
from vault._seal import Secret

FILES = sorted(make_vectors.FOLDER.glob("*.txt"))


@dataclass
class Case:
    expect: str = ""
    comment: str = ""
    unlock: str = ""
    id: str = ""
    generation: str = ""
    damage: str = ""
    records: dict[str, bytes] = field(default_factory=dict)
    file: bytes = b""


def read_case(path: Path) -> Case:
    head, _, encoded = path.read_text(encoding="utf-8").partition("file:\n")
    case = Case(file=base64.b64decode(encoded.replace("\n", ""), validate=True))
    for line in head.splitlines():
        key, _, value = line.partition(": ")
        if key == "record":
            name, _, record = value.partition(" ")
            case.records[base64.b64decode(name).decode()] = base64.b64decode(record)
        else:
            assert hasattr(case, key)
            setattr(case, key, value)
    return case


class GivenKey(Keyring):
    """A key from a vector in place of a keyring entry."""

    def __init__(self, encoded: str) -> None:
        super().__init__("given")
        self._given = _format.from_base64(encoded, "the vector's key", 32)

    def _secret(self) -> Secret:
        return Secret(self._given)


def unlock_of(case: Case, folder: Path) -> Unlock:
    kind, _, value = case.unlock.partition(" ")
    if kind == "passphrase":
        return Passphrase(value)
    if kind == "keyring":
        return GivenKey(value)
    assert kind == "key-file"
    path = folder / "key"
    path.write_bytes(base64.b64decode(value))
    path.chmod(0o600)
    return KeyFile(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_vector(path: Path, tmp_path: Path) -> None:
    case = read_case(path)
    vault = tmp_path / "vault"
    vault.write_bytes(case.file)
    vault.chmod(0o600)
    unlock = unlock_of(case, tmp_path)
    match case.expect:
        case "ok":
            with Vault.open(vault, unlock=unlock) as box:
                assert {name: box.get(name) for name in box.names()} == case.records
                assert (box.vault_id, str(box.generation)) == (case.id, case.generation)
        case "damaged":
            with pytest.raises(Damaged) as caught:
                Vault.open(vault, unlock=unlock)
            assert caught.value.damage.value == case.damage
            assert "secret" not in str(caught.value)
        case "wrong-key":
            with pytest.raises(WrongKey):
                Vault.open(vault, unlock=unlock)
        case "too-new":
            with pytest.raises(TooNew):
                Vault.open(vault, unlock=unlock)
        case _:
            pytest.fail(f"{path.name} has an unknown expectation")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_bytes_in_memory_come_to_the_same_end(path: Path, tmp_path: Path) -> None:
    case = read_case(path)
    unlock = unlock_of(case, tmp_path)
    ends: dict[str, type[Exception]] = {"damaged": Damaged, "wrong-key": WrongKey, "too-new": TooNew}
    if case.expect == "ok":
        with Vault.from_bytes(case.file, unlock=unlock) as box:
            assert {name: box.get(name) for name in box.names()} == case.records
    else:
        with pytest.raises(ends[case.expect]):
            Vault.from_bytes(case.file, unlock=unlock)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_reader_written_from_the_format_page_alone_comes_to_the_same_end(path: Path) -> None:
    case = read_case(path)
    kind, _, value = case.unlock.partition(" ")
    secret = value.encode() if kind == "passphrase" else base64.b64decode(value)
    ends: dict[str, type[Exception]] = {
        "damaged": ValueError,
        "wrong-key": second_reader.NotOurKey,
        "too-new": second_reader.TooNewForUs,
    }
    if case.expect == "ok":
        vault_id, generation, records = second_reader.read(case.file, kind, secret)
        assert (vault_id, str(generation), records) == (case.id, case.generation, case.records)
    else:
        with pytest.raises(ends[case.expect]):
            second_reader.read(case.file, kind, secret)


def test_the_vectors_can_be_made_again_to_the_byte() -> None:
    made = {vector.name: vector.render() for vector in make_vectors.vectors()}
    assert {path.stem: path.read_text(encoding="utf-8") for path in FILES} == made


def test_an_unknown_way_in_is_carried_along_when_the_vault_is_written(tmp_path: Path) -> None:
    case = read_case(make_vectors.FOLDER / "ok-several-ways.txt")
    (tmp_path / "vault").write_bytes(case.file)
    (tmp_path / "vault").chmod(0o600)
    unlock = unlock_of(case, tmp_path)
    before = Vault.inspect(tmp_path / "vault").unlocks
    with Vault.open(tmp_path / "vault", unlock=unlock, write=True) as box:
        box.save()
    assert Vault.inspect(tmp_path / "vault").unlocks == before
    with Vault.open(tmp_path / "vault", unlock=Passphrase("correct horse")) as box:
        assert box.opened_by == "anna"
    assert [info.kind for info in before] == ["passphrase", "key-file", "tpm2", "key-file"]
