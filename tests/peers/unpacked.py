"""A mail server that is unpacked, not installed, run as if it were: over this machine's /usr, with the users that it needs.

Guarantees: a command sees this machine with the program's packages on top, in a mount namespace of its own. Nothing of the
machine changes; a mail server of its own, even the same one, is neither used nor disturbed, and the users of the program
have numbers that no user of the machine has.
Not here: the packages (packages), the configuration of the program (postfix, dovecot).
Needs root, and overlayfs.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from tests.peers.packages import unpacked

# Debian's policy (9.2.2) reserves 30000 to 59999: no machine has users there.
USERS: Final = {"postfix": 59981, "dovecot": 59983, "dovenull": 59984}
GROUPS: Final = {**USERS, "postdrop": 59982}

_VIEW: Final = """
mount -t overlay -o "ro,lowerdir=$0/usr:/usr" program /usr &&
mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/group" /etc/group &&
shift && exec "$@"
"""


class Unpacked:
    """The programs of one entry of `packages.UNPACKED`. The folder is the peer's own; it gets the lists of users."""

    def __init__(self, program: str, folder: Path) -> None:
        self._tree = unpacked(program)
        self._folder = folder
        users = "".join(
            f"{name}:x:{number}:{GROUPS[name]}:of a test:/nonexistent:/usr/sbin/nologin\n"
            for name, number in USERS.items()
        )
        groups = "".join(f"{name}:x:{number}:\n" for name, number in GROUPS.items())
        for file, names, entries in (("passwd", USERS, users), ("group", GROUPS, groups)):
            others = without(names, Path("/etc") / file)
            (folder / file).write_text(others + entries, encoding="utf-8")

    def command(self, *words: str | Path) -> Sequence[str]:
        """Return the command line that runs a program by its path as installed, /usr/sbin/postfix for example."""
        return ["unshare", "--mount", "sh", "-c", _VIEW, str(self._tree), str(self._folder), *map(str, words)]


def without(names: Collection[str], file: Path) -> str:
    """Return the entries of a file as /etc/passwd but for those of the names: a machine with such a server has them."""
    entries = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(entry for entry in entries if entry.partition(":")[0] not in names)
