"""Keys and seals: derive, wrap, seal, open. The only module that says cryptography.

Guarantees: `open_sealed_vault` gives what `seal` was given, for the same vault, generation and names, or it raises.
Not here: where secrets come from (_keys), how bytes are laid out (_format).
RFC 5869 (HKDF), RFC 8439 (ChaCha20-Poly1305), RFC 9106 (Argon2id), RFC 7914 (scrypt).
"""

import hmac
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from vault import _format
from vault._errors import Damage, Damaged, NoBackend
from vault._format import Argon2idCost, Cost, Header, IndexEntry, ScryptCost, SealedVault

# RFC 9106 section 4, second recommended option. scrypt at the same 64 MiB, where Argon2id is missing.
ARGON2ID_COST: Final = Argon2idCost(passes=3, kibibytes=64 * 1024, lanes=4)
SCRYPT_COST: Final = ScryptCost(log2_n=16, r=8, p=2)


class Secret:
    """Bytes without a face: no repr, log line or traceback shows them."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a secret is no dictionary key


def new_key() -> Secret:
    return Secret(secrets.token_bytes(_format.KEY_BYTES))


def new_salt() -> bytes:
    return secrets.token_bytes(_format.SALT_BYTES)


def new_vault_id() -> bytes:
    return secrets.token_bytes(_format.ID_BYTES)


# ---- ways in: a secret wraps the data key ----


def usual_cost() -> Cost:
    """Argon2id where this machine's cryptography has it, scrypt elsewhere."""
    try:
        derive_from_passphrase(
            Secret(b"probe"), bytes(_format.SALT_BYTES), Argon2idCost(passes=1, kibibytes=8, lanes=1)
        )
    except NoBackend:
        return SCRYPT_COST
    return ARGON2ID_COST


def derive_from_passphrase(passphrase: Secret, salt: bytes, cost: Cost) -> Secret:
    """Make 32 bytes of a passphrase, slowly."""
    try:
        match cost:
            case Argon2idCost(passes, kibibytes, lanes):
                # cryptography has it from version 44 on, and then only with OpenSSL 3.2 or later
                from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

                argon2id = Argon2id(
                    salt=salt, length=_format.KEY_BYTES, iterations=passes, lanes=lanes, memory_cost=kibibytes
                )
                return Secret(argon2id.derive(passphrase.reveal()))
            case ScryptCost(log2_n, r, p):
                scrypt = Scrypt(salt=salt, length=_format.KEY_BYTES, n=1 << log2_n, r=r, p=p)
                return Secret(scrypt.derive(passphrase.reveal()))
    except (ImportError, UnsupportedAlgorithm) as error:
        raise NoBackend(
            f"this machine's cryptography library cannot do {type(cost).__name__.removesuffix('Cost')}",
            hint="pip install --upgrade cryptography; or unlock with a key file, if the vault has one.",
        ) from error
    except MemoryError as error:
        raise NoBackend(
            "not enough memory to stretch the passphrase",
            hint="Give the process at least 128 MiB more (systemd: MemoryMax=), or unlock with a key file.",
        ) from error


def wrap(secret: Secret, salt: bytes, bound: bytes, data_key: Secret) -> bytes:
    """Seal the data key under a secret; `bound` says for which vault and which stanza."""
    # The nonce may be zero: the salt is fresh for every stanza, so each wrapping key seals exactly once.
    return _wrapping(secret, salt).encrypt(_nonce(0), data_key.reveal(), bound)


def unwrap(secret: Secret, salt: bytes, bound: bytes, wrapped: bytes) -> Secret | None:
    """Give the data key, or None if this secret did not wrap it for this vault and stanza."""
    try:
        return Secret(_wrapping(secret, salt).decrypt(_nonce(0), wrapped, bound))
    except InvalidTag:
        return None


