"""Parser and serializer of the file format."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault import Damaged, TooNew
from vault._format import (
    MAX_FILE,
    Argon2idCost,
    Header,
    IndexEntry,
    KeyWrapping,
    PassphraseWrapping,
    ScryptCost,
    SealedVault,
    Stanza,
    UnknownWrapping,
    UnlockKind,
    from_base64,
    name_problem,
    pack_index,
    pack_record,
    read_sealed_vault,
    split_frames,
    to_base64,
    unpack_index,
    unpack_record,
)

salts = st.binary(min_size=32, max_size=32)
wrapped = st.binary(min_size=48, max_size=48)
argon2id_costs = st.builds(Argon2idCost, st.integers(1, 10), st.integers(128, 2**18), st.integers(1, 16))
scrypt_costs = st.builds(ScryptCost, st.integers(1, 18), st.just(8), st.integers(1, 4))
arguments = st.lists(st.from_regex(r"[!-~]{1,20}", fullmatch=True), max_size=16).map(tuple)
wrappings = st.one_of(
    st.builds(PassphraseWrapping, argon2id_costs | scrypt_costs, salts, wrapped),
    st.builds(KeyWrapping, st.sampled_from([UnlockKind.KEY_FILE, UnlockKind.KEYRING]), salts, wrapped),
    st.builds(UnknownWrapping, st.just("tpm2"), arguments, st.binary(min_size=1, max_size=80)),
)
labels = st.from_regex(r"[A-Za-z0-9._@:+/-]{1,64}", fullmatch=True)
stanzas = st.lists(st.builds(Stanza, labels, wrappings), min_size=1, max_size=8, unique_by=lambda s: s.label).map(tuple)
headers = st.builds(Header, st.binary(min_size=16, max_size=16), st.integers(1, 2**63 - 1), salts, stanzas)
sealed_vaults = st.builds(
    SealedVault, headers, salts, st.integers(1, 3).map(lambda n: bytes(16 + 256 * n)), st.binary(max_size=600)
)
names = st.text(min_size=1, max_size=60).filter(lambda name: name_problem(name) is None)


@given(sealed_vaults)
def test_a_vault_taken_apart_and_put_together_is_the_same_to_the_byte(sealed: SealedVault) -> None:
    assert read_sealed_vault(sealed.render()) == sealed


@given(st.binary(max_size=400))
def test_any_bytes_at_all_are_a_vault_or_damaged_and_nothing_else_is_raised(noise: bytes) -> None:
    with pytest.raises((Damaged, TooNew)):
        read_sealed_vault(noise)


@given(sealed_vaults, st.data())
def test_a_forger_who_knows_the_digest_gets_no_further_than_damaged(sealed: SealedVault, data: st.DataObject) -> None:
    rest = sealed.render().split(b"\n", 2)[2]
    at = data.draw(st.integers(0, len(rest) - 1))
    forged = whole(rest[:at] + data.draw(st.binary(max_size=6)) + rest[at + data.draw(st.integers(0, 6)) :])
    try:
        again = read_sealed_vault(forged)
    except Damaged:
        return
    assert again.render() == forged


def whole(rest: bytes) -> bytes:
    from vault._format import _whole_line, version_line

    return version_line() + _whole_line(1, rest) + rest


def test_a_file_too_large_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(Damaged, match="larger than 64 MiB"):
        read_sealed_vault(bytes(MAX_FILE + 1))


def test_a_header_without_end_is_refused() -> None:
    with pytest.raises(Damaged, match="no end"):
        read_sealed_vault(whole(b"id AAAA\n" * 20_000))


@given(st.binary(max_size=2000))
def test_a_record_survives_its_padding(body: bytes) -> None:
    plain = pack_record(body)
    assert unpack_record(plain) == body
    assert len(plain) % 256 == 0


def test_passwords_of_all_usual_lengths_take_the_same_room() -> None:
    assert {len(pack_record(bytes(length))) for length in range(253)} == {256}


@given(st.binary(max_size=600))
def test_any_plaintext_is_a_record_in_its_one_spelling_or_damaged(plain: bytes) -> None:
    try:
        body = unpack_record(plain)
    except Damaged:
        return
    assert pack_record(body) == plain


@given(st.lists(st.tuples(names, st.integers(1, 5)), max_size=12, unique_by=lambda pair: pair[0]))
def test_an_index_survives_its_packing(pairs: list[tuple[str, int]]) -> None:
    pairs.sort(key=lambda pair: pair[0].encode())
    entries = [IndexEntry(name, 16 + 256 * steps) for name, steps in pairs]
    assert unpack_index(pack_index(entries)) == entries


@given(st.binary(max_size=600))
def test_any_plaintext_is_an_index_in_its_one_spelling_or_damaged(plain: bytes) -> None:
    try:
        entries = unpack_index(plain)
    except Damaged:
        return
    assert pack_index(entries) == plain


def test_the_same_name_twice_is_refused() -> None:
    with pytest.raises(Damaged, match="same name"):
        unpack_index(pack_index([IndexEntry("anna", 272), IndexEntry("anna", 272)]))


def test_records_shorter_or_longer_than_the_index_says_are_refused() -> None:
    for length in (271, 273):
        with pytest.raises(Damaged, match="not as long"):
            split_frames([IndexEntry("anna", 272)], bytes(length))


@pytest.mark.parametrize("text", ["", "QQ", "QQ=", "QR==", "Q Q=", "QQ==\n", "_-==", "ÄÄ==", "QQ==QQ=="])
def test_base64_has_one_spelling(text: str) -> None:
    with pytest.raises(Damaged):
        from_base64(text, "it")
    assert from_base64(to_base64(b"A"), "it") == b"A"


@pytest.mark.parametrize("name", ["", "a\nb", "\x00", "a\x7f", "x" * 256, "ä" * 128, "\udc80"])
def test_names_no_record_can_bear(name: str) -> None:
    assert name_problem(name)


@pytest.mark.parametrize("name", ["a", "anna@büro.example", "x" * 255, "ein Name mit Leerzeichen"])
def test_names_a_record_can_bear(name: str) -> None:
    assert name_problem(name) is None
