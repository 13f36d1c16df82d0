"""Canonical forms, held against dkimpy's."""

import hashlib
import tracemalloc
from collections.abc import Iterator

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import example, given
from hypothesis import strategies as st

from senderproxy.dkim.canonical import RelaxedBodyHash, SimpleBodyHash, relaxed_field

PIECES = st.sampled_from(
    [b" ", b"\t", b"  ", b"\r\n", b"\r\n\r\n", b"a", b"b c", b".", b" \r\n", b"\xc3\xa4", b"\x0b", b"\0"]
)


@given(st.lists(PIECES, max_size=30), st.lists(st.integers(1, 9), max_size=40))
@example([b"\r\n"] * 5, [1])
@example([b" ", b"\r\n", b"\t"], [1])
@example([b"a", b" ", b"\r\n", b"\r\n", b" ", b"\r\n", b"b"], [2, 1, 1, 1, 1])
def test_a_body_in_any_blocks_has_the_hash_of_dkimpy(parts: list[bytes], cuts: list[int]) -> None:
    body = b"".join(parts)
    body += b"\r\n" * (bool(body) and not body.endswith(b"\r\n"))
    relaxed, simple = RelaxedBodyHash(), SimpleBodyHash()
    at = 0
    for size in (*cuts, len(body)):
        relaxed.feed(body[at : at + size])
        simple.feed(body[at : at + size])
        at += size
    assert relaxed.digest() == hashlib.sha256(Relaxed.canonicalize_body(body)).digest()
    assert simple.digest() == hashlib.sha256(Simple.canonicalize_body(body)).digest()


@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n ", b"\r\n\t", b"a", b"b,", b"\xff", b"\0"]), max_size=20))
def test_a_field_is_that_of_dkimpy(parts: list[bytes]) -> None:
    value = b"".join(parts)
    [(name, wanted)] = Relaxed.canonicalize_headers([(b"SubJect", value)])
    assert relaxed_field(b"SubJect", value) == name + b":" + wanted.strip(b" \r\n") + b"\r\n"


def test_an_empty_body_is_empty() -> None:
    empty = hashlib.sha256().digest()
    assert RelaxedBodyHash().digest() == empty
    assert SimpleBodyHash().digest() == hashlib.sha256(b"\r\n").digest()  # RFC 6376 section 3.4.3
    hashed = RelaxedBodyHash()
    hashed.feed(b"\r\n" * 100)
    assert hashed.digest() == empty


@pytest.mark.parametrize("unit", [b"x" * 64, b" ", b"\t", b"\r\n", b" \r\n", b"a b  c\t\r\n"], ids=repr)
def test_memory_does_not_grow_with_the_body(unit: bytes) -> None:
    def blocks(count: int) -> Iterator[bytes]:
        block = unit * (65536 // len(unit))
        return (block for _ in range(count))

    peaks = []
    for count in (4, 80):
        tracemalloc.start()
        hashed = RelaxedBodyHash()
        for block in blocks(count):
            hashed.feed(block)
        hashed.digest()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 10_000
