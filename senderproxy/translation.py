"""Texts that people read, in the reader's language: marks, the language in force, the catalogue.

Usage: `_("Cannot open {path}.").format(path=path)`, never an f-string inside `_`: the catalogue contains the text with
its braces. `ngettext` for texts with a number. `N_` marks a constant, which is translated with `_` where it is shown.
Marked: command output and help, errors and hints, findings, problems of the configuration, sentences of `track`.
Not marked: log sentences, SMTP replies, reports (DSNs), names and descriptions of settings (docs/decisions/0006).

The language in force is that of the innermost `language`, else that of the process (`use_language`), else English.
Guarantees: a text that `_` or `ngettext` made can be put into another language later (`translated`), with the texts in
it. English needs no catalogue; the one of another language is read when its first text is asked for.
Not here: the catalogues (locale/; docs/translation.md).
"""

import gettext
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from types import MappingProxyType
from typing import Final

SOURCE: Final = "en"  # the language of the texts in the program
LANGUAGES: Final = (SOURCE, "de")
DOMAIN: Final = "senderproxy"
FOLDER: Final = f"{__file__.rpartition('/')[0]}/locale"

_VARIABLES: Final = ("LC_ALL", "LC_MESSAGES", "LANG")  # the first that is set decides: POSIX, section 8.2
_PLACES: Final = re.compile(r"\{[a-z_0-9]*[.\[]")  # in a template: what is part of a value
_NO_VALUES: Final[Mapping[str, object]] = MappingProxyType({})

_of_context: ContextVar[str | None] = ContextVar("language", default=None)
_of_process = SOURCE


# ---- marks ----


def _(text: str) -> str:
    """The text in the language in force; in English where the catalogue has no translation."""
    return _Text(_looked_up((text,), None), (text,))


def ngettext(one: str, many: str, count: int) -> str:
    """The text for `count` things, in the plural form of the language in force."""
    return _Text(_looked_up((one, many), count), (one, many), count)


def N_(text: str) -> str:  # noqa: N802  gettext's usual name
    """The text unchanged, marked for the catalogue."""
    return text


# ---- the language in force ----


def current_language() -> str:
    """The language in force."""
    return _of_context.get() or _of_process


def use_language(code: str) -> None:
    """Make this the language of the process, on all its threads. Raises ValueError for one without a catalogue."""
    global _of_process  # there is one reader of a command
    _of_process = _known(code)


@contextmanager
def language(code: str) -> Iterator[None]:
    """Make texts in this language, in the current task or thread alone. Raises ValueError as `use_language` does."""
    token = _of_context.set(_known(code))
    try:
        yield
    finally:
        _of_context.reset(token)


def preferred_language(environment: Mapping[str, str]) -> str:
    """The language that the environment of a process asks for, by the rules of GNU gettext.

    LC_ALL, LC_MESSAGES and LANG name the locale. LANGUAGE is a list of languages, the preferred one first; it has no
    effect in the locale C. Encoding and country are not compared: `de_AT.UTF-8` is `de`.
    """
    locale = next((environment[name] for name in _VARIABLES if environment.get(name)), "C")
    if locale.partition(".")[0] in ("C", "POSIX"):
        return SOURCE
    for name in [*environment.get("LANGUAGE", "").split(":"), locale]:
        code = name.partition(".")[0].partition("@")[0].partition("_")[0].lower()
        if code in LANGUAGES:
            return code
    return SOURCE


def _known(code: str) -> str:
    if code not in LANGUAGES:
        raise ValueError(f"there is no catalogue for the language {code!r}")
    return code


# ---- texts for another reader ----


def translated(text: str) -> str:
    """The text in the language in force, if `_` or `ngettext` made it; any other text unchanged."""
    return text.translated() if isinstance(text, _Text) else text


def joined(separator: str, texts: Sequence[str]) -> str:
    """The texts one after another; each of them can be put into another language later."""
    template = separator.replace("{", "{{").replace("}", "}}").join(f"{{text{number}}}" for number in range(len(texts)))
    return _Text(template, (template,)).format(**{f"text{number}": text for number, text in enumerate(texts)})


