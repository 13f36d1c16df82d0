"""The package senderproxy-mta: links from the names of sendmail(1) to senderproxy's program.

Guarantees: as for the main package, the same commit gives the same bytes.
Not here: the program (deploy/sendmail.py, in the main package).
Debian Policy 11.6: the package of a mail transport agent has /usr/sbin/sendmail, and provides, conflicts with and
replaces mail-transport-agent. The main package must stay installable beside Postfix and Exim, which are its clients.
"""

import os
import shutil
import subprocess
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Final

_FILES: Final = Path(__file__).parent / "files"
_LINKS: Final = {
    "usr/sbin/sendmail": "../lib/senderproxy/sendmail",
    "usr/lib/sendmail": "senderproxy/sendmail",
    "usr/bin/mailq": "../lib/senderproxy/sendmail",
    "usr/bin/newaliases": "../lib/senderproxy/sendmail",
    "usr/share/doc/senderproxy-mta": "senderproxy",  # the documents of the main package
}


def build(version: str, maintainer: str, moment: datetime, dist: Path) -> Path:
    """Build the package in the folder `dist`, all files with the time `moment`, and return its path."""
    with tempfile.TemporaryDirectory(prefix="senderproxy-mta-") as folder:
        tree = Path(folder) / "tree"
        for name, target in _LINKS.items():
            link = tree / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        control = tree / "DEBIAN/control"
        control.parent.mkdir()
        text = (_FILES / "control-mta").read_text(encoding="utf-8")
        control.write_text(text.format(version=version, maintainer=maintainer), encoding="utf-8")
        for path in [tree, *sorted(tree.rglob("*"))]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (moment.timestamp(), moment.timestamp()), follow_symlinks=False)
        package = Path(folder) / f"senderproxy-mta_{version}_all.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--threads-max=1", "-Zxz", "--build", str(tree), str(package)],
            env={**os.environ, "SOURCE_DATE_EPOCH": str(int(moment.timestamp()))},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return Path(shutil.move(package, dist / package.name))
