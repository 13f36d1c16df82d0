"""`senderproxy help`: list of pages, one page, an unknown page, the pager."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from senderproxy.cli.help import find_pages, nearest_topics
from senderproxy.cli.main import main

DOCS = Path(__file__).parents[3] / "docs"


def test_without_a_topic_the_pages_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines if line.startswith("operating ")] == ["Operating senderproxy"]
    assert {line.split()[0] for line in lines[1:]} == set(find_pages("en"))


@pytest.mark.parametrize("topic", ["sendmail", "SENDMAIL", "sendmail.md"])
def test_a_page_is_printed_as_it_is(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", topic]) == 0
    assert capsys.readouterr().out == (DOCS / "sendmail.md").read_text(encoding="utf-8")


def test_a_german_shell_gets_the_german_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "")
    assert main(["help", "queue"]) == 0
    assert capsys.readouterr().out == (DOCS / "queue.de.md").read_text(encoding="utf-8")
    assert main(["help", "queue.en"]) == 0
    assert capsys.readouterr().out == (DOCS / "queue.md").read_text(encoding="utf-8")
    assert main(["help"]) == 0
    assert re.search(r"^queue +Die Warteschlange$", capsys.readouterr().out, re.MULTILINE)


def test_an_english_shell_gets_another_language_by_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "queue.de"]) == 0
    assert capsys.readouterr().out == (DOCS / "queue.de.md").read_text(encoding="utf-8")


def test_each_topic_is_listed_once_in_each_language() -> None:
    assert set(find_pages("de")) == set(find_pages("en"))
    assert not [topic for topic in find_pages("en") if "." in topic]


def test_an_unknown_page_names_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "sendmial"]) == 64
    assert capsys.readouterr().err == "There is no page sendmial.\nTo fix: senderproxy help sendmail\n"
    assert main(["help", "zzzz"]) == 64
    assert capsys.readouterr().err.endswith("To fix: senderproxy help\n")


def test_a_part_of_a_name_is_near() -> None:
    assert nearest_topics("events", ["config", "log-events", "queue"]) == ["log-events"]


def test_each_page_has_a_title() -> None:
    for page in [*find_pages("en").values(), *find_pages("de").values()]:
        assert page.read_text(encoding="utf-8").startswith("# "), page


def test_a_terminal_gets_a_pager(tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\ncat > {tmp_path}/paged\n")
    pager.chmod(0o755)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "senderproxy", "help", "sendmail"]
    environment = {**os.environ, "PAGER": str(pager)}
    subprocess.run(command, stdout=theirs, env=environment, cwd=DOCS.parent, check=True, timeout=60)
    os.close(theirs)
    os.close(ours)
    assert (tmp_path / "paged").read_text() == (DOCS / "sendmail.md").read_text()
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, cwd=DOCS.parent, check=True, timeout=60)
    assert done.stdout == (DOCS / "sendmail.md").read_bytes()
