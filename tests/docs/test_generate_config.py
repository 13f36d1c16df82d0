"""docs/config.md and docs/config.de.md are complete and up to date."""

import subprocess
import sys
from pathlib import Path

import pytest

from docs.generate_config import render_document
from docs.translate_config import (
    page_path,
    read_catalogue,
    render_translated,
    source_path,
    texts_of_the_page,
    updated,
)
from docs.update_translations import rendered
from senderproxy.config.model import SECTIONS
from senderproxy.routing.presets import PRESETS
from senderproxy.translation import LANGUAGES, SOURCE

TRANSLATIONS = [language for language in LANGUAGES if language != SOURCE]
PAGE = Path(__file__).parents[2] / "docs" / "config.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_document(), "type: make docs"


def test_the_command_prints_the_page() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate_config"],
        cwd=PAGE.parents[1],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == render_document()


def test_every_setting_and_every_preset_is_on_the_page() -> None:
    page = render_document()
    for shape, section in SECTIONS.items():
        for name, field in section.model_fields.items():
            if shape:
                assert f"| `{name}` | " in page
                assert str(field.description) in page
    for name in PRESETS:
        assert f"| `{name}` | " in page


def test_every_row_has_all_cells() -> None:
    for line in render_document().splitlines():
        if line.startswith("| "):
            assert line.count(" | ") in (3, 5), line
            assert "None" not in line


# ---- other languages ----


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_page_in_another_language_is_up_to_date(language: str) -> None:
    page = page_path(language).read_text(encoding="utf-8")
    assert page == render_translated(read_catalogue(language)), "type: make docs"


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_each_setting_and_each_other_text_of_the_page_is_translated(language: str) -> None:
    catalogue = read_catalogue(language)
    missing = [
        message.id
        for message in texts_of_the_page()
        if message.id and ((known := catalogue.get(message.id)) is None or not known.string)
    ]
    assert missing == [], f"make docs, fill in {source_path(language).name}, make docs"


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_catalogue_of_the_page_is_written_as_the_update_writes_it(language: str) -> None:
    assert source_path(language).read_bytes() == rendered(updated(read_catalogue(language))), "type: make docs"


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_translation_has_the_gaps_of_its_text(language: str) -> None:
    for message in read_catalogue(language):
        assert str(message.string).count("{}") == str(message.id).count("{}") or not message.id, message.id
