"""SqliteSpool: relay.ports.Spool on one SQLite database, and one file for each large body.

Guarantees: docs/spool-states.md. The event loop never waits for the disk, however slow it is: values become rows here,
and everything that touches the disk is somebody else's thread.
Not here: the transactions (spool.sqlite.writer), the statements (spool.sqlite.statements,
spool.sqlite.search), the files (spool.sqlite.content).
"""

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from zlib import crc32

from senderproxy import log_events
from senderproxy.clock import Clock
from senderproxy.log import event
from senderproxy.mail.address import NULL_PATH, parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Body, Message
from senderproxy.mail.submission import Submission
from senderproxy.relay.ports import Arrival, Claim, SpoolError, SpoolFull, SpoolUpdate, Totals
from senderproxy.spool.sqlite import rows, search, statements
from senderproxy.spool.sqlite.content import FOLDER, Content, FileBody, LostBody, RowBody
from senderproxy.spool.sqlite.database import (
    CHECK_LIMIT,
    NAME,
    SpoolDamaged,
    check,
    connect,
    open_database,
    scripts,
    translated,
)
from senderproxy.spool.sqlite.rows import Row, UnreadableRow
from senderproxy.spool.sqlite.spool_folder import SpoolFolder, disk_fault
from senderproxy.spool.sqlite.statements import (
    CachedMessage,
    LeasedRows,
    Leases,
    NewMessage,
    RecipientChange,
    Settlement,
)
from senderproxy.spool.sqlite.threads import WorkerThreads
from senderproxy.spool.sqlite.writer import FreeSpace, WalSize, WriteJob, Writer, checkpoint
from senderproxy.tracking.record import Event, EventKind, MessageRecord, Query, RecipientStatus

_STORY_DELAY: Final = 1.0  # seconds a story may wait in memory
_STORIES: Final = 10_000  # in memory at most
_HANDS: Final = 4  # large bodies written or looked through at once
_ORPHAN_AGE: Final = 3600.0  # seconds; what is younger may be on its way into the database
_FORGET_AT_ONCE: Final = 200  # messages in one transaction
_KEPT_PAGES: Final = 4096  # free pages the database keeps for what comes: 16 MiB
_PAGES_AT_ONCE: Final = 500
_HANGS: Final = 5.0  # seconds after which a disk that is asked to write does not answer
_FULL: Final = 600.0  # seconds for which a disk is called full after the last who found it so
_OVERHEAD: Final = 4096  # octets, about, that a message takes in memory beside its content
_ARRIVALS: Final = 256  # handed to the writer and not yet safe; what is more waits its turn

_log = logging.getLogger("senderproxy.spool")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was found by measuring (docs/decisions/0071), and what tests make small."""

    in_row: int = 128 * 1024  # octets of a body that is kept in a row; larger ones are files
    fresh: int = 8 * 1024 * 1024  # octets of messages that are remembered, so that they need not be read to be tried
    log_pages: int = 2000  # after so many pages the write-ahead log is copied into the database
    log_limit: int = 32_000  # with so many, commits wait for that


@dataclass(slots=True)
class _Kept:
    """An arrival's content on its way into the spool."""

    content: Row | None = None  # without the message's number
    body: Body | None = None  # to be read from, in a claim
    file: str | None = None


