"""The port of the stores: one table for every implementation, and a vault over each."""

import signal
import threading
from pathlib import Path

import pytest

from tests.vault.conftest import FIRST, Cabinet
from tests.vault.stores import LIMIT, PLACES, Place
from vault import (
    Damaged,
    Exists,
    InUse,
    KeyFile,
    Missing,
    Passphrase,
    RolledBack,
    Vault,
    VaultError,
    WrongKey,
)
from vault._store import SealedBytes


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    folder = tmp_path / "place"
    folder.mkdir(0o700)
    return PLACES[request.param](folder)


# ---- reading ----


def test_where_nothing_is_stored_nothing_is_read_and_no_lock_taken(place: Place) -> None:
    store = place.store()
    assert store.fingerprint() is None
    with pytest.raises(Missing):
        store.read(LIMIT)
    with pytest.raises(Missing):
        store.open_writer()


def test_stored_bytes_are_read_as_they_are_with_their_fingerprint(place: Place) -> None:
    sealed = bytes(range(256)) * 300
    place.store().create(sealed)
    store = place.store()
    assert store.read(LIMIT) == (sealed, store.fingerprint())


def test_what_is_stored_already_is_not_overwritten_by_a_new_vault(place: Place) -> None:
    place.store().create(b"first")
    with pytest.raises(Exists):
        place.store().create(b"second")
    assert place.sealed() == b"first"


@pytest.mark.parametrize("limit", [0, 3, 4, 5, 6])
def test_a_reading_stops_one_octet_behind_the_limit(place: Place, limit: int) -> None:
    place.store().create(b"12345")
    for source in (place.store(), SealedBytes(b"12345")):
        assert source.read(limit)[0] == b"12345"[: limit + 1]


def test_a_reader_beside_a_writer_reads_one_generation_complete(place: Place) -> None:
    place.store().create(bytes(200_000))
    faults: list[BaseException] = []

    def write() -> None:
        try:
            for number in range(1, 60):
                place.replace(bytes([number]) * 200_000)
        except BaseException as error:
            faults.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    store = place.store()
    seen: set[int] = set()
    while writer.is_alive() or not seen:
        sealed, _ = store.read(LIMIT)
        assert len(sealed) == 200_000
        assert len(set(sealed)) == 1
        seen.add(sealed[0])
    writer.join()
    assert not faults
    assert place.sealed() == bytes([59]) * 200_000


# ---- writing ----


def test_a_replacement_shows_in_the_fingerprint_to_everybody(place: Place) -> None:
    store, reader = place.store(), place.store()
    store.create(b"first")
    _, before = reader.read(LIMIT)
    writer = store.open_writer()
    after = writer.replace(b"other", expected=before, keep_previous=True)
    assert after != before
    assert reader.fingerprint() == store.fingerprint() == after
    assert reader.read(LIMIT) == (b"other", after)
    last = writer.replace(b"third", expected=after, keep_previous=False)
    writer.release()
    assert last not in (before, after)
    assert reader.read(LIMIT) == (b"third", last)


@pytest.mark.parametrize("keep_previous", [True, False])
def test_only_the_bytes_that_were_read_are_replaced(place: Place, keep_previous: bool) -> None:
    store = place.store()
    store.create(b"first")
    _, read = store.read(LIMIT)
    writer = store.open_writer()
    writer.replace(b"other", expected=read, keep_previous=True)
    with pytest.raises(InUse):
        writer.replace(b"third", expected=read, keep_previous=keep_previous)
    writer.release()
    assert place.sealed() == b"other"


def test_one_writer_at_a_time(place: Place) -> None:
    place.store().create(b"first")
    with place.another_writer() as holder:
        with pytest.raises(InUse):
            place.store().open_writer()
        assert place.sealed() == b"first"  # reading needs no lock
        holder.communicate("go\n")
    place.replace(b"other")
    writer = place.store().open_writer()
    with pytest.raises(InUse):
        place.store().open_writer()
    writer.release()
    place.replace(b"third")
    assert place.sealed() == b"third"


def test_the_lock_of_a_killed_writer_is_released(place: Place) -> None:
    place.store().create(b"first")
    with place.another_writer() as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait(60)
    place.wait_for_the_dead()
    place.replace(b"other")
    assert place.sealed() == b"other"


