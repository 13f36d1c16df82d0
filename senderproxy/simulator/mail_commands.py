"""MAIL, RCPT and DATA of one session.

Guarantees: a message is recorded before its positive reply is sent; a refused command is recorded with the reason that
a real provider does not give.

Not here: the rules (simulator.rules), the check of the header (simulator.headers), the other commands
(simulator.session).

RFC 5321 sections 4.1.1.2 to 4.1.1.4.
"""

import asyncio
import hashlib
from typing import Final

from senderproxy.simulator import rules
from senderproxy.simulator.byte_stream import ByteStream, PeerGone
from senderproxy.simulator.content import IncomingContent
from senderproxy.simulator.faults import (
    AppendOctets,
    Delay,
    FaultAction,
    FaultStage,
    Hold,
    OctetByOctet,
    ReplyWith,
    Silence,
)
from senderproxy.simulator.headers import authors_of, header_faults
from senderproxy.simulator.observations import ReceivedMessage, RefusedMessage
from senderproxy.simulator.provider_replies import ServerReply
from senderproxy.simulator.rules import NULL, EnforcedAt, OwnershipRule, PathCommand
from senderproxy.simulator.scripted_replies import ScriptedReplies, SimulatedSessionEnd
from senderproxy.simulator.session_state import ServerTransaction, SessionState

_SLOW_BLOCK: Final = 1024  # octets read after each pause of a slow reader
_MAIL_PARAMETERS: Final = frozenset({"SIZE", "BODY", "AUTH", "RET", "ENVID", "SMTPUTF8"})
_RCPT_PARAMETERS: Final = frozenset({"NOTIFY", "ORCPT"})
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH: Final = 22  # characters of a message id, without its hyphens


