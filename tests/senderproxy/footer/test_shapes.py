"""Footers over all shapes of messages, opened again by Python's parser."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from senderproxy.rewriting.content_change import Unchanged
from tests.senderproxy.footer.reading import FOOTERS, LATIN, assert_footers, leaves, tree, with_footer
from tests.senderproxy.footer.shapes import SHAPES, Shape

TESTS = Path(__file__).parents[2]
REAL = sorted((TESTS / "corpus" / "messages").glob("*.eml")) + sorted((TESTS / "field" / "cases").glob("*.eml"))


def test_there_are_many_shapes() -> None:
    assert len({shape.name for shape in SHAPES}) == len(SHAPES) > 150


@pytest.mark.parametrize("footer", FOOTERS)
@pytest.mark.parametrize("shape", SHAPES, ids=[shape.name for shape in SHAPES])
def test_a_shape_keeps_its_tree_and_gets_the_footer_once_in_each_text(shape: Shape, footer: str) -> None:
    cuts = (1, 7, 4096, 1 << 20) if len(shape.raw) < 20_000 else (5000, 1 << 20)
    results = {with_footer(shape.raw, FOOTERS[footer], cut) for cut in cuts}
    if isinstance(shape.expected, str):
        [result] = results
        assert isinstance(result, Unchanged)
        assert result.reason == shape.expected
        return
    [result] = results
    assert isinstance(result, bytes), result
    assert result.endswith(b"\r\n")
    assert_footers(shape.raw, result, FOOTERS[footer], shape.expected)


@pytest.mark.parametrize("path", REAL, ids=[path.stem for path in REAL])
def test_a_real_message_keeps_its_tree_and_all_parts_that_get_no_footer(path: Path) -> None:
    raw = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    result = with_footer(raw)
    if isinstance(result, Unchanged):
        return
    assert tree(result) == tree(raw)
    changed = [new for old, new in zip(leaves(raw), leaves(result), strict=True) if old.raw != new.raw]
    assert changed
    for leaf in changed:
        assert leaf.kind in ("text/plain", "text/html")
        assert "Firma GmbH" in leaf.text


def test_some_real_messages_get_their_footer() -> None:
    results = [with_footer(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")) for path in REAL]
    reasons = {result.reason for result in results if isinstance(result, Unchanged)}
    assert len([result for result in results if isinstance(result, bytes)]) >= 8
    assert len(reasons) >= 4


def test_a_message_that_has_its_footer_gets_no_second_one() -> None:
    for shape in SHAPES:
        if isinstance(shape.expected, int):
            once = with_footer(shape.raw, LATIN)
            assert isinstance(once, bytes)
            twice = with_footer(once, LATIN)
            assert isinstance(twice, Unchanged), shape.name
            assert "already" in twice.reason


def test_the_modern_parser_finds_no_defect_that_was_not_there() -> None:
    for shape in SHAPES:
        result = with_footer(shape.raw)
        if isinstance(result, bytes):
            assert defects(result) == defects(shape.raw), shape.name


def defects(raw: bytes) -> list[list[str]]:
    message = message_from_bytes(raw, policy=policy.SMTP)
    assert isinstance(message, EmailMessage)
    return [[type(defect).__name__ for defect in part.defects] for part in message.walk()]
