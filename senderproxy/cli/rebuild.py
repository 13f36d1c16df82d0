"""`senderproxy setup --from BACKUP`: the installation of a backup, started and checked.

Guarantees: nothing is started if the vault, or that in a database, does not open, or for another configuration than
the unit's.
Not here: the restore (backup.restore), systemd (cli.setup_service), a new installation (cli.setup).
"""

import argparse

from senderproxy.cli import check
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.restore import print_held, print_next_step, problem_in_database, restore, restore_request
from senderproxy.cli.setup_service import bring_up, may_manage
from senderproxy.cli.terminal import print_progress
from senderproxy.translation import _


def rebuild(chosen: argparse.Namespace) -> int:
    """0 if the service runs and no check failed, or if it is to be started by hand; else 1.

    Held messages are a finding of the check. Raises SenderproxyError.
    """
    restored = restore(restore_request(chosen, chosen.backup, replace=chosen.force, with_queue=True))
    print()
    is_usable = restored.is_openable and problem_in_database(restored) is None
    if not is_usable or not may_manage(restored.config):
        print_next_step(restored)
        return EX_OK if is_usable else EX_FAILED
    print_progress(_("Starting the service ..."))
    bring_up(restart=False)
    options = {"offline": False, "json": False, "probe": False, "account": [], "to": None, "yes": False}
    code = check.run(argparse.Namespace(config=str(restored.config), unlock=None, **options))
    print()
    print_held(restored)
    return code
