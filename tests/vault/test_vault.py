"""The public Vault class."""

import logging
import os
import stat
import traceback
from pathlib import Path

import pytest

from tests.vault.conftest import FIRST, Cabinet
from tests.vault.disks import counting
from vault import (
    Damaged,
    Exists,
    InUse,
    KeyFile,
    Missing,
    NoSuchRecord,
    NoSuchUnlock,
    Passphrase,
    RolledBack,
    UnlockInfo,
    UnsafeFile,
    Vault,
    VaultError,
    WouldLockOut,
    WrongKey,
    _vault,
)
from vault._file_store import FileStore


def test_records_come_back_as_they_were_put(cabinet: Cabinet) -> None:
    assert cabinet.read() == FIRST
    assert cabinet.generation() == 2


def test_a_new_vault_is_empty_and_private(tmp_path: Path) -> None:
    key = KeyFile.generate(tmp_path / "key")
    Vault.create(tmp_path / "vault", unlock=key)
    assert stat.S_IMODE((tmp_path / "vault").stat().st_mode) == 0o600
    with Vault.open(tmp_path / "vault", unlock=key) as box:
        assert box.names() == ()
        assert box.generation == 1


def test_creating_a_vault_never_overwrites_one(cabinet: Cabinet) -> None:
    with pytest.raises(Exists):
        Vault.create(cabinet.path, unlock=cabinet.key)
    assert cabinet.read() == FIRST


def test_changes_show_at_once_to_the_writer_and_to_others_after_the_save(cabinet: Cabinet) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box:
        box.put("dora", b"geheim-4")
        box.put("anna", b"geheim-new")
        box.remove("bert")
        assert box.names() == ("anna", "carl", "dora")
        assert box.get("anna") == b"geheim-new"
        assert cabinet.read() == FIRST
        box.save()
        assert cabinet.read() == {"anna": b"geheim-new", "carl": b"", "dora": b"geheim-4"}
        box.remove("carl")
        box.save()
        assert box.generation == 4
    assert cabinet.read() == {"anna": b"geheim-new", "dora": b"geheim-4"}


def test_what_was_not_saved_is_gone(cabinet: Cabinet) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box:
        box.put("dora", b"x")
    assert cabinet.read() == FIRST


def test_the_generation_before_lies_beside_it_and_opens(cabinet: Cabinet) -> None:
    cabinet.write({"anna": b"geheim-new"})
    with Vault.open(cabinet.folder / "office.vault.bak", unlock=cabinet.key) as box:
        assert box.generation == 2
        assert box.get("anna") == FIRST["anna"]
    assert cabinet.files() == {"office.vault", "office.vault.bak", "office.vault.lock", "office.key"}


def test_every_save_is_sealed_afresh(cabinet: Cabinet) -> None:
    before = cabinet.path.read_bytes()
    cabinet.write({})
    after = cabinet.path.read_bytes()
    assert len(before) == len(after)
    assert before[-272:] != after[-272:]


def test_a_record_that_is_not_there_is_said_so(cabinet: Cabinet) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box:
        for use in (box.get, box.remove):
            with pytest.raises(NoSuchRecord, match="no record is called 'zoe'"):
                use("zoe")


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb"])
def test_a_name_no_record_can_bear_is_refused_when_it_is_put(cabinet: Cabinet, name: str) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box, pytest.raises(ValueError, match="name"):
        box.put(name, b"")


def test_a_record_too_large_is_refused_when_it_is_put(cabinet: Cabinet) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box:
        with pytest.raises(ValueError, match="at most"):
            box.put("big", bytes(1024 * 1024 + 1))
        box.put("big", bytes(1024 * 1024))
        box.save()
    assert len(cabinet.read()["big"]) == 1024 * 1024


def test_a_vault_opened_for_reading_is_not_written_and_takes_no_lock(cabinet: Cabinet) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key) as box, Vault.open(cabinet.path, unlock=cabinet.key, write=True):
        for use in (lambda: box.put("x", b""), lambda: box.remove("anna"), box.save):
            with pytest.raises(ValueError, match="write=True"):
                use()


def test_a_closed_vault_is_closed(cabinet: Cabinet) -> None:
    box = Vault.open(cabinet.path, unlock=cabinet.key)
    box.close()
    box.close()
    for use in (box.names, lambda: box.get("anna"), box.reload, box.save):
        with pytest.raises(ValueError, match="closed"):
            use()


# ---- the wrong key, the wrong file ----


def test_a_wrong_key_is_told_from_a_missing_way_in(cabinet: Cabinet) -> None:
    other = KeyFile.generate(cabinet.folder / "other.key")
    with pytest.raises(WrongKey, match="this key-file does not open it") as caught:
        Vault.open(cabinet.path, unlock=other)
    assert "key-file 'key-file'" in caught.value.hint
    with pytest.raises(WrongKey, match="no passphrase opens it"):
        Vault.open(cabinet.path, unlock=Passphrase("geheim-x"))


