"""`senderproxy help`: the pages of the documentation on the terminal.

Guarantees: a page is printed as it is, in the language in force if it is translated (`TOPIC.de.md`); a pager is used
only where standard output is a terminal.
Not here: the help of a verb (`senderproxy VERB --help`, cli.main).
"""

import argparse
import difflib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from senderproxy.cli.errors import InputError, UsageError
from senderproxy.cli.exit_codes import EX_OK
from senderproxy.cli.terminal import print_table
from senderproxy.translation import LANGUAGES, _, current_language

# Folders of the pages: the package's, that of a virtual environment, and that of the sources.
_FOLDERS: Final = (
    Path(__file__).parents[2] / "docs",
    Path(sys.prefix) / "share/doc/senderproxy",
    Path("/usr/share/doc/senderproxy"),
)
_SIGN: Final = "operating.md"  # a folder that has this page has them all
_PAGERS: Final = ("pager", "less", "more")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy help`."""
    parser.add_argument("topic", metavar="TOPIC", nargs="?", help=_("a page (default: list the pages)"))
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Print a page, or the list of pages. Raises InputError, UsageError."""
    name, _dot, code = (chosen.topic or "").lower().removesuffix(".md").partition(".")
    pages = find_pages(code if code in LANGUAGES else current_language())
    if chosen.topic is None:
        print_table([_("topic"), _("title")], [[name, _title(page)] for name, page in pages.items()])
        return EX_OK
    if name not in pages:
        raise UsageError(
            _("There is no page {topic}.").format(topic=chosen.topic), hint=_hint(nearest_topics(name, list(pages)))
        )
    show(pages[name].read_text(encoding="utf-8"))
    return EX_OK


def find_pages(language: str) -> dict[str, Path]:
    """Return the pages by their topics, those of the guides last. Raises InputError.

    A page is in this language if it is translated, and in English otherwise.
    """
    folder = next((each for each in _FOLDERS if (each / _SIGN).is_file()), None)
    if folder is None:
        places = ", ".join(str(each) for each in _FOLDERS)
        raise InputError(_("The documentation is not installed: it is in none of {places}.").format(places=places))
    pages = [*sorted(folder.glob("*.md")), *sorted((folder / "guides").glob("*.md"))]
    originals = {page.stem.lower(): page for page in pages if "." not in page.stem}
    suffix = f".{language}"
    return originals | {page.stem.lower().removesuffix(suffix): page for page in pages if page.stem.endswith(suffix)}


def nearest_topics(wanted: str, topics: list[str]) -> list[str]:
    """Return at most three topics with the word in them or a similar spelling."""
    containing = [each for each in topics if wanted and wanted in each]
    similar = difflib.get_close_matches(wanted, topics, n=3)
    return list(dict.fromkeys([*containing, *similar]))[:3]


def _hint(names: list[str]) -> str:
    commands = [f"senderproxy help {name}" for name in names] or ["senderproxy help"]
    return _(" or ").join(commands)


def _title(page: Path) -> str:
    with page.open(encoding="utf-8") as lines:
        return next((line.removeprefix("# ").strip() for line in lines if line.startswith("# ")), "")


def show(text: str) -> None:
    """Print a text; on a terminal by $PAGER, or the system's pager."""
    wanted = os.environ.get("PAGER")
    pager = next((found for each in ([wanted] if wanted else _PAGERS) if (found := shutil.which(each))), None)
    if not sys.stdout.isatty() or pager is None:
        print(text, end="")
        return
    subprocess.run([pager], input=text, encoding="utf-8", check=False)  # noqa: S603 - the operator's own choice
