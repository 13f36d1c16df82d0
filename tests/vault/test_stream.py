"""Sealed streams: what is read is what was written; any other octets are refused, each with its reason."""

import base64
import hashlib
import hmac
import io
import re
import tracemalloc

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from vault import Damage, Damaged, Passphrase, StreamReader, StreamWriter, TooNew, VaultError, WrongKey, _seal
from vault._format import Argon2idCost
from vault._stream import CHUNK

PASSPHRASE = Passphrase("geheim-satz im Tresor")
HEADER = re.compile(rb"(vault-stream/v1\npassphrase-argon2id 1 8 1 (\S+)\n)mac (\S+)\ndigest (\S+)\n")
LENGTHS = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK - 1]


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A derivation that takes no time: thousands of damaged headers are opened here."""
    monkeypatch.setattr(_seal, "usual_cost", lambda: Argon2idCost(passes=1, kibibytes=8, lanes=1))


def sealed(content: bytes, *, step: int = 7000) -> bytes:
    out = io.BytesIO()
    writer = StreamWriter(out, PASSPHRASE)
    for start in range(0, len(content), step):
        writer.write(content[start : start + step])
    writer.finish()
    return out.getvalue()


def opened(file: bytes, passphrase: Passphrase = PASSPHRASE, *, step: int = 5000) -> bytes:
    reader = StreamReader(io.BytesIO(file), passphrase)
    parts = []
    while part := reader.read(step):
        parts.append(part)
    return b"".join(parts)


def second_reader(file: bytes) -> bytes:
    """Written from STREAM.md alone."""
    header = HEADER.match(file)
    assert header
    salt, mac, digest = (base64.b64decode(header[n]) for n in (2, 3, 4))
    assert hashlib.sha256(file[: header.start(4) - 7]).digest() == digest
    key = Argon2id(salt=salt, length=32, iterations=1, lanes=1, memory_cost=8).derive(b"geheim-satz im Tresor")

    def hkdf(info: bytes) -> bytes:
        return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)

    assert hmac.digest(hkdf(b"vault-stream/v1 header"), header[1], "sha256") == mac
    cipher, rest = ChaCha20Poly1305(hkdf(b"vault-stream/v1 chunks")), file[header.end() :]
    chunks = [rest[at : at + 65552] for at in range(0, len(rest), 65552)]
    return b"".join(
        cipher.decrypt(number.to_bytes(11, "big") + bytes([number == len(chunks) - 1]), chunk, mac)
        for number, chunk in enumerate(chunks)
    )


@pytest.mark.parametrize("length", LENGTHS)
def test_what_is_read_is_what_was_written(length: int) -> None:
    content = hashlib.shake_128(b"content").digest(length)
    file = sealed(content)
    assert opened(file) == content
    assert second_reader(file) == content
    chunks = max(1, -(-length // CHUNK))
    assert len(file) == len(HEADER.match(file)[0]) + length + 16 * chunks  # type: ignore[index]


def test_two_streams_of_the_same_content_have_nothing_in_common() -> None:
    first, second = (sealed(b"x" * 100)[-116:] for _ in range(2))
    assert not {first[at : at + 16] for at in range(0, 96, 16)} & {second[at : at + 16] for at in range(0, 96, 16)}


def test_a_passphrase_in_another_composition_is_the_same() -> None:
    out = io.BytesIO()
    StreamWriter(out, Passphrase("geheim-Schl\u00fcssel")).finish()
    assert opened(out.getvalue(), Passphrase("geheim-Schlu\u0308ssel")) == b""


def test_another_passphrase_is_not_taken_for_damage() -> None:
    with pytest.raises(WrongKey, match="this passphrase does not open it"):
        opened(sealed(b"content"), Passphrase("geheim-anderer Satz"))


def test_every_flipped_bit_is_refused() -> None:
    content = b"geheim-" + bytes(300)
    file = sealed(content)
    for place in range(len(file)):
        for bit in range(8):
            changed = bytearray(file)
            changed[place] ^= 1 << bit
            with pytest.raises((Damaged, TooNew)) as refused:
                opened(bytes(changed))
            assert "geheim" not in f"{refused.value} {refused.value.hint}"
            # a changed version is damage, because the digest covers it
            assert not isinstance(refused.value, TooNew)


def test_every_shorter_file_is_refused() -> None:
    file = sealed(bytes(1000))
    for length in range(len(file)):
        with pytest.raises(Damaged):
            opened(file[:length])


@pytest.mark.parametrize("length", LENGTHS)
def test_a_cut_at_each_chunk_is_refused(length: int) -> None:
    file = sealed(bytes(length))
    begin = HEADER.match(file).end()  # type: ignore[union-attr]
    for end in range(begin, len(file), CHUNK + 16):
        for cut in {end, end + 1, end + 16, len(file) - 1} - {len(file)}:
            with pytest.raises(Damaged) as refused:
                opened(file[:cut])
            assert refused.value.damage in (Damage.TRUNCATED, Damage.ALTERED)


def test_a_cut_between_two_chunks_is_called_truncated_and_more_octets_are_called_extra() -> None:
    file = sealed(bytes(3 * CHUNK))
    begin = HEADER.match(file).end()  # type: ignore[union-attr]
    with pytest.raises(Damaged, match="truncated after chunk 1"):
        opened(file[: begin + 2 * (CHUNK + 16)])
    with pytest.raises(Damaged, match="extra bytes at its end"):
        opened(file + b"x")
    with pytest.raises(Damaged, match="altered"):
        opened(sealed(b"x") + b"x")  # within the last chunk


def test_exchanged_repeated_and_missing_chunks_are_refused() -> None:
    file = sealed(hashlib.shake_128(b"x").digest(3 * CHUNK))
    begin, size = HEADER.match(file).end(), CHUNK + 16  # type: ignore[union-attr]
    head = file[:begin]
    one, two, three = (file[begin + size * n : begin + size * (n + 1)] for n in range(3))
    for order in (
        (two, one, three),
        (one, one, three),
        (one, three),
        (three,),
        (one, two, two),
        (one, two, three, three),
    ):
        with pytest.raises(Damaged):
            opened(head + b"".join(order))
    with pytest.raises(Damaged):  # a chunk of another stream with the same passphrase
        opened(head + sealed(b"x" * CHUNK)[begin:])


def test_an_empty_last_chunk_behind_others_is_refused() -> None:
    """The content would have two encodings."""
    out = io.BytesIO()
    writer = StreamWriter(out, PASSPHRASE)
    writer.write(bytes(CHUNK))
    writer._seal_chunk(last=False)
    writer.finish()
    with pytest.raises(Damaged):
        opened(out.getvalue())


def with_digest(covered: bytes) -> bytes:
    return covered + b"digest " + base64.b64encode(hashlib.sha256(covered).digest()) + b"\n"


def test_a_later_version_is_refused_as_too_new() -> None:
    for lines in (b"", b"anything else\n" * 10):
        with pytest.raises(TooNew, match="version 2 of the format; this program supports version 1") as refused:
            opened(with_digest(b"vault-stream/v2\n" + lines) + b"chunks")
        assert "Upgrade" in refused.value.hint


@pytest.mark.parametrize(
    "lines",
    [
        b"", b"\n", b"mac " + b"A" * 43 + b"=\n", b"passphrase-argon2id 1 8 1 %s\n", b"passphrase-argon2id 1 8 1 %s\nmac x\n",
        b"passphrase-argon2id 1 8 1 %s\r\nmac %s\n", b"passphrase-argon2id 11 8 1 %s\nmac %s\n",
        b"passphrase-argon2id 1 4294967295 1 %s\nmac %s\n", b"passphrase-scrypt 30 8 1 %s\nmac %s\n", b"key-file %s\nmac %s\n",
        b"passphrase-argon2id 01 8 1 %s\nmac %s\n", b"passphrase-argon2id 1 8 1 %s x\nmac %s\n", b"passphrase-argon2id 1 8 1 AA==\nmac %s\n",
    ],
)  # fmt: skip
def test_a_forged_header_is_damage_and_costs_nothing(lines: bytes) -> None:
    """Its digest needs no key; the caps are checked before anything is computed."""
    covered = b"vault-stream/v1\n" + lines.replace(b"%s", base64.b64encode(bytes(32)))
    with pytest.raises(Damaged):
        opened(with_digest(covered))


@pytest.mark.parametrize(
    "file", [b"", b"v", b"vault-stream/v", b"vault/v1\n", b"\0" * 5000, b"vault-stream/v1\n" * 500, b"vault-stream/v1\n" + b"x" * 5000]
)  # fmt: skip
def test_other_files_are_refused(file: bytes) -> None:
    with pytest.raises(Damaged):
        opened(file)


_EDITS = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(0, 40), st.binary(max_size=40)), min_size=1, max_size=4
)  # fmt: skip


@settings(max_examples=200)
@given(_EDITS)
def test_any_change_is_refused_or_changes_nothing(edits: list[tuple[int, int, bytes]]) -> None:
    file = changed = sealed_once()
    for place, length, octets in edits:
        at = place % (len(changed) + 1)
        changed = changed[:at] + octets + changed[at + length :]
    try:
        content = opened(changed)
    except VaultError:
        assert changed != file
    else:
        assert (changed, content) == (file, b"x" * 2000)


_once: list[bytes] = []


def sealed_once() -> bytes:
    if not _once:
        _once.append(sealed(b"x" * 2000))
    return _once[0]


def test_memory_does_not_depend_on_the_length() -> None:
    class Sink(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, octets: object) -> int:
            return len(octets)  # type: ignore[arg-type]

    peaks = []
    for chunks in (4, 200):
        tracemalloc.start()
        writer = StreamWriter(Sink(), PASSPHRASE)  # type: ignore[arg-type]
        for _ in range(chunks):
            writer.write(bytes(CHUNK))
        writer.finish()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2 * CHUNK
