"""Guides: each piece of the configuration is accepted, each guide is in the list, each link to a section exists."""

import re
import textwrap
from pathlib import Path

import pytest

from senderproxy.config.load import load_config
from senderproxy.listener.client_auth import hash_password

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))
PAGES = sorted([*GUIDES, *(ROOT / "docs").glob("*.md"), *ROOT.glob("README*.md")])
EXAMPLES = [
    (page, textwrap.dedent(match[2]))
    for page in [*GUIDES, ROOT / "docs/sendmail.md"]
    for match in re.finditer(r"^( *)```toml\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize(("page", "example"), EXAMPLES, ids=lambda value: value.stem if isinstance(value, Path) else "")
def test_each_example_is_a_valid_configuration(page: Path, example: str, tmp_path: Path) -> None:
    for name in ("certificate.pem", "key.pem"):
        (tmp_path / name).touch()
    text = example.replace("/etc/senderproxy/", f"{tmp_path}/").replace("$scrypt$…", hash_password("geheim-client"))
    file = tmp_path / "senderproxy.toml"
    file.write_text(f'{text}\n[vault]\nunlock = "passphrase"\n', encoding="utf-8")
    assert load_config(file).listeners


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 8


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_each_guide_is_in_the_readme_of_its_language(guide: Path) -> None:
    readme = "README.de.md" if guide.name.endswith(".de.md") else "README.md"
    assert f"(docs/guides/{guide.name})" in (ROOT / readme).read_text(encoding="utf-8")


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_each_guide_says_what_was_tried_and_is_there_in_german(guide: Path) -> None:
    word = "ausprobiert" if guide.name.endswith(".de.md") else "tried"
    assert word in guide.read_text(encoding="utf-8").lower()
    assert guide.name.endswith(".de.md") or guide.with_suffix(".de.md") in GUIDES


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_to_a_section_exists(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s:]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    assert [
        f"{path}#{anchor}" for path, anchor in links if anchor not in anchors(page.parent / path if path else page)
    ] == []
