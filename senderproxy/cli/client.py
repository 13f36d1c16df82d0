"""`senderproxy client`: programs and devices in the office that log in to us."""

import argparse
import secrets
import string
from typing import Final

from senderproxy.cli.exit_codes import EX_OK
from senderproxy.cli.terminal import ask_new_secret
from senderproxy.listener.client_auth import hash_password

_GENERATED_LENGTH: Final = 16  # many devices store no more than 20
# Without those that look alike on a small display.
_LETTERS_AND_DIGITS: Final = "".join(set(string.ascii_letters + string.digits) - set("0O1lI"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    hashed = actions.add_parser("hash-password", help="what to write as the password of a [[clients]] entry")
    source = hashed.add_mutually_exclusive_group()
    source.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    source.add_argument(
        "--generate",
        action="store_true",
        help=f"make a password of {_GENERATED_LENGTH} letters and digits, as devices can store it, and print it too",
    )
    hashed.set_defaults(run=run_hash_password)


def run_hash_password(chosen: argparse.Namespace) -> int:
    """One line for the configuration, on standard output; before it a password that was generated, for the device."""
    if chosen.generate:
        password = generate_password()
        print(f"For the device, shown only now: {password}\nFor the configuration:")
    else:
        password = ask_new_secret("Password of the client", from_stdin=chosen.password_stdin)
    print(f'password = "{hash_password(password)}"')
    return EX_OK


def generate_password() -> str:
    """A password that any device can store and anybody can read off a screen: 93 bits."""
    return "".join(secrets.choice(_LETTERS_AND_DIGITS) for _ in range(_GENERATED_LENGTH))
