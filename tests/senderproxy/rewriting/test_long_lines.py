"""Lines longer than SMTP allows."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.rewriting.long_lines import FoldedBody, LongLineDetector


@dataclass
class Pieces:
    """A body with given blocks."""

    pieces: list[bytes]
    is_ascii: bool = True
    has_long_lines: bool = False
    disk: None = None

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))

    def blocks(self) -> Iterator[bytes]:
        yield from self.pieces

    def retain(self) -> None:
        pass

    def close(self) -> None:
        pass


def _cut(content: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    return [content[start:end] for start, end in pairwise(places)]


_CONTENTS = st.lists(st.integers(0, 3100), max_size=5).map(
    lambda lengths: b"".join(b"x" * n + b"\r\n" for n in lengths)
)


@given(_CONTENTS, st.lists(st.integers(0, 20_000), max_size=6))
def test_however_it_comes_in_pieces_no_line_leaves_too_long_and_no_short_one_is_touched(
    content: bytes, cuts: list[int]
) -> None:
    body = FoldedBody(Pieces(_cut(content, cuts)))
    left = b"".join(body.blocks())
    lines = left.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert left.replace(b"\r\n ", b"") == content
    assert len(left) <= body.size + 3
    assert left.count(b"\r") == left.count(b"\n") == left.count(b"\r\n")


@given(_CONTENTS, st.lists(st.integers(0, 20_000), max_size=6))
def test_the_meter_sees_each_long_line_and_no_other(content: bytes, cuts: list[int]) -> None:
    meter = LongLineDetector()
    for piece in _cut(content, cuts):
        meter.feed(piece)
    assert meter.found == any(len(line) > 998 for line in content.split(b"\r\n"))


@pytest.mark.parametrize("before", range(994, 1000))
def test_a_character_is_not_cut_in_two(before: int) -> None:
    content = b"x" * before + "€uro".encode() * 300 + b"\r\n"
    for line in b"".join(FoldedBody(Pieces([content])).blocks()).split(b"\r\n"):
        line.decode("utf-8")


def test_what_a_short_body_is_made_of_stays() -> None:
    content = b"x" * 998 + b"\r\n" + b"..\r\nlast without an end"
    assert b"".join(FoldedBody(Pieces([content[:999], content[999:]])).blocks()) == content
