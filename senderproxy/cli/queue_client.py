"""Queue requests: to the running service, or to the spool itself while the service is stopped.

Guarantees: both answer the same (relay.queue_admin). A request never creates a spool. While the service runs, the spool
stays its own: one process at a time has it open.
"""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from senderproxy.accounts.unlock import unlock_method
from senderproxy.cli.account_names import AccountName, account_id, names_of, unknown_account
from senderproxy.cli.common import open_accounts
from senderproxy.cli.errors import InputError
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.config.values import SQLITE_ENGINE
from senderproxy.control.client import NotRunning, ask, ask_status
from senderproxy.control.protocol import Answer, Request, Verb, new_request
from senderproxy.delivery.courier import SmtpCourier
from senderproxy.delivery.login_check import short_timeouts
from senderproxy.errors import SenderproxyError
from senderproxy.late_import import late_import
from senderproxy.relay.attempt import REPORT_SERVER, MessageRelay
from senderproxy.relay.dsn_queueing import ReportBuilder, StatesWithReports
from senderproxy.relay.ports import NO_ACCOUNT, Claim
from senderproxy.relay.queue_admin import CHANGED_AT_ONCE, QueueAdmin, States
from senderproxy.service.spool import EngineSpool
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.tracking.record import Query
from senderproxy.tracking.serialize import query_entry
from senderproxy.translation import _
from senderproxy.wiring import rules_of, spool_limits_of

Ask: TypeAlias = Callable[[Request], Answer]

_TIMEOUT: Final = 120.0  # seconds; a disk under load needs that long for two hundred commits


@contextmanager
def open_queue(config: Config) -> Iterator[Ask]:
    """The function that answers queue requests. Raises SenderproxyError if neither service nor spool can."""
    path = Path(config.service.control_socket)
    try:
        ask(path, new_request(Verb.STATUS))
        running = True
    except NotRunning:
        running = False
    if running:
        yield lambda request: ask(path, request, seconds=_TIMEOUT)
    else:
        with _open_spool(config) as ask_spool:
            yield ask_spool


@contextmanager
def _open_spool(config: Config) -> Iterator[Ask]:
    clock = SystemClock()
    with asyncio.Runner() as loop:
        spool = loop.run(_open_engine(config, clock))
        handlers = QueueAdmin(lambda: spool, clock, _CancelReports(config, clock)).handlers()
        try:
            yield lambda request: loop.run(handlers[request["do"]](request))
        finally:
            loop.run(spool.close())


async def _open_engine(config: Config, clock: SystemClock) -> EngineSpool:
    """Raises SenderproxyError."""
    if config.spool.engine != SQLITE_ENGINE:
        with late_import():
            from senderproxy.service.postgresql import open_postgresql
        return await open_postgresql(config.spool, clock)
    return _open_folder(config, clock)


def _open_folder(config: Config, clock: SystemClock) -> SqliteSpool:
    directory = Path(config.spool_directory)
    if not directory.is_dir():
        raise InputError(
            _("There is no spool at {directory}, and the service is not running.").format(directory=directory),
            hint=_("Start the service, which creates it: systemctl start senderproxy"),
        )
    return SqliteSpool.open(directory, clock, spool_limits_of(config.spool))


class _CancelReports:
    """Composes the report on a cancelled message. Only the first one opens the vault: no other request needs it."""

    def __init__(self, config: Config, clock: SystemClock) -> None:
        self._config = config
        self._clock = clock
        self._compose: Callable[[Claim, States], Awaitable[StatesWithReports]] | None = None

    async def __call__(self, claim: Claim, states: States) -> StatesWithReports:
        if self._compose is None:
            accounts = open_accounts(self._config)
            courier = SmtpCourier(accounts, short_timeouts(), self._config.identity.hostname, self._clock)
            relay = MessageRelay(accounts, courier, self._clock, rules_of(self._config))
            self._compose = ReportBuilder(relay, accounts, self._clock).report_cancellation
        return await self._compose(claim, states)


# ---- requests that several verbs send ----


def all_messages(ask_queue: Ask, verb: Verb, query: Query, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Every message that matches, at most `limit`, page by page."""
    after: str | None = None
    count = 0
    while True:
        request = new_request(verb, query=query_entry(query))
        if limit is not None:
            request["limit"] = limit - count
        page = ask_queue(request | ({"after": after} if after else {}))
        yield from page["messages"]
        count += len(page["messages"])
        after = page["next"]
        if after is None or (limit is not None and count >= limit):
            return


def find_messages(
    ask_queue: Ask, config: Config, verb: Verb, query: Query, limit: int | None = None
) -> list[dict[str, Any]]:
    """Every message that matches, at most `limit`. The account may be named by the address of its mailbox.

    Raises UsageError if there is no such account. A removed account may still have messages, so the search by its id
    comes first.
    """
    found = list(all_messages(ask_queue, verb, query, limit))
    if found or query.account is None or query.account in (NO_ACCOUNT, REPORT_SERVER):
        return found
    account = _known_account(config, query.account)
    return (
        found
        if account == query.account
        else list(all_messages(ask_queue, verb, replace(query, account=account), limit))
    )


def _known_account(config: Config, typed: str) -> str:
    """The id of the account that is meant. Raises UsageError.

    Nothing is asked for: a vault that does not open here by itself proves nothing.
    """
    try:
        status = ask_status(Path(config.service.control_socket))
        names = [
            AccountName(one["account"], one.get("address") or one["login"], one["login"]) for one in status["accounts"]
        ]
    except SenderproxyError:
        try:
            accounts = open_accounts(config, unlock_method(config.vault.unlock, None))
        except SenderproxyError:
            return typed
        names = names_of(accounts.directory().accounts)
        accounts.close()
    if (found := account_id(typed, names)) is None:
        raise unknown_account(typed)
    return found


def change(ask_queue: Ask, act: str, ids: list[str], *, report: bool) -> tuple[list[str], list[dict[str, str]]]:
    """Apply the action to any number of messages; returns the ids changed, and each other id with the reason."""
    changed: list[str] = []
    left: list[dict[str, str]] = []
    for start in range(0, len(ids), CHANGED_AT_ONCE):
        some = ids[start : start + CHANGED_AT_ONCE]
        request = new_request(Verb.QUEUE_CHANGE, act=act, ids=some, by=user_name(), report=report)
        answer = ask_queue(request)
        changed += answer["changed"]
        left += answer["left"]
    return changed, left


def user_name() -> str:
    """The user who runs the command, for the history of a message; behind sudo the one who called it."""
    return os.environ.get("SUDO_USER") or getpass.getuser()
