"""Generator of tests/vault/vectors/: one small file for each thing that a reader must accept or reject.

    python -m tests.vault.make_vectors

Every run writes the same bytes: values that are random in a real vault come from a fixed stream. A forged vector has a
correct digest (and correct encryption where the forger is supposed to know the key), so that a reader can reject it
only for the reason that the vector is about.
"""

import hashlib
import struct
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from vault import _format, _seal
from vault._format import (
    Argon2idCost,
    Cost,
    Header,
    IndexEntry,
    KeyWrapping,
    PassphraseWrapping,
    Stanza,
    UnknownWrapping,
    UnlockKind,
)
from vault._seal import Secret

FOLDER = Path(__file__).parent / "vectors"


def stream(name: str, length: int) -> bytes:
    """Pseudo-random bytes, the same in every run."""
    return hashlib.shake_256(b"vault test vectors/" + name.encode()).digest(length)


DATA_KEY = Secret(stream("data key", 32))
KEY = stream("key", 32)
KEY_FILE_TEXT = b"vault-key/v1 " + _format.to_base64(KEY).encode() + b"\n"
ID = stream("id", 16)
RECORDS = {"anna": b"first secret", "bert": b"second secret", "carl": b""}
UNLOCK = "key-file " + _format.to_base64(KEY_FILE_TEXT)
CHEAP = Argon2idCost(1, 64, 1)


@dataclass(frozen=True)
class Vector:
    name: str
    expect: str
    comment: str
    content: bytes
    unlock: str = UNLOCK
    facts: Sequence[str] = field(default=())

    def render(self) -> str:
        lines = [f"expect: {self.expect}", f"comment: {self.comment}", f"unlock: {self.unlock}", *self.facts]
        encoded = textwrap.wrap(_format.to_base64(self.content), 100)
        return "\n".join([*lines, "file:", *encoded]) + "\n"


# ---- building whole vaults ----


def key_stanza(
    label: str = "office",
    *,
    kind: UnlockKind = UnlockKind.KEY_FILE,
    key: bytes = KEY,
    vault_id: bytes = ID,
    data_key: Secret = DATA_KEY,
) -> Stanza:
    salt = stream(f"salt of {label}", 32)
    unwrapped = Stanza(label, KeyWrapping(kind, salt, b""))
    wrapped = _seal.wrap(Secret(key), salt, vault_id + unwrapped.first_line().encode(), data_key)
    return Stanza(label, KeyWrapping(kind, salt, wrapped))


def passphrase_stanza(text: str, cost: Cost, label: str = "anna") -> Stanza:
    salt = stream(f"salt of {label}", 32)
    unwrapped = Stanza(label, PassphraseWrapping(cost, salt, b""))
    key = _seal.derive_from_passphrase(Secret(text.encode()), salt, cost)
    return Stanza(
        label, PassphraseWrapping(cost, salt, _seal.wrap(key, salt, ID + unwrapped.first_line().encode(), DATA_KEY))
    )


def header(*stanzas: Stanza, generation: int = 7, salt: str = "body salt") -> Header:
    return Header(ID, generation, stream(salt, 32), stanzas or (key_stanza(),))


def facts(head: Header, records: dict[str, bytes]) -> list[str]:
    encoded = [f"record: {_format.to_base64(n.encode())} {_format.to_base64(r)}".rstrip() for n, r in records.items()]
    return [f"id: {head.vault_id.hex()}", f"generation: {head.generation}", *encoded]


def good(name: str, comment: str, head: Header, records: dict[str, bytes] = RECORDS, unlock: str = UNLOCK) -> Vector:
    return Vector(f"ok-{name}", "ok", comment, _seal.seal(head, records, DATA_KEY), unlock, facts(head, records))


def damaged(name: str, damage: str, comment: str, content: bytes, unlock: str = UNLOCK) -> Vector:
    return Vector(f"damaged-{name}", "damaged", comment, content, unlock, [f"damage: {damage}"])


