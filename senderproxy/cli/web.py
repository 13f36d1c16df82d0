"""`senderproxy web`: the page for the browser, its links and its users.

Guarantees: neither the page's process nor its commands read the configuration or open the vault; the settings come from
the service. A password is read from the terminal or a line of standard input.
Not here: the page (web).
"""

import argparse
import os
from pathlib import Path
from typing import Final

from senderproxy.cli.errors import UsageError
from senderproxy.cli.exit_codes import EX_OK
from senderproxy.cli.terminal import ask_new_secret, print_table
from senderproxy.clock import SystemClock
from senderproxy.control.protocol import Role
from senderproxy.errors import SenderproxyError
from senderproxy.translation import SOURCE, _, ngettext, use_language

_SOCKETS: Final = Path("/run/senderproxy-web")
_STATE: Final = Path("/var/lib/senderproxy-web")
_IDLE: Final = 120.0  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Actions and options of `senderproxy web`; without an action it serves the page."""
    parser.add_argument(
        "--sockets",
        metavar="FOLDER",
        type=Path,
        default=_SOCKETS,
        help=_("folder of the service's sockets: web.sockets (default: {folder})").format(folder=_SOCKETS),
    )
    parser.add_argument(
        "--state",
        metavar="FOLDER",
        type=Path,
        default=Path(os.environ.get("STATE_DIRECTORY", _STATE)),
        help=_("folder of users, links and logins (default: {folder})").format(folder=_STATE),
    )
    parser.add_argument(
        "--listen", metavar="ADDRESS", help=_("address and port (default: the sockets that systemd passes)")
    )
    parser.add_argument(
        "--idle",
        metavar="SECONDS",
        type=float,
        default=_IDLE,
        help=ngettext(
            "end after so many seconds without a request; 0: never (default: {count})",
            "end after so many seconds without a request; 0: never (default: {count})",
            round(_IDLE),
        ).format(count=round(_IDLE)),
    )
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(metavar="ACTION")

    link = actions.add_parser("link", help=_("print a link that logs a browser in, once, within ten minutes"))
    _add_role(link)
    link.set_defaults(run=run_link)

    user = actions.add_parser("user", help=_("users of the page"))
    of_users = user.add_subparsers(required=True, metavar="ACTION")
    listing = of_users.add_parser("list", help=_("list the users"))
    listing.set_defaults(run=run_list)
    add = of_users.add_parser("add", help=_("add a user with a password"))
    _add_name(add)
    _add_role(add)
    _add_password(add)
    add.set_defaults(run=run_add)
    change = of_users.add_parser("passwd", help=_("give a user a new password; ends the user's logins"))
    _add_name(change)
    _add_password(change)
    change.set_defaults(run=run_passwd)
    remove = of_users.add_parser("remove", help=_("remove a user; ends the user's logins"))
    _add_name(remove)
    remove.set_defaults(run=run_remove)


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help=_("name of the user"))


def _add_role(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--role",
        choices=[role.value for role in Role],
        default=Role.OPERATE.value,
        help=_("read: look; operate: change messages, too (default); accounts: add mailboxes, too; at most web.role"),
    )


def _add_password(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--password-stdin", action="store_true", help=_("read the password from a line of standard input")
    )


def run(chosen: argparse.Namespace) -> int:
    """Serve the page until SIGTERM, or until it is idle. Raises SenderproxyError if it cannot start."""
    use_language(SOURCE)  # its texts outside of pages go to the log
    try:
        from senderproxy.web import server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "senderproxy":
            raise
        raise SenderproxyError(
            _("The page needs the package {name}, which is not installed.").format(name=error.name),
            hint=_("Install it: pip install 'senderproxy[web]'"),
        ) from error
    server.run(
        listen=chosen.listen,
        sockets=chosen.sockets,
        state=chosen.state,
        idle=max(0.0, chosen.idle),
        environment=dict(os.environ),
    )
    return EX_OK


def run_link(chosen: argparse.Namespace) -> int:
    """Print a new link. Raises SenderproxyError if the service does not answer, or its configuration has no page."""
    from senderproxy.web.store import LINK_SECONDS, Store

    url = _url(chosen)
    token = Store(chosen.state).new_link(Role(chosen.role), SystemClock().now())
    print(f"{url}login/link/{token}")
    print(_("Good once, within {minutes} minutes.").format(minutes=LINK_SECONDS // 60))
    return EX_OK


def _url(chosen: argparse.Namespace) -> str:
    """The address of the page, with a slash at its end."""
    from senderproxy.control.client import NotRunning, ask
    from senderproxy.control.protocol import Verb, new_request

    try:
        answer = ask(chosen.sockets / Role.READ.value, new_request(Verb.PAGE))
    except NotRunning as error:
        raise SenderproxyError(
            error.message,
            hint=_('Write role = "operate" in [web] of the configuration, then: systemctl restart senderproxy'),
        ) from error
    return str(answer["url"]).rstrip("/") + "/"


def run_list(chosen: argparse.Namespace) -> int:
    """Print the users."""
    from senderproxy.web.store import Store

    users = [[user.name, user.role.value] for user in Store(chosen.state).users().values()]
    if users:
        print_table((_("user"), _("role")), users)
    else:
        print(_("There is no user: senderproxy web user add NAME"))
    return EX_OK


def run_add(chosen: argparse.Namespace) -> int:
    """Add a user."""
    _put(chosen, Role(chosen.role), replace=False)
    print(_("User {name} is added.").format(name=chosen.name))
    return EX_OK


def run_passwd(chosen: argparse.Namespace) -> int:
    """Give a user another password."""
    from senderproxy.web.store import Store

    known = Store(chosen.state).users().get(chosen.name)
    _put(chosen, known.role if known else Role.READ, replace=True)
    print(_("User {name} has a new password.").format(name=chosen.name))
    return EX_OK


def run_remove(chosen: argparse.Namespace) -> int:
    """Remove a user."""
    from senderproxy.web.store import Store

    Store(chosen.state).remove_user(chosen.name)
    print(_("User {name} is removed.").format(name=chosen.name))
    return EX_OK


def _put(chosen: argparse.Namespace, role: Role, *, replace: bool) -> None:
    from senderproxy.web.passwords import LEAST, hash_password
    from senderproxy.web.store import PageUser, Store, is_user_name

    if not is_user_name(chosen.name):
        raise UsageError(_("{name} is not a name for a user.").format(name=repr(chosen.name)))
    password = ask_new_secret(_("Password of the user"), from_stdin=chosen.password_stdin)
    if len(password) < LEAST:
        text = ngettext(
            "The password has fewer than {count} character; nothing was changed.",
            "The password has fewer than {count} characters; nothing was changed.",
            LEAST,
        )
        raise UsageError(text.format(count=LEAST))
    Store(chosen.state).put_user(PageUser(chosen.name, role, hash_password(password)), replace=replace)
