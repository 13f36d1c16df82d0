"""Who answers questions about the queue: the running service, or where none runs, the spool itself.

Guarantees: the answers are the same either way (relay.queue_admin). A spool is never made by a question, and only one
process has it open: while the service runs, it is asked.
"""

import asyncio
import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

from senderproxy.cli.account_login_check import short_patience
from senderproxy.cli.common import open_accounts
from senderproxy.cli.errors import InputError
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.control.client import NotRunning, ask
from senderproxy.control.protocol import Answer, Request
from senderproxy.delivery.courier import SmtpCourier
from senderproxy.relay.attempt import MessageRelay
from senderproxy.relay.dsn_queueing import ReportBuilder, StatesWithReports
from senderproxy.relay.ports import Claim
from senderproxy.relay.queue_admin import CHANGED_AT_ONCE, QueueAdmin, States
from senderproxy.spool.sqlite.store import SqliteSpool
from senderproxy.tracking.record import Query
from senderproxy.tracking.serialize import query_entry
from senderproxy.wiring import rules_of

Ask: TypeAlias = Callable[[Request], Answer]

_PATIENCE: Final = 120.0  # seconds; a disk under load takes its time for two hundred commits


@contextmanager
def open_desk(config: Config) -> Iterator[Ask]:
    """How to ask. Raises SenderproxyError where nobody can answer."""
    path = Path(config.service.control_socket)
    try:
        ask(path, {"do": "status"})
        runs = True
    except NotRunning:
        runs = False
    if runs:
        yield lambda request: ask(path, request, seconds=_PATIENCE)
    else:
        with _spool_itself(config) as own:
            yield own


@contextmanager
def _spool_itself(config: Config) -> Iterator[Ask]:
    directory = Path(config.spool_directory)
    if not directory.is_dir():
        raise InputError(
            f"There is no spool at {directory}, and no service runs.", hint="The service makes it when it starts."
        )
    clock = SystemClock()
    kept = timedelta(days=config.spool.history_days)
    spool = SqliteSpool.open(directory, clock, min_free=config.spool.min_free, history=kept)
    teller = _Teller(config, clock)
    handlers = QueueAdmin(lambda: spool, clock, teller).handlers()
    with asyncio.Runner() as loop:
        try:
            yield lambda request: loop.run(handlers[request["do"]](request))
        finally:
            loop.run(spool.close())


class _Teller:
    """Writes the report on a cancelled message; the vault is opened for the first one, and for nothing else."""

    def __init__(self, config: Config, clock: SystemClock) -> None:
        self._config = config
        self._clock = clock
        self._tell: Callable[[Claim, States], StatesWithReports] | None = None

    def __call__(self, claim: Claim, states: States) -> StatesWithReports:
        if self._tell is None:
            accounts = open_accounts(self._config)
            courier = SmtpCourier(accounts, short_patience(), self._config.identity.hostname, self._clock)
            relay = MessageRelay(accounts, courier, self._clock, rules_of(self._config))
            self._tell = ReportBuilder(relay, accounts, self._clock).report_cancellation
        return self._tell(claim, states)


# ---- what several verbs ask ----


def all_messages(answer: Ask, do: str, query: Query, most: int | None = None) -> Iterator[dict[str, Any]]:
    """Every message that fits, or so many, page by page."""
    after: str | None = None
    count = 0
    while True:
        request: Request = {"do": do, "query": query_entry(query)}
        if most is not None:
            request["limit"] = most - count
        page = answer(request | ({"after": after} if after else {}))
        yield from page["messages"]
        count += len(page["messages"])
        after = page["next"]
        if after is None or (most is not None and count >= most):
            return


def change(answer: Ask, act: str, ids: list[str], *, report: bool) -> tuple[list[str], list[dict[str, str]]]:
    """Do it to these messages, however many; which were changed, and which were not and why."""
    changed: list[str] = []
    left: list[dict[str, str]] = []
    for start in range(0, len(ids), CHANGED_AT_ONCE):
        some = ids[start : start + CHANGED_AT_ONCE]
        request = {"do": "queue.change", "act": act, "ids": some, "by": user_name(), "report": report}
        told = answer(request)
        changed += told["changed"]
        left += told["left"]
    return changed, left


def user_name() -> str:
    """Who types: what the message's story calls the person."""
    return os.environ.get("SUDO_USER") or getpass.getuser()