def with_digest(rest: bytes, version: int = 1, line: bytes | None = None) -> bytes:
    return (line or _format.version_line(version)) + _format._whole_line(version, rest) + rest


def _second_record(change: Callable[[bytes], bytes]) -> Callable[[int, bytes], bytes]:
    return lambda position, packed: change(packed) if position == 2 else packed


def sealed_by_hand(
    *,
    index: bytes | None = None,
    frames: Callable[[list[bytes]], list[bytes]] = lambda frames: frames,
    plain: Callable[[int, bytes], bytes] = lambda position, packed: packed,
    head: Header | None = None,
) -> bytes:
    """Encrypt as `_seal.seal` does, with a changed plaintext of index or records or another order of the frames."""
    head = head or header()
    mac = _seal._mac(head, DATA_KEY)
    cipher = ChaCha20Poly1305(_seal._body_key(head, DATA_KEY).reveal())
    made, entries = [], []
    for position, (name, body) in enumerate(RECORDS.items(), start=1):
        packed = plain(position, _format.pack_record(body))
        made.append(cipher.encrypt(_seal._nonce(position), packed, _seal._record_associated_data(head, name)))
        entries.append(IndexEntry(name, len(made[-1])))
    index = cipher.encrypt(
        _seal._nonce(0), _format.pack_index(entries) if index is None else index, _seal._index_associated_data(mac)
    )
    return _format.SealedVault(head, mac, index, b"".join(frames(made))).render()


def index_of(*entries: tuple[bytes, int], count: int | None = None) -> bytes:
    parts = [struct.pack(">B", len(name)) + name + struct.pack(">I", length) for name, length in entries]
    return _format._padded(struct.pack(">I", len(entries) if count is None else count) + b"".join(parts))


# ---- the vectors ----


def vectors() -> Iterator[Vector]:
    yield from taken()
    yield from not_unlocked()
    yield from accidents()
    yield from forged_openings()
    yield from forged_headers()
    yield from forged_stanzas()
    yield from forged_bodies()


def taken() -> Iterator[Vector]:
    yield good("empty", "no records", header(), {})
    yield good("three-records", "the plain case", header())
    sizes = {
        "0": b"",
        "252": stream("a", 252),
        "253": stream("b", 253),
        "508": stream("c", 508),
        "509": stream("d", 509),
    }
    yield good("padding", "records that just fill a step of 256, and that just do not", header(), sizes)
    names = dict.fromkeys(("Zoe", "anna", "büro@firma.example", "mit Leerzeichen", "x" * 255, "ä", "漢字"), b"x")
    yield good("names", "names of all lengths and alphabets, in the order of their UTF-8 bytes", header(), names)
    yield good("first-generation", "generation 1", header(generation=1))
    yield good("last-generation", "the highest generation there can be", header(generation=2**63 - 1))
    raw = stream("raw key", 40)
    unlock = "key-file " + _format.to_base64(raw)
    yield good(
        "raw-key-file", "a key file of 40 raw bytes, all of them used", header(key_stanza(key=raw)), unlock=unlock
    )
    unlock = "key-file " + _format.to_base64(KEY_FILE_TEXT.rstrip() + b"\r\n")
    yield good("key-file-crlf", "a key file that came through Windows", header(), unlock=unlock)
    head = header(key_stanza(kind=UnlockKind.KEYRING))
    yield good("keyring", "a key from the system's keyring", head, unlock="keyring " + _format.to_base64(KEY))
    head = header(passphrase_stanza("correct horse", _seal.ARGON2ID_COST))
    yield good("argon2id", "a passphrase, with the cost that is written today", head, unlock="passphrase correct horse")
    head = header(passphrase_stanza("correct horse", _seal.SCRYPT_COST))
    yield good("scrypt", "as above, where Argon2id is missing", head, unlock="passphrase correct horse")
    head = header(passphrase_stanza("T\u00fcr", CHEAP))
    yield good("passphrase-nfc", "the umlaut comes in two pieces and is composed", head, unlock="passphrase Tu\u0308r")
    unknown = Stanza("board", UnknownWrapping("tpm2", ("7", "sha256:abc!"), stream("tpm2", 70)))
    second = key_stanza("second", key=stream("second key", 32))
    head = header(passphrase_stanza("correct horse", CHEAP), second, unknown, key_stanza())
    yield good("several-ways", "four ways in, one unknown; the key file is the last of them", head)


