"""docs/config.md in other languages: the catalogue of its texts (docs/config.de.po), and the page.

    python -m docs.translate_config

Guarantees: a new text has no translation and is English on the page until it has one; a text that is gone is removed.
Not here: the texts, and the English page (docs.generate_config).
"""

import io
import sys
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

from docs.generate_config import render_document
from docs.update_translations import merged, rendered, untranslated
from senderproxy.translation import LANGUAGES, SOURCE

_FOLDER: Final = Path(__file__).parent
_HEAD: Final = """\
# Translations of docs/config.md. `make docs` updates this file and writes the page; docs/translation.md has the words.
#"""


def main() -> None:
    """Update the catalogue of each language, and write its page."""
    for language in LANGUAGES:
        if language != SOURCE:
            catalogue = updated(read_catalogue(language))
            source_path(language).write_bytes(rendered(catalogue))
            page_path(language).write_text(render_translated(catalogue), encoding="utf-8")
            sys.stdout.write(
                f"{source_path(language).name}: {len(untranslated(catalogue))} texts without a translation\n"
            )


def source_path(language: str) -> Path:
    """The file that translators edit."""
    return _FOLDER / f"config.{language}.po"


def page_path(language: str) -> Path:
    """The page in this language."""
    return _FOLDER / f"config.{language}.md"


def updated(translations: Catalog) -> Catalog:
    """The texts of the page with these translations."""
    catalogue = merged(texts_of_the_page(), translations)
    catalogue.header_comment = _HEAD
    return catalogue


def texts_of_the_page() -> Catalog:
    """Each text of the English page once, in its order."""
    catalogue = Catalog()

    def noted(text: str) -> str:
        if text:
            catalogue.add(text)
        return text

    render_document(noted)
    return catalogue


def read_catalogue(language: str) -> Catalog:
    """The catalogue of a language; an empty one before its first update."""
    source = source_path(language)
    content = source.read_bytes() if source.exists() else b""
    return read_po(io.BytesIO(content), locale=language, charset="utf-8")


def render_translated(catalogue: Catalog) -> str:
    """The page with the translations of this catalogue."""

    def translated(text: str) -> str:
        message = catalogue.get(text)
        return str(message.string or text) if message is not None else text

    return render_document(translated)


if __name__ == "__main__":
    main()
