"""Texts of argparse that a person reads, for the catalogues: argparse asks the `_` of its module.

Those that only a programmer sees, such as conflicting options, are left out. Pythons 3.11 to 3.13.
"""

import argparse
from typing import Any, Final

from senderproxy.translation import N_, _, ngettext

TEXTS: Final = (
    N_("usage: "),
    N_("options"),
    N_("positional arguments"),
    N_("%(heading)s:"),
    N_("show this help message and exit"),
    N_("show program's version number and exit"),
    N_("argument %(argument_name)s: %(message)s"),
    N_("the following arguments are required: %s"),
    N_("unrecognized arguments: %s"),
    N_("unknown parser %(parser_name)r (choices: %(choices)s)"),
    N_("invalid choice: %(value)r (choose from %(choices)s)"),
    N_("invalid %(type)s value: %(value)r"),
    N_("ambiguous option: %(option)s could match %(matches)s"),
    N_("ignored explicit argument %r"),
    N_("not allowed with argument %s"),
    N_("one of the arguments %s is required"),
    N_("expected one argument"),
    N_("expected at most one argument"),
    N_("expected at least one argument"),
)


def use_own_catalogue() -> None:
    """Have argparse speak the language in force. It has no other way than the names in its module."""
    module: Any = argparse
    module._, module.ngettext = _, ngettext


def plural_texts() -> tuple[str, ...]:
    """The texts with a number, for one."""
    return (ngettext("expected %s argument", "expected %s arguments", 1),)
