"""Update of the catalogues from the marked texts of the program: extract, merge, compile.

    python -m docs.update_translations

Guarantees: the same program and translations give the same bytes on any machine: a catalogue has neither times nor line
numbers. A new text has no translation, a text that is gone is removed; nothing is guessed (no fuzzy entries).
Not here: the marks and the use of the catalogues (senderproxy.translation).
"""

import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from babel.core import Locale
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_file
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from senderproxy.translation import DOMAIN, FOLDER, LANGUAGES, SOURCE

_PROJECT: Final = Path(__file__).resolve().parents[1]
_PROGRAM: Final = _PROJECT / "senderproxy"
_KEYWORDS: Final = {"_": None, "N_": None, "ngettext": (1, 2)}
_WIDTH: Final = 120  # characters of a line


_HEAD: Final = """\
# Translations of senderproxy. `make translations` updates this file and compiles it; docs/translation.md has the words.
#"""


class _Catalogue(Catalog):
    """A catalogue whose header has no times and no names."""

    def __init__(self, locale: Locale | None = None) -> None:
        super().__init__(locale, DOMAIN, header_comment=_HEAD, charset="utf-8", fuzzy=False)

    @property  # type: ignore[misc]  # nothing sets them here
    def mime_headers(self) -> list[tuple[str, str]]:
        """The headers that gettext needs."""
        return [
            ("Language", str(self.locale)),
            ("Plural-Forms", self.plural_forms),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
        ]


def main() -> None:
    """Update the catalogue of each language, and compile it."""
    texts = marked_texts()
    for language in LANGUAGES:
        if language != SOURCE:
            source = source_path(language)
            source.parent.mkdir(parents=True, exist_ok=True)
            catalogue = merged(texts, read_catalogue(language))
            source.write_bytes(rendered(catalogue))
            source.with_suffix(".mo").write_bytes(compiled(catalogue))
            count = len(untranslated(catalogue))
            sys.stdout.write(f"{source.relative_to(_PROJECT)}: {count} texts without a translation\n")


def source_path(language: str) -> Path:
    """The file that translators edit."""
    return Path(FOLDER) / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def marked_texts(paths: Iterable[Path] = ()) -> Catalog:
    """The marked texts of the modules, by default of the whole program, with the modules that have them."""
    catalogue = _Catalogue()
    for path in sorted(paths or [*_PROGRAM.rglob("*.py"), *_PROGRAM.rglob("*.html")]):
        name = path.relative_to(_PROJECT).as_posix()
        method = "jinja2.ext:babel_extract" if path.suffix == ".html" else "python"
        for _line, text, comments, _context in extract_from_file(
            method, path, keywords=_KEYWORDS, comment_tags=["Translators:"], strip_comment_tags=True
        ):
            # Babel sorts and writes line numbers; a change of one line would change the catalogue.
            catalogue.add(text, locations=[(name, 1)], auto_comments=comments)
    return catalogue


def read_catalogue(language: str) -> Catalog:
    """The catalogue of a language; an empty one before its first update."""
    source = source_path(language)
    content = source.read_bytes() if source.exists() else b""
    return read_po(io.BytesIO(content), locale=language, domain=DOMAIN, charset="utf-8")


def merged(texts: Catalog, translations: Catalog) -> Catalog:
    """The texts with their translations."""
    catalogue = _Catalogue(translations.locale)
    for text in _messages(texts):
        known = translations.get(text.id)
        string = known.string if known is not None and known.pluralizable == text.pluralizable else ""
        catalogue.add(
            text.id,
            string or (("",) * catalogue.num_plurals if text.pluralizable else ""),
            locations=text.locations,
            auto_comments=text.auto_comments,
            user_comments=known.user_comments if known is not None else (),
        )
    return catalogue


def rendered(catalogue: Catalog) -> bytes:
    """The catalogue as a .po file."""
    file = io.BytesIO()
    write_po(file, catalogue, width=_WIDTH, sort_by_file=True, include_lineno=False)
    return file.getvalue()


def compiled(catalogue: Catalog) -> bytes:
    """The catalogue as a .mo file."""
    file = io.BytesIO()
    write_mo(file, catalogue)
    return file.getvalue()


def untranslated(catalogue: Catalog) -> list[Message]:
    """The texts without a translation, or without one of its plural forms."""
    return [one for one in _messages(catalogue) if not all(forms(one.string))]


def forms(text: str | Iterable[str | None] | None) -> tuple[str, ...]:
    """The singular and the plural forms of an original or a translation; a text without a plural is one form."""
    return (text or "",) if isinstance(text, str | None) else tuple(form or "" for form in text)


def _messages(catalogue: Catalog) -> Iterator[Message]:
    return (message for message in catalogue if message.id)


if __name__ == "__main__":
    main()