def in_english(text: str) -> str:
    """The text in English, for an SMTP reply or a log."""
    with language(SOURCE):
        return translated(text)


def stored_text(text: str) -> str:
    """A text with the values in it, in a form that `shown_text` reads; empty unless `_` made it, with values.

    A text without values needs none: it is found in the catalogue as it is.
    """
    return json.dumps(_nested(text)) if isinstance(text, _Text) and text._values else ""  # noqa: SLF001  below


def shown_text(stored: str) -> str | None:
    """A text of `stored_text` in the language in force; None in English, and for one of another version."""
    if not stored or current_language() == SOURCE:
        return None
    try:
        return translated(_built(json.loads(stored)))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def _nested(text: "_Text") -> list[object]:
    """The parts of a text; in place of a text among its values, that one's parts."""
    original, count, values = text._original, text._count, text._values  # noqa: SLF001  below
    return [original, count, {name: _nested(one) if isinstance(one, _Text) else one for name, one in values.items()}]


def _built(parts: object) -> str:
    """The text of `_nested`. Raises ValueError for parts that no text has."""
    match parts:
        case [list(original), int() | None as count, dict(values)]:
            forms = tuple(one for one in original if isinstance(one, str))
            if len(original) == len(forms) == (1 if count is None else 2) and not any(map(_PLACES.search, forms)):
                if values:
                    filled = {name: _built(one) if isinstance(one, list) else one for name, one in values.items()}
                    return _Text("", forms, count, filled)
                if "{" not in forms[0]:
                    return _Text("", forms, count)
        case _:
            pass
    raise ValueError("no parts of a text")


def taken_apart(text: str) -> tuple[tuple[str, ...], int | None, Mapping[str, object]] | None:
    """The original and the values of a text that can be put into another language, for another process; else None."""
    return (text._original, text._count, dict(text._values)) if isinstance(text, _Text) else None  # noqa: SLF001  below


def put_together(original: tuple[str, ...], count: int | None, values: Mapping[str, object]) -> str:
    """The text of `taken_apart`, in the language in force."""
    return _Text("", original, count, values).translated()


class _Text(str):
    """A text in some language that knows its original, and the values that were filled in."""

    __slots__ = ("_count", "_original", "_values")

    _original: tuple[str, ...]  # in English: one form, or two
    _count: int | None  # for the choice between two
    _values: Mapping[str, object]

    def __new__(
        cls, shown: str, original: tuple[str, ...], count: int | None = None, values: Mapping[str, object] = _NO_VALUES
    ) -> "_Text":
        text = super().__new__(cls, shown)
        text._original, text._count, text._values = original, count, values
        return text

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """Copies and pickles are plain text."""
        return str, (str(self),)

    def format(self, *args: object, **values: object) -> str:
        """Fill in the values, by name; texts among them are put into the language in force."""
        if args or self._values:
            return super().format(*args, **values)
        # An exception would keep the frames of its traceback, and their local names.
        kept = {name: value if isinstance(value, str | int | float) else str(value) for name, value in values.items()}
        filled = super().format(**{name: _in_force(value) for name, value in values.items()})
        return _Text(filled, self._original, self._count, kept)

    def translated(self) -> str:
        """The text in the language in force."""
        template = _Text(_looked_up(self._original, self._count), self._original, self._count)
        return template.format(**self._values) if self._values else template


def _in_force(value: object) -> object:
    return value.translated() if isinstance(value, _Text) else value


# ---- catalogues ----


def _looked_up(original: tuple[str, ...], count: int | None) -> str:
    code = _of_context.get() or _of_process
    if count is None:
        # The catalogue has its header in place of an empty text.
        return _catalogue(code).gettext(original[0]) if code != SOURCE and original[0] else original[0]
    one, many = original
    if code == SOURCE:
        return one if count == 1 else many
    return _catalogue(code).ngettext(one, many, count)


@lru_cache(maxsize=len(LANGUAGES))
def _catalogue(code: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, FOLDER, [code])
