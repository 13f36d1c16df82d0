"""The catalogues of senderproxy/locale: complete, right in their form, compiled."""

import ast
import gettext
import io
import os
import re
import string
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message

from deploy.debian import wheels
from docs.update_translations import compiled, forms, marked_texts, merged, read_catalogue, rendered, source_path
from senderproxy.cli.main import VERBS
from senderproxy.translation import LANGUAGES, SOURCE

PROJECT = Path(__file__).parents[2]
TRANSLATIONS = [language for language in LANGUAGES if language != SOURCE]
COMMAND = re.compile(
    r"\bsenderproxy (?:account|alert|client|queue|spool|vault)(?: [a-z]+(?:-[a-z]+)*)?"
    rf"|\bsenderproxy (?:{'|'.join(VERBS)})\b"
    r"|\bsystemctl (?:start|stop|restart|reload|edit|status|list-sockets)\b|\b(?:journal|resolve|timedate)ctl\b"
)
SETTING = re.compile(r"\b[a-z]+_[a-z_]+\b|\[[a-z.]+\]|--[a-z-]+")


@pytest.fixture(scope="module", params=TRANSLATIONS)
def catalogue(request: pytest.FixtureRequest) -> Catalog:
    return read_catalogue(request.param)


def messages(catalogue: Catalog) -> list[Message]:
    return [message for message in catalogue if message.id]


def translated(catalogue: Catalog) -> list[Message]:
    return [message for message in messages(catalogue) if any(forms(message.string))]


def fields(text: str) -> set[str]:
    """The placeholders of a template, with their formats."""
    return {
        f"{name}!{conversion or ''}:{layout}"
        for _literal, name, layout, conversion in string.Formatter().parse(text)
        if name is not None
    }


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_each_text_has_a_translation(language: str) -> None:
    texts, catalogue = marked_texts(), read_catalogue(language)
    assert messages(texts)
    missing = [
        text.id
        for text in messages(texts)
        if (known := catalogue.get(text.id)) is None
        or known.pluralizable != text.pluralizable
        or not all(forms(known.string))
    ]
    assert missing == [], "make translations, then fill them in"


def test_no_text_stands_within_an_f_string() -> None:
    """Python 3.11 has no tokens of it, so that it would be found by later versions only."""
    found = [
        f"{path.relative_to(PROJECT)}:{call.lineno}"
        for path in sorted((PROJECT / "senderproxy").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr)
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("_", "N_", "ngettext")
        if call.args and isinstance(call.args[0], ast.Constant)
    ]
    assert found == []


def test_no_translation_is_a_guess(catalogue: Catalog) -> None:
    assert [message.id for message in messages(catalogue) if message.fuzzy] == []
    assert not catalogue.obsolete


def test_a_translation_has_the_placeholders_of_its_text(catalogue: Catalog) -> None:
    for message in translated(catalogue):
        expected = set.union(*map(fields, forms(message.id)))
        for form in forms(message.string):
            assert not form or fields(form) == expected, form


def test_each_plural_form_is_there(catalogue: Catalog) -> None:
    for message in translated(catalogue):
        assert message.pluralizable == isinstance(message.string, tuple), message.id
        assert len(forms(message.string)) == (catalogue.num_plurals if message.pluralizable else 1), message.id
        assert all(forms(message.string)), message.id


def test_commands_and_settings_are_not_translated(catalogue: Catalog) -> None:
    for message in translated(catalogue):
        original = forms(message.id)[-1]
        for form in forms(message.string):
            for word in COMMAND.findall(original) + SETTING.findall(original):
                assert word in form, f"{word!r} is missing in {form!r}"


def test_a_translation_begins_and_ends_like_its_text(catalogue: Catalog) -> None:
    for message in translated(catalogue):
        original = forms(message.id)[-1]
        for form in forms(message.string):
            assert form[:1].isspace() == original[:1].isspace(), form
            assert form[-1:].isspace() == original[-1:].isspace(), form
            assert (form[-1:] in ".:?") == (original[-1:] in ".:?"), form


def test_a_translation_is_not_written_twice(catalogue: Catalog) -> None:
    """As a merge of two catalogues could leave it."""
    strings = [form for message in translated(catalogue) for form in forms(message.string)]
    assert [form for form in strings if len(form) > 40 and form.count(form[:40]) > 1] == []


def test_the_address_of_the_reader_is_polite(catalogue: Catalog) -> None:
    if str(catalogue.locale) == "de":
        familiar = re.compile(r"\b(du|dir|dich|dein\w*|Du|Dir|Dich|Dein\w*)\b")
        assert [
            form for message in translated(catalogue) for form in forms(message.string) if familiar.search(form)
        ] == []


def test_the_catalogue_is_written_as_the_update_writes_it(catalogue: Catalog) -> None:
    language = str(catalogue.locale)
    assert source_path(language).read_bytes() == rendered(merged(catalogue, catalogue)), "make translations"


def test_the_compiled_catalogue_is_that_of_the_translations(catalogue: Catalog) -> None:
    source = source_path(str(catalogue.locale))
    assert source.with_suffix(".mo").read_bytes() == compiled(merged(catalogue, catalogue)), "make translations"


def test_placeholders_are_plain_names() -> None:
    """A text that is translated later has its values as text: no attributes, no items."""
    texts = [form for message in messages(marked_texts()) for form in forms(message.id)]
    assert len(texts) > 1000
    assert [text for text in texts for field in fields(text) if re.search(r"^\w*[.\[]", field)] == []


def test_a_new_text_keeps_the_translations_of_the_others() -> None:
    before, texts = Catalog("de"), Catalog()
    before.add("old", "alt")
    before.add("gone", "weg")
    before.add(("{count} thing", "{count} things"), ("{count} Ding", "{count} Dinge"))
    for text in ("old", "new", ("{count} thing", "{count} things")):
        texts.add(text, locations=[("senderproxy/a.py", 1)])
    after = {message.id: message.string for message in messages(merged(texts, before))}
    assert after == {"old": "alt", "new": "", ("{count} thing", "{count} things"): ("{count} Ding", "{count} Dinge")}


@pytest.mark.slow
def test_the_wheel_has_the_compiled_catalogue_and_finds_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(wheels.build_program(tmp_path)) as wheel:
        names = [name for name in wheel.namelist() if "/locale/" in name]
        assert names == [f"senderproxy/locale/{one}/LC_MESSAGES/senderproxy.mo" for one in TRANSLATIONS]
        catalogue = gettext.GNUTranslations(io.BytesIO(wheel.read(names[0])))
        wheel.extractall(tmp_path / "program")
    text = "There is no account yet."
    assert catalogue.gettext(text) != text
    program = f"from senderproxy.translation import _, use_language; use_language('de'); print(_({text!r}))"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "program",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "program"), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert ended.stdout.strip() == catalogue.gettext(text)
