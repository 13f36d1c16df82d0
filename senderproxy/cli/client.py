"""`senderproxy client`: programs and devices in the office that log in to us."""

import argparse

from senderproxy.cli.common import EX_OK, Subparsers, new_secret
from senderproxy.listener.client_auth import hash_password


def add_parser(verbs: Subparsers) -> None:
    group = verbs.add_parser("client", help="programs and devices that log in to senderproxy")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    hashed = actions.add_parser("hash-password", help="what to write as the password of a [[clients]] entry")
    hashed.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    hashed.set_defaults(run=run_hash_password)


def run_hash_password(chosen: argparse.Namespace) -> int:
    """One line for the configuration, on standard output."""
    print(f'password = "{hash_password(new_secret("password of the client", from_stdin=chosen.password_stdin))}"')
    return EX_OK
