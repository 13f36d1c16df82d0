"""Texts in the reader's language: the language in force, texts for another reader, the environment of a command."""

import asyncio
import copy
import gettext
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping

import pytest

from senderproxy import translation
from senderproxy.translation import (
    _,
    current_language,
    in_english,
    joined,
    language,
    ngettext,
    preferred_language,
    shown_text,
    stored_text,
    translated,
    use_language,
)

CATALOGUE = {
    "": "Language: de",  # the header, as in any catalogue
    "The disk is full.": "Die Platte ist voll.",
    "{host} refuses the login: {why}": "{host} lehnt die Anmeldung ab: {why}",
    "password refused": "Passwort abgelehnt",
    "{count} message": ("{count} Nachricht", "{count} Nachrichten"),
    "{seconds:.1f} s": "{seconds:.1f} Sek.",
}


@pytest.fixture(autouse=True)
def german(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A small German catalogue; English in force."""

    class Catalogue(gettext.NullTranslations):
        def gettext(self, text: str) -> str:
            return str(CATALOGUE.get(text, text))

        def ngettext(self, one: str, many: str, count: int) -> str:
            return CATALOGUE[one][count != 1]

    monkeypatch.setattr(translation, "_catalogue", lambda code: Catalogue())
    yield
    use_language("en")


def test_texts_are_english_until_a_language_is_chosen() -> None:
    assert _("The disk is full.") == "The disk is full."
    assert ngettext("{count} message", "{count} messages", 2).format(count=2) == "2 messages"


def test_the_language_of_the_process_holds_on_every_thread() -> None:
    use_language("de")
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(_("The disk is full.")))
    thread.start()
    thread.join(60)
    assert [*found, _("The disk is full.")] == ["Die Platte ist voll."] * 2


def test_a_part_of_the_program_writes_for_another_reader() -> None:
    with language("de"):
        assert current_language() == "de"
        with language("en"):
            assert _("The disk is full.") == "The disk is full."
        assert _("The disk is full.") == "Die Platte ist voll."
    assert current_language() == "en"


def test_the_language_ends_with_an_error() -> None:
    with pytest.raises(OSError), language("de"):
        raise OSError
    assert current_language() == "en"


async def test_a_task_beside_it_keeps_its_language() -> None:
    inside, looked = asyncio.Event(), asyncio.Event()

    async def alert() -> str:
        with language("de"):
            inside.set()
            await looked.wait()
            return _("The disk is full.")

    task = asyncio.create_task(alert())
    await inside.wait()
    assert _("The disk is full.") == "The disk is full."
    looked.set()
    assert await task == "Die Platte ist voll."


def test_a_language_without_a_catalogue_is_an_error() -> None:
    with pytest.raises(ValueError), language("xx"):
        pass
    with pytest.raises(ValueError):
        use_language("xx")
    assert current_language() == "en"


def test_a_text_is_put_into_another_language_later_with_the_texts_in_it() -> None:
    why = _("password refused")
    text = _("{host} refuses the login: {why}").format(host="mail.example", why=why)
    with language("de"):
        assert translated(text) == "mail.example lehnt die Anmeldung ab: Passwort abgelehnt"
        assert in_english(translated(text)) == "mail.example refuses the login: password refused"
        assert (
            _("{host} refuses the login: {why}").format(host="x", why=why)
            == "x lehnt die Anmeldung ab: Passwort abgelehnt"
        )
    assert text == "mail.example refuses the login: password refused"


def test_a_number_keeps_its_plural_form_and_its_format() -> None:
    texts = [ngettext("{count} message", "{count} messages", count).format(count=count) for count in (0, 1, 2, 5)]
    seconds = _("{seconds:.1f} s").format(seconds=1.25)
    with language("de"):
        assert [translated(text) for text in texts] == [
            "0 Nachrichten",
            "1 Nachricht",
            "2 Nachrichten",
            "5 Nachrichten",
        ]
        assert translated(seconds) == "1.2 Sek."


def test_joined_texts_are_translated_one_by_one() -> None:
    text = joined(" {} ", [_("password refused"), "x{y}", _("The disk is full.")])
    assert text == "password refused {} x{y} {} The disk is full."
    with language("de"):
        assert translated(text) == "Passwort abgelehnt {} x{y} {} Die Platte ist voll."
    assert joined(", ", []) == ""


def test_another_string_is_not_translated() -> None:
    with language("de"):
        assert translated("The disk is full.") == "The disk is full."
        assert translated(_("The disk is full.") + " ") == "Die Platte ist voll. "


def test_a_value_with_braces_is_not_a_template() -> None:
    text = _("{host} refuses the login: {why}").format(host="{why}", why="{host} {0}")
    assert text == "{why} refuses the login: {host} {0}"
    with language("de"):
        assert translated(text) == "{why} lehnt die Anmeldung ab: {host} {0}"


def test_a_text_holds_no_exception() -> None:
    error = OSError(28, "No space left on device")
    text = _("{host} refuses the login: {why}").format(host="x", why=error)
    assert error not in text._values.values()  # type: ignore[attr-defined]
    with language("de"):
        assert translated(text) == "x lehnt die Anmeldung ab: [Errno 28] No space left on device"


def test_a_text_is_a_string_for_everybody_else() -> None:
    text = _("{seconds:.1f} s").format(seconds=2)
    assert text == "2.0 s"
    assert hash(text) == hash("2.0 s")
    assert {text: 1}["2.0 s"] == 1
    assert json.dumps({"text": text}) == '{"text": "2.0 s"}'
    for copied in (pickle.loads(pickle.dumps(text)), copy.copy(text), copy.deepcopy(text), str(text), f"{text}"):
        assert type(copied) is str
        assert copied == "2.0 s"


def test_an_empty_text_stays_empty() -> None:
    with language("de"):
        assert _("") == ""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "de"),
        ({"LANG": "de"}, "de"),
        ({"LANG": "de_AT@euro"}, "de"),
        ({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "de_CH.UTF-8"}, "de"),
        ({"LC_ALL": "C.UTF-8", "LANG": "de_DE.UTF-8"}, "en"),
        ({"LC_ALL": "", "LANG": "de_DE.UTF-8"}, "de"),
        ({"LANG": "C", "LANGUAGE": "de"}, "en"),
        ({"LANGUAGE": "de"}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "fr_FR.UTF-8", "LANGUAGE": "fr:de:en"}, "de"),
        ({"LANG": "de_DE.UTF-8", "LANGUAGE": "en_GB:de"}, "en"),
        ({"LANG": "de_DE.UTF-8", "LC_TIME": "en_US.UTF-8"}, "de"),
        ({"LANG": "../../etc"}, "en"),
    ],
)
def test_the_environment_chooses_the_language(environment: Mapping[str, str], expected: str) -> None:
    assert preferred_language(environment) == expected


@pytest.mark.parametrize(("arguments", "loads"), [(("--version",), False), (("help", "xyzzy"), True)])
def test_the_version_needs_no_catalogue(arguments: tuple[str, ...], loads: bool) -> None:
    program = (
        "import sys\nfrom senderproxy import translation\nfrom senderproxy.cli.main import main\n"
        "main(sys.argv[1:])\nprint(translation._catalogue.cache_info().currsize)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "LC_ALL": "de_DE.UTF-8", "LANGUAGE": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stdout.split()[-1] == str(int(loads))


# ---- stored texts ----


def test_a_stored_text_is_shown_in_the_readers_language_with_the_texts_in_it() -> None:
    stored = stored_text(_("{host} refuses the login: {why}").format(host="mail.example", why=_("password refused")))
    with language("de"):
        assert shown_text(stored) == "mail.example lehnt die Anmeldung ab: Passwort abgelehnt"
        assert shown_text(stored_text(_("{seconds:.1f} s").format(seconds=2))) == "2.0 Sek."
        plain = stored_text(_("{host} refuses the login: {why}").format(host="{0.real}", why="535 password"))
        assert shown_text(plain) == "{0.real} lehnt die Anmeldung ab: 535 password"
        many = ngettext("{count} message", "{count} messages", 2).format(count=2)
        assert shown_text(stored_text(many)) == "2 Nachrichten"
        both = joined("; ", [_("{host} refuses the login: {why}").format(host="a", why=many), "550 No"])
        assert shown_text(stored_text(both)) == "a lehnt die Anmeldung ab: 2 Nachrichten; 550 No"


def test_what_was_stored_in_german_is_the_same() -> None:
    with language("de"):
        german = stored_text(_("{seconds:.1f} s").format(seconds=2))
    assert german == stored_text(_("{seconds:.1f} s").format(seconds=2))


@pytest.mark.parametrize("text", ["plain", _("The disk is full."), ngettext("{count} message", "{count} messages", 2)])
def test_texts_without_values_are_not_stored(text: str) -> None:
    assert stored_text(text) == ""


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "{",
        "null",
        "7",
        '[["{seconds:.1f} s"]]',
        '[["{seconds:.1f} s"], null]',
        '[["{seconds:.1f} s"], null, null]',
        '[["{seconds:.1f} s"], null, {}]',
        '[["{seconds:.1f} s"], null, {"seconds": "two"}]',
        '[["{seconds:.1f} s"], null, {"seconds": []}]',
        '[["{seconds:.1f} s"], 2, {"seconds": 2}]',
        '[["{count} message", "{count} messages"], null, {"count": 2}]',
        '["{seconds:.1f} s", {"seconds": 2}]',
        '[["{x.__class__} of no catalogue"], null, {"x": 1}]',
        '[["{x[0]} of no catalogue"], null, {"x": "ab"}]',
        '[[7], null, {"x": 1}]',
        '[[], null, {"x": 1}]',
        '[["a"], {}]',
        "[" * 100_000,
    ],
)
def test_what_cannot_be_read_is_not_shown(stored: str) -> None:
    with language("de"):
        assert shown_text(stored) is None


def test_english_needs_no_stored_text() -> None:
    assert shown_text(stored_text(_("{seconds:.1f} s").format(seconds=2))) is None
