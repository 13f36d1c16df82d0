"""SentCopies: the work on copies in Sent folders, loaded when the first account has copies.

Guarantees: without such an account neither imapclient nor the runner is imported. At the start they are imported before
the service is ready; later on a thread.
Not here: the work (sent_copy.runner), the mailbox (sent_copy.imap).
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.late_import import late_import
from senderproxy.log import event
from senderproxy.monitoring.facts import CopyFacts
from senderproxy.relay.content_changes import ContentChanger
from senderproxy.relay.decide import Rules
from senderproxy.relay.ports import AccessTokens, Accounts, Spool, SpoolError
from senderproxy.tracking.record import SENT_COPY_JOBS, Lane
from senderproxy.worker_threads import WorkerThreads

if TYPE_CHECKING:
    from senderproxy.sent_copy.runner import CopyRunner

_log: Final = logging.getLogger("senderproxy.sent_copy")

_ACCOUNTS: Final = 20  # accounts with waiting copies in `status`


class SentCopies:
    """The copies of one service. One attribute for each part of it; `rules` returns those now in force."""

    def __init__(
        self,
        accounts: Accounts,
        tokens: AccessTokens,
        contents: ContentChanger,
        rules: Callable[[], Rules],
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._contents = contents
        self._rules = rules
        self._clock = clock
        self._spool: Spool | None = None
        self._runner: CopyRunner | None = None
        self._starting: asyncio.Task[None] | None = None

    def load_if_needed(self) -> None:
        """Import what the copies need, if an account has some. Blocks: called before the service is ready."""
        if self._are_wanted and self._runner is None:
            _load()
            self._runner = self._new_runner()

    def use_spool(self, spool: Spool) -> None:
        """Do the jobs of this spool from now on."""
        self._spool = spool
        if self._runner is not None:
            self._runner.use_spool(spool)
        elif self._starting is None:
            self._starting = asyncio.create_task(self._start_if_needed(spool))

    def stored(self, lane: Lane, message_id: str) -> None:
        """A job was stored a moment ago. See relay.sent_copies.OnCopy."""
        if self._runner is not None:
            self._runner.stored(lane, message_id)
        else:
            self._start_soon()

    def follow_accounts(self) -> None:
        """Follow a change of the vault."""
        if self._runner is not None:
            self._runner.follow_accounts()
        elif self._are_wanted:
            self._start_soon()

    def wake(self, account: str) -> None:
        """Try the copies of this account at once."""
        if self._runner is not None:
            self._runner.wake(account)

    async def stop(self, grace: float) -> None:
        """Begin nothing more; wait for copies in progress for `grace` seconds."""
        if self._starting is not None:
            self._starting.cancel()
        if self._runner is not None:
            await self._runner.stop(grace)

    # ---- for an operator ----

    @property
    def changes(self) -> int:
        """A cheap sign of something new."""
        return self._runner.changes if self._runner is not None else 0

    @property
    def under_way(self) -> int:
        """The number of accounts with a copy that is being stored, or is due."""
        return self._runner.under_way if self._runner is not None else 0

    def facts(self) -> Iterator[CopyFacts]:
        """The accounts with copies that wait after a failure, or were given up."""
        for lane, state in self._runner.lanes.items() if self._runner is not None else ():
            trouble = state.trouble if state.waiting else None
            if trouble is not None or state.given_up_at is not None:
                yield CopyFacts(
                    lane.name,
                    state.waiting,
                    trouble.kind if trouble is not None else "",
                    trouble.words if trouble is not None else "",
                    trouble.hint if trouble is not None else "",
                    trouble.since if trouble is not None else None,
                    trouble.is_refusal if trouble is not None else False,
                    state.given_up,
                    state.given_up_at,
                    state.given_up_why,
                )

    def counts(self) -> Iterator[tuple[str, int, int, int]]:
        """Account, copies stored and given up since the start, copies that wait."""
        for lane, state in self._runner.lanes.items() if self._runner is not None else ():
            yield lane.name, state.stored, state.given_up, state.waiting

    def status(self) -> dict[str, Any]:
        """The copies that wait, in values for JSON."""
        lanes = self._runner.lanes.items() if self._runner is not None else ()
        waiting = [(lane.name, state) for lane, state in lanes if state.waiting]
        return {
            "waiting": sum(state.waiting for _, state in waiting),
            "accounts": [
                {
                    "account": account,
                    "waiting": state.waiting,
                    "kind": state.trouble.kind if state.trouble is not None else None,
                    "why": state.trouble.words if state.trouble is not None else None,
                }
                for account, state in sorted(waiting, key=lambda one: -one[1].waiting)[:_ACCOUNTS]
            ],
        }

    # ---- start ----

    @property
    def _are_wanted(self) -> bool:
        return any(account.sent_copy is not None for account in self._accounts.directory().accounts)

    def _start_soon(self) -> None:
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start())

    async def _start_if_needed(self, spool: Spool) -> None:
        """Start also for jobs of accounts that have no copies any more."""
        try:
            if self._are_wanted or await spool.due_jobs(SENT_COPY_JOBS):
                await self._start()
        except SpoolError as error:
            event(_log, log_events.SENT_COPIES_UNREADABLE, why=error.message, hint=error.hint)

    async def _start(self) -> None:
        loader = WorkerThreads("sent-copy-loader")
        try:
            await loader.do(_load)
            self._runner = self._new_runner()
        except Exception as fault:  # noqa: BLE001  an upgrade may have replaced the files; the copies wait for a restart
            event(_log, log_events.SENT_COPIES_FAILED, fault=fault)
            return
        finally:
            loader.stop()
        if self._spool is not None:
            self._runner.use_spool(self._spool)

    def _new_runner(self) -> "CopyRunner":
        from senderproxy.sent_copy.imap import ImapFolders
        from senderproxy.sent_copy.runner import CopyRules, CopyRunner

        def rules() -> CopyRules:
            current = self._rules()
            return CopyRules(current.providers, current.footers)

        folders = ImapFolders(self._clock.monotonic)
        return CopyRunner(folders, self._accounts, self._tokens, self._contents, rules, self._clock)


def _load() -> None:
    with late_import():
        import senderproxy.footer.insertion  # a copy may have a footer that the configuration has no more
        import senderproxy.sent_copy.imap
        import senderproxy.sent_copy.runner  # noqa: F401
