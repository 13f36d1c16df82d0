"""Texts for people, marked for translation with gettext. PURE.

Usage: `_("Cannot open {path}.").format(path=path)`, never an f-string inside `_`: the catalogue holds the text with
its braces. `ngettext` for texts with a number. `N_` marks a constant that is translated where it is shown.
Marked: command output and help, errors and hints, findings, tracking sentences. Not marked: log lines, SMTP replies
and names of settings, which programs and strangers read; they stay English (docs/decisions/0006).
"""

import gettext


def _(text: str) -> str:
    """The text in the reader's language; English where there is no catalogue."""
    return gettext.gettext(text)


def ngettext(one: str, many: str, count: int) -> str:
    """The text for so many things."""
    return gettext.ngettext(one, many, count)


def N_(text: str) -> str:  # noqa: N802  gettext's usual name
    """The text itself, marked for the catalogue."""
    return text
