"""Cryptography: derive and wrap keys, encrypt and decrypt a vault. The only module that imports cryptography.

Guarantees: `open_sealed_vault` returns exactly what `seal` encrypted, for the same vault, generation and names, or
raises.

Not here: the source of the secrets (_keys), the layout of the bytes (_format).

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

# RFC 9106 section 4, second recommended option. scrypt with the same 64 MiB, for machines without Argon2id.
ARGON2ID_COST: Final = Argon2idCost(passes=3, kibibytes=64 * 1024, lanes=4)
SCRYPT_COST: Final = ScryptCost(log2_n=16, r=8, p=2)


class Secret:
    """Secret bytes. No repr, log line or traceback shows them."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> str:
        raise TypeError("a secret cannot be pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a secret must not be a dictionary key


def new_key() -> Secret:
    return Secret(secrets.token_bytes(_format.KEY_BYTES))


def new_salt() -> bytes:
    return secrets.token_bytes(_format.SALT_BYTES)


def new_vault_id() -> bytes:
    return secrets.token_bytes(_format.ID_BYTES)


# ---- wrapping the data key with a secret ----


def usual_cost() -> Cost:
    """Cost for new passphrases: Argon2id if this machine's cryptography has it, else scrypt."""
    try:
        derive_from_passphrase(
            Secret(b"probe"), bytes(_format.SALT_BYTES), Argon2idCost(passes=1, kibibytes=8, lanes=1)
        )
    except NoBackend:
        return SCRYPT_COST
    return ARGON2ID_COST


def derive_from_passphrase(passphrase: Secret, salt: bytes, cost: Cost) -> Secret:
    """Derive 32 bytes from a passphrase, slowly. Raises NoBackend without the algorithm or the memory."""
    try:
        match cost:
            case Argon2idCost(passes, kibibytes, lanes):
                # cryptography has it since version 44, and only with OpenSSL 3.2 or later
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
            f"this machine's cryptography library does not support {type(cost).__name__.removesuffix('Cost')}",
            hint="Upgrade it (pip install --upgrade cryptography), or unlock with a key file if the vault has one.",
        ) from error
    except MemoryError as error:
        raise NoBackend(
            "not enough memory to derive a key from the passphrase",
            hint="Give the process at least 128 MiB more (systemd: MemoryMax=), or unlock with a key file.",
        ) from error


def wrap(secret: Secret, salt: bytes, associated_data: bytes, data_key: Secret) -> bytes:
    """Encrypt the data key with a secret. `associated_data` binds it to one vault and one stanza."""
    # The nonce may be zero: the salt is fresh for every stanza, so each wrapping key encrypts exactly once.
    return _wrapping_cipher(secret, salt).encrypt(_nonce(0), data_key.reveal(), associated_data)


def unwrap(secret: Secret, salt: bytes, associated_data: bytes, wrapped: bytes) -> Secret | None:
    """Return the data key, None if this secret did not wrap it for this vault and stanza."""
    try:
        return Secret(_wrapping_cipher(secret, salt).decrypt(_nonce(0), wrapped, associated_data))
    except InvalidTag:
        return None


