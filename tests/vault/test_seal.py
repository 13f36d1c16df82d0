"""Key derivation, wrapping and encryption."""

import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault import Damage, Damaged, _seal
from vault._format import (
    Argon2idCost,
    Header,
    IndexEntry,
    KeyWrapping,
    ScryptCost,
    Stanza,
    UnlockKind,
    read_sealed_vault,
)
from vault._seal import Secret

KEY = Secret(b"k" * 32)
STANZA = Stanza("office", KeyWrapping(UnlockKind.KEY_FILE, bytes(32), bytes(48)))
HEADER = Header(b"i" * 16, 7, b"s" * 32, (STANZA,))
records = st.dictionaries(st.sampled_from(["anna", "bert", "carl", "dörte"]), st.binary(max_size=600))


@given(records)
def test_what_was_sealed_opens(contents: dict[str, bytes]) -> None:
    opened = _seal.open_sealed_vault(read_sealed_vault(_seal.seal(HEADER, contents, KEY)), KEY)
    assert {name: opened.read(name) for name in opened.frames} == contents


@pytest.mark.parametrize(
    "other",
    [
        replace(HEADER, generation=8),
        replace(HEADER, vault_id=b"j" * 16),
        replace(HEADER, salt=b"t" * 32),
        replace(HEADER, stanzas=(replace(STANZA, label="other"),)),
        replace(HEADER, stanzas=(STANZA, replace(STANZA, label="other"))),
    ],
)
def test_a_header_that_was_changed_is_refused(other: Header) -> None:
    sealed = read_sealed_vault(_seal.seal(HEADER, {"anna": b"x"}, KEY))
    with pytest.raises(Damaged, match="header was altered"):
        _seal.open_sealed_vault(replace(sealed, header=other), KEY)


def test_another_vaults_body_under_this_header_is_refused() -> None:
    one = read_sealed_vault(_seal.seal(HEADER, {"anna": b"x"}, KEY))
    other = read_sealed_vault(_seal.seal(replace(HEADER, salt=b"t" * 32), {"anna": b"x"}, KEY))
    with pytest.raises(Damaged, match="index of records was altered"):
        _seal.open_sealed_vault(replace(one, index=other.index), KEY)
    with pytest.raises(Damaged, match="record 'anna' was altered"):
        _seal.open_sealed_vault(replace(one, frames=other.frames), KEY)


def test_records_that_changed_places_are_told_by_name() -> None:
    sealed = read_sealed_vault(_seal.seal(HEADER, {"anna": b"geheim-1", "bert": b"geheim-2"}, KEY))
    swapped = replace(sealed, frames=sealed.frames[272:] + sealed.frames[:272])
    with pytest.raises(Damaged, match="record 'bert' is in the place of 'anna'") as caught:
        _seal.open_sealed_vault(swapped, KEY)
    assert caught.value.damage is Damage.EXCHANGED


def test_a_wrapped_key_opens_only_for_its_own_vault_stanza_and_secret() -> None:
    secret, salt = Secret(b"x" * 32), b"s" * 32
    wrapped = _seal.wrap(secret, salt, b"bound", KEY)
    assert _seal.unwrap(secret, salt, b"bound", wrapped) == KEY
    assert _seal.unwrap(secret, salt, b"other", wrapped) is None
    assert _seal.unwrap(secret, b"t" * 32, b"bound", wrapped) is None
    assert _seal.unwrap(Secret(b"y" * 32), salt, b"bound", wrapped) is None


def test_argon2id_as_rfc_9106_computes_it() -> None:
    # From the tests of the reference implementation: t=2, m=2^16, p=1, "password", "somesalt"
    derived = _seal.derive_from_passphrase(Secret(b"password"), b"somesalt", Argon2idCost(2, 65536, 1)).reveal()
    assert derived.hex() == "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"


def test_scrypt_as_rfc_7914_computes_it() -> None:
    # RFC 7914 section 12, third vector, first 32 bytes
    derived = _seal.derive_from_passphrase(Secret(b"pleaseletmein"), b"SodiumChloride", ScryptCost(14, 8, 1)).reveal()
    assert derived.hex() == "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"


def test_a_secret_has_no_face() -> None:
    secret = Secret(b"geheim-face")
    assert "geheim" not in f"{secret} {secret!r} {[secret]}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        hash(secret)


def test_an_index_entry_shows_a_name_and_no_content() -> None:
    opened = _seal.open_sealed_vault(read_sealed_vault(_seal.seal(HEADER, {"anna": b"geheim-x"}, KEY)), KEY)
    assert "geheim-x" not in repr(opened)
    assert IndexEntry("anna", 272).frame_length == 272
