"""Texts of the package that are made from others: manual page, completion, changelog, copyright.

Guarantees: the same sources give the same text.
Not here: the maintainer scripts (files/).
"""

import re
import textwrap
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from importlib import import_module
from typing import Final

import shtab
from argparse_manpage.manpage import Manpage

from deploy.debian.wheels import Wheel
from senderproxy.cli.main import VERBS, parser

# Licences whose text each Debian machine has: a phrase of the text, the name of its file.
_COMMON: Final = (
    ("Apache License\n", "Apache-2.0"),
    ("Mozilla Public License Version 2.0", "MPL-2.0"),
)
_WIDTH: Final = 78  # columns of a changelog


def completion(shell: str) -> str:
    """Return the completion script for `bash` or `zsh`."""
    return str(shtab.complete(_whole_parser(), shell))


def manual_page(version: str, day: datetime) -> str:
    """Return senderproxy(1) in the format of man(7): all verbs with their options."""
    page = Manpage(
        _whole_parser(),
        format="single-commands-section",
        _data={
            "project_name": "senderproxy",
            "version": version,
            "manual_title": "System administration",
            "date": f"{day:%Y-%m-%d}",
        },
    )
    page.description = "SMTP relay that logs in as the mailbox that owns each sender"
    return str(page)


def changelog(source: str, version: str, maintainer: str, moment: datetime) -> str:
    """Return CHANGELOG.md's newest section in the format of deb-changelog(5).

    `source` is the text of CHANGELOG.md; `moment` stands at the entry's end.
    """
    newest = re.split(r"^## .*$", source, flags=re.MULTILINE)[1]
    points = re.findall(r"^- (.*(?:\n  .*)*)", newest, re.MULTILINE)
    entries = (
        textwrap.fill(
            " ".join(point.split()), _WIDTH, initial_indent="  * ", subsequent_indent="    ", break_long_words=False
        )
        for point in points
    )
    lines = [f"senderproxy ({version}) unstable; urgency=medium", "", *entries, ""]
    return "\n".join([*lines, f" -- {maintainer}  {format_datetime(moment.astimezone(UTC))}", ""])


def copyright_file(own: str, wheels: Sequence[Wheel]) -> str:
    """Return the licence of senderproxy (`own`) and those of the libraries that the package contains."""
    parts = ["senderproxy\n===========\n\n" + own.strip()]
    seen: set[str] = set()
    for wheel in wheels:
        if wheel.name not in seen:
            seen.add(wheel.name)
            parts.append("\n".join(_of_library(wheel)))
    return "\n\n\n".join(parts) + "\n"


def _of_library(wheel: Wheel) -> Iterator[str]:
    title = f"{wheel.name} {wheel.version}"
    yield from (title, "=" * len(title), "", f"Homepage: {wheel.homepage}", f"Licence: {wheel.licence}")
    for name, text in wheel.licences:
        common = next((file for phrase, file in _COMMON if phrase in text), None)
        yield from ("", f"{name}:", "")
        yield f"see /usr/share/common-licenses/{common}" if common else text


def _whole_parser() -> ArgumentParser:
    """Return the parser of the command line with the options of each verb loaded."""
    whole = parser()
    (verbs,) = (action for action in whole._actions if action.dest == "==SUPPRESS==" and action.choices)  # noqa: SLF001
    for name in VERBS:
        verb = verbs.choices[name]  # type: ignore[index]
        import_module(f"senderproxy.cli.{name}").add_arguments(verb)
        verb.verb = ""
    return whole