def not_unlocked() -> Iterator[Vector]:
    plain = _seal.seal(header(), RECORDS, DATA_KEY)
    other = "key-file " + _format.to_base64(stream("other", 32))
    yield Vector("wrong-key-file", "wrong-key", "another key file", plain, other)
    yield Vector("wrong-kind", "wrong-key", "no passphrase opens it", plain, "passphrase correct horse")
    phrase = _seal.seal(header(passphrase_stanza("correct horse", CHEAP)), RECORDS, DATA_KEY)
    yield Vector("wrong-passphrase", "wrong-key", "another passphrase", phrase, "passphrase correct House")
    moved = header(key_stanza(vault_id=stream("other id", 16)))
    comment = "a stanza that was wrapped for another vault"
    yield Vector("wrong-vault", "wrong-key", comment, _seal.seal(moved, RECORDS, DATA_KEY))
    renamed = header(replace(key_stanza(), label="renamed"))
    comment = "a stanza whose label was changed"
    yield Vector("wrong-label", "wrong-key", comment, _seal.seal(renamed, RECORDS, DATA_KEY))
    as_keyring = header(key_stanza(kind=UnlockKind.KEYRING))
    comment = "the key is right, but it is not the kind of way the stanza is for"
    yield Vector("wrong-way", "wrong-key", comment, _seal.seal(as_keyring, RECORDS, DATA_KEY))
    later = with_digest(b"whatever a later version holds\n\x00\x01", version=2)
    yield Vector("too-new", "too-new", "version 2, and whole", later)
    much_later = with_digest(b"", version=999_999_999)
    yield Vector("too-new-by-far", "too-new", "the highest version number there can be, and nothing in it", much_later)


def accidents() -> Iterator[Vector]:
    plain = _seal.seal(header(), RECORDS, DATA_KEY)
    yield damaged("empty-file", "truncated", "no bytes at all", b"")
    yield damaged("version-line-cut", "truncated", "the first four bytes", plain[:4])
    yield damaged("version-line-only", "truncated", "the first line", plain[:9])
    yield damaged("digest-cut", "truncated", "cut within the second line", plain[:30])
    body = plain.index(b"\n--- ")
    yield damaged("header-cut", "truncated", "cut within the header", plain[: body - 20])
    yield damaged("body-cut", "truncated", "cut where the body begins", plain[: plain.index(b"\n", body + 1) + 1])
    yield damaged("record-cut", "truncated", "the last record is missing, cut at its border", plain[:-272])
    yield damaged("last-byte-cut", "truncated", "one byte is missing", plain[:-1])
    yield damaged("trailing-byte", "trailing bytes", "one byte too many", plain + b"\0")
    yield damaged("trailing-newline", "trailing bytes", "as an editor leaves it", plain + b"\n")
    yield damaged("twice", "trailing bytes", "the file twice over", plain + plain)
    yield damaged("not-a-vault", "malformed", "something else altogether", b"[accounts]\nanna = 1\n")
    for name, at in {
        "version": 7,
        "header": plain.index(b"generation") + 12,
        "wrapped-key": plain.index(b"\n--- ") - 10,
        "mac": plain.index(b"\n--- ") + 10,
        "index": plain.index(b"\n", body + 1) + 20,
        "record": len(plain) - 400,
        "last-byte": len(plain) - 1,
    }.items():
        spoilt = plain[:at] + bytes([plain[at] ^ 2]) + plain[at + 1 :]
        yield damaged(f"flipped-{name}", "altered", f"one bit flipped: {name.replace('-', ' ')}", spoilt)
    flipped = plain.replace(b"vault/v1", b"vault/v2", 1)
    yield damaged("flipped-to-version-2", "altered", "a flipped bit does not make a later version", flipped)
    crlf = plain.replace(b"\n", b"\r\n")
    yield damaged("crlf", "malformed", "sent as text through Windows", crlf)


