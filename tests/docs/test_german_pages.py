"""German pages (`*.de.md`): the sections, tables, code and links of the English page, and the words of the program."""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from docs.update_translations import forms, read_catalogue

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted([*DOCS.glob("*.de.md"), *(DOCS / "guides").glob("*.de.md")])

_FENCE = re.compile(r"^ *```(\w*)$")
_HEADING = re.compile(r"^(#+) (.*)$")
_QUOTED = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s:#]*)(?:#([^)\s]*))?\)")
_COMMENT = re.compile(r"(^|\s+)#.*$", re.MULTILINE)
_OTHER_LANGUAGE = re.compile(r"^(?:Deutsch|English): \[.*$", re.MULTILINE)


@dataclass
class Part:
    """A heading and what follows it up to the next one."""

    level: int
    heading: str
    text: str = ""
    code: list[tuple[str, str]] = field(default_factory=list)  # kind and lines of each block

    @property
    def tables(self) -> list[int]:
        """The number of cells of each row of its tables; 0 for each line between them."""
        return [len(re.findall(r"(?<!\\)\|", line)) for line in self.text.splitlines() if line.lstrip().startswith("|")]

    @property
    def quoted(self) -> set[str]:
        """The words in backticks, on one line each."""
        return {" ".join(match[2].split()) for match in _QUOTED.finditer(self.text)}

    @property
    def links(self) -> list[tuple[str, str]]:
        """Path and anchor of each link to a page."""
        return [(match[1], match[2] or "") for match in _LINK.finditer(_OTHER_LANGUAGE.sub("", self.text))]


def original(page: Path) -> Path:
    return page.with_name(page.name.replace(".de.", "."))


@cache
def parts(page: Path) -> list[Part]:
    found, kind, block = [Part(0, "")], None, ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if kind is not None:
            if line.strip() == "```":
                found[-1].code.append((kind, block))
                kind, block = None, ""
            else:
                block += f"{line}\n"
        elif match := _FENCE.match(line):
            kind = match[1]
        elif match := _HEADING.match(line):
            found.append(Part(len(match[1]), match[2]))
        else:
            found[-1].text += f"{line}\n"
    return found


def pairs(page: Path) -> list[tuple[Part, Part]]:
    """Each part of the English page with that of the German one."""
    return list(zip(parts(original(page)), parts(page), strict=True))


def anchors(page: Path) -> list[str]:
    """The anchors that GitHub gives to the headings, in their order."""
    return [re.sub(r"[^\w\- ]", "", part.heading.lower()).replace(" ", "-") for part in parts(page)]


# ---- words of the program ----


@cache
def catalogue() -> list[tuple[str, str]]:
    """Each text of the program with its German, with gaps in place of the values."""
    return [
        (without_values(english), without_values(german))
        for message in read_catalogue("de")
        if message.id
        for english in forms(message.id)
        for german in forms(message.string)
    ]


def without_values(text: str) -> str:
    return re.sub(r"\{[^}]*\}", "…", text)


def pattern(quoted: str) -> re.Pattern[str]:
    return re.compile(r"[^\n]*?".join(re.escape(part) for part in quoted.split("…")))


@cache
def printed_in_german(english: str) -> tuple[str, ...]:
    """The German of all texts that have this one in them; none for what stays English (log, replies)."""
    wanted = pattern(english)
    search = wanted.search if " " in english else wanted.fullmatch  # one word is in many texts
    return tuple(german for text, german in catalogue() if search(text))


def same_words(english: str, german: str) -> bool:
    """Whether the German page quotes what the English one does: a command, a setting, or a text of the program."""
    return english == german or any(pattern(german).search(text) for text in printed_in_german(english))


# ---- tests ----


def names(page: Path) -> str:
    return str(page.relative_to(DOCS))