def _wrapping(secret: Secret, salt: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(_derive(secret, salt, b"vault/v1 wrap"))


# ---- the content under the data key ----


@dataclass(frozen=True, slots=True)
class Opened:
    """An authentic vault: every seal was checked, and each record's plaintext is made anew when it is asked for."""

    header: Header
    frames: Mapping[str, tuple[int, bytes]]
    key: Secret

    def read(self, name: str) -> bytes:
        position, frame = self.frames[name]
        body = _open_frame(ChaCha20Poly1305(self.key.reveal()), self.header, position, name, frame)
        assert body is not None  # its seal was checked when the vault was opened
        return body


def seal(header: Header, records: Mapping[str, bytes], data_key: Secret) -> bytes:
    """Seal records into the bytes of a whole file. The header's salt must be fresh: see `_nonce`."""
    mac = _mac(header, data_key)
    cipher = ChaCha20Poly1305(_body_key(header, data_key).reveal())
    entries, frames = [], []
    for position, name in enumerate(_format.in_order(records), start=1):
        plain = _format.pack_record(records[name])
        frame = cipher.encrypt(_nonce(position), plain, _record_bound(header, name))
        frames.append(frame)
        entries.append(IndexEntry(name, len(frame)))
    index = cipher.encrypt(_nonce(0), _format.pack_index(entries), _index_bound(mac))
    return SealedVault(header, mac, index, b"".join(frames)).render()


def fits(sheet: SealedVault, data_key: Secret) -> bool:
    """Whether this data key made this header."""
    return hmac.compare_digest(_mac(sheet.header, data_key), sheet.mac)


def open_sealed_vault(sheet: SealedVault, data_key: Secret) -> Opened:
    """Check every seal. Raises Damaged, and says what was found where."""
    if not fits(sheet, data_key):
        raise Damaged("its header was altered", damage=Damage.ALTERED)
    key = _body_key(sheet.header, data_key)
    cipher = ChaCha20Poly1305(key.reveal())
    try:
        index = cipher.decrypt(_nonce(0), sheet.index, _index_bound(sheet.mac))
    except InvalidTag:
        raise Damaged("its index of records was altered", damage=Damage.ALTERED) from None
    entries = _format.unpack_index(index)
    names = [entry.name for entry in entries]
    frames = dict(zip(names, enumerate(_format.split_frames(entries, sheet.frames), start=1), strict=True))
    for name, (position, frame) in frames.items():
        if _open_frame(cipher, sheet.header, position, name, frame) is None:
            raise _not_this_record(cipher, sheet.header, names, name, frame)
    return Opened(sheet.header, frames, key)


def _open_frame(cipher: ChaCha20Poly1305, header: Header, position: int, name: str, frame: bytes) -> bytes | None:
    try:
        plain = cipher.decrypt(_nonce(position), frame, _record_bound(header, name))
    except InvalidTag:
        return None
    return _format.unpack_record(plain)


def _not_this_record(cipher: ChaCha20Poly1305, header: Header, names: list[str], name: str, frame: bytes) -> Damaged:
    """Tell a record put in another's place from one whose bytes were changed."""
    for position, other in enumerate(names, start=1):
        if _open_frame(cipher, header, position, other, frame) is not None:
            return Damaged(f"record {other!r} stands in the place of {name!r}", damage=Damage.EXCHANGED)
    return Damaged(f"record {name!r} was altered", damage=Damage.ALTERED)


# ---- what keys and seals are bound to ----


def _body_key(header: Header, data_key: Secret) -> Secret:
    return Secret(_derive(data_key, header.salt, b"vault/v1 body"))


def _mac(header: Header, data_key: Secret) -> bytes:
    key = _derive(data_key, header.vault_id, b"vault/v1 header")
    return hmac.digest(key, _format.version_line() + header.render(), "sha256")


def _index_bound(mac: bytes) -> bytes:
    return b"vault/v1 index" + mac  # the MAC stands for the whole header


def _record_bound(header: Header, name: str) -> bytes:
    return b"vault/v1 record" + header.vault_id + struct.pack(">Q", header.generation) + name.encode("utf-8")


def _nonce(number: int) -> bytes:
    """Count, do not draw: the body's key is new for every file written, so no number is used twice under it."""
    return number.to_bytes(12, "big")


def _derive(secret: Secret, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=purpose).derive(secret.reveal())
