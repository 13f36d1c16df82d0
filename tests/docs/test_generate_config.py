"""docs/config.md is complete and up to date."""

import subprocess
import sys
from pathlib import Path

from docs.generate_config import render_document
from senderproxy.config.model import SECTIONS
from senderproxy.routing.presets import PRESETS

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