def forged_openings() -> Iterator[Vector]:
    rest = _seal.seal(header(), RECORDS, DATA_KEY).split(b"\n", 2)[2]
    digest = _format.to_base64(hashlib.sha256(b"vault/v1\n" + rest).digest()).encode()
    yield damaged("version-0", "malformed", "version 0", with_digest(rest, line=b"vault/v0\n", version=0))
    yield damaged("version-01", "malformed", "a leading zero in the version", with_digest(rest, line=b"vault/v01\n"))
    yield damaged("version-long", "malformed", "ten digits of version", with_digest(rest, line=b"vault/v1000000000\n"))
    length = b"whole 0%d %s\n" % (len(rest), digest)
    yield damaged("length-zero", "malformed", "a leading zero in the length", b"vault/v1\n" + length + rest)
    length = b"whole +%d %s\n" % (len(rest), digest)
    yield damaged("length-plus", "malformed", "a sign in the length", b"vault/v1\n" + length + rest)
    length = b"whole %d %s\n" % (len(rest), digest.rstrip(b"="))
    yield damaged("digest-unpadded", "malformed", "base64 without its padding", b"vault/v1\n" + length + rest)


def forged_headers() -> Iterator[Vector]:
    text, tail = _pieces(_seal.seal(header(key_stanza(), key_stanza("second")), RECORDS, DATA_KEY))

    def changed(old: bytes, new: bytes) -> bytes:
        assert old in text
        return with_digest(text.replace(old, new, 1) + tail)

    id64, salt64 = (_format.to_base64(value).encode() for value in (ID, stream("body salt", 32)))
    yield damaged("generation-changed", "altered", "generation 7 made 8", changed(b"generation 7", b"generation 8"))
    yield damaged("salt-changed", "altered", "another salt", changed(salt64, _b64(stream("x", 32))))
    first, second = text.index(b"-> "), text.index(b"-> key-file second")
    yield damaged("stanza-removed", "altered", "the second way in taken away", with_digest(text[:second] + tail))
    swapped = text[:first] + text[second:] + text[first:second]
    yield damaged("stanzas-swapped", "altered", "the ways in another order", with_digest(swapped + tail))
    yield damaged("generation-zero", "malformed", "generation 0", changed(b"generation 7", b"generation 0"))
    yield damaged("generation-07", "malformed", "a leading zero", changed(b"generation 7", b"generation 07"))
    yield damaged("generation-sign", "malformed", "a sign", changed(b"generation 7", b"generation +7"))
    high = b"generation %d" % 2**63
    yield damaged("generation-high", "malformed", "2^63, one more than there can be", changed(b"generation 7", high))
    yield damaged("generation-missing", "malformed", "a line is missing", changed(b"generation 7\n", b""))
    yield damaged(
        "header-line-added", "malformed", "an unknown line", changed(b"generation 7\n", b"generation 7\nx y\n")
    )
    ordered = b"id " + id64 + b"\ngeneration 7\n"
    yield damaged(
        "header-order", "malformed", "two lines exchanged", changed(ordered, b"generation 7\nid " + id64 + b"\n")
    )
    yield damaged("header-blank", "malformed", "a blank at a line's end", changed(b"generation 7", b"generation 7 "))
    yield damaged("id-short", "malformed", "an id of 15 bytes", changed(id64, _b64(ID[:15])))
    yield damaged("id-base64", "malformed", "bits set that encode nothing", changed(id64, _loose(id64)))
    yield damaged("id-urlsafe", "malformed", "another base64 alphabet", changed(id64, b"_-" + id64[2:]))
    yield damaged("salt-short", "malformed", "a salt of 31 bytes", changed(salt64, _b64(stream("x", 31))))
    yield damaged("salt-long", "malformed", "a salt of 33 bytes", changed(salt64, _b64(stream("x", 33))))
    yield damaged("header-utf8", "malformed", "not plain ASCII", changed(b"office", "büro".encode()))
    yield damaged("no-ways", "malformed", "no way to unlock it", with_digest(text[:first] + tail))
    yield damaged("no-header-end", "malformed", "the header's last line is missing", with_digest(text))
    mac_end = tail.index(b"\n")
    short = b"--- " + _b64(stream("x", 31)) + tail[mac_end:]
    yield damaged("mac-short", "malformed", "a MAC of 31 bytes", with_digest(text + short))
    yield damaged("mac-missing", "malformed", "an empty MAC", with_digest(text + b"--- " + tail[mac_end:]))
    other = b"--- " + _b64(stream("x", 32)) + tail[mac_end:]
    yield damaged("mac-other", "altered", "another MAC", with_digest(text + other))


