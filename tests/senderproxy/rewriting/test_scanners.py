"""The linear scanners read what the regular expressions before them read, for every short text."""

import re

from hypothesis import given
from hypothesis import strategies as st

from senderproxy.rewriting.scanners import find_loose_mailbox, replace_quoted, split_list

# Each says in one line what is meant, and takes quadratic time or worse: fit for short texts alone.
ELEMENT = re.compile(rb'(?>(?:"(?>(?:[^"\\]|\\.)*)"|\((?>(?:[^()\\]|\\.)*)\)|<[^<>]*>|[^,"(<]|["(<])*)', re.DOTALL)
QUOTED = re.compile(rb'"((?>(?:[^"\\]|\\.)*))"', re.DOTALL)
IN_BRACKETS = re.compile(r"([^<>]*)<\s*([^<>\s]+@[^<>\s]+)\s*>[\s;,]*")
AT_THE_END = re.compile(r"(?:([^<>@]*)\s)?\s*<?([^\s<>@,;:\"()]+@[^\s<>@,;:\"()]+)>?[\s;,]*")

MARKS = st.lists(st.sampled_from(['"', "(", ")", "<", ">", ",", "\\", "@", " ", ";", ":", "a", "bc", "ü"]), max_size=14)


def elements(value: bytes) -> list[bytes]:
    found: list[bytes] = []
    position = 0
    while position <= len(value):
        element = ELEMENT.match(value, position)
        assert element is not None
        found.append(element.group())
        position = element.end() + 1
    return found


@given(MARKS)
def test_a_list_is_split_at_the_same_commas(marks: list[str]) -> None:
    value = "".join(marks).encode()
    assert list(split_list(value)) == elements(value)


@given(MARKS)
def test_the_same_quoted_strings_are_replaced(marks: list[str]) -> None:
    value = "".join(marks).encode()
    assert replace_quoted(value, bytes.upper) == QUOTED.sub(lambda found: b'"' + found[1].upper() + b'"', value)


@given(MARKS)
def test_the_same_mailbox_is_found(marks: list[str]) -> None:
    text = "".join(marks).strip()
    expected = IN_BRACKETS.fullmatch(text) or AT_THE_END.fullmatch(text)
    found = find_loose_mailbox(text)
    if expected is None:
        assert found is None
    else:
        name, address = expected.groups()
        assert found is not None
        assert (found[0].split(), found[1]) == ((name or "").split(), address)