class SqliteSpool:
    """The spool of one folder. Used from one event loop."""

    def __init__(
        self, place: SpoolFolder, content: Content, writer: Writer, clock: Clock, history: timedelta, tuning: Tuning
    ) -> None:
        """For `open` alone."""
        self._place = place
        self._content = content
        self._writer = writer
        self._clock = clock
        self._history = history
        self._tuning = tuning
        self._leases = Leases(tuning.fresh)
        self._reader: sqlite3.Connection | None = None
        self._copier: sqlite3.Connection | None = None
        self._number = 0
        self._reading = WorkerThreads("spool-reader")
        self._filing = WorkerThreads("spool-content", _HANDS)
        self._turnstile = asyncio.Semaphore(_ARRIVALS)
        self._on_the_way: set[str] = set()  # content files that no row speaks of yet
        self._stories: deque[NewMessage] = deque()
        self._stories_lost = 0
        self._story_timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._refused: SpoolError | None = None  # what the disk said to who last wrote
        self._refused_at = 0.0  # monotonic
        self._copy_wanted = threading.Semaphore(0)
        self._copying = threading.Thread(target=self._copy, name="spool-log", daemon=True)

    @classmethod
    def open(
        cls, directory: Path, clock: Clock, *, min_free: int, history: timedelta, tuning: Tuning | None = None
    ) -> Self:
        """Open the spool, making it where there is none. May block. Raises SpoolError with what to do about it."""
        tuning = tuning or Tuning()
        path = directory / NAME
        with ExitStack() as undo:
            place = SpoolFolder.enter(directory)
            undo.callback(place.leave)
            connection = undo.enter_context(closing(open_database(place, scripts())))
            content = undo.enter_context(closing(Content(place)))
            with translated(f"The spool's database {path} cannot be read", path):
                number = statements.last_number(connection)
                reader = undo.enter_context(closing(connect(path, read_only=True)))
                copier = undo.enter_context(closing(connect(path)))
            undo.pop_all()
        spool: Self
        writer = Writer(
            path=path,
            room=FreeSpace(place.folder, min_free, clock.monotonic),
            log=WalSize(tuning.log_pages, tuning.log_limit, begin=lambda: spool._copy_wanted.release()),
            connection=connection,
            stories=lambda: spool._take_stories(),
        )
        spool = cls(place, content, writer, clock, history, tuning)
        spool._number, spool._reader, spool._copier = number, reader, copier
        # People look when something is wrong: they see what is there, even where it is no text any more.
        reader.text_factory = lambda octets: octets.decode("utf-8", "replace")
        spool._copying.start()
        if path.stat().st_size > CHECK_LIMIT:
            threading.Thread(target=spool._look_through, name="spool-check", daemon=True).start()
        return spool

    @property
    def spill_folder(self) -> Path:
        """Where a body that waits in an unnamed file needs not be copied to be kept."""
        return self._place.path / FOLDER

    async def close(self) -> None:
        """Finish what was asked for, and let another process in."""
        if self._closed:
            return
        self._closed = True
        if self._story_timer is not None:
            self._story_timer.cancel()
            self._write_stories()
        await self._writer.stop()
        self._filing.stop()
        ending = self._reading.do(self._close_everything)
        self._reading.stop()
        await ending
        if self._stories_lost:
            event(_log, log_events.HISTORY_LOST, count=self._stories_lost)

    def _close_everything(self) -> None:
        """The last connection that is closed copies the log into the database and takes it away."""
        self._filing.join()
        self._copy_wanted.release()
        self._copying.join()
        for connection in (self._reader, self._copier, self._writer.connection):
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()
        self._content.close()
        self._place.leave()

    # ---- in ----

    async def accept(self, *arrivals: Arrival, leased: bool = False) -> Sequence[Claim]:
        """Keep the messages, in one commit; return when they are safe. `leased`: the claims on them, else nothing."""
        async with self._turnstile:
            with self._hearing_of_refusals():
                return await self._accept(arrivals, leased)

    async def _accept(self, arrivals: Sequence[Arrival], leased: bool) -> Sequence[Claim]:
        kept = await self._keep(arrivals)
        claims = [_claim_of(a, k) for a, k in zip(arrivals, kept, strict=True)]
        stocks = self._stocks(arrivals, kept)
        job = WriteJob(stocks=stocks, octets=_octets(stocks))
        if leased:
            job.done = lambda _: self._leases.take_all(_lease_of(stock) for stock in stocks)
            await self._leasing(job, lambda _: [claim.submission.id for claim in claims], kept)
            return claims
        job.done = lambda _: self._remember(stocks, claims)
        await asyncio.shield(self._submit(job, kept))
        return []

    def _remember(self, stocks: Sequence[NewMessage], claims: Sequence[Claim]) -> None:
        """On the writer's thread, before anybody can ask for them: what is small, and due for all at once."""
        for stock, claim in zip(stocks, claims, strict=True):
            content, is_whole = stock.content, len(claim.due) == len(stock.rows.recipients)
            if content is not None and content[3] is None and is_whole and len(set(claim.due.values())) == 1:
                self._leases.remember(
                    CachedMessage(_lease_of(stock), claim, _OVERHEAD + len(content[1]) + len(content[2]))
                )

    def note(self, arrival: Arrival) -> None:
        """The story of a message that passed through: written soon, in bounded batches."""
        if self._closed or len(self._stories) >= _STORIES:
            self._lose_stories(1)
            return
        self._number += 1
        try:
            story = rows.rows_of(arrival, self._number, self._clock.now())
        except Exception as fault:  # noqa: BLE001  the message is where it belongs; its story must not get in the way
            self._lose_stories(1, fault)
            return
        self._stories.append(NewMessage(story, None))
        if self._story_timer is None:
            self._story_timer = asyncio.get_running_loop().call_later(_STORY_DELAY, self._write_stories)

    # ---- out ----

    async def claim(self, account: str, now: datetime) -> Claim | None:
        """The message of this account that is due for longest and not leased, with all its due recipients."""
        at = rows.to_ms(now)

        def is_due(columns: Row) -> bool:
            return bool(columns[0] == "waiting" and columns[1] <= at)

        return await self._claim(lambda c: statements.lease_due(c, self._leases, account, at), is_due)

    async def claim_expired(self, account: str, received_before: datetime) -> Claim | None:
        """A message of this account that waits since before then, due or not, with all its waiting recipients."""
        before = rows.to_ms(received_before)
        return await self._claim(
            lambda c: statements.lease_expired(c, self._leases, account, before),
            lambda columns: columns[0] == "waiting",
        )

    async def claim_undelayed(self, received_before: datetime) -> Claim | None:
        """One that waits since before then, with those waiting recipients of whom no delay was reported yet."""
        before = rows.to_ms(received_before)
        return await self._claim(
            lambda c: statements.lease_undelayed(c, self._leases, before),
            lambda columns: bool(columns[0] == "waiting" and not columns[5]),
        )

    async def claim_one(self, message_id: str) -> Claim | None:
        """This one, with all its recipients that wait or are held; None where it is not there, or leased.

        A person may have it even where its content cannot be read: to cancel it, or to try once more.
        """
        found = await self._lease(lambda c: statements.lease_one(c, self._leases, message_id))
        if found is None:
            return None
        if isinstance(found, CachedMessage):
            return found.claim
        try:
            return _read_claim(found, self._content.folder, _is_open)
        except UnreadableRow as why:
            try:
                return _lost_claim(found, str(why))
            except UnreadableRow as still:
                self._give_back([found.lease.id])
                raise SpoolError(
                    f"Message {message_id} cannot be read: {still}.", hint="Check the disk: dmesg"
                ) from why

    async def _claim(
        self, find: Callable[[sqlite3.Connection], LeasedRows | CachedMessage | None], takes: Callable[[Row], bool]
    ) -> Claim | None:
        """The first that can be read. The others are held: nobody guesses what they may have been."""
        while (found := await self._lease(find)) is not None:
            if isinstance(found, CachedMessage):
                return found.claim
            try:
                claim = _read_claim(found, self._content.folder, takes)
                await self._verify(found, claim.submission.message)
                return claim
            except UnreadableRow as why:
                await self._hold(found, str(why))
            except BaseException:
                self._give_back([found.lease.id])
                raise
        return None

    async def _lease(
        self, find: Callable[[sqlite3.Connection], LeasedRows | CachedMessage | None]
    ) -> LeasedRows | CachedMessage | None:
        job = WriteJob(run=find, reads_only=True)
        found = await self._leasing(job, lambda found: [] if found is None else [found.lease.id])
        assert found is None or isinstance(found, LeasedRows | CachedMessage)
        return found

    async def _leasing(
        self, job: WriteJob, leased: Callable[[Any], Sequence[str]], kept: Sequence[_Kept] = ()
    ) -> object:
        """Await a job that leases. Where nobody waits any more for its result, nobody has the lease."""
        future = self._submit(job, kept)

        def give_back(future: "asyncio.Future[Any]") -> None:
            if future.exception() is None:
                self._give_back(leased(future.result()))

        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(give_back)
            raise

    def _submit(self, job: WriteJob, kept: Sequence[_Kept]) -> "asyncio.Future[Any]":
        """Whether somebody still waits or not, the files share the fate of their rows. Never cancelled: shield it."""
        future = self._writer.submit(job)
        if any(one.file is not None for one in kept):
            future.add_done_callback(lambda f: self._drop_files(kept) if f.exception() else self._arrived(kept))
        return future

    def _give_back(self, message_ids: Sequence[str]) -> None:
        def run(_: sqlite3.Connection) -> None:
            for message_id in message_ids:
                self._leases.end(message_id)

        self._writer.slip_in(WriteJob(run=run, reads_only=True))

    async def _verify(self, found: LeasedRows, message: Message) -> None:
        """Raises Unreadable where the content is not what was written."""
        assert found.content is not None
        checksum, expected = _seed(message.header.raw, message.body), found.content[4]
        if isinstance(message.body, FileBody):
            await self._filing.do(self._content.verify, message.body, checksum, expected)
        elif crc32(found.content[1] or b"", checksum) != expected:
            raise UnreadableRow("its content is not what was written (wrong checksum)")

    async def _hold(self, found: LeasedRows, why: str) -> None:
        now = self._clock.now()
        held = Event(now, EventKind.HELD, (), {"why": why})
        event(_log, log_events.MESSAGE_UNREADABLE, id=found.lease.id, why=why)

        def run(connection: sqlite3.Connection) -> None:
            statements.hold(connection, found.lease, why, held, rows.to_ms(now))

        await self._writer.submit(WriteJob(run=run, keeps=False, done=lambda _: self._leases.end(found.lease.id)))

    # ---- what becomes of it ----

    async def settle(self, claim: Claim, verdict: SpoolUpdate) -> None:
        """Write the verdict down and end the lease; return when it is safe. A verdict of nothing just ends it.

        Where it fails the lease goes on: what was delivered must not be delivered again for want of a note.
        """
        message_id = claim.submission.id
        lease = self._leases.of(message_id)
        if _is_nothing(claim, verdict):
            await self._writer.submit(WriteJob(run=lambda _: self._leases.end(message_id), reads_only=True))
            return
        with self._hearing_of_refusals():
            await self._settle(claim, verdict, lease)

    async def _settle(self, claim: Claim, verdict: SpoolUpdate, lease: statements.Lease) -> None:
        kept = await self._keep(verdict.reports, from_reserve=True)
        positions = {path: position for position, path in enumerate(claim.submission.envelope.recipients)}
        reports = self._stocks(verdict.reports, kept)
        change = RecipientChange(
            states=[(positions[p], rows.state_columns(s, lease.received_at)) for p, s in verdict.states.items()],
            events=[rows.event_row(lease.number, one) for one in verdict.events],
            reports=reports,
            account=verdict.account,
            faults=verdict.faults,
            now=rows.to_ms(self._clock.now()),
        )

        def done(file_is_free: bool) -> bool:
            self._leases.end(claim.submission.id)
            return file_is_free

        job = WriteJob(settlement=Settlement(lease, change), done=done)
        if await asyncio.shield(self._submit(job, kept)) and lease.file is not None:
            self._remove([lease.file])

    async def due(self, account: str | None = None) -> Mapping[str, datetime]:
        """When the next recipient of this account, or of each that has waiting ones, is due; leased ones left out."""
        found = await self._writer.submit(
            WriteJob(run=lambda c: statements.due(c, self._leases, account), reads_only=True)
        )
        return {account: rows.from_ms(at) for account, at in found.items()}

    async def shift(self, step: timedelta) -> None:
        """The machine's clock was put forward by so much: what is not finished keeps its distance from now."""
        by = rows.span_ms(step)
        await self._writer.submit(WriteJob(run=lambda c: statements.shift(c, self._leases, by)))

    # ---- what people ask ----

    async def find(self, query: Query, *, limit: int, after: str | None = None) -> Sequence[MessageRecord]:
        """The messages that fit, the newest first (unfinished ones: the oldest first), from the one after that id."""
        return await self._ask(lambda c: search.find(c, self._leases, query, limit, after))

    async def events(self, message_id: str) -> Sequence[Event]:
        """What happened to a message, in order."""
        return await self._ask(lambda c: search.events(c, message_id))

    async def header(self, message_id: str) -> HeaderSection | None:
        """A message's header section as it came; None where its content is gone."""
        return await self._ask(lambda c: search.header(c, message_id))

    async def totals(self) -> Sequence[Totals]:
        """How much waits and is held, for each account."""
        now = self._clock.now()
        return await self._ask(lambda c: search.totals(c, now))

    async def trouble(self) -> SpoolError | None:
        """Why nothing can be kept just now, as far as is known; None where nothing is wrong."""
        since = self._writer.busy_since
        if since is not None and (seconds := self._clock.monotonic() - since) >= _HANGS:
            return SpoolError(
                f"The disk of the spool has not answered for {seconds:.0f} s.",
                hint="See what the system says about the disk: dmesg",
            )
        try:
            await self._reading.do(self._writer.room.ask_for, 0)
        except SpoolError as too_little:
            return too_little
        except OSError as fault:
            return disk_fault("The disk of the spool cannot be asked", fault)
        if isinstance(self._refused, SpoolFull) and self._clock.monotonic() - self._refused_at >= _FULL:
            self._refused = None  # there is room again, and nobody has come since who could show it
        return self._refused

    @contextmanager
    def _hearing_of_refusals(self) -> Iterator[None]:
        try:
            yield
        except SpoolError as error:
            self._refused, self._refused_at = error, self._clock.monotonic()
            raise
        self._refused = None

    async def _ask(self, question: Callable[[sqlite3.Connection], _T]) -> _T:
        if self._closed:
            raise SpoolError("The spool is closed.")
        path = self._writer.path

        def ask() -> _T:
            if self._writer.broken is not None:
                raise self._writer.broken
            with translated("The spool cannot be read", path):
                assert self._reader is not None
                try:
                    return question(self._reader)
                except UnreadableRow as fault:
                    raise SpoolError(f"The spool cannot be read: {fault}.", hint="Check the disk: dmesg") from fault

        return await self._reading.do(ask)

    # ---- what is over ----

    async def sweep(self, now: datetime) -> None:
        """Forget what has outlived its history, files that belong to nobody, and room that is not needed any more.

        In small steps, so that nobody waits long beside it. To be called now and then.
        """
        before = rows.to_ms(now - self._history)
        while (
            await self._writer.submit(WriteJob(run=lambda c: statements.forget(c, before, _FORGET_AT_ONCE)))
            == _FORGET_AT_ONCE
        ):
            pass
        try:
            old = await self._filing.do(self._content.older_than, now.timestamp() - _ORPHAN_AGE)
        except OSError as error:
            raise disk_fault("The spool's content cannot be listed", error) from error
        suspects = [name for name in old if name not in self._on_the_way]
        orphans = await self._ask(lambda c: statements.nobodys(c, suspects))
        if orphans:
            event(_log, log_events.ORPHANS_REMOVED, files=len(orphans))
            await self._filing.do(self._content.remove, orphans)
        give_back = WriteJob(run=lambda c: statements.give_back_pages(c, _KEPT_PAGES, _PAGES_AT_ONCE))
        while await self._writer.submit(replace(give_back)):
            pass

    # ---- content on its way in ----

    async def _keep(self, arrivals: Sequence[Arrival], *, from_reserve: bool = False) -> list[_Kept]:
        """Read the small bodies, write the large ones. Raises SpoolError, and then no file is left."""
        kept: list[_Kept] = []
        try:
            for arrival in arrivals:
                one = await self._keep_one(arrival, from_reserve)
                kept.append(one)
        except BaseException:
            self._drop_files(kept)
            raise
        return kept

    async def _keep_one(self, arrival: Arrival, from_reserve: bool) -> _Kept:
        message = arrival.submission.message
        if all(state.status.is_final for state in arrival.states.values()):
            return _Kept()
        header, body = message.header.raw, message.body
        checksum = _seed(header, body)
        if body.size <= self._tuning.in_row:
            octets = b"".join(body.blocks())
            flags = (body.is_ascii, body.has_long_lines)
            row = (header, octets, None, len(octets), crc32(octets, checksum), int(flags[0]), int(flags[1]))
            return _Kept(row, RowBody(octets, *flags))
        name = f"{arrival.submission.id}-{self._clock.new_id()}"
        size, flags = body.size, (body.is_ascii, body.has_long_lines)
        checksum = await self._file(name, body, checksum, from_reserve)
        in_file = (header, None, name, size, checksum, int(flags[0]), int(flags[1]))
        return _Kept(in_file, FileBody(self._content.folder, name, size, *flags), name)

    async def _file(self, name: str, body: Body, checksum: int, from_reserve: bool) -> int:
        """Write one file. Who is cancelled meanwhile waits until nobody reads from the body any more."""
        self._on_the_way.add(name)
        given_up = threading.Event()

        def keep() -> int:
            if not from_reserve:
                self._writer.room.ask_for(body.size)
            return self._content.keep(name, body, checksum, given_up.is_set)

        writing = self._filing.do(keep)
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            given_up.set()
            await asyncio.wait([writing])
            self._drop_files([_Kept(file=name)])
            raise
        except SpoolError:
            self._on_the_way.discard(name)
            raise

    def _stocks(self, arrivals: Sequence[Arrival], kept: Sequence[_Kept]) -> list[NewMessage]:
        now = self._clock.now()
        stocks: list[NewMessage] = []
        for arrival, one in zip(arrivals, kept, strict=True):
            self._number += 1
            content = None if one.content is None else (self._number, *one.content)
            stocks.append(NewMessage(rows.rows_of(arrival, self._number, now), content))
        return stocks

    def _arrived(self, kept: Sequence[_Kept]) -> None:
        self._on_the_way.difference_update(one.file for one in kept if one.file is not None)

    def _drop_files(self, kept: Sequence[_Kept]) -> None:
        """Nothing came of it: what is left behind all the same, the sweep takes."""
        files = [one.file for one in kept if one.file is not None]
        if files:
            self._on_the_way.difference_update(files)
            self._remove(files)

    def _remove(self, files: list[str]) -> None:
        with suppress(SpoolError):  # closed: they are the next sweep's
            self._filing.do(self._content.remove, files)

    # ---- stories ----

    def _write_stories(self) -> None:
        self._story_timer = None
        if self._stories:
            self._writer.slip_in(WriteJob(run=lambda _: None))

    def _take_stories(self) -> Sequence[WriteJob]:
        """On the writer's thread: what is to be written along with the rest."""
        jobs: list[WriteJob] = []
        while self._stories:
            stock = self._stories.popleft()
            jobs.append(WriteJob(stocks=[stock], keeps=False, failed=self._lose_story, octets=stock.rows.octets))
        return jobs

    def _lose_story(self, fault: BaseException) -> None:
        self._lose_stories(1, fault)

    def _lose_stories(self, count: int, fault: BaseException | None = None) -> None:
        if self._stories_lost == 0:
            why = fault or ("the spool is closed" if self._closed else "they come faster than they are written")
            event(_log, log_events.HISTORY_LOST, why=why)
        self._stories_lost += count

    # ---- care, on threads of its own ----

    def _copy(self) -> None:
        """Copy the log into the database whenever it is long enough, beside the writer."""
        while self._copy_wanted.acquire() and not self._closed:
            assert self._copier is not None
            try:
                checkpoint(self._copier)
            except sqlite3.Error as fault:
                event(_log, log_events.WAL_CHECKPOINT_FAILED, why=fault)
            self._writer.log.copied()
            self._writer.slip_in(WriteJob(run=self._writer.log.finish, reads_only=True))

    def _look_through(self) -> None:
        """A database that was too large to be checked before we opened."""
        path = self._writer.path
        try:
            with translated(f"The spool's database {path} cannot be read", path):
                connection = connect(path, read_only=True)
                try:
                    check(path, connection)
                finally:
                    connection.close()
        except SpoolDamaged as damage:
            event(_log, log_events.SPOOL_DAMAGED, why=damage, hint=damage.hint)
            self._writer.broken = damage
        except SpoolError as fault:
            event(_log, log_events.SPOOL_CHECK_FAILED, why=fault)