def test_a_missing_vault_is_named_and_no_lock_file_appears(tmp_path: Path) -> None:
    key = KeyFile.generate(tmp_path / "key")
    for write in (False, True):
        with pytest.raises(Missing, match="nowhere"):
            Vault.open(tmp_path / "nowhere", unlock=key, write=write)
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_what_a_vault_shows_without_a_key(cabinet: Cabinet) -> None:
    seen = Vault.inspect(cabinet.path)
    with Vault.open(cabinet.path, unlock=cabinet.key) as box:
        assert (seen.vault_id, seen.generation, seen.unlocks) == (box.vault_id, box.generation, box.unlocks())
    assert seen.unlocks == (UnlockInfo("key-file", "key-file"),)
    cabinet.path.write_bytes(cabinet.path.read_bytes()[:-1])
    with pytest.raises(Damaged):
        Vault.inspect(cabinet.path)


def test_a_failed_opening_for_writing_lets_go_of_the_lock(cabinet: Cabinet) -> None:
    other = KeyFile.generate(cabinet.folder / "other.key")
    with pytest.raises(WrongKey):
        Vault.open(cabinet.path, unlock=other, write=True)
    cabinet.write({})


# ---- rollback ----


def test_an_older_copy_put_back_is_noticed_by_who_remembers(cabinet: Cabinet) -> None:
    old = cabinet.path.read_bytes()
    cabinet.write({"anna": b"geheim-new"})
    cabinet.path.write_bytes(old)
    with pytest.raises(RolledBack, match="generation 2, but generation 3"):
        Vault.open(cabinet.path, unlock=cabinet.key, min_generation=3)
    with Vault.open(cabinet.path, unlock=cabinet.key, min_generation=2) as box:
        assert box.generation == 2


# ---- a long-running reader ----


def test_a_reader_sees_a_change_and_takes_it_up(cabinet: Cabinet) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key) as box:
        assert not box.is_replaced()
        cabinet.write({"anna": b"geheim-new"})
        assert box.is_replaced()
        assert box.get("anna") == FIRST["anna"]
        box.reload()
        assert box.get("anna") == b"geheim-new"
        assert box.generation == 3
        assert not box.is_replaced()


def test_a_look_for_changes_costs_one_system_call(cabinet: Cabinet) -> None:
    disk = counting()
    with Vault.open(FileStore(cabinet.path, disk), unlock=cabinet.key) as box:
        disk.armed = True
        box.is_replaced()
    assert disk.calls == ["lstat"]


def test_a_reload_needs_no_passphrase_stretched_until_the_data_key_changes(tmp_path: Path) -> None:
    counted = CountedPassphrase("geheim-count")
    path = tmp_path / "vault"
    Vault.create(path, unlock=counted)
    with Vault.open(path, unlock=counted) as box:
        with Vault.open(path, unlock=counted, write=True) as writer:
            counted.tries = 0
            writer.save()
            box.reload()
            assert counted.tries == 0
            writer.rekey(counted)
            writer.save()
        counted.tries = 0
        box.reload()
        assert counted.tries == 1
        assert box.generation == 3


class CountedPassphrase(Passphrase):
    tries = 0

    def try_unwrap(self, stanza: object, vault_id: bytes) -> object:  # type: ignore[override]
        self.tries += 1
        return super().try_unwrap(stanza, vault_id)  # type: ignore[arg-type]


def test_a_reload_that_fails_leaves_the_reader_with_what_it_had(cabinet: Cabinet) -> None:
    whole = cabinet.path.read_bytes()
    with Vault.open(cabinet.path, unlock=cabinet.key) as box:
        spoilt = (
            whole[:-1],
            whole + b"\n",
            whole[:400] + bytes([whole[400] ^ 1]) + whole[401:],
            b"",
        )
        for content in spoilt:
            cabinet.path.write_bytes(content)
            assert box.is_replaced()
            with pytest.raises(Damaged):
                box.reload()
            assert {name: box.get(name) for name in box.names()} == FIRST
        cabinet.path.unlink()
        assert box.is_replaced()
        with pytest.raises(Missing):
            box.reload()
        assert box.get("anna") == FIRST["anna"]
        cabinet.path.write_bytes(whole)
        with pytest.raises(UnsafeFile):
            box.reload()
        cabinet.path.chmod(0o600)
        box.reload(min_generation=box.generation)


