"""Session: the SMTP transactions on one connection that is logged in.

Guarantees: a message is sent to the recipients that the upstream accepts. A failure or a cancellation during a dialogue
closes the session, so no reply is ever attributed to the next message. After the final dot the reply is awaited, even
if the caller is cancelled.
Not here: opening and login (delivery.opening), session choice (delivery.pool), consequences of a reply
(delivery.account_state). RFC 5321 section 4.5.3.2, RFC 6409.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final

from senderproxy.aio import PIECE_OCTETS, fair_share
from senderproxy.delivery import classify
from senderproxy.delivery.causes import CauseOf, Circumstances, ClassifiedReply, Stage, cause_of
from senderproxy.delivery.classify import SessionEnded
from senderproxy.delivery.direct_transaction import DirectStep, DirectTransaction
from senderproxy.delivery.open_failures import invalid_reply
from senderproxy.delivery.protocol import ExpectedReply, UpstreamProtocol
from senderproxy.disk_threads import DiskTimeout
from senderproxy.mail.address import ForwardPath, ReversePath
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import NEEDS_SEVEN_BIT, Deferred, Failed, Outcome
from senderproxy.mail.reply import Reply, reply
from senderproxy.routing.provider import Smarthost
from senderproxy.value_class import value_class

_BLOCK: Final = PIECE_OCTETS  # octets; smaller blocks are joined up to this size, so a small message is one write
_AT_MAIL: Final = Circumstances(Stage.MAIL)
_AT_DOT: Final = Circumstances(Stage.FINAL_DOT)
_DISK_TIMEOUT: Final = Deferred(reply(451, "4.3.0", "The disk does not respond: the message cannot be read now"))


@dataclass(frozen=True, slots=True)
class SessionTimeouts:
    """Timeouts of each stage, in seconds. The sections are those of RFC 5321."""

    connect: float = 30.0  # each of address look-up, connection, TLS handshake; leaves time for the next smarthost
    greeting: float = 300.0  # 4.5.3.2.1
    ehlo: float = 300.0  # not in the RFC; as for the greeting
    auth: float = 120.0  # not in the RFC; as for DATA: one reply that needs no look-up at the upstream
    mail: float = 300.0  # 4.5.3.2.2
    rcpt: float = 300.0  # 4.5.3.2.3
    data: float = 120.0  # 4.5.3.2.4
    block: float = 180.0  # 4.5.3.2.5, without any progress
    final_dot: float = 540.0  # 4.5.3.2.6 asks for 600; less, because our client's own 600 end at the same time
    quit: float = 5.0  # no message depends on this reply
    free_session: float = 120.0  # in the pool's queue; leaves the client's 600 enough time for the transaction


@dataclass(frozen=True, slots=True)
class EhloExtensions:
    """The extensions in the upstream's last EHLO reply."""

    pipelining: bool
    eight_bit: bool
    size: bool
    size_limit: int | None  # octets; None: not given