class MailCommands:
    """The commands of a mail transaction."""

    def __init__(self, state: SessionState, replies: ScriptedReplies, stream: ByteStream) -> None:
        self._state = state
        self._replies = replies
        self._stream = stream

    # ---- MAIL and RCPT ----

    async def mail(self, argument: str) -> None:
        state = self._state
        if state.transaction is None:
            state.transaction_number += 1
        command = rules.read_path_command(argument, "FROM")
        due = self._reply_to_mail(command)

        def effect() -> None:
            if command is not None:
                state.transaction = ServerTransaction(command)

        await self._replies.send(FaultStage.MAIL, due, effect, self._record_refusal)

    def _reply_to_mail(self, command: PathCommand | None) -> ServerReply:
        state, settings, replies = self._state, self._state.settings, self._state.replies
        if not state.greeted or state.transaction is not None:
            return state.fill(replies.bad_sequence)
        if command is None:
            return state.fill(replies.syntax_error)
        if self._lacks_login and settings.enforced_at is not EnforcedAt.RCPT:
            return state.fill(replies.auth_required)
        if parameter := self._invalid_parameter(command, _MAIL_PARAMETERS):
            state.report_violation(f"the parameter {parameter} was not offered")
            return state.fill(replies.unknown_parameter)
        if settings.messages_per_session is not None and state.record.messages >= settings.messages_per_session:
            return state.fill(replies.session_limit)
        if settings.size_limit is not None and int(command.parameters.get("SIZE") or 0) > settings.size_limit:
            return state.fill(replies.message_too_large)
        if settings.enforced_at is EnforcedAt.MAIL and not self._may_send_as(command.path):
            return state.fill(replies.reverse_path_refused, path=command.path)
        return state.fill(replies.reverse_path_accepted)

    @property
    def _lacks_login(self) -> bool:
        return bool(self._state.settings.mailboxes) and self._state.login is None

    def _may_send_as(self, address: str) -> bool:
        settings, mailbox, login = self._state.settings, self._state.mailbox, self._state.login
        if address == NULL:
            return settings.null_reverse_path_accepted
        if mailbox is None or login is None:
            return not settings.mailboxes or settings.ownership_rule is OwnershipRule.ANY
        return rules.may_send_as(address, login, mailbox, settings.ownership_rule)

    def _invalid_parameter(self, command: PathCommand, of_command: frozenset[str]) -> str | None:
        """The first parameter that was not offered or has an invalid value, None if all are valid."""
        offered = rules.parameters_offered(self._state.extensions()) & of_command
        for name, value in command.parameters.items():
            if name not in offered:
                return name
            if name == "SIZE" and not (value.isdecimal() and value.isascii()):
                return f"SIZE={value}"
            if name == "BODY" and value.upper() not in ("7BIT", "8BITMIME"):
                return f"BODY={value}"
        return None

    async def rcpt(self, argument: str) -> None:
        state = self._state
        command = rules.read_path_command(argument, "TO")
        due = self._reply_to_rcpt(command)

        def effect() -> None:
            if command is not None and state.transaction is not None:
                state.transaction.recipients.append(command.path)
                state.observations.count_recipient(state.login or "", state.now())

        await self._replies.send(FaultStage.RCPT, due, effect, self._record_refusal)

    def _reply_to_rcpt(self, command: PathCommand | None) -> ServerReply:
        state, settings, replies = self._state, self._state.settings, self._state.replies
        if state.transaction is None:
            return state.fill(replies.bad_sequence)
        if command is None:
            return state.fill(replies.syntax_error)
        if self._lacks_login:
            return state.fill(replies.auth_required, recipient=command.path)
        if parameter := self._invalid_parameter(command, _RCPT_PARAMETERS):
            state.report_violation(f"the parameter {parameter} was not offered")
            return state.fill(replies.unknown_parameter)
        reverse_path = state.transaction.reverse.path
        if settings.enforced_at is EnforcedAt.RCPT and not self._may_send_as(reverse_path):
            return state.fill(replies.reverse_path_refused, path=reverse_path, recipient=command.path)
        if len(state.transaction.recipients) >= settings.recipients_per_message:
            return state.fill(replies.too_many_recipients)
        if settings.recipients_per_hour is not None:
            so_far = state.observations.recipients_in_the_last_hour(state.login or "", state.now())
            if so_far >= settings.recipients_per_hour:
                return state.fill(replies.send_limit)
        configured = rules.reply_for_recipient(command.path, settings.recipient_replies)
        return configured or state.fill(replies.recipient_accepted, recipient=command.path)

    # ---- DATA ----

    async def data(self, argument: str) -> None:
        state, replies = self._state, self._state.replies
        if argument:
            await self._replies.send(FaultStage.DATA, state.fill(replies.syntax_error))
            return
        if state.transaction is None or not state.transaction.recipients:
            await self._replies.send(FaultStage.DATA, state.fill(replies.bad_sequence))
            return
        reply = await self._replies.send(FaultStage.DATA, state.fill(replies.data_ready))
        if reply is None or reply.code != 354:
            return
        transaction, state.transaction = state.transaction, None
        await self._receive_content(transaction)

    async def _receive_content(self, transaction: ServerTransaction) -> None:
        state = self._state
        content = IncomingContent(state.settings)
        replied_early = await self._read_content(content)
        self._stream.put_back(content.reader.rest or b"")
        state.command = "the content"
        if self._stream.unread and not replied_early and not state.settings.pipelining:
            state.report_violation("sent more before the reply")
        for fault in content.reader.faults:
            state.report_violation(fault)
        if replied_early:
            return
        due, reasons = self._reply_to_content(transaction, content)
        message_id = self._new_message_id(content)

        def effect() -> None:
            state.record.messages += 1
            state.observations.received.append(self._received_message(transaction, content, message_id))

        def record(reply: ServerReply) -> None:
            self._record_refusal(reply, reasons)

        await self._replies.send(FaultStage.DOT, state.fill(due, id=message_id), effect, record)

    async def _read_content(self, content: IncomingContent) -> bool:
        """Read to the end of the data. Returns True if a fault has sent a reply before that."""
        delay = 0.0  # seconds before each block
        replied = False
        while content.reader.rest is None:
            point = self._state.fault_point(FaultStage.BODY, content.size)
            match self._state.simulator.script.next_action(point):
                case None:
                    pass
                case Delay(seconds):
                    delay = seconds
                case Silence():
                    self._stream.stop_reading()
                    await self._stream.gone()
                    raise PeerGone
                case (Hold() | OctetByOctet() | AppendOctets()) as action:
                    raise ValueError(f"{action} is not possible while content arrives")
                case action if not replied:
                    replied = True
                    await self._reply_early(action)
                case _:
                    pass  # the client has its reply; the rest is only read
            content.add(await self._read_block(delay))
        return replied

    async def _reply_early(self, action: FaultAction) -> None:
        await self._replies.replace(action)
        if isinstance(action, ReplyWith):
            self._state.record.replies.append(str(action.reply))
            if action.then_drop:
                raise SimulatedSessionEnd("dropped")

    async def _read_block(self, delay: float) -> bytes:
        if not delay:
            return await self._stream.block()
        self._stream.stop_reading()
        await asyncio.sleep(delay)
        block = await self._stream.block()
        if len(block) > _SLOW_BLOCK:
            self._stream.put_back(block[_SLOW_BLOCK:])
        return block[:_SLOW_BLOCK]

    def _reply_to_content(
        self, transaction: ServerTransaction, content: IncomingContent
    ) -> tuple[ServerReply, tuple[str, ...]]:
        """Return the reply to the final dot, and the reasons that the provider does not give."""
        state, settings, replies = self._state, self._state.settings, self._state.replies
        if content.too_large:
            return replies.message_too_large, ()
        if content.reader.faults:
            return replies.policy_refused, tuple(content.reader.faults)
        path = transaction.reverse.path
        if settings.enforced_at is EnforcedAt.DATA and not self._may_send_as(path):
            return state.fill(replies.reverse_path_refused, path=path), (f"reverse-path {path or '<>'}",)
        head = bytes(content.head)
        if settings.check_header and (faults := header_faults(head)):
            return replies.policy_refused, faults
        if settings.header_from_enforced:
            foreign = [author for author in authors_of(head) if not self._may_send_as(author)]
            if foreign:
                return state.fill(replies.header_from_refused, path=foreign[0]), (f"header From {foreign[0]}",)
        return replies.message_accepted, ()

    def _new_message_id(self, content: IncomingContent) -> str:
        """A message id in the format of the platform, unique in one simulator."""
        state = self._state
        seed = f"{id(state.simulator)} {state.record.number} {state.transaction_number} {content.digest.hexdigest()}"
        number = int.from_bytes(hashlib.sha256(seed.encode("ascii")).digest())
        characters = ""
        while len(characters) < _ID_LENGTH:
            number, digit = divmod(number, len(_BASE62))
            characters += _BASE62[digit]
        return f"{characters[:6]}-{characters[6:16]}-{characters[16:]}"

    def _received_message(
        self, transaction: ServerTransaction, content: IncomingContent, message_id: str
    ) -> ReceivedMessage:
        return ReceivedMessage(
            id=message_id,
            login=self._state.login,
            reverse_path=transaction.reverse.path,
            recipients=tuple(transaction.recipients),
            content=bytes(content.octets),
            size=content.size,
            sha256=content.digest.hexdigest(),
            session=self._state.record.number,
            transaction=self._state.transaction_number,
            at=self._state.now(),
            parameters=tuple(
                f"{name}={value}" if value else name for name, value in transaction.reverse.parameters.items()
            ),
        )

    def _record_refusal(self, reply: ServerReply, reasons: tuple[str, ...] = ()) -> None:
        """Record a negative reply."""
        state = self._state
        state.observations.refused.append(RefusedMessage(state.record.number, state.login, str(reply), reasons))
        state.observations.notify()
