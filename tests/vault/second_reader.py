"""Second reader of the file format, written from FORMAT.md alone: it imports nothing of the vault.

It shows that the specification is complete. It raises `ValueError` for a damaged file.
"""

import base64
import hashlib
import hmac
import re
import struct
import unicodedata

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

B64 = r"[A-Za-z0-9+/]+={0,2}"
HEADER = re.compile(
    rf"id (?P<id>{B64})\ngeneration (?P<generation>[1-9][0-9]{{0,18}})\nsalt (?P<salt>{B64})\n"
    rf"(?P<stanzas>(?:-> [a-z0-9-]{{1,32}} [A-Za-z0-9._@:+/-]{{1,64}}(?: [!-~]{{1,512}}){{0,16}}\n{B64}\n){{1,32}})"
    rf"--- (?P<mac>{B64})\n".encode("ascii")
)
ARGUMENTS = {"passphrase-argon2id": 4, "passphrase-scrypt": 4, "key-file": 1, "keyring": 1}


class TooNewForUs(Exception):
    pass


class NotOurKey(Exception):
    pass


def check(condition: object) -> None:
    if not condition:
        raise ValueError("damaged")


def unbase64(text: bytes | str, length: int | None = None) -> bytes:
    text = text if isinstance(text, bytes) else text.encode("ascii")
    value = base64.b64decode(text, validate=True)
    check(base64.b64encode(value) == text and (length is None or len(value) == length))
    return value


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)


def unseal(key: bytes, number: int, sealed: bytes, aad: bytes) -> bytes:
    return ChaCha20Poly1305(key).decrypt(number.to_bytes(12, "big"), sealed, aad)


def read(file: bytes, kind: str, secret: bytes) -> tuple[str, int, dict[str, bytes]]:
    """Return id, generation and records. `kind` is passphrase, key-file or keyring."""
    check(len(file) <= 67108864)
    opening = re.match(rb"(vault/v([1-9][0-9]{0,8})\n)whole (0|[1-9][0-9]{0,9}) ([A-Za-z0-9+/]{43}=)\n", file)
    if opening is None:
        raise ValueError("damaged")
    rest = file[opening.end() :]
    check(len(rest) == int(opening[3]))
    check(hashlib.sha256(opening[1] + rest).digest() == unbase64(opening[4], 32))
    if int(opening[2]) > 1:
        raise TooNewForUs
    header = HEADER.match(rest)
    if header is None:
        raise ValueError("damaged")
    vault_id, salt = unbase64(header["id"], 16), unbase64(header["salt"], 32)
    generation, mac = int(header["generation"]), unbase64(header["mac"], 32)
    check(generation < 2**63 and header.end() <= 65536)
    lines = header["stanzas"].decode("ascii").split("\n")[:-1]
    data_key = find_data_key(list(zip(lines[::2], lines[1::2], strict=True)), vault_id, kind, secret)
    covered = b"vault/v1\n" + rest[: header.start("mac") - 1]
    check(hmac.digest(hkdf(data_key, vault_id, b"vault/v1 header"), covered, "sha256") == mac)
    body_key = hkdf(data_key, salt, b"vault/v1 body")
    try:
        return vault_id.hex(), generation, read_body(rest[header.end() :], body_key, vault_id, generation, mac)
    except (InvalidTag, struct.error, IndexError, UnicodeDecodeError):
        raise ValueError("damaged") from None


def parse_stanza(head: str, wrapped: str) -> tuple[str, str, str, list[str], bytes]:
    _, kind, label, *arguments = head.split(" ")
    return head, kind, label, arguments, unbase64(wrapped)


def find_data_key(stanzas: list[tuple[str, str]], vault_id: bytes, method: str, secret: bytes) -> bytes:
    parsed = [parse_stanza(head, wrapped) for head, wrapped in stanzas]
    labels = [label for _, _, label, _, _ in parsed]
    check(len(set(labels)) == len(labels))
    check(sum(kind.startswith("passphrase-") and kind in ARGUMENTS for _, kind, *_ in parsed) <= 8)
    for _, kind, _, arguments, wrapped in parsed:
        if kind in ARGUMENTS:
            check(len(arguments) == ARGUMENTS[kind] and len(wrapped) == 48)
            unbase64(arguments[-1], 32)
            check(all(re.fullmatch(r"0|[1-9][0-9]{0,18}", number) for number in arguments[:-1]))
        check_cost(kind, arguments)
    for head, kind, _, arguments, wrapped in parsed:
        if kind not in ARGUMENTS or not kind.startswith(method):
            continue
        salt = unbase64(arguments[-1], 32)
        wrapping = hkdf(derived(kind, arguments, salt, secret), salt, b"vault/v1 wrap")
        try:
            return unseal(wrapping, 0, wrapped, vault_id + head.encode("ascii"))
        except InvalidTag:
            continue
    raise NotOurKey


def check_cost(kind: str, arguments: list[str]) -> None:
    if kind == "passphrase-argon2id":
        passes, memory, lanes = map(int, arguments[:3])
        check(1 <= passes <= 10 and 1 <= lanes <= 16 and 8 * lanes <= memory <= 262144)
    if kind == "passphrase-scrypt":
        log2_n, r, p = map(int, arguments[:3])
        check(1 <= log2_n <= 18 and r == 8 and 1 <= p <= 4)


def derived(kind: str, arguments: list[str], salt: bytes, secret: bytes) -> bytes:
    if kind == "passphrase-argon2id":
        passes, memory, lanes = map(int, arguments[:3])
        argon2id = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory)
        return argon2id.derive(nfc(secret))
    if kind == "passphrase-scrypt":
        log2_n, r, p = map(int, arguments[:3])
        return hashlib.scrypt(nfc(secret), salt=salt, n=2**log2_n, r=r, p=p, dklen=32, maxmem=2**29)
    if kind == "key-file" and secret.startswith(b"vault-key/"):
        line = re.fullmatch(rb"vault-key/v1 ([A-Za-z0-9+/]{43}=)\s*", secret)
        check(line)
        assert line
        return unbase64(line[1], 32)
    return secret


def nfc(secret: bytes) -> bytes:
    return unicodedata.normalize("NFC", secret.decode("utf-8")).encode("utf-8")


def read_body(body: bytes, key: bytes, vault_id: bytes, generation: int, mac: bytes) -> dict[str, bytes]:
    (length,) = struct.unpack(">I", body[:4])
    check(length > 16 and length % 256 == 16 and len(body) >= 4 + length)
    index = unseal(key, 0, body[4 : 4 + length], b"vault/v1 index" + mac)
    at, frames, records, last = 4, 4 + length, {}, b""
    (count,) = struct.unpack(">I", index[:4])
    for position in range(1, count + 1):
        name = index[at + 1 : at + 1 + index[at]]
        at += 1 + index[at] + 4
        (frame_length,) = struct.unpack(">I", index[at - 4 : at])
        check(name > last and not re.search(rb"[\x00-\x1f\x7f]", name))
        check(frame_length > 16 and frame_length % 256 == 16 and frames + frame_length <= len(body))
        aad = b"vault/v1 record" + vault_id + struct.pack(">Q", generation) + name
        plain = unseal(key, position, body[frames : frames + frame_length], aad)
        (size,) = struct.unpack(">I", plain[:4])
        check(size <= 1048576)
        records[name.decode("utf-8")] = unpadded(plain, 4 + size)[4:]
        frames, last = frames + frame_length, name
    unpadded(index, at)
    check(frames == len(body))
    return records


def unpadded(plain: bytes, end: int) -> bytes:
    check(end <= len(plain) < end + 256 and not any(plain[end:]))
    return plain[:end]