def test_a_reader_whose_way_in_was_removed_is_told_and_keeps_what_it_had(cabinet: Cabinet) -> None:
    other = KeyFile.generate(cabinet.folder / "other.key")
    with Vault.open(cabinet.path, unlock=cabinet.key) as box:
        with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as writer:
            writer.add_unlock(other, label="other")
            writer.rekey(other, drop={"key-file"})
            writer.save()
        with pytest.raises(WrongKey):
            box.reload()
        assert box.get("anna") == FIRST["anna"]


def test_a_writer_does_not_reload(cabinet: Cabinet) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box, pytest.raises(ValueError, match="newest"):
        box.reload()


def test_a_vault_exchanged_behind_a_writers_back_is_not_overwritten(cabinet: Cabinet) -> None:
    backup = cabinet.path.read_bytes()
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box:
        box.put("dora", b"x")
        cabinet.path.unlink()
        cabinet.path.write_bytes(backup)
        cabinet.path.chmod(0o600)
        with pytest.raises(InUse, match="does not hold the lock"):
            box.save()
    assert cabinet.read() == FIRST


# ---- unlock methods ----


def test_each_of_several_ways_opens_the_same_vault(cabinet: Cabinet) -> None:
    second, third = KeyFile.generate(cabinet.folder / "2.key"), Passphrase("geheim-three")
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box:
        assert box.add_unlock(second) == "key-file-2"
        assert box.add_unlock(third, label="anna@office") == "anna@office"
        box.save()
    for method, label in ((cabinet.key, "key-file"), (second, "key-file-2"), (third, "anna@office")):
        with Vault.open(cabinet.path, unlock=method) as box:
            assert box.opened_by == label
            assert box.get("anna") == FIRST["anna"]
    assert box.unlocks() == (
        UnlockInfo("key-file", "key-file"),
        UnlockInfo("key-file", "key-file-2"),
        UnlockInfo("passphrase", "anna@office"),
    )


def test_a_way_that_was_removed_opens_neither_the_vault_nor_a_copy_beside_it(cabinet: Cabinet) -> None:
    second = KeyFile.generate(cabinet.folder / "2.key")
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box:
        box.add_unlock(second)
        box.save()
        box.remove_unlock("key-file")
        box.save()
    assert "office.vault.bak" not in cabinet.files()
    with pytest.raises(WrongKey):
        Vault.open(cabinet.path, unlock=cabinet.key)
    with Vault.open(cabinet.path, unlock=second, write=True) as box:
        assert box.get("anna") == FIRST["anna"]
        box.save()
    assert "office.vault.bak" in cabinet.files()  # from here on the previous generation is kept again


def test_the_last_way_in_is_not_removed(cabinet: Cabinet) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box:
        with pytest.raises(WouldLockOut):
            box.remove_unlock("key-file")
        with pytest.raises(NoSuchUnlock, match="'nobody'") as caught:
            box.remove_unlock("nobody")
        assert "key-file" in caught.value.hint
        box.save()
    assert cabinet.read() == FIRST


@pytest.mark.parametrize("label", ["", "two words", "ä", "x" * 65])
def test_a_label_that_cannot_be_written_is_refused(cabinet: Cabinet, label: str) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box, pytest.raises(ValueError, match="label"):
        box.add_unlock(cabinet.key, label=label)


def test_a_label_is_given_once(cabinet: Cabinet) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box, pytest.raises(ValueError, match="already"):
        box.add_unlock(cabinet.key, label="key-file")


def test_there_is_an_end_to_the_ways_in(cabinet: Cabinet) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box:
        for _ in range(31):
            box.add_unlock(cabinet.key)
        with pytest.raises(ValueError, match="more than 32"):
            box.add_unlock(cabinet.key)
        box.save()
    assert cabinet.read() == FIRST


def test_rewrapping_exchanges_one_way_and_keeps_the_label_free_for_the_new_one(cabinet: Cabinet) -> None:
    second = KeyFile.generate(cabinet.folder / "2.key")
    Vault.rewrap(cabinet.path, old=cabinet.key, new=second)
    with pytest.raises(WrongKey):
        Vault.open(cabinet.path, unlock=cabinet.key)
    with Vault.open(cabinet.path, unlock=second) as box:
        assert box.unlocks() == (UnlockInfo("key-file", "key-file"),)
        assert box.get("bert") == FIRST["bert"]
    assert "office.vault.bak" not in cabinet.files()


def test_a_rewrap_to_a_key_that_is_not_there_changes_nothing(cabinet: Cabinet) -> None:
    with pytest.raises(Missing):
        Vault.rewrap(cabinet.path, old=cabinet.key, new=KeyFile(cabinet.folder / "nowhere"))
    assert cabinet.read() == FIRST
    assert cabinet.generation() == 2


