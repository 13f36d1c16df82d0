"""Damaged and forged files: no change of the bytes ever yields a wrong record."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vault.conftest import Cabinet
from vault import Damage, Damaged, Vault, WrongKey, _format, _seal
from vault._format import read_sealed_vault, version_line
from vault._seal import Secret

RECORDS = {"anna": b"geheim-anna", "bert": b"geheim-bert", "carl": b"geheim-carl" * 30, "dora": b""}
DATA_KEY = Secret(b"d" * 32)
SECRET = Secret(b"x" * 32)


@cache
def original() -> bytes:
    """A vault with a key-file stanza, small enough to change every byte of it."""
    salt, vault_id = b"s" * 32, b"i" * 16
    unwrapped = _format.Stanza("office", _format.KeyWrapping(_format.UnlockKind.KEY_FILE, salt, b""))
    wrapped = _seal.wrap(SECRET, salt, vault_id + unwrapped.first_line().encode(), DATA_KEY)
    stanza = _format.Stanza("office", _format.KeyWrapping(_format.UnlockKind.KEY_FILE, salt, wrapped))
    return _seal.seal(_format.Header(vault_id, 5, b"t" * 32, (stanza,)), RECORDS, DATA_KEY)


def open_bytes(content: bytes) -> dict[str, bytes]:
    """Open a vault as the store does, without a disk."""
    sealed = read_sealed_vault(content)
    wrapping = sealed.header.stanzas[0].wrapping
    if not isinstance(wrapping, _format.KeyWrapping):
        raise WrongKey("no key file opens it", hint="another")
    associated_data = sealed.header.vault_id + sealed.header.stanzas[0].first_line().encode()
    data_key = _seal.unwrap(SECRET, wrapping.salt, associated_data, wrapping.wrapped)
    if data_key is None:
        raise WrongKey("it does not fit", hint="another")
    opened = _seal.open_sealed_vault(sealed, data_key)
    return {name: opened.read(name) for name in opened.frames}


def with_new_digest(content: bytes) -> bytes:
    """A forger can compute the digest, because it needs no key."""
    rest = content.split(b"\n", 2)[2]
    return version_line() + _format._whole_line(1, rest) + rest


def test_the_vault_these_tests_damage_opens_when_it_is_left_alone() -> None:
    assert open_bytes(original()) == RECORDS
    assert with_new_digest(original()) == original()


def test_every_flipped_bit_is_damage() -> None:
    content = bytearray(original())
    for at in range(len(content)):
        for bit in range(8):
            content[at] ^= 1 << bit
            with pytest.raises(Damaged):
                read_sealed_vault(bytes(content))
            content[at] ^= 1 << bit


def test_every_truncation_is_damage_and_called_truncated() -> None:
    for length in range(len(original())):
        with pytest.raises(Damaged) as caught:
            read_sealed_vault(original()[:length])
        assert caught.value.damage is Damage.TRUNCATED


@given(st.binary(min_size=1, max_size=300))
def test_bytes_added_at_the_end_are_damage_and_called_trailing(more: bytes) -> None:
    with pytest.raises(Damaged) as caught:
        read_sealed_vault(original() + more)
    assert caught.value.damage is Damage.TRAILING


def test_a_bit_flipped_on_purpose_anywhere_never_yields_a_record() -> None:
    content = original()
    start = content.index(b"id ")
    for at in range(start, len(content)):
        forged = bytearray(content)
        forged[at] ^= 1 << at % 8
        with pytest.raises((Damaged, WrongKey)) as caught:
            open_bytes(with_new_digest(bytes(forged)))
        assert "geheim" not in f"{caught.value} {caught.value.hint}"


@settings(max_examples=300)
@given(st.data())
def test_pieces_cut_moved_and_doubled_on_purpose_never_yield_a_record(data: st.DataObject) -> None:
    content = original()
    start = content.index(b"id ")
    places = st.integers(start, len(content))
    (a, b), c = sorted([data.draw(places), data.draw(places)]), data.draw(places)
    piece = content[a:b]
    rest = content[:a] + content[b:] if data.draw(st.booleans()) else content
    forged = with_new_digest(rest[:c] + piece + rest[c:])
    if forged == content:
        return
    with pytest.raises((Damaged, WrongKey)):
        open_bytes(forged)


@given(st.permutations(range(4)))
def test_records_in_another_order_are_refused_as_damaged(order: list[int]) -> None:
    sealed = read_sealed_vault(original())
    lengths = [272, 272, 512 + 16, 272]
    frames = [sealed.frames[sum(lengths[:at]) :][: lengths[at]] for at in range(4)]
    shuffled = b"".join(frames[at] for at in order)
    forged = _format.SealedVault(sealed.header, sealed.mac, sealed.index, shuffled).render()
    if order == [0, 1, 2, 3]:
        assert open_bytes(forged) == RECORDS
        return
    with pytest.raises(Damaged) as caught:
        open_bytes(forged)
    assert caught.value.damage in (Damage.EXCHANGED, Damage.ALTERED)


def test_a_record_of_an_older_generation_is_refused() -> None:
    """Same vault, data key, name and position: only the generation differs."""
    sealed = read_sealed_vault(original())
    older = _format.Header(sealed.header.vault_id, 4, sealed.header.salt, sealed.header.stanzas)
    stale = read_sealed_vault(_seal.seal(older, RECORDS | {"anna": b"geheim-old"}, DATA_KEY))
    forged = _format.SealedVault(
        sealed.header, sealed.mac, sealed.index, stale.frames[:272] + sealed.frames[272:]
    ).render()
    with pytest.raises(Damaged, match="'anna' was altered"):
        open_bytes(forged)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_happens_to_the_file_the_vault_opens_as_it_was_or_not_at_all(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        cabinet = Cabinet(Path(folder))
        cabinet.write(RECORDS)
        content = cabinet.path.read_bytes()
        at = data.draw(st.integers(0, len(content)))
        spoilt = content[:at] + data.draw(st.binary(max_size=40)) + content[at + data.draw(st.integers(0, 40)) :]
        cabinet.path.write_bytes(spoilt)
        if spoilt == content:
            assert cabinet.read() == RECORDS
            return
        with pytest.raises(Damaged) as caught:
            cabinet.read()
        assert "office.vault.bak" in caught.value.hint
        with Vault.open(cabinet.folder / "office.vault.bak", unlock=cabinet.key) as box:
            assert box.generation == 1
