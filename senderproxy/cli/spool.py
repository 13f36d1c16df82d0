"""`senderproxy spool`: reset of a lost spool, tables in a database server, move of the queue to another engine.

Guarantees: nothing is reset without a confirmation, and nothing while another process has the spool. The login that
owns the tables is used for this command only, and stored nowhere.
Not here: the reset itself (spool.sqlite.reset), the tables (spool.postgresql.migrations).
"""

import argparse
import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from senderproxy.cli.common import read_config, refuse_database_server
from senderproxy.cli.errors import InputError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.terminal import ask_secret, confirm
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config, SpoolSettings
from senderproxy.config.values import SQLITE_ENGINE, engine_address, read_alone, read_engine, read_secret_place
from senderproxy.control.client import NotRunning, ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.late_import import late_import
from senderproxy.service.spool import EngineSpool
from senderproxy.service.spool_move import MoveCounts, move_queue
from senderproxy.spool.sqlite.reset import spool_reset
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.translation import _, ngettext
from senderproxy.wiring import spool_limits_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Actions of `senderproxy spool`."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    reset = actions.add_parser("reset", help=_("begin with an empty spool after its database was lost"))
    reset.add_argument("--yes", action="store_true", help=_("do not ask for confirmation"))
    reset.set_defaults(run=run_reset)
    change = actions.add_parser("migrate", help=_("make the tables in the database server, or bring them up to date"))
    change.add_argument("--owner", metavar="ROLE", required=True, help=_("the role that owns the tables"))
    change.add_argument("--password-stdin", action="store_true", help=_("read its password from standard input"))
    change.add_argument("--no-password", action="store_true", help=_("the server needs none from this user"))
    change.set_defaults(run=run_migrate)
    move = actions.add_parser("move", help=_("move the queue from another engine into the one of the configuration"))
    place = _("the old spool: `engine` as it was, or the folder of a spool of SQLite")
    move.add_argument("--from", dest="source", metavar="ENGINE|FOLDER", required=True, help=place)
    secret = _("the place of the old database's password, as in engine_password")
    move.add_argument("--from-password", metavar="PLACE", help=secret)
    move.add_argument("--yes", action="store_true", help=_("do not ask for confirmation"))
    move.set_defaults(run=run_move)


def run_reset(chosen: argparse.Namespace) -> int:
    """0 if the spool is empty and usable, 1 if the reset was not confirmed. Raises SpoolError."""
    config = read_config(chosen)
    refuse_database_server(config)
    directory = Path(config.spool_directory)
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


def run_migrate(chosen: argparse.Namespace) -> int:
    """0 if the tables have the format of this version. Raises SpoolError."""
    settings = read_config(chosen).spool
    if (address := engine_address(settings.engine)) is None:
        raise InputError(
            _("The spool is in files of this machine, not in a database server."),
            hint=_("Write the server to engine in section [spool]."),
        )
    with late_import():
        from senderproxy.service.postgresql import migrate_tables
    secret = "" if chosen.no_password else ask_secret(_("Password"), from_stdin=chosen.password_stdin)
    before, after = asyncio.run(migrate_tables(settings, address, chosen.owner, secret))
    if before == after:
        print(_("The tables have format {number} already.").format(number=after))
    else:
        print(_("The tables have format {number} now.").format(number=after))
    return EX_OK


def run_move(chosen: argparse.Namespace) -> int:
    """0 if all of the queue is in the configured spool, 1 if something is left. Raises SenderproxyError."""
    config = read_config(chosen)
    settings = config.spool
    if engine_address(chosen.source) is None:
        old = settings.model_copy(update={"engine": SQLITE_ENGINE, "directory": str(Path(chosen.source).absolute())})
        if not Path(chosen.source).is_dir():
            raise InputError(_("There is no spool at {directory}.").format(directory=chosen.source))
    else:
        read_alone(read_engine, chosen.source)
        place = chosen.from_password and read_alone(read_secret_place, chosen.from_password)
        old = settings.model_copy(update={"engine": chosen.source, "engine_password": place})
    if old.engine == settings.engine:
        raise InputError(_("The old spool has the engine that is in the configuration."))
    _require_stopped(config)
    print(_("No service may use the old spool, now or later: mail would be sent twice."))
    if not chosen.yes and not confirm(_("Move the queue?")):
        print(_("Nothing was changed."))
        return EX_FAILED
    counts = asyncio.run(_move(config, old))
    print(
        ngettext("{count} message was moved.", "{count} messages were moved.", counts.moved).format(count=counts.moved)
    )
    left = counts.unreadable + counts.in_use
    if left:
        stays = ngettext("{count} message stays in the old spool.", "{count} messages stay in the old spool.", left)
        print(stays.format(count=left))
    return EX_FAILED if left else EX_OK


def _require_stopped(config: Config) -> None:
    """Raises InputError while the service of this configuration runs."""
    try:
        ask(Path(config.service.control_socket), new_request(Verb.STATUS))
    except NotRunning:
        return
    raise InputError(_("The service is running; a move needs it stopped."), hint="systemctl stop senderproxy")


async def _move(config: Config, old: SpoolSettings) -> MoveCounts:
    clock = SystemClock()
    async with AsyncExitStack() as opened:
        source = await _open_engine(old, config, clock)
        opened.push_async_callback(source.close)
        target = await _open_engine(config.spool, config, clock)
        opened.push_async_callback(target.close)
        return await move_queue(source, target)


async def _open_engine(settings: SpoolSettings, config: Config, clock: SystemClock) -> EngineSpool:
    if settings.engine != SQLITE_ENGINE:
        with late_import():
            from senderproxy.service.postgresql import open_postgresql
        return await open_postgresql(settings, clock)
    directory = settings.directory or config.spool_directory
    return SqliteSpool.open(Path(directory), clock, spool_limits_of(settings))