def forged_stanzas() -> Iterator[Vector]:
    text, tail = _pieces(_seal.seal(header(), RECORDS, DATA_KEY))
    first = text.index(b"-> ")
    salt64, wrapped64 = _b64(stream("s", 32)), _b64(stream("w", 48))

    def with_stanza(head: bytes, wrapped: bytes = wrapped64) -> bytes:
        return with_digest(text + head + b"\n" + wrapped + b"\n" + tail)

    def argon2id(cost: bytes) -> bytes:
        return with_stanza(b"-> passphrase-argon2id extra " + cost + b" " + salt64)

    def scrypt(cost: bytes) -> bytes:
        return with_stanza(b"-> passphrase-scrypt extra " + cost + b" " + salt64)

    stanza = text[first:]
    yield damaged("label-twice", "malformed", "two ways of one label", with_digest(text + stanza + tail))
    good_line = b"-> key-file extra " + salt64
    yield damaged("label-blank", "malformed", "a blank in a label", with_stanza(b"-> key-file ex tra " + salt64))
    yield damaged("label-empty", "malformed", "an empty label", with_stanza(b"-> key-file  " + salt64))
    yield damaged("label-long", "malformed", "65 characters", with_stanza(b"-> key-file " + b"x" * 65 + b" " + salt64))
    yield damaged("label-sign", "malformed", "a character no label has", with_stanza(b"-> key-file a;b " + salt64))
    yield damaged("kind-upper", "malformed", "a kind in capitals", with_stanza(b"-> Key-File extra " + salt64))
    yield damaged("no-label", "malformed", "nothing after the kind", with_stanza(b"-> key-file"))
    yield damaged("no-arrow", "malformed", "a stanza without its arrow", with_stanza(b"=> key-file extra " + salt64))
    yield damaged("no-salt", "malformed", "no salt", with_stanza(b"-> key-file extra"))
    yield damaged("two-salts", "malformed", "an argument too many", with_stanza(good_line + b" " + salt64))
    short = b"-> key-file extra " + _b64(stream("s", 31))
    yield damaged("stanza-salt-short", "malformed", "a salt of 31 bytes", with_stanza(short))
    yield damaged(
        "wrapped-short", "malformed", "47 bytes of wrapped key", with_stanza(good_line, _b64(stream("w", 47)))
    )
    yield damaged("wrapped-long", "malformed", "49 bytes of wrapped key", with_stanza(good_line, _b64(stream("w", 49))))
    yield damaged("wrapped-empty", "malformed", "no wrapped key", with_stanza(good_line, b""))
    yield damaged(
        "wrapped-loose",
        "malformed",
        "base64 with a blank",
        with_stanza(good_line, wrapped64[:8] + b" " + wrapped64[8:]),
    )
    yield damaged(
        "unknown-arguments", "malformed", "an unknown kind, 17 arguments", with_stanza(b"-> tpm2 extra" + b" a" * 17)
    )
    yield damaged(
        "unknown-argument-empty", "malformed", "an unknown kind, an empty argument", with_stanza(b"-> tpm2 extra  a")
    )
    yield damaged("argon2id-memory", "malformed", "1 KiB more than the cap of 256 MiB", argon2id(b"3 262145 4"))
    yield damaged("argon2id-memory-huge", "malformed", "64 GiB", argon2id(b"3 67108864 4"))
    yield damaged("argon2id-memory-low", "malformed", "less than 8 KiB for each lane", argon2id(b"3 31 4"))
    yield damaged("argon2id-passes", "malformed", "11 passes", argon2id(b"11 65536 4"))
    yield damaged("argon2id-no-pass", "malformed", "no pass", argon2id(b"0 65536 4"))
    yield damaged("argon2id-lanes", "malformed", "17 lanes", argon2id(b"3 65536 17"))
    yield damaged("argon2id-no-lane", "malformed", "no lane", argon2id(b"3 65536 0"))
    yield damaged("argon2id-number", "malformed", "a leading zero", argon2id(b"03 65536 4"))
    yield damaged("argon2id-long-number", "malformed", "twenty digits", argon2id(b"3 10000000000000000000 4"))
    yield damaged("argon2id-arguments", "malformed", "an argument is missing", argon2id(b"3 65536"))
    yield damaged("scrypt-n", "malformed", "N = 2^19", scrypt(b"19 8 1"))
    yield damaged("scrypt-n-zero", "malformed", "N = 1", scrypt(b"0 8 1"))
    yield damaged("scrypt-r", "malformed", "r = 9", scrypt(b"16 9 1"))
    yield damaged("scrypt-p", "malformed", "p = 5", scrypt(b"16 8 5"))
    yield damaged("scrypt-p-zero", "malformed", "p = 0", scrypt(b"16 8 0"))
    many = b"".join(b"-> key-file k%d %s\n%s\n" % (n, salt64, wrapped64) for n in range(32))
    yield damaged("ways-33", "malformed", "33 ways to unlock", with_digest(text + many + tail))
    phrases = b"".join(b"-> passphrase-argon2id p%d 3 65536 4 %s\n%s\n" % (n, salt64, wrapped64) for n in range(9))
    yield damaged("passphrases-9", "malformed", "9 passphrases", with_digest(text + phrases + tail))


