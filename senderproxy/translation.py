"""Marks for texts that people read, for translation with gettext. PURE.

Usage: `_("Cannot open {path}.").format(path=path)`, never an f-string inside `_`: the catalogue contains the text with
its braces. `ngettext` for texts with a number. `N_` marks a constant, which is translated with `_` where it is shown.
Marked: command output and help, errors and hints, findings, problems of the configuration, sentences of `track`.
Not marked: log sentences, SMTP replies, reports (DSNs), names and descriptions of settings (docs/decisions/0006).
"""

import gettext


def _(text: str) -> str:
    """The text in the reader's language; in English without a catalogue."""
    return gettext.gettext(text)


def ngettext(one: str, many: str, count: int) -> str:
    """The text for `count` things, in the plural form of the reader's language."""
    return gettext.ngettext(one, many, count)


def N_(text: str) -> str:  # noqa: N802  gettext's usual name
    """The text unchanged, marked for the catalogue."""
    return text