@value_class
class Completed:
    """A transaction with an outcome for each recipient.

    `replies`: the upstream's negative replies. `last_reply`: the last reply that decided; None if none was needed.
    `rejected`: the recipients whose outcome is a reply to MAIL or RCPT.
    """

    outcomes: Mapping[ForwardPath, Outcome]
    replies: tuple[ClassifiedReply, ...] = ()
    last_reply: Reply | None = None
    rejected: Mapping[ForwardPath, Outcome] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A transaction in which the session ended before the reply. `dot_written`: the upstream may have the message.

    `rejected`: the recipients that it had rejected before, so they certainly do not have it.
    """

    reply: Reply
    replies: tuple[ClassifiedReply, ...]
    dot_written: bool
    rejected: Mapping[ForwardPath, Outcome] = field(default_factory=dict)


@value_class
class SenderReply:
    """The reply to a sender, and the command it was for. A positive reply to RCPT: the upstream accepts both."""

    stage: Stage
    reply: Reply


class Session:
    """A session that is logged in. One transaction at a time."""

    def __init__(
        self,
        protocol: UpstreamProtocol,
        smarthost: Smarthost,
        extensions: EhloExtensions,
        timeouts: SessionTimeouts,
        mechanism: str,
    ) -> None:
        self._protocol = protocol
        self._timeouts = timeouts
        self._share = fair_share()
        self.smarthost = smarthost
        self.extensions = extensions
        self.mechanism = mechanism
        self.message_count = 0  # messages that the upstream accepted

    @property
    def usable(self) -> bool:
        """True if the session can carry another message."""
        return self._protocol.end is None

    @property
    def certificate_validity(self) -> tuple[datetime, datetime] | None:
        """The beginning and the end of the validity of the server's certificate; None without TLS."""
        return self._protocol.certificate_validity

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call back once, when the session ends; never for one that has ended or is closed with `quit`."""
        if self._protocol.end is None:
            self._protocol.on_end = callback

    async def transact(
        self,
        envelope: Envelope,
        message: Message,
        *,
        warm: bool,
        names: Sequence[str] = (),
        cause_of: CauseOf = cause_of,
        begun: DirectTransaction | None = None,
        direct: bool = False,
    ) -> Completed | Interrupted:
        """Send the message.

        `warm`: the session has carried another message and may be dead, so the first timeout is short. `names`: login
        and author; a refusal that names one of them, or the reverse-path, is about us. `cause_of`: the rules for the
        causes of replies. `begun`: this transaction, as far as `begin` has brought it. `direct`: begin it here, if it
        is usual.
        """
        circumstances = Circumstances(Stage.MAIL, reused=warm, ours=(*names, str(envelope.reverse_path)))
        progress = _Progress(circumstances, cause_of)
        try:
            if direct:
                assert begun is None
                answer: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
                begun = self.begin(envelope, message, partial(_set_answer, answer), warm=warm)
                if begun is not None and (accepting := await _answer_of(begun, answer)) is not None:
                    self.message_count += 1
                    outcome = classify.outcome(accepting, _AT_DOT, self.smarthost.host, cause_of)
                    return Completed(dict.fromkeys(envelope.recipients, outcome), (), accepting)
            if begun is not None:
                progress.sent.extend(begun.hand_over())
            return await self._dialogue(envelope, message, progress)
        except SessionEnded as end:
            return _interrupted(end, progress)
        except BaseException:
            self.abort()
            raise
        finally:
            self._protocol.stage = Stage.IDLE

    def begin(
        self, envelope: Envelope, message: Message, ended: Callable[[Reply | None], None], *, warm: bool = True
    ) -> DirectTransaction | None:
        """Prepare a usual transaction without a task; None: `transact` must do it.

        `ended` is called with the reply that accepts the message for all recipients, or with None: `transact` must go
        on, at once, as with every other end.
        """
        steps = _direct_steps(self.extensions, self._timeouts, envelope, message, warm)
        if steps is None:
            return None
        return DirectTransaction(self._protocol, steps, ended, pipelining=self.extensions.pipelining)

    async def check_sender(self, path: ReversePath, recipient: ForwardPath) -> SenderReply | Interrupted:
        """Send MAIL, RCPT if MAIL was accepted, then RSET. DATA is never sent."""
        try:
            reply = await self._command(f"MAIL FROM:<{path}>", self._timeouts.mail, stage := Stage.MAIL)
            if reply.is_positive:
                reply = await self._command(f"RCPT TO:<{recipient}>", self._timeouts.rcpt, stage := Stage.RCPT)
            await self._reset(None)
            return SenderReply(stage, reply)
        except SessionEnded as end:
            return _interrupted(end, _Progress())
        except BaseException:
            self.abort()
            raise
        finally:
            self._protocol.stage = Stage.IDLE

    async def quit(self) -> None:
        """Send QUIT and close the connection, in bounded time. Never raises for a failure of the upstream."""
        try:
            if self.usable:
                (answer,) = self._protocol.send("QUIT")
                await self._protocol.reply(answer, self._timeouts.quit, Stage.QUIT)
                self._protocol.close()
                async with asyncio.timeout(self._timeouts.quit):
                    await asyncio.shield(self._protocol.closed)
        except (SessionEnded, TimeoutError):
            pass  # the connection is closed either way
        finally:
            self.abort()
            self._protocol.abort()

    def abort(self) -> None:
        """End the session and abort the connection."""
        self._protocol.fail(SessionEnded(classify.connection_closed(self.smarthost, self._protocol.stage, None)))

    async def wait_closed(self) -> None:
        """Wait until the connection is closed."""
        await asyncio.shield(self._protocol.closed)

    # --- the dialogue, from top to bottom ---

    async def _dialogue(self, envelope: Envelope, message: Message, progress: "_Progress") -> Completed:
        limit, remote = self.extensions.size_limit, self.smarthost.host
        if limit is not None and message.size > limit:
            refusal = classify.too_large(message.size, limit, str(self.smarthost))
            return Completed(dict.fromkeys(envelope.recipients, Failed(refusal)))

        if not self.extensions.eight_bit and not envelope.eight_bit_anyway and not _is_ascii(message):
            return Completed(dict.fromkeys(envelope.recipients, NEEDS_SEVEN_BIT))

        data_sent = self.extensions.pipelining  # RFC 2920 section 3.1: DATA may end a group
        mail, rcpts, data = await self._send_paths(envelope, message, progress, data_sent)
        rejected: Mapping[ForwardPath, Outcome] = {}
        replies: Sequence[ClassifiedReply] = ()
        if not mail.is_positive or not all(rcpt.code // 100 == 2 for rcpt in rcpts):
            rejected, replies = classify.rejected_recipients(
                envelope.recipients, mail, rcpts, progress.circumstances, remote, progress.cause_of
            )
        outcomes = dict(rejected)
        progress.rejected = rejected
        accepted = [path for path in envelope.recipients if path not in outcomes]
        if not accepted:
            await self._reset(data)
            return Completed(outcomes, tuple(replies), replies[-1].reply if replies else mail, rejected)
        try:
            reply, stage = await self._send_message(message, data, progress)
        except DiskTimeout:  # without the final dot the upstream drops the message
            self.abort()
            outcomes |= dict.fromkeys(accepted, _DISK_TIMEOUT)
            return Completed(outcomes, tuple(replies), replies[-1].reply if replies else None, rejected)
        circumstances = _AT_DOT if reply.is_positive else progress.at(stage, accepted)
        outcomes |= dict.fromkeys(accepted, classify.outcome(reply, circumstances, remote, progress.cause_of))
        if not reply.is_positive:
            replies = (*replies, ClassifiedReply(reply, progress.cause_of(reply, circumstances)))
        return Completed({path: outcomes[path] for path in envelope.recipients}, tuple(replies), reply, rejected)

    async def _send_paths(
        self, envelope: Envelope, message: Message, progress: "_Progress", with_data: bool
    ) -> tuple[Reply, Sequence[Reply], ExpectedReply | None]:
        """Send MAIL and every RCPT; with PIPELINING in one write, with DATA at its end."""
        timeouts = self._timeouts
        first = _mail_seconds(timeouts, progress.circumstances.reused)
        commands = [
            _mail_command(self.extensions, envelope, message),
            *(f"RCPT TO:<{path}>" for path in envelope.recipients),
        ]
        waiting = list(self._send(progress, *commands, *["DATA"] * with_data)) if self.extensions.pipelining else None
        data = waiting.pop() if waiting and with_data else None

        answer = waiting[0] if waiting else self._send(progress, commands[0])[0]
        mail = self._check(
            await self._protocol.reply(answer, first, Stage.MAIL), progress.circumstances, progress.cause_of
        )
        rcpts: list[Reply] = []
        if mail.code // 100 != 2:
            return mail, rcpts, data  # the replies to the pipelined RCPTs go to their futures and are not needed
        for index, command in enumerate(commands[1:], 1):
            answer = waiting[index] if waiting else self._send(progress, command)[0]
            rcpt = await self._protocol.reply(answer, timeouts.rcpt, Stage.RCPT)
            if not rcpt.is_positive:
                self._check(rcpt, progress.at(Stage.RCPT, (envelope.recipients[index - 1],)), progress.cause_of)
            rcpts.append(rcpt)
        return mail, rcpts, data

    async def _send_message(
        self, message: Message, data: ExpectedReply | None, progress: "_Progress"
    ) -> tuple[Reply, Stage]:
        """Send DATA, the message and the final dot. Returns the reply that decides, and its stage."""
        if data is None:
            (data,) = self._send(progress, "DATA")
        go_ahead = await self._protocol.reply(data, self._timeouts.data, Stage.DATA)
        if go_ahead.code != 354:
            if go_ahead.is_positive:
                raise self._out_of_step(Stage.DATA)
            self._check(go_ahead, progress.at(Stage.DATA), progress.cause_of)
            await self._reset(None)
            return go_ahead, Stage.DATA

        reply = await self._send_content(message, progress)
        if reply.code // 100 == 3:
            raise self._out_of_step(Stage.FINAL_DOT)
        if reply.is_positive:
            self.message_count += 1
        elif not progress.dot_written or classify.ends_session(
            reply, progress.cause_of(reply, progress.at(Stage.FINAL_DOT))
        ):
            self.abort()
        return reply, Stage.FINAL_DOT

    async def _send_content(self, message: Message, progress: "_Progress") -> Reply:
        """Send the message and the final dot. Returns the reply; it may come before the dot."""
        protocol = self._protocol
        protocol.stage = Stage.BODY
        progress.dot_written = bool(progress.sent)
        answer = progress.sent.popleft() if progress.sent else protocol.expect()
        blocks: Iterable[tuple[bytes | memoryview, bool]] = _blocks(message)
        reader = None if message.body.disk is None else message.body.disk.read_ahead(_blocks(message), message.body)
        try:
            while not progress.dot_written:
                if reader is not None:
                    blocks = await reader.next()
                for block, last in blocks:
                    # No await between the last write and `dot_written`: a cancellation comes before both or after both.
                    protocol.write(block)
                    if last:
                        progress.dot_written = True
                        break
                    await protocol.drain(self._timeouts.block, answer)
                    await self._share.acquire(_BLOCK)  # lets other messages proceed, and an early reply arrive
                    if answer.done():
                        early = await self._protocol.reply(answer, self._timeouts.block, Stage.BODY)
                        return self._early_reply(early, progress)
        finally:
            if reader is not None:
                reader.close()
        # From here the upstream may accept the message, so the reply must be known: docs/decisions/0043.
        return await protocol.certain_reply(answer, self._timeouts.final_dot, Stage.FINAL_DOT)

    async def _reset(self, data: ExpectedReply | None) -> None:
        """Prepare the session for the next message after a refusal, or close it. The outcome does not change.

        `data`: the reply to a DATA that was pipelined.
        """
        try:
            if data is not None and (await self._protocol.reply(data, self._timeouts.data, Stage.DATA)).is_positive:
                # The upstream waits for a message without recipients: RFC 2920 section 3.1 allows an empty one, or this
                self.abort()
                return
            (answer,) = self._protocol.send("RSET")
            if (await self._protocol.reply(answer, self._timeouts.mail, Stage.RSET)).code // 100 != 2:
                self.abort()
        except SessionEnded:
            return  # the upstream closed it

    # --- parts of the dialogue ---

    def _send(self, progress: "_Progress", *commands: str) -> Sequence[ExpectedReply]:
        """Send commands, unless they were sent before."""
        if progress.sent:
            return [progress.sent.popleft() for _ in commands]
        return self._protocol.send(*commands)

    async def _command(self, command: str, seconds: float, stage: Stage) -> Reply:
        (answer,) = self._protocol.send(command)
        return self._check(await self._protocol.reply(answer, seconds, stage), Circumstances(stage))

    def _check(self, reply: Reply, circumstances: Circumstances, cause_of: CauseOf = cause_of) -> Reply:
        """Return a reply about the message. Raises SessionEnded for a reply about the session."""
        if reply.is_positive:
            return reply
        cause = cause_of(reply, circumstances)
        if classify.ends_session(reply, cause):
            self.abort()
            raise SessionEnded(classify.session_ended(self.smarthost, circumstances.stage, reply), reply, cause)
        return reply

    def _early_reply(self, reply: Reply, progress: "_Progress") -> Reply:
        """Check a reply before the end of the message: only a refusal is possible."""
        if reply.is_positive:
            raise self._out_of_step(Stage.BODY)
        return self._check(reply, progress.at(Stage.BODY), progress.cause_of)

    def _out_of_step(self, stage: Stage) -> SessionEnded:
        self.abort()
        return SessionEnded(invalid_reply(self.smarthost, stage))


@dataclass(slots=True)
class _Progress:
    circumstances: Circumstances = _AT_MAIL
    cause_of: CauseOf = cause_of
    dot_written: bool = False
    rejected: Mapping[ForwardPath, Outcome] = field(default_factory=dict)
    sent: deque[ExpectedReply] = field(default_factory=deque)  # replies to what was sent before `transact`

    def at(self, stage: Stage, recipients: Sequence[ForwardPath] = ()) -> Circumstances:
        """Return the circumstances of a reply at this stage, about these recipients."""
        return replace(self.circumstances, stage=stage, theirs=tuple(map(str, recipients)))


def _set_answer(answer: "asyncio.Future[Reply | None]", accepting: Reply | None) -> None:
    if not answer.done():  # the caller may have been cancelled just now
        answer.set_result(accepting)


async def _answer_of(transaction: DirectTransaction, answer: "asyncio.Future[Reply | None]") -> Reply | None:
    """The reply that accepts the message for all recipients; None: the dialogue goes on with the transaction.

    A cancellation after the final dot has no effect: the dialogue waits for the reply.
    """
    try:
        transaction.start()
        return await answer
    except asyncio.CancelledError:
        if not transaction.dot_written:
            raise
        return None
    finally:
        transaction.stop()


def _interrupted(end: SessionEnded, progress: _Progress) -> Interrupted:
    replies: tuple[ClassifiedReply, ...] = ()
    if end.upstream_reply is not None and end.upstream_reply.code >= 400:
        cause = end.cause or progress.cause_of(end.upstream_reply, progress.circumstances)
        replies = (ClassifiedReply(end.upstream_reply, cause),)
    return Interrupted(end.reply, replies, progress.dot_written, progress.rejected)


def _direct_steps(
    extensions: EhloExtensions, timeouts: SessionTimeouts, envelope: Envelope, message: Message, warm: bool
) -> list[DirectStep] | None:
    """The steps of a usual transaction; None if it is not one."""
    if extensions.size_limit is not None and message.size > extensions.size_limit:
        return None
    if not extensions.eight_bit and not _is_ascii(message):
        return None
    if message.body.disk is not None or message.size > _BLOCK:
        return None
    (content, is_whole), *others = _blocks(message)
    commands = [_mail_command(extensions, envelope, message), *(f"RCPT TO:<{path}>" for path in envelope.recipients)]
    if others or not is_whole or not (text := "".join(commands)).isascii() or not text.isprintable():
        return None
    mail, *rcpts = [f"{line}\r\n".encode("ascii") for line in commands]
    return [
        DirectStep(mail, _mail_seconds(timeouts, warm), Stage.MAIL),
        *[DirectStep(rcpt, timeouts.rcpt, Stage.RCPT) for rcpt in rcpts],
        DirectStep(b"DATA\r\n", timeouts.data, Stage.DATA),
        DirectStep(bytes(content), timeouts.final_dot, Stage.FINAL_DOT),
    ]


def _mail_seconds(timeouts: SessionTimeouts, warm: bool) -> float:
    """The limit of time for the reply to MAIL: short on a session that may be dead."""
    return min(timeouts.connect, timeouts.mail) if warm else timeouts.mail


def _mail_command(extensions: EhloExtensions, envelope: Envelope, message: Message) -> str:
    command = f"MAIL FROM:<{envelope.reverse_path}>"
    if extensions.size:
        command += f" SIZE={message.size}"
    if extensions.eight_bit and (envelope.eight_bit or not _is_ascii(message)):
        command += " BODY=8BITMIME"
    return command


def _is_ascii(message: Message) -> bool:
    return message.body.is_ascii and message.header.raw.isascii()


def _blocks(message: Message) -> Generator[tuple[bytes | memoryview, bool], None, None]:
    """Yield the message in blocks of about _BLOCK octets. The last one, marked True, ends in the final dot."""
    gathered: list[bytes] = []
    size = 0
    tail = b"\r\n"  # the line end of DATA: an empty message needs no other
    for piece in message.blocks():
        if not piece:
            continue
        if size and size + len(piece) > _BLOCK:
            yield b"".join(gathered), False
            gathered, size = [], 0
        tail = (tail + piece[-2:])[-2:]
        if len(piece) <= _BLOCK:
            gathered.append(piece)
            size += len(piece)
            continue
        view = memoryview(piece)
        for start in range(0, len(piece), _BLOCK):
            yield view[start : start + _BLOCK], False
    gathered.append(b".\r\n" if tail == b"\r\n" else b"\r\n.\r\n")
    yield b"".join(gathered), True