def _octets(stocks: Sequence[NewMessage]) -> int:
    total = 0
    for stock in stocks:
        total += stock.rows.octets
        if stock.content is not None:
            total += len(stock.content[1]) + len(stock.content[2] or b"")
    return total


def _lease_of(stock: NewMessage) -> statements.Lease:
    message = stock.rows.message
    return statements.Lease(message[1], message[0], message[2], None if stock.content is None else stock.content[3])


def _claim_of(arrival: Arrival, kept: _Kept) -> Claim:
    """The claim of who brought it: its content is the spool's own from now on."""
    submission = arrival.submission
    if kept.body is not None:
        submission = replace(submission, message=Message(submission.message.header, kept.body))
    waiting = {
        path: replace(state, due_at=submission.received_at) if state.due_at is None else state
        for path, state in arrival.states.items()
        if state.status is RecipientStatus.WAITING
    }
    return Claim(submission, arrival.account, arrival.author, waiting, decision=arrival.decision)


def _is_nothing(claim: Claim, verdict: SpoolUpdate) -> bool:
    told = verdict.states or verdict.events or verdict.reports or verdict.account is not None
    return not told and verdict.faults in (0, claim.faults)


def _is_open(columns: Row) -> bool:
    return columns[0] in ("waiting", "held")


def _seed(header: bytes, body: Body) -> int:
    """Where a content's checksum begins: with its header section and what is known of the body before it is read."""
    return crc32(header, crc32(b"%d %d %d" % (body.size, body.is_ascii, body.has_long_lines)))


