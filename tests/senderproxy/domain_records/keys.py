"""DKIM keys for tests: the same ones in each process, because they are a part of the tests' names."""

import base64
import random

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def rsa_key(bits: int, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> str:
    """The value of `p=`, for a modulus that is no product of two primes: nobody signs here."""
    modulus = random.Random(bits).getrandbits(bits) | 1 << (bits - 1) | 1
    public = rsa.RSAPublicNumbers(65537, modulus).public_key()
    return base64.b64encode(public.public_bytes(Encoding.DER, form)).decode()


def ed25519_key() -> str:
    return base64.b64encode(random.Random(25519).randbytes(32)).decode()


KEY = rsa_key(2048)
