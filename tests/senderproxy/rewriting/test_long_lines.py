"""Lines longer than SMTP allows."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from senderproxy.rewriting.long_lines import LongLineDetector


def _cut(content: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    return [content[start:end] for start, end in pairwise(places)]


_CONTENTS = st.lists(st.integers(0, 3100), max_size=5).map(
    lambda lengths: b"".join(b"x" * n + b"\r\n" for n in lengths)
)


@given(_CONTENTS, st.lists(st.integers(0, 20_000), max_size=6))
def test_the_meter_sees_each_long_line_and_no_other(content: bytes, cuts: list[int]) -> None:
    meter = LongLineDetector()
    for piece in _cut(content, cuts):
        meter.feed(piece)
    assert meter.found == any(len(line) > 998 for line in content.split(b"\r\n"))