def test_no_earlier_bytes_stay_where_the_writer_forbids_it(place: Place) -> None:
    place.store().create(b"the first generation")
    place.replace(b"the second generation")
    place.replace(b"the third generation", keep_previous=False)
    kept = [octets for octets in place.kept() if b"generation" in octets]
    assert kept == [b"the third generation"]


# ---- a vault over each store ----


@pytest.fixture
def key(tmp_path: Path) -> KeyFile:
    return KeyFile.generate(tmp_path / "machine.key")


def write(place: Place, key: KeyFile, **records: bytes) -> None:
    with Vault.open(place.store(), unlock=key, write=True) as box:
        for name, record in records.items():
            box.put(name, record)
        box.save()


def records_of(box: Vault) -> dict[str, bytes]:
    return {name: box.get(name) for name in box.names()}


def test_a_vault_is_written_read_and_reloaded(place: Place, key: KeyFile) -> None:
    Vault.create(place.store(), unlock=key)
    with pytest.raises(Exists):
        Vault.create(place.store(), unlock=key)
    with Vault.open(place.store(), unlock=key) as reader:
        assert (records_of(reader), reader.generation, reader.is_replaced()) == ({}, 1, False)
        write(place, key, anna=b"geheim-1")
        assert reader.is_replaced()
        reader.reload(min_generation=reader.generation)
        assert (records_of(reader), reader.generation, reader.is_replaced()) == ({"anna": b"geheim-1"}, 2, False)
        assert "generation 2" in repr(reader)
    info = Vault.inspect(place.store())
    assert (info.vault_id, info.generation, info.sealed) == (reader.vault_id, 2, place.sealed())


def test_a_second_writer_of_a_vault_is_refused_and_the_first_saves(place: Place, key: KeyFile) -> None:
    Vault.create(place.store(), unlock=key)
    with Vault.open(place.store(), unlock=key, write=True) as box:
        with pytest.raises(InUse):
            Vault.open(place.store(), unlock=key, write=True)
        box.put("anna", b"geheim-1")
        box.save()
        box.put("bert", b"geheim-2")
        box.save()
    with pytest.raises(WrongKey):
        Vault.open(place.store(), unlock=Passphrase("another"), write=True)
    write(place, key, carl=b"")
    with Vault.open(place.store(), unlock=key) as box:
        assert records_of(box) == {"anna": b"geheim-1", "bert": b"geheim-2", "carl": b""}
        assert box.generation == 4


def test_a_vault_replaced_without_the_lock_is_not_overwritten(place: Place, key: KeyFile) -> None:
    Vault.create(place.store(), unlock=key)
    with Vault.open(place.store(), unlock=key, write=True) as box:
        before = place.sealed()
        assert box._writer is not None
        box._writer.replace(before, expected=box.fingerprint, keep_previous=True)  # behind the vault's back
        box.put("anna", b"geheim-1")
        with pytest.raises(InUse):
            box.save()
    assert place.sealed() == before


def test_an_older_vault_in_its_place_is_found_and_the_reader_keeps_what_it_has(place: Place, key: KeyFile) -> None:
    Vault.create(place.store(), unlock=key)
    older = place.sealed()
    write(place, key, anna=b"geheim-1")
    with Vault.open(place.store(), unlock=key) as reader:
        place.replace(older)
        assert reader.is_replaced()
        with pytest.raises(RolledBack):
            reader.reload(min_generation=reader.generation)
        assert records_of(reader) == {"anna": b"geheim-1"}
    with pytest.raises(RolledBack, match="generation 1, but generation 2"):
        Vault.open(place.store(), unlock=key, min_generation=2)


def test_a_removed_unlock_opens_nothing_that_the_store_still_has(place: Place, key: KeyFile, tmp_path: Path) -> None:
    other = KeyFile.generate(tmp_path / "other.key")
    Vault.create(place.store(), unlock=key)
    write(place, key, anna=b"geheim-1")
    Vault.rewrap(place.store(), old=key, new=other)
    sealed = [octets for octets in place.kept() if octets.startswith(b"vault/")]
    assert len(sealed) == 1
    with pytest.raises(WrongKey):
        Vault.from_bytes(sealed[0], unlock=key)
    with Vault.open(place.store(), unlock=other) as box:
        assert records_of(box) == {"anna": b"geheim-1"}