def _read_claim(found: LeasedRows, folder: int, takes: Callable[[Row], bool]) -> Claim:
    """The message as its rows say. Raises Unreadable where they are not what was written."""
    if found.why:
        raise UnreadableRow(found.why)
    if found.content is None:
        raise UnreadableRow("its content is not there")
    if not _is_sealed(found):
        raise UnreadableRow("its rows are not what was written (wrong checksum)")
    return _claim_from(found, _message(found.content, folder), takes)


def _lost_claim(found: LeasedRows, why: str) -> Claim:
    """For a person, what can still be said of a message. It cannot be sent, and nobody is told by a guess."""
    if found.why:
        raise UnreadableRow(found.why)
    header = b"" if found.content is None else found.content[0]
    claim = _claim_from(found, Message(HeaderSection(header), LostBody(why)), _is_open)
    if _is_sealed(found):
        return claim
    envelope = replace(claim.submission.envelope, reverse_path=NULL_PATH)
    return replace(claim, submission=replace(claim.submission, envelope=envelope))


def _is_sealed(found: LeasedRows) -> bool:
    message = found.message
    fixed = (message[1], *message[3:8], *message[9:11], message[12])
    return bool(rows.seal(fixed, [row[0] for row in found.recipients]) == message[13])


def _claim_from(found: LeasedRows, message: Message, takes: Callable[[Row], bool]) -> Claim:
    """Raises Unreadable."""
    try:
        _, ident, received_at, listener, client, reverse_path, eight_bit, author, account, carrier = found.message[:10]
        _, _, report_on, _, faults = found.message[10:]
        paths = tuple(parse_address(row[0]) for row in found.recipients)
        submission = Submission(
            id=ident,
            listener=listener,
            client=rows.client_of(client),
            envelope=Envelope(rows.reverse_path_of(reverse_path), paths, bool(eight_bit)),
            message=message,
            received_at=rows.from_ms(received_at),
            report_on=report_on,
            carrier=carrier,
        )
        states = {
            path: rows.state_of(row[1:]) for path, row in zip(paths, found.recipients, strict=True) if takes(row[1:])
        }
    except (ValueError, KeyError, TypeError, OverflowError) as fault:
        raise UnreadableRow(f"its rows are not what was written ({fault})") from fault
    return Claim(submission, account, author, states, faults)


def _message(content: Row, folder: int) -> Message:
    header, octets, file, size, _, is_ascii, has_long_lines = content
    body: Body
    if file is not None:
        body = FileBody(folder, file, size, bool(is_ascii), bool(has_long_lines))
    elif octets is not None and len(octets) == size:
        body = RowBody(octets, bool(is_ascii), bool(has_long_lines))
    else:
        raise UnreadableRow("its content is shorter than what was written")
    return Message(HeaderSection(header), body)
