"""Parser of the DATA stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.simulator.data import DataReader


def read(wire: bytes, step: int = 1 << 20) -> tuple[bytes, DataReader]:
    reader = DataReader()
    content = b""
    for at in range(0, len(wire), step):
        if reader.rest is not None:
            reader.rest += wire[at : at + step]
        else:
            content += reader.feed(wire[at : at + step])
    return content, reader


def stuffed(content: bytes) -> bytes:
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b".\r\n", b""),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"..a\r\n...b\r\n.\r\n", b".a\r\n..b\r\n"),
        (b"\r\n\r\n.\r\n", b"\r\n\r\n"),
        (b"a.\r\n.\r\n", b"a.\r\n"),
    ],
)
def test_a_stuffed_letter_comes_out_as_it_was_however_it_is_cut(wire: bytes, content: bytes) -> None:
    for step in range(1, len(wire) + 1):
        got, reader = read(wire, step)
        assert (got, reader.rest, reader.faults) == (content, b"", [])


def test_what_follows_the_final_dot_is_handed_back() -> None:
    content, reader = read(b"a\r\n.\r\nMAIL FROM:<>\r\n")
    assert content == b"a\r\n"
    assert reader.rest == b"MAIL FROM:<>\r\n"


@pytest.mark.parametrize(
    "false_end",
    [
        b"\n.\n",
        b"\r.\r",
        b"\r\n.\r",
        b"\r\n.\n",
        b"\n.\r\n",
        b"\r.\r\n",
        b"\r\r\n.\r\r\n",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
    ],
)
def test_a_smuggled_end_of_data_ends_nothing_and_is_noticed(false_end: bytes) -> None:
    wire = b"a" + false_end + b"MAIL FROM:<boss@firma.example>\r\n.\r\n"
    for step in (1, 2, 3, 100):
        content, reader = read(wire, step)
        assert content.endswith(b"MAIL FROM:<boss@firma.example>\r\n")
        assert reader.rest == b""
        assert reader.faults


def test_a_dot_that_is_not_doubled_is_noticed() -> None:
    content, reader = read(b".hidden\r\n.\r\n")
    assert content == b"hidden\r\n"
    assert reader.faults == ["a line begins with a dot that is not doubled"]


@given(st.lists(st.text("a.\t é", max_size=6), max_size=8), st.integers(1, 7))
def test_every_letter_survives_stuffing_and_any_cut(lines: list[str], step: int) -> None:
    content = "".join(f"{line}\r\n" for line in lines).encode()
    got, reader = read(stuffed(content), step)
    assert (got, reader.faults) == (content, [])


@given(st.text("\r\n.\0a", max_size=24).map(str.encode), st.integers(1, 5))
def test_the_cut_never_changes_what_is_found(noise: bytes, step: int) -> None:
    wire = noise + b"\r\n.\r\n"
    whole, pieces = read(wire), read(wire, step)
    assert whole[0] == pieces[0]
    assert whole[1].rest == pieces[1].rest
    assert sorted(whole[1].faults) == sorted(pieces[1].faults)