def forged_bodies() -> Iterator[Vector]:
    plain = _seal.seal(header(), RECORDS, DATA_KEY)
    text, tail = _pieces(plain)
    mac, body = tail[: tail.index(b"\n") + 1], tail[tail.index(b"\n") + 1 :]

    def with_body(changed: bytes) -> bytes:
        return with_digest(text + mac + changed)

    yield damaged("body-empty", "malformed", "nothing after the header", with_body(b""))
    yield damaged("body-three-bytes", "malformed", "not even the index's length", with_body(b"\0\0\1"))
    yield damaged("index-length-zero", "malformed", "an index of length 0", with_body(bytes(4) + body[4:]))
    yield damaged(
        "index-length-off", "malformed", "an index that ends between two steps", with_body(b"\0\0\1\x11" + body[4:])
    )
    yield damaged(
        "index-length-beyond", "malformed", "an index longer than the body", with_body(b"\0\0\x10\x10" + body[4:])
    )
    yield damaged(
        "index-altered", "altered", "a byte of the sealed index", with_body(body[:9] + bytes([body[9] ^ 1]) + body[10:])
    )
    yield damaged("index-other", "altered", "another generation's index", with_body(_other_index() + body[276:]))
    yield damaged(
        "record-altered",
        "altered",
        "a byte of a sealed record",
        with_body(body[:-5] + bytes([body[-5] ^ 1]) + body[-4:]),
    )
    yield damaged("record-removed", "malformed", "a record less than the index says", with_body(body[:-272]))
    yield damaged("record-doubled", "malformed", "a record more than the index says", with_body(body + body[-272:]))
    swapped = sealed_by_hand(frames=lambda frames: [frames[1], frames[0], frames[2]])
    yield damaged("records-exchanged", "exchanged", "two records in each other's place", swapped)
    twice = sealed_by_hand(frames=lambda frames: [frames[0], frames[0], frames[2]])
    yield damaged("record-repeated", "exchanged", "a record in two places", twice)
    stale = _seal.seal(header(generation=6), RECORDS, DATA_KEY)[-272:]
    comment = "the last record is the generation before's"
    yield damaged("record-of-older-generation", "altered", comment, with_body(body[:-272] + stale))

    frame = 272
    entries = [(b"anna", frame), (b"bert", frame), (b"carl", frame)]
    for name, comment, index in (
        ("names-twice", "two records of one name", index_of(entries[0], entries[0], entries[2])),
        ("names-unsorted", "names out of order", index_of(entries[1], entries[0], entries[2])),
        ("name-empty", "an empty name", index_of((b"", frame), *entries[1:])),
        ("name-control", "a line end in a name", index_of((b"an\na", frame), *entries[1:])),
        ("name-delete", "a DEL in a name", index_of((b"an\x7fa", frame), *entries[1:])),
        ("name-utf8", "a name that is not UTF-8", index_of((b"\xff\xfe", frame), *entries[1:])[:256]),
        ("name-surrogate", "a surrogate in a name", index_of(entries[0], entries[1], (b"\xed\xa0\x80", frame))),
        ("index-count-high", "more names promised than there are", index_of(*entries, count=2**32 - 1)),
        ("index-count-low", "fewer names promised than there are", index_of(*entries, count=2)),
        ("index-frame-off", "a frame that ends between two steps", index_of((b"anna", 273), *entries[1:])),
        ("index-frame-empty", "a frame with nothing in it", index_of((b"anna", 16), *entries[1:])),
        ("index-padding", "a byte in the padding", index_of(*entries)[:-1] + b"\1"),
        ("index-overpadded", "a step of padding too many", index_of(*entries) + bytes(256)),
        ("index-one-short", "a record the index does not know", index_of(*entries[:2])),
    ):
        yield damaged(name, "malformed", comment, sealed_by_hand(index=index))
    records: list[tuple[str, str, Callable[[bytes], bytes]]] = [
        ("record-length", "a length that runs past the end", lambda packed: b"\0\0\1\0" + packed[4:]),
        ("record-length-huge", "a length of 4 GiB", lambda packed: b"\xff" * 4 + packed[4:]),
        ("record-padding", "a byte in the padding", lambda packed: packed[:-1] + b"\1"),
        ("record-overpadded", "a step of padding too many", lambda packed: packed + bytes(256)),
    ]
    for name, comment, change in records:
        made = sealed_by_hand(plain=_second_record(change))
        yield damaged(name, "malformed", comment, made)


def _other_index() -> bytes:
    other = _seal.seal(header(generation=6), RECORDS, DATA_KEY)
    _, tail = _pieces(other)
    return tail[tail.index(b"\n") + 1 :][:276]


def _pieces(content: bytes) -> tuple[bytes, bytes]:
    """The header lines without the last one, and the rest."""
    rest = content.split(b"\n", 2)[2]
    end = rest.index(b"\n--- ") + 1
    return rest[:end], rest[end:]


def _b64(value: bytes) -> bytes:
    return _format.to_base64(value).encode()


def _loose(encoded: bytes) -> bytes:
    """The same value in another encoding: the last character before `==` has four unused bits."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet.index(encoded[-3])
    return encoded[:-3] + alphabet[last + 1 : last + 2] + b"=="


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for stale in FOLDER.glob("*.txt"):
        stale.unlink()
    for vector in vectors():
        (FOLDER / f"{vector.name}.txt").write_text(vector.render(), encoding="utf-8")


if __name__ == "__main__":
    main()
