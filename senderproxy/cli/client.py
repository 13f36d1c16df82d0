"""`senderproxy client`: programs and devices that log in to senderproxy."""

import argparse
import secrets
import string
from typing import Final

from senderproxy.cli.exit_codes import EX_OK
from senderproxy.cli.terminal import ask_new_secret
from senderproxy.listener.client_auth import hash_password
from senderproxy.translation import _, ngettext

_GENERATED_LENGTH: Final = 16  # characters; many devices store no more than 20
# Without those that look alike on a small display.
_ALPHABET: Final = "".join(set(string.ascii_letters + string.digits) - set("0O1lI"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Actions and options of `senderproxy client`."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    hashed = actions.add_parser("hash-password", help=_("hash a password for a [[clients]] entry"))
    source = hashed.add_mutually_exclusive_group()
    source.add_argument(
        "--password-stdin", action="store_true", help=_("read the password from a line of standard input")
    )
    source.add_argument(
        "--generate",
        action="store_true",
        help=ngettext(
            "generate a password of {count} letter or digit and print it too",
            "generate a password of {count} letters and digits and print it too",
            _GENERATED_LENGTH,
        ).format(count=_GENERATED_LENGTH),
    )
    hashed.set_defaults(run=run_hash_password)


def run_hash_password(chosen: argparse.Namespace) -> int:
    """Print the line for the configuration; before it, for the device, a generated password."""
    if chosen.generate:
        password = generate_password()
        print(_("For the device (not shown again): {password}").format(password=password))
        print(_("For the configuration:"))
    else:
        password = ask_new_secret(_("Password of the client"), from_stdin=chosen.password_stdin)
    print(f'password = "{hash_password(password)}"')
    return EX_OK


def generate_password() -> str:
    """A random password of letters and digits that are easy to read and to type; 93 bits."""
    return "".join(secrets.choice(_ALPHABET) for _i in range(_GENERATED_LENGTH))
