"""`senderproxy setup --from BACKUP`: the installation of a backup, started and checked.

Guarantees: nothing is started if the vault does not open, or for another configuration than the unit's.
Not here: the restore (backup.restore), a new installation (cli.setup).
"""

import argparse
import os
import subprocess
from pathlib import Path
from typing import Final

from senderproxy.backup.errors import BackupError
from senderproxy.cli import check
from senderproxy.cli.common import SYSTEM_CONFIG
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.restore import print_held, print_next_step, restore, restore_request
from senderproxy.cli.terminal import print_progress
from senderproxy.translation import _

_UNIT: Final = "senderproxy.service"
_BOOTED: Final = Path("/run/systemd/system")  # sd_booted(3)
_START_TIMEOUT: Final = 120.0  # seconds; TimeoutStartSec is 90 by default


def rebuild(chosen: argparse.Namespace) -> int:
    """0 if the service runs and no check failed, or if it is to be started by hand; else 1.

    Held messages are a finding of the check. Raises SenderproxyError.
    """
    restored = restore(restore_request(chosen, chosen.backup, replace=chosen.force, with_queue=True))
    print()
    if not restored.is_openable or not _may_start(restored.config):
        print_next_step(restored)
        return EX_OK if restored.is_openable else EX_FAILED
    print_progress(_("Starting the service ..."))
    _start()
    options = {"offline": False, "json": False, "probe": False, "account": [], "to": None, "yes": False}
    code = check.run(argparse.Namespace(config=str(restored.config), unlock=None, **options))
    print()
    print_held(restored)
    return code


def _may_start(config: Path) -> bool:
    return os.geteuid() == 0 and config == SYSTEM_CONFIG and _BOOTED.is_dir()


def _start() -> None:
    words = ["systemctl", "enable", "--now", _UNIT]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_START_TIMEOUT)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _not_started(str(error)) from error
    if done.returncode:
        raise _not_started(" ".join(done.stderr.split()))


def _not_started(why: str) -> BackupError:
    return BackupError(
        _("Everything is restored, but the service did not start: {why}").format(why=why),
        hint=_("Read the log: journalctl -u senderproxy -e. Then: systemctl enable --now senderproxy"),
    )
