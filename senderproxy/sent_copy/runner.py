"""The work on the jobs of copies: each is stored in the Sent folder of its mailbox, or tried again, or given up.

Guarantees: one copy of an account at a time, a few of all accounts; no attempt delays a delivery. A copy that an
earlier attempt may have stored is searched for first. A copy that fails for two days is given up, with an event in the
history of its message. An internal error costs a copy its attempt and stops no other. After a crash a job is repeated.
Not here: the IMAP dialogue (sent_copy.imap), which messages get a copy (relay.sent_copies), conditions (monitoring).
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from senderproxy import log_events
from senderproxy.aio import wait_done
from senderproxy.clock import Clock
from senderproxy.footer.footer import FooterTable
from senderproxy.log import event
from senderproxy.mail.dot_stuffing import remove_dots
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Body, Message
from senderproxy.mail.outcome import SentForm
from senderproxy.mail.submission import Submission
from senderproxy.relay.content_changes import ContentChanger
from senderproxy.relay.ports import AccessTokens, Accounts, JobClaim, NoToken, Spool, SpoolError
from senderproxy.relay.sent_copies import copy_event, is_stored, is_untried
from senderproxy.relay.sent_form import read_form, read_recipe
from senderproxy.routing.account import AccessToken, Account, Credential
from senderproxy.routing.provider import ImapServer, Provider
from senderproxy.sent_copy.lane import GIVE_UP, CopyLane, concerns_account, wait_of_copy
from senderproxy.sent_copy.ports import (
    SECONDS,
    AlreadyThere,
    Copy,
    CopyResult,
    DelayKind,
    RefusalKind,
    Refused,
    SentFolders,
    Stored,
    TryLater,
)
from senderproxy.tracking.record import SENT_COPY_JOBS, CopyState, Event, Lane
from senderproxy.translation import N_, _, in_english
from senderproxy.worker_threads import QueueFull, Stopped, WorkerThreads

AT_ONCE: Final = 4  # copies of all accounts at the same time, each on a thread and a connection of its own
_LOOK: Final = 60.0  # seconds between two looks at the due times, while a copy waits: a step of the clock moves them
_SPOOL_RETRY: Final = 5.0  # seconds after an error of the spool
_FRESH: Final = 10_000  # messages without an attempt so far; of more, the folder is searched without need
_HANG: Final = 60.0  # seconds beyond the time of an attempt after which a look-up of a name hangs
_REPLACED: Final = 8  # threads in place of those that hang
_CANCEL_TIME: Final = 1.0  # seconds for cancelled work at a stop

DIFFERS: Final = N_("its body was made again and is not the same, octet for octet")

_log: Final = logging.getLogger("senderproxy.sent_copy")


@dataclass(frozen=True, slots=True)
class CopyRules:
    """The settings in force."""

    providers: Mapping[str, Provider]
    footers: FooterTable | None


class CopyRunner:
    """The work on all copies. One attribute for each part of it; `rules` returns the settings now in force."""

    def __init__(
        self,
        folders: SentFolders,
        accounts: Accounts,
        tokens: AccessTokens,
        contents: ContentChanger,
        rules: Callable[[], CopyRules],
        clock: Clock,
    ) -> None:
        self.changes = 0  # a cheap sign of something new
        self.lanes: dict[Lane, CopyLane] = {}  # of the accounts with copies since the start
        self._folders = folders
        self._accounts = accounts
        self._tokens = tokens
        self._contents = contents
        self._rules = rules
        self._clock = clock
        self._spool: Spool | None = None
        self._threads = WorkerThreads("sent-copy", AT_ONCE, replacements=_REPLACED)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._look: asyncio.Task[None] | None = None
        self._looks_again = False  # something has changed since the beginning of the look
        self._timer: asyncio.TimerHandle | None = None
        self._fresh: set[str] = set()
        self._is_stopped = False

    # ---- for the service ----

    def use_spool(self, spool: Spool) -> None:
        """Do the jobs of this spool from now on."""
        self._spool = spool
        self._begin_look()

    def stored(self, lane: Lane, message_id: str) -> None:
        """A job was stored a moment ago."""
        if len(self._fresh) < _FRESH:
            self._fresh.add(message_id)
        state = self._lane(lane)
        state.waiting += 1
        state.due_at = self._clock.monotonic()
        self.changes += 1
        self._dispatch()

    def follow_accounts(self) -> None:
        """Try the copies of accounts that have changed since their last failure."""
        for lane, state in self.lanes.items():
            if state.trouble is not None and state.seen != self._seen(lane):
                state.unblock()
        self._begin_look()

    def wake(self, account: str) -> None:
        """Try the copies of this account at once."""
        state = self._lane(Lane.of_account(account))
        state.unblock()
        state.is_woken = state.is_working
        self._begin_look()

    @property
    def under_way(self) -> int:
        """The number of lanes with a copy that is being stored, or is due."""
        now = self._clock.monotonic()
        return sum(
            lane.is_working or ((wait := lane.ready_in(now)) is not None and wait <= 0) for lane in self.lanes.values()
        )

    async def stop(self, grace: float) -> None:
        """Begin nothing more; wait for copies in progress for `grace` seconds. Their jobs are done again later."""
        self._is_stopped = True
        self._set_timer(None)
        self._threads.stop()
        tasks = [*self._tasks, *([self._look] if self._look is not None else [])]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_CANCEL_TIME)

    # ---- dispatch ----

    def _lane(self, lane: Lane) -> CopyLane:
        return self.lanes.setdefault(lane, CopyLane())

    def _begin_look(self) -> None:
        self._looks_again = self._look is not None
        if self._look is None and not self._is_stopped and self._spool is not None:
            self._look = asyncio.create_task(self._read_due(self._spool))
            self._look.add_done_callback(self._looked)

    async def _read_due(self, spool: Spool) -> None:
        """Read the due times and the counts of all lanes."""
        try:
            due, totals = await spool.due_jobs(SENT_COPY_JOBS), await spool.job_totals()
        except SpoolError as error:
            event(_log, log_events.SENT_COPIES_UNREADABLE, why=error.message, hint=error.hint)
            return
        counts = {one.lane: one.count for one in totals if one.kind == SENT_COPY_JOBS}
        for lane in {*due, *counts, *self.lanes}:
            state = self._lane(lane)
            state.waiting = counts.get(lane, 0)
            state.due_at = self._clock.monotonic() + due[lane].total_seconds() if lane in due else None
        self.changes += 1

    def _looked(self, task: "asyncio.Task[None]") -> None:
        self._look = None
        if not task.cancelled() and (fault := task.exception()) is not None:
            event(_log, log_events.SENT_COPIES_FAILED, fault=fault)
        if self._looks_again:
            self._begin_look()
        self._dispatch()

    def _dispatch(self) -> None:
        """Begin the work on lanes with a due copy, and set the timer for the others."""
        if self._is_stopped or self._spool is None:
            return
        now = self._clock.monotonic()
        waits: list[float] = []
        for lane, state in self.lanes.items():
            wait = state.ready_in(now)
            if wait is not None and wait <= 0:
                state.is_working = True
                task = asyncio.create_task(self._work(self._spool, lane, state))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            elif wait is not None:
                waits.append(wait)
        self._set_timer(min([*waits, _LOOK]) if waits or any(one.waiting for one in self.lanes.values()) else None)

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._begin_look)

    # ---- one account ----

    async def _work(self, spool: Spool, lane: Lane, state: CopyLane) -> None:
        """Do the due jobs of a lane, one after the other, until one shows that the others would fail, too."""
        try:
            while True:
                async with self._slots:
                    if self._is_stopped or not await self._do_next(spool, lane, state):
                        break
        except SpoolError as error:
            event(_log, log_events.SENT_COPIES_UNREADABLE, why=error.message, hint=error.hint)
            state.blocked_until = self._clock.monotonic() + _SPOOL_RETRY
        except Exception as fault:  # noqa: BLE001  the jobs of the other accounts go on
            event(_log, log_events.SENT_COPIES_FAILED, fault=fault, account=lane.name)
            state.blocked_until = self._clock.monotonic() + _LOOK
        finally:
            state.is_working = False
            state.due_at = None
            if state.is_woken or (state.trouble is not None and state.seen != self._seen(lane)):
                state.unblock()
            self._begin_look()

    async def _do_next(self, spool: Spool, lane: Lane, state: CopyLane) -> bool:
        """Do the job that has been due longest; False if none is due, or if the account has to wait."""
        claims = await spool.claim_jobs(SENT_COPY_JOBS, lane, 1)
        if not claims:
            return False
        [claim] = claims
        message_id = claim.submission.id if claim.submission is not None else ""
        started, seen = self._clock.monotonic(), self._seen(lane)
        if state.trouble is not None and state.blocked_until > started:
            return await self._after_trouble(spool, claim, state, message_id)
        try:
            result = await self._attempt(spool, claim)
        except Stopped:  # no attempt was made: the job is done again at the next start, without a wait
            return False
        except SpoolError as error:
            result = TryLater(DelayKind.LOCAL, error.message, error.hint)
        except Exception as fault:  # noqa: BLE001  it must not stop the other copies
            event(_log, log_events.SENT_COPIES_FAILED, fault=fault, id=message_id, account=lane.name)
            result = TryLater(DelayKind.LOCAL, N_("an internal error"))
        self._fresh.discard(message_id)
        match result:
            case None:
                event(_log, log_events.SENT_COPY_DROPPED, id=message_id, account=lane.name)
                await self._end(spool, claim, copy_event(CopyState.DROPPED, lane.name, self._clock.now()))
                return True
            case _Done(Stored(folder) | AlreadyThere(folder) as stored, note):
                seconds = round(self._clock.monotonic() - started, 3)
                before = True if isinstance(stored, AlreadyThere) else None
                event(
                    _log,
                    log_events.SENT_COPY_STORED,
                    id=message_id,
                    account=lane.name,
                    folder=folder,
                    seconds=seconds,
                    there_before=before,
                )
                state.succeeded()
                state.stored += 1
                now = self._clock.now()
                await self._end(spool, claim, copy_event(CopyState.STORED, lane.name, now, folder=folder, note=note))
                return True
            case _Done():
                await self._end(spool, claim, None)
                return True
            case Refused() | TryLater():
                return await self._after_failure(spool, claim, state, result, seen)

    async def _after_failure(
        self, spool: Spool, claim: JobClaim, state: CopyLane, result: Refused | TryLater, seen: object
    ) -> bool:
        """Give the copy up, or retry it later; False if the account has to wait. `seen`: before the attempt."""
        account, why, now = claim.lane.name, in_english(result.words), self._clock.now()
        message_id = claim.submission.id if claim.submission is not None else ""
        is_final = isinstance(result, Refused) and result.is_final
        is_of_account = concerns_account(result)
        wait = wait_of_copy(claim.attempts + 1, self._clock.chance()).total_seconds()
        if is_of_account:
            wait = state.failed(result, seen, now, self._clock.monotonic(), self._clock.chance())
        fields: dict[str, Any] = {
            "id": message_id,
            "account": account,
            "kind": result.kind.value,
            "why": why,
            "hint": result.hint,
        }
        if is_final or _is_over(claim):
            event(_log, log_events.SENT_COPY_GIVEN_UP, **fields)
            state.gave_up(result.words, now)
            await self._end(spool, claim, copy_event(CopyState.GIVEN_UP, account, now, why=result.words))
            return True  # the next one may be too old as well
        if why != claim.why:  # once for each reason
            event(_log, log_events.SENT_COPY_WAITS, **fields, server=result.server_text, retry_in=round(wait))
        events = [copy_event(CopyState.WAITING, account, now, why=result.words)] if why != claim.why else []
        retry_in = _in_order(claim) if is_of_account else timedelta(seconds=wait)
        await self._settle(spool, claim, retry_in, why, events)
        return not is_of_account

    async def _after_trouble(self, spool: Spool, claim: JobClaim, state: CopyLane, message_id: str) -> bool:
        """Give the copy up if it is too old, without an attempt: one before it has just failed."""
        trouble = state.trouble
        if trouble is None or not _is_over(claim):
            await self._settle(spool, claim, _in_order(claim), claim.why, [])
            return False
        account, why, now = claim.lane.name, in_english(trouble.words), self._clock.now()
        fields: dict[str, Any] = {
            "id": message_id,
            "account": account,
            "kind": trouble.kind,
            "why": why,
            "hint": trouble.hint,
        }
        event(_log, log_events.SENT_COPY_GIVEN_UP, **fields)
        state.gave_up(trouble.words, now)
        await self._end(spool, claim, copy_event(CopyState.GIVEN_UP, account, now, why=trouble.words))
        return True

    async def _end(self, spool: Spool, claim: JobClaim, last: Event | None) -> None:
        await self._settle(spool, claim, None, "", [last] if last is not None else [])
        self._lane(claim.lane).waiting -= 1

    async def _settle(
        self, spool: Spool, claim: JobClaim, retry_in: timedelta | None, why: str, events: list[Event]
    ) -> None:
        """Write the result of an attempt, however long the disk takes."""
        self.changes += 1
        while True:
            try:
                await spool.settle_job(claim, retry_in=retry_in, why=why, events=events)
                return
            except SpoolError as error:
                event(_log, log_events.SENT_COPIES_UNREADABLE, why=error.message, hint=error.hint)
                await asyncio.sleep(_SPOOL_RETRY)

    def _seen(self, lane: Lane) -> object:
        """The causes of a failure: the account, the version of its credential, its provider."""
        account = self._accounts.directory().by_id(lane.name)
        if account is None:
            return None
        credential = self._accounts.credential(account)
        provider = self._rules().providers.get(account.provider)
        return account, credential.version if credential is not None else None, provider and provider.imap

    # ---- one copy ----

    async def _attempt(self, spool: Spool, claim: JobClaim) -> "_Done | Refused | TryLater | None":
        """Store one copy; None: the account has none any more."""
        account = self._accounts.directory().by_id(claim.lane.name)
        if account is None or account.sent_copy is None:
            return None
        submission = claim.submission
        if submission is None:
            return Refused(RefusalKind.CONTENT, N_("the message is not in the spool any more"))
        events = await spool.events(submission.id)
        if is_stored(events):
            return _Done(None)
        is_fresh = submission.id in self._fresh and not claim.attempts and is_untried(events)
        provider = self._rules().providers.get(account.provider)
        if provider is None or provider.imap is None:
            text = _("the IMAP server of the provider {provider} is not known").format(provider=account.provider)
            hint = _("Name it: imap_host under [providers.{provider}]").format(provider=account.provider)
            return Refused(RefusalKind.INCOMPATIBLE, text, hint)
        try:
            form = read_form(claim.payload, submission.message.header.raw)
        except ValueError as error:
            return Refused(RefusalKind.CONTENT, f"the job cannot be read: {error}")
        body, note = submission.message.body, ""
        if form.body:
            try:
                body, note = await self._made_again(submission, form)
            except (OSError, ValueError) as error:
                return TryLater(DelayKind.LOCAL, f"the message cannot be made again: {error}")
        try:
            result = await self._store(account, provider.imap, submission, form, body, may_be_stored=not is_fresh)
        finally:
            if body is not submission.message.body:
                body.close()
        return _Done(result, note) if isinstance(result, Stored | AlreadyThere) else result

    async def _made_again(self, submission: Submission, form: SentForm) -> tuple[Body, str]:
        """The body that left, and a note if it is another one. Raises OSError, ValueError."""
        footers = self._rules().footers
        recipe = read_recipe(form.body, footers.find if footers is not None else lambda _author: None)
        before = Message(HeaderSection(form.before), submission.message.body)
        made = await self._contents.change(submission.id, before, recipe.changes, with_digest=True)
        return made.message.body, "" if made.digest == recipe.digest else DIFFERS

    async def _store(
        self,
        account: Account,
        server: ImapServer,
        submission: Submission,
        form: SentForm,
        body: Body,
        *,
        may_be_stored: bool,
    ) -> CopyResult:
        """One attempt; a second one if an access token was refused and a new one is there."""
        for is_last in (False, True):
            credential = self._accounts.credential(account)
            if credential is None:
                return TryLater(DelayKind.LOCAL, N_("the account was removed meanwhile"))
            token: AccessToken | None = None
            if credential.application:
                found = await self._tokens.token(account)
                if isinstance(found, NoToken):
                    return _without_token(found)
                token, credential = found, credential.with_token(found)
            result = await self._append(account, server, credential, submission, form, body, may_be_stored)
            if token is None or is_last or not (isinstance(result, Refused) and result.kind is RefusalKind.LOGIN):
                return result
            if not self._tokens.refused(account, token):
                return result
        raise AssertionError("unreachable")

    async def _append(
        self,
        account: Account,
        server: ImapServer,
        credential: Credential,
        submission: Submission,
        form: SentForm,
        body: Body,
        may_be_stored: bool,
    ) -> CopyResult:
        folder = account.sent_copy.folder if account.sent_copy is not None else None

        def append() -> CopyResult:
            try:
                size = sum(map(len, _octets(form.header, body)))
            except OSError as error:
                return TryLater(DelayKind.LOCAL, f"the message cannot be read: {error}")
            copy = Copy(
                lambda: _octets(form.header, body),
                size,
                submission.received_at,
                _message_id(form.header),
                submission.id,
                folder,
                may_be_stored,
            )
            return self._folders.append_copy(server, credential, copy)

        try:
            working = self._threads.do(append)
        except QueueFull:
            return TryLater(DelayKind.LOCAL, N_("the system has no thread for it"))
        body.retain()
        working.add_done_callback(lambda _: body.close())
        await wait_done(working, SECONDS + _HANG)
        if not working.done():
            self._threads.abandon(working)
            return TryLater(DelayKind.UNREACHABLE, N_("the attempt does not end"), may_be_stored=True)
        return working.result()


@dataclass(frozen=True, slots=True)
class _Done:
    """The copy is stored. No result: an earlier job of the message has stored it. `note`: on its content."""

    result: Stored | AlreadyThere | None
    note: str = ""


def _is_over(claim: JobClaim) -> bool:
    return claim.age is not None and claim.age >= GIVE_UP


def _in_order(claim: JobClaim) -> timedelta:
    """The retry after a failure that concerns the account: due now, in the order in which the copies were stored.

    The wait is that of the account, in memory, so that all are tried at once when it has changed.
    """
    return -(claim.age or timedelta())


def _octets(header: bytes, body: Body) -> Iterator[bytes]:
    yield header
    yield from remove_dots(body.blocks())


def _message_id(header: bytes) -> str:
    found = HeaderSection(header).values("Message-ID")
    return found[0].decode("ascii", "replace").strip() if found else ""


def _without_token(found: NoToken) -> Refused | TryLater:
    words = found.reply.text
    if found.needs_person:
        return Refused(RefusalKind.LOGIN, words, found.hint)
    return TryLater(DelayKind.UNREACHABLE, words, found.hint)
