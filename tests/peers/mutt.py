"""mutt as a reader of messages: the text that it shows of each, and its list of parts.

mutt needs a terminal; it gets a pseudo-terminal, and pipes each message, decoded, into a file.
"""

import os
import pty
import re
import select
import subprocess
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DEADLINE = 120  # seconds for all messages

_SETTINGS = """
set mbox_type = Maildir
set charset = "utf-8"
set mailcap_path = "{folder}/mailcap"
set pipe_decode = yes
set pipe_split = yes
set wait_key = no
set move = no
set quit = yes
set sleep_time = 0
set timeout = 5
set sort = mailbox-order
set folder = "{folder}"
set spoolfile = "{folder}/mail"
set record = ""
ignore *
unignore subject
auto_view text/html text/calendar text/x-amp-html
alternative_order {order}
"""
_PART = re.compile(r"^\[-- Type: ([^,]+),", re.MULTILINE)


@dataclass(frozen=True)
class Shown:
    """One message, as mutt shows it."""

    text: str

    @property
    def parts(self) -> list[str]:
        """The types of the parts that it lists."""
        return _PART.findall(self.text)


def show(messages: Mapping[str, bytes], folder: Path, order: Sequence[str]) -> dict[str, Shown]:
    """The messages, each with its key in place of its subject. `order`: the alternatives, the preferred one first."""
    for name in ("mail/cur", "mail/new", "mail/tmp", "out"):
        (folder / name).mkdir(parents=True)
    (folder / "mailcap").write_text("text/*; iconv -c -f %{charset} -t utf-8 %s; copiousoutput\n")
    (folder / "muttrc").write_text(_SETTINGS.format(folder=folder, order=" ".join(order)))
    (folder / "pipe.sh").write_text(f'cat > "$(mktemp {folder}/out/XXXXXXXXXX)"\n')
    numbers = {}
    for number, (key, raw) in enumerate(messages.items()):
        numbers[f"shape-{number}"] = key
        named = re.sub(
            rb"^Subject: .*$", b"Subject: shape-%d" % number, raw.replace(b"\r\n", b"\n"), count=1, flags=re.MULTILINE
        )
        (folder / "mail" / "cur" / f"{number:06}.x:2,S").write_bytes(named)
    keys = f"<tag-pattern>~A<enter><tag-prefix><pipe-message>sh {folder}/pipe.sh<enter><exit>"
    _run(["mutt", "-n", "-F", str(folder / "muttrc"), "-R", "-f", str(folder / "mail"), "-e", f"push '{keys}'"], folder)
    found = {}
    for path in (folder / "out").iterdir():
        text = path.read_bytes().decode("utf-8", "replace")
        subject = re.search(r"^Subject: (shape-\d+)", text, re.MULTILINE)
        assert subject is not None, text[:200]
        found[numbers[subject[1]]] = Shown(text.partition("\n\n")[2])
    assert found.keys() == messages.keys()
    return found


def _run(words: list[str], folder: Path) -> None:
    """Run a program that needs a terminal, and wait for its end."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 120))  # without a size, ncurses 6.5 opens no terminal
    environment = os.environ | {
        "TERM": "xterm",
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "LINES": "40",
        "COLUMNS": "120",
    }
    process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True)
    os.close(slave)
    try:
        while True:
            ready, _, _ = select.select([master], [], [], DEADLINE)
            try:
                if not ready or not os.read(master, 65536):
                    break
            except OSError:  # the terminal's other end is closed
                break
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