def test_there_are_german_pages() -> None:
    assert [page for page in PAGES if not original(page).exists()] == []
    assert len(PAGES) > 0


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_the_headings_have_the_same_levels(page: Path) -> None:
    levels = [[(part.level, number) for number, part in enumerate(parts(each))] for each in (original(page), page)]
    assert levels[0] == levels[1]


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_a_heading_of_the_program_has_the_words_that_it_prints_in_german(page: Path) -> None:
    for english, german in pairs(page):
        if english.heading.startswith("`"):
            quoted = english.heading.strip("`"), german.heading.strip("`")
            assert same_words(*quoted), quoted
            assert quoted[0] != quoted[1] or not printed_in_german(quoted[0]), f"the program prints German: {quoted[0]}"


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_the_code_is_the_same_but_for_its_comments(page: Path) -> None:
    for english, german in pairs(page):
        assert [kind for kind, _block in german.code] == [kind for kind, _block in english.code], german.heading
        for (kind, ours), (_kind, theirs) in zip(english.code, german.code, strict=True):
            if kind == "text":  # what a command prints may be German
                assert len(theirs.splitlines()) == len(ours.splitlines()), german.heading
            else:
                assert _COMMENT.sub("", theirs) == _COMMENT.sub("", ours), german.heading


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_the_tables_have_the_same_shape(page: Path) -> None:
    for english, german in pairs(page):
        assert german.tables == english.tables, german.heading


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_commands_settings_and_texts_of_the_program_are_the_same(page: Path) -> None:
    for english, german in pairs(page):
        missing = {each for each in english.quoted if not any(same_words(each, other) for other in german.quoted)}
        more = {
            each
            for each in german.quoted
            if each not in english.text and not any(same_words(other, each) for other in english.quoted)
        }
        assert (missing, more) == (set(), set()), f"missing and more below: {german.heading}"


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_a_link_leads_to_the_same_place_in_german_if_there_is_a_german_page(page: Path) -> None:
    for english, german in pairs(page):
        places = [
            [place(each, home) for each in part.links] for part, home in ((english, original(page)), (german, page))
        ]
        assert sorted(places[0]) == sorted(places[1]), german.heading
        for path, _anchor in german.links:
            if path and not path.endswith(".de.md"):
                assert not (page.parent / path).with_suffix(".de.md").exists(), f"there is a German page: {path}"


def place(link: tuple[str, str], home: Path) -> tuple[str, int]:
    """The English page of a link, and the number of the section."""
    path, anchor = link
    target = (home.parent / path).resolve() if path else home
    if target.suffix != ".md" or not anchor:
        return str(original(target)), -1
    return str(original(target)), anchors(target).index(anchor)


def test_a_text_of_the_program_names_the_german_page() -> None:
    german = " ".join(text for _english, text in catalogue())
    pages = {f"docs/{path}" for path in re.findall(r"docs/([\w/-]+\.md)", german)}
    assert [page for page in pages if (DOCS.parent / page).with_suffix(".de.md").exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_each_page_names_the_other_language(page: Path) -> None:
    assert f"\nEnglish: [{original(page).name}]({original(page).name})\n" in page.read_text(encoding="utf-8")
    assert f"\nDeutsch: [{page.name}]({page.name})\n" in original(page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_each_page_is_in_the_german_readme(page: Path) -> None:
    assert f"({page.relative_to(DOCS.parent)})" in (DOCS.parent / "README.de.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_the_reader_is_addressed_politely(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"\b(?:[Dd]u|[Dd]ir|[Dd]ich|[Dd]ein(?:e[mnrs]?)?)\b", text) == []
    assert re.findall(r'(?<![\w="`(\[])"\w[^"`\n]*\w"', without_code(page)) == [], "quotation marks: „…“"


def without_code(page: Path) -> str:
    return "\n".join(_QUOTED.sub("", part.text) for part in parts(page))


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_the_lines_are_not_too_long(page: Path) -> None:
    longest = max(128, *map(len, lines_of_paragraphs(original(page))))
    assert [line for line in lines_of_paragraphs(page) if len(line) > longest] == []


def lines_of_paragraphs(page: Path) -> list[str]:
    lines = "".join(part.text for part in parts(page)).splitlines()
    return [line for line in lines if not line.lstrip().startswith("|")]