def test_after_a_rekey_the_old_data_key_opens_nothing_new(cabinet: Cabinet) -> None:
    phrase = Passphrase("geheim-rekey")
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box:
        box.add_unlock(phrase)
        box.save()
        old_key = box._content.data_key
        with pytest.raises(WouldLockOut, match="passphrase"):
            box.rekey(cabinet.key)
        with pytest.raises(WrongKey):
            box.rekey(cabinet.key, Passphrase("geheim-typo"))
        box.rekey(cabinet.key, phrase)
        box.put("dora", b"geheim-4")
        box.save()
        assert box._content.data_key != old_key
    assert "office.vault.bak" not in cabinet.files()
    for method in (cabinet.key, phrase):
        with Vault.open(cabinet.path, unlock=method) as box:
            assert box.get("anna") == FIRST["anna"]
            assert box.get("dora") == b"geheim-4"


def test_a_rekey_that_drops_every_way_is_refused(cabinet: Cabinet) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box:
        with pytest.raises(WouldLockOut):
            box.rekey(drop={"key-file"})
        with pytest.raises(WrongKey):
            box.rekey(cabinet.key, drop={"key-file"})


# ---- backups ----


def test_a_backup_under_a_passphrase_makes_the_vault_of_another_machine(cabinet: Cabinet, tmp_path: Path) -> None:
    phrase = Passphrase("geheim-backup")
    with Vault.open(cabinet.path, unlock=cabinet.key) as box:
        box.export(tmp_path / "stick.vault", unlock=phrase)
        vault_id = box.vault_id
    with pytest.raises(WrongKey):
        Vault.open(tmp_path / "stick.vault", unlock=cabinet.key)
    new = KeyFile.generate(tmp_path / "new.key")
    Vault.restore(tmp_path / "stick.vault", tmp_path / "new.vault", unlock=phrase, new=new)
    with Vault.open(tmp_path / "new.vault", unlock=new, min_generation=2) as box:
        assert {name: box.get(name) for name in box.names()} == FIRST
        assert box.vault_id == vault_id
        assert box.unlocks() == (UnlockInfo("key-file", "key-file"),)


def test_neither_a_backup_nor_a_restored_vault_overwrites_anything(cabinet: Cabinet, tmp_path: Path) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key) as box:
        box.export(tmp_path / "stick.vault", unlock=cabinet.key)
        with pytest.raises(Exists):
            box.export(tmp_path / "stick.vault", unlock=cabinet.key)
    with pytest.raises(Exists):
        Vault.restore(tmp_path / "stick.vault", cabinet.path, unlock=cabinet.key, new=cabinet.key)
    assert cabinet.read() == FIRST


def test_a_writer_exports_what_is_in_force_not_what_it_has_not_saved(cabinet: Cabinet, tmp_path: Path) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box:
        box.put("dora", b"x")
        box.export(tmp_path / "stick.vault", unlock=cabinet.key)
    with Vault.open(tmp_path / "stick.vault", unlock=cabinet.key) as box:
        assert "dora" not in box.names()


# ---- secrets are never shown ----


def test_no_secret_shows_in_any_repr_log_line_or_traceback(cabinet: Cabinet, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown = []
    with Vault.open(cabinet.path, unlock=cabinet.key, write=True) as box:
        box.put("dora", b"geheim-dora")
        shown += [repr(box), repr(box._next), repr(box._content), repr(vars(box))]
        try:
            box.get("zoe")
        except VaultError as error:
            shown.append("".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))
    key = cabinet.key_path.read_text().split()[1]
    assert not [text for text in [*shown, caplog.text] if "geheim" in text or key in text]


def test_records_and_names_are_not_in_the_file(cabinet: Cabinet) -> None:
    cabinet.write({"anna@firma.example": b"geheim-5"})
    content = cabinet.path.read_bytes()
    assert not any(word in content for word in (b"geheim", b"firma.example"))  # four letters may be there by chance


class FaultyMemory(dict[str, bytes]):
    """Records as on a machine with a memory fault: each read differs from the stored value."""

    def __getitem__(self, name: str) -> bytes:
        return super().__getitem__(name)[:-1] + b"?"


def test_what_does_not_read_back_as_it_was_sealed_is_never_written(cabinet: Cabinet) -> None:
    with Vault.open(cabinet.path, unlock=cabinet.key) as box:
        content = box._content
        with pytest.raises(Damaged, match="did not decrypt to the same records") as caught:
            _vault._seal_and_verify(content.opened.header, FaultyMemory(FIRST), content.data_key)
    assert "Nothing was written" in caught.value.hint


def test_the_owner_of_a_vault_root_rewrites_stays_its_owner(cabinet: Cabinet) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(cabinet.path, 65534, 65534)
    cabinet.write({"anna": b"geheim-new"})
    for name in ("office.vault", "office.vault.bak", "office.vault.lock"):
        status = (cabinet.folder / name).stat()
        assert (status.st_uid, status.st_gid) == (65534, 65534)
