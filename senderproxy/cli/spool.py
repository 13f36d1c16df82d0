"""`senderproxy spool`: reset a spool whose database is gone.

Guarantees: nothing is reset without a confirmation, and nothing while another process has the spool.
Not here: the reset itself (spool.sqlite.reset).
"""

import argparse
from pathlib import Path

from senderproxy.cli.common import read_config
from senderproxy.cli.errors import InputError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.terminal import confirm
from senderproxy.clock import SystemClock
from senderproxy.spool.sqlite.reset import spool_reset
from senderproxy.translation import _, ngettext


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Actions of `senderproxy spool`."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    reset = actions.add_parser("reset", help=_("begin with an empty spool after its database was lost"))
    reset.add_argument("--yes", action="store_true", help=_("do not ask for confirmation"))
    reset.set_defaults(run=run_reset)


def run_reset(chosen: argparse.Namespace) -> int:
    """0 if the spool is empty and usable, 1 if the reset was not confirmed. Raises SpoolError."""
    directory = Path(read_config(chosen).spool_directory)
    if not directory.is_dir():
        raise InputError(
            _("There is no spool at {directory}.").format(directory=directory),
            hint=_("Start the service, which creates it: systemctl start senderproxy"),
        )
    with spool_reset(directory) as reset:
        print(_("The spool {path} has no database. A reset makes an empty one.").format(path=directory))
        print(_("Lost for good are: every message that waited in it, and the history of all messages."))
        if reset.bodies:
            print(
                ngettext(
                    "The body of {count} large message is left, without its envelope.",
                    "The bodies of {count} large messages are left, without their envelopes.",
                    reset.bodies,
                ).format(count=reset.bodies)
            )
        if not chosen.yes and not confirm(_("Reset the spool?")):
            print(_("Nothing was changed."))
            return EX_FAILED
        moved = reset.carry_out(SystemClock().now())
    print(_("The spool is empty. What was left of the former one is in {path}.").format(path=moved))
    print(_("A running service opens it within half a minute."))
    return EX_OK
