"""`senderproxy reload`: let the running service read its configuration again.

Guarantees: returns when the service has the new configuration in force, or has refused it and goes on with the previous
one.
Not here: the reload (app). systemd.service(5) ExecReload=.
"""

import argparse
from typing import Final

from senderproxy.cli.common import control_socket
from senderproxy.cli.exit_codes import EX_CONFIG, EX_OK
from senderproxy.cli.terminal import print_error
from senderproxy.control.client import RequestRefused, ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.translation import _

_TIMEOUT: Final = 60.0  # seconds; certificates and the vault may be on a slow disk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy reload`."""
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 if the configuration is in force, EX_CONFIG if the service refused it. Raises NotRunning, NoAnswer."""
    path = control_socket(chosen)  # the service refuses an invalid file itself, logs why, and shows it as a condition
    try:
        ask(path, new_request(Verb.RELOAD), seconds=_TIMEOUT)
    except RequestRefused as error:
        print_error(
            _("Refused, the previous configuration stays in force. {error}").format(error=error.message), error.hint
        )
        return EX_CONFIG
    print(_("The configuration is in force."))
    return EX_OK
