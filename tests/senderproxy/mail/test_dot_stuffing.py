"""Dot-stuffing in a stream, at every boundary of its blocks."""

from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.dot_stuffing import DotStuffer, remove_dots

LINES = st.lists(st.sampled_from([b"", b".", b"..", b".a", b"a.", b"a.b", b"...", b"text"]), max_size=8)
CUTS = st.lists(st.integers(0, 60), max_size=6)


def pieces(octets: bytes, cuts: list[int]) -> list[bytes]:
    """The octets, cut at these places; with an empty piece where two are the same."""
    ends = sorted(min(cut, len(octets)) for cut in cuts)
    return [octets[start:end] for start, end in zip([0, *ends], [*ends, len(octets)], strict=True)]


@given(LINES, CUTS)
def test_the_result_does_not_depend_on_the_blocks_and_is_undone(lines: list[bytes], cuts: list[int]) -> None:
    plain = b"".join(line + b"\r\n" for line in lines)
    stuffed = b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines)
    stuffer = DotStuffer()
    assert b"".join(stuffer.add_dots(piece) for piece in pieces(plain, cuts)) == stuffed
    assert b"".join(remove_dots(pieces(stuffed, cuts))) == plain