def test_a_vault_moves_into_a_store_once(place: Place, key: KeyFile, cabinet: Cabinet) -> None:
    Vault.restore(cabinet.path, place.store(), unlock=cabinet.key, new=key)
    with pytest.raises(Exists):
        Vault.restore(cabinet.path, place.store(), unlock=cabinet.key, new=key)
    write(place, key, anna=b"geheim-new")
    with Vault.open(place.store(), unlock=key) as box:
        assert records_of(box) == FIRST | {"anna": b"geheim-new"}
        assert (box.vault_id, box.generation) == (Vault.inspect(cabinet.path).vault_id, 3)


@pytest.mark.parametrize("spoilt", [b"", b"no vault", b"vault/v1\n"])
def test_no_error_speaks_of_a_file_that_is_not_there(place: Place, key: KeyFile, spoilt: bytes) -> None:
    place.store().create(spoilt)
    for use in (lambda: Vault.open(place.store(), unlock=key), lambda: Vault.inspect(place.store())):
        with pytest.raises(Damaged) as caught:
            use()
        path = place.store().path
        assert caught.value.path == path
        assert "PATH" not in caught.value.hint
        assert (".bak" in caught.value.hint) is (path is not None)


# ---- a vault in memory ----


def test_the_bytes_of_a_vault_are_opened_for_reading_alone(cabinet: Cabinet) -> None:
    sealed = Vault.inspect(cabinet.path).sealed
    assert sealed == cabinet.path.read_bytes()
    cabinet.write({"dora": b"geheim-4"})
    with Vault.from_bytes(sealed, unlock=cabinet.key) as box:
        assert (records_of(box), box.generation, box.opened_by) == (FIRST, 2, "key-file")
        assert not box.is_replaced()
        box.reload()
        assert records_of(box) == FIRST
        for change in (lambda: box.put("dora", b"x"), lambda: box.remove("anna"), box.save):
            with pytest.raises(ValueError, match="opened for reading"):
                change()
        assert "generation 2" in repr(box)


def test_bytes_are_sealed_again_for_another_unlock_and_nothing_is_written(cabinet: Cabinet, key: KeyFile) -> None:
    before = cabinet.files()
    with Vault.from_bytes(cabinet.path.read_bytes(), unlock=cabinet.key) as box:
        copy = box.export_bytes(unlock=key, change=lambda _name, record: record.upper())
    with Vault.from_bytes(copy, unlock=key) as box:
        assert records_of(box) == {name: record.upper() for name, record in FIRST.items()}
        assert (box.generation, [each.label for each in box.unlocks()]) == (2, ["key-file"])
    with pytest.raises(WrongKey):
        Vault.from_bytes(copy, unlock=cabinet.key)
    assert cabinet.files() == before


def test_errors_of_bytes_name_no_file(cabinet: Cabinet) -> None:
    sealed = cabinet.path.read_bytes()
    with pytest.raises(WrongKey) as wrong:
        Vault.from_bytes(sealed, unlock=Passphrase("another"))
    with pytest.raises(Damaged) as damaged:
        Vault.from_bytes(sealed[:-1], unlock=cabinet.key)
    with Vault.from_bytes(sealed, unlock=cabinet.key) as box, pytest.raises(VaultError) as unknown:
        box.get("zoe")
    assert damaged.value.hint == "Use another backup."
    for error in (wrong.value, damaged.value, unknown.value):
        assert error.path is None
        assert str(cabinet.folder) not in f"{error} {error.hint}"
        assert "PATH" not in error.hint


def test_bytes_beyond_the_size_of_a_vault_are_refused(monkeypatch: pytest.MonkeyPatch, cabinet: Cabinet) -> None:
    sealed = cabinet.path.read_bytes()
    monkeypatch.setattr("vault._format.MAX_FILE", len(sealed) - 1)
    with pytest.raises(Damaged, match="larger than"):
        Vault.from_bytes(sealed + bytes(100), unlock=cabinet.key)
