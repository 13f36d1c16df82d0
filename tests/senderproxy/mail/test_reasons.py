"""Reasons of changes, stored in English and shown in the reader's language."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import senderproxy
from senderproxy.mail.reasons import part_in_words, reason_in_words, value_in_words
from senderproxy.translation import language

_PROGRAM = Path(senderproxy.__file__).parent
_TAKE_REASONS = ("Change", "with_mailboxes", "without_fields", "with_field", "_removed", "_replacement", "_with_cut")


@pytest.mark.parametrize(
    ("stored", "german"),
    [
        ("it was empty", "das Feld war leer"),
        ("it occurred 3 times", "das Feld kam 3-mal vor"),
        ("it occurred 2 times with the same author", "das Feld kam 2-mal mit demselben Verfasser vor"),
        ("eins accepts any sender", "eins nimmt jeden Absender an"),
        (
            "eins accepts only the account's own addresses; bounces go to anna@firma.example",
            "eins nimmt nur die eigenen Adressen des Kontos an; Unzustellbarkeitsberichte gehen an anna@firma.example",
        ),
        (
            "a; b accepts only senders of the domain firma.example; bounces go to x@firma.example",
            "a; b nimmt nur Absender der Domain firma.example an; Unzustellbarkeitsberichte gehen an x@firma.example",
        ),
        (
            "eins requires a change of the reverse-path, and the account does not permit it",
            "eins verlangt, den Envelope-Absender zu ändern, und das Konto erlaubt es nicht",
        ),
        (
            "eins requires a change of From, and the account does not permit it",
            "eins verlangt, From zu ändern, und das Konto erlaubt es nicht",
        ),
        ("it could not be read: {provider} %s \\1", "das Feld war nicht zu lesen: {provider} %s \\1"),
        ("a text of a later version", "a text of a later version"),
        ("", ""),
    ],
)
def test_a_stored_reason_in_german(stored: str, german: str) -> None:
    assert reason_in_words(stored) == stored
    with language("de"):
        assert reason_in_words(stored) == german


def test_only_a_part_without_a_value_of_its_own_has_a_text_of_ours() -> None:
    with language("de"):
        assert (part_in_words("header section"), value_in_words("header section", "an empty line")) == (
            "Kopfzeilen",
            "eine Leerzeile",
        )
        assert (part_in_words("Subject"), value_in_words("Subject", "an empty line")) == ("Subject", "an empty line")


def _reasons_of(node: ast.AST) -> ast.expr | None:
    """The expression of a reason that is given to a function, or has this name."""
    if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["reason"]:
        return node.value
    if not isinstance(node, ast.Call) or not node.args:
        return None
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return node.args[-1] if name in _TAKE_REASONS else None


def _bare_reasons() -> Iterator[str]:
    """Texts with words that are given as a reason without a mark, so that no catalogue has them."""
    for file in sorted((_PROGRAM / "rewriting").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            reason = _reasons_of(node)
            if isinstance(reason, ast.JoinedStr) or (isinstance(reason, ast.Constant) and " " in str(reason.value)):
                yield f"{file.name}:{reason.lineno}"


def test_every_reason_of_a_rewrite_is_marked_for_the_catalogue() -> None:
    assert list(_bare_reasons()) == []
