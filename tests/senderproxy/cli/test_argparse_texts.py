"""Tests of senderproxy.cli.argparse_texts."""

import argparse
import inspect
import io

import pytest
from babel.messages.extract import extract

from senderproxy.cli.argparse_texts import TEXTS, plural_texts, use_own_catalogue
from senderproxy.cli.main import parser
from senderproxy.translation import language

PLURAL = ("expected %s argument", "expected %s arguments")
FOR_PROGRAMMERS = {
    " (default: %(default)s)", "%(prog)s: error: %(message)s\n", "%(prog)s: warning: %(message)s\n", "%r is not callable",
    "'required' is an invalid argument for positionals", ".__call__() not defined", 'argument "-" with mode %r',
    "argument '%(argument_name)s' is deprecated", "can't open '%(filename)s': %(error)s",
    "cannot have multiple subparser arguments", "cannot merge actions - two groups are named %r",
    "command '%(parser_name)s' is deprecated", "conflicting subparser alias: %s", "conflicting subparser: %s",
    ("conflicting option string: %s", "conflicting option strings: %s"), "dest= is required for options like %r",
    "invalid conflict_resolution value: %r",
    "invalid option string %(option)r: must start with a character %(prefix_chars)r",
    "mutually exclusive arguments must be optional", "option '%(option)s' is deprecated", "subcommands",
    "unexpected option string: %s",
}  # fmt: skip


def test_each_text_of_this_interpreters_argparse_is_known() -> None:
    source = io.BytesIO(inspect.getsource(argparse).encode())
    texts = {text for _line, text, _comments, _context in extract("python", source, {"_": None, "ngettext": (1, 2)})}
    assert texts
    assert plural_texts() == PLURAL[:1]
    assert texts - {*TEXTS, PLURAL, *FOR_PROGRAMMERS} == set()


def test_help_and_errors_are_german(capsys: pytest.CaptureFixture[str]) -> None:
    use_own_catalogue()
    with language("de"):
        whole = parser()
        shown = whole.format_help()
        with pytest.raises(SystemExit):
            whole.parse_args(["queue", "retry", "--age"])
    assert shown.startswith("Aufruf: senderproxy")
    assert "\nOptionen:" in shown
    assert "diese Hilfe anzeigen" in shown
    error = capsys.readouterr().err
    assert "unbekannte Argumente: --age" in error
    assert "usage" not in error
    with language("en"):
        assert parser().format_help().startswith("usage: senderproxy")