def _wrapping_cipher(secret: Secret, salt: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(_derive(secret, salt, b"vault/v1 wrap"))


# ---- encrypting the content with the data key ----


@dataclass(frozen=True, slots=True)
class OpenedVault:
    """An authenticated vault. All frames were checked; a record is decrypted again at each request."""

    header: Header
    frames: Mapping[str, tuple[int, bytes]]
    key: Secret

    def read(self, name: str) -> bytes:
        position, frame = self.frames[name]
        body = _open_frame(ChaCha20Poly1305(self.key.reveal()), self.header, position, name, frame)
        assert body is not None  # it was authenticated when the vault was opened
        return body


def seal(header: Header, records: Mapping[str, bytes], data_key: Secret) -> bytes:
    """Encrypt records into the bytes of a file. The salt of the header must be fresh: see `_nonce`."""
    mac = _mac(header, data_key)
    cipher = ChaCha20Poly1305(_body_key(header, data_key).reveal())
    entries, frames = [], []
    for position, name in enumerate(_format.sorted_names(records), start=1):
        plain = _format.pack_record(records[name])
        frame = cipher.encrypt(_nonce(position), plain, _record_associated_data(header, name))
        frames.append(frame)
        entries.append(IndexEntry(name, len(frame)))
    index = cipher.encrypt(_nonce(0), _format.pack_index(entries), _index_associated_data(mac))
    return SealedVault(header, mac, index, b"".join(frames)).render()


def matches_data_key(sealed: SealedVault, data_key: Secret) -> bool:
    """True if this data key made the MAC of this header."""
    return hmac.compare_digest(_mac(sealed.header, data_key), sealed.mac)


def open_sealed_vault(sealed: SealedVault, data_key: Secret) -> OpenedVault:
    """Authenticate all parts. Raises Damaged, which names the altered part."""
    if not matches_data_key(sealed, data_key):
        raise Damaged("its header was altered", damage=Damage.ALTERED)
    key = _body_key(sealed.header, data_key)
    cipher = ChaCha20Poly1305(key.reveal())
    try:
        index = cipher.decrypt(_nonce(0), sealed.index, _index_associated_data(sealed.mac))
    except InvalidTag:
        raise Damaged("its index of records was altered", damage=Damage.ALTERED) from None
    entries = _format.unpack_index(index)
    names = [entry.name for entry in entries]
    frames = dict(zip(names, enumerate(_format.split_frames(entries, sealed.frames), start=1), strict=True))
    for name, (position, frame) in frames.items():
        if _open_frame(cipher, sealed.header, position, name, frame) is None:
            raise _record_error(cipher, sealed.header, names, name, frame)
    return OpenedVault(sealed.header, frames, key)


def _open_frame(cipher: ChaCha20Poly1305, header: Header, position: int, name: str, frame: bytes) -> bytes | None:
    try:
        plain = cipher.decrypt(_nonce(position), frame, _record_associated_data(header, name))
    except InvalidTag:
        return None
    return _format.unpack_record(plain)


def _record_error(cipher: ChaCha20Poly1305, header: Header, names: list[str], name: str, frame: bytes) -> Damaged:
    """Return the error for a frame that does not decrypt: exchanged with another record, or altered."""
    for position, other in enumerate(names, start=1):
        if _open_frame(cipher, header, position, other, frame) is not None:
            return Damaged(f"record {other!r} is in the place of {name!r}", damage=Damage.EXCHANGED)
    return Damaged(f"record {name!r} was altered", damage=Damage.ALTERED)


# ---- chunks of a sealed stream ----


class ChunkCipher:
    """Encryption of numbered chunks, the last one marked: STREAM of Hoang, Reyhanitabar, Rogaway and Vizár (2015).

    The key must be new for each stream: the nonce is the chunk's number and the mark.
    """

    def __init__(self, key: Secret, salt: bytes, header: bytes) -> None:
        """`header`: the octets before the chunks; each chunk is bound to them by their MAC."""
        self.mac = hmac.digest(_derive(key, salt, b"vault-stream/v1 header"), header, "sha256")
        self._cipher = ChaCha20Poly1305(_derive(key, salt, b"vault-stream/v1 chunks"))

    def seal(self, number: int, chunk: bytes, *, last: bool) -> bytes:
        return self._cipher.encrypt(_chunk_nonce(number, last), chunk, self.mac)

    def open(self, number: int, sealed: bytes, *, last: bool) -> bytes | None:
        """Return the chunk, None if it is another one or was altered."""
        try:
            return self._cipher.decrypt(_chunk_nonce(number, last), sealed, self.mac)
        except InvalidTag:
            return None


def _chunk_nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


# ---- derived keys, MAC, associated data, nonces ----


def caller_key(vault_id: bytes, data_key: Secret, purpose: str) -> bytes:
    """Return 32 bytes for a purpose of the caller's, which reveal nothing about the data key."""
    return _derive(data_key, vault_id, b"vault/v1 caller " + purpose.encode("utf-8"))


def _body_key(header: Header, data_key: Secret) -> Secret:
    return Secret(_derive(data_key, header.salt, b"vault/v1 body"))


def _mac(header: Header, data_key: Secret) -> bytes:
    key = _derive(data_key, header.vault_id, b"vault/v1 header")
    return hmac.digest(key, _format.version_line() + header.render(), "sha256")


def _index_associated_data(mac: bytes) -> bytes:
    return b"vault/v1 index" + mac  # the MAC covers the whole header


def _record_associated_data(header: Header, name: str) -> bytes:
    return b"vault/v1 record" + header.vault_id + struct.pack(">Q", header.generation) + name.encode("utf-8")


def _nonce(number: int) -> bytes:
    """A counter, not random: the body key is new for every file written, so no number is used twice with it."""
    return number.to_bytes(12, "big")


def _derive(secret: Secret, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=purpose).derive(secret.reveal())
