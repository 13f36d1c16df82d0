"""Replies of one session, and the scripted faults that replace or delay them.

Guarantees: the effect of a command is recorded before its reply is sent, so that a client that has the reply finds the
record.

Not here: the choice of a reply (simulator.session, simulator.mail_commands), which fault is due (simulator.faults).
"""

import asyncio
from collections.abc import Callable

from senderproxy.simulator.byte_stream import ByteStream, PeerGone
from senderproxy.simulator.faults import (
    AppendOctets,
    Delay,
    Drop,
    FaultAction,
    FaultStage,
    Hold,
    OctetByOctet,
    RawOctets,
    RepeatForever,
    ReplyWith,
    Silence,
)
from senderproxy.simulator.provider_replies import ServerReply
from senderproxy.simulator.session_state import SessionState


class SimulatedSessionEnd(Exception):
    """The simulator ends this session. The text goes into the session's record."""


class ScriptedReplies:
    """Sends the replies of one session and carries out its scripted faults."""

    def __init__(self, state: SessionState, stream: ByteStream) -> None:
        self._state = state
        self._stream = stream

    async def reach(self, stage: FaultStage) -> None:
        """Pass a stage that has no reply; a scripted fault may delay or end the session there."""
        action = self._state.simulator.script.next_action(self._state.fault_point(stage))
        match action:
            case None:
                return
            case Delay(seconds):
                await asyncio.sleep(seconds)
            case Hold(released):
                await released.wait()
            case OctetByOctet() | AppendOctets():
                raise ValueError(f"{action} is not possible at {stage.value}")
            case _:
                await self.replace(action)
                raise SimulatedSessionEnd("dropped")

    async def send(
        self,
        stage: FaultStage,
        due: ServerReply,
        effect: Callable[[], None] | None = None,
        on_rejection: Callable[[ServerReply], None] | None = None,
    ) -> ServerReply | None:
        """Send the due reply, or carry out the scripted action of this stage.

        Before a positive reply is sent, `effect` is called; before a negative one, `on_rejection`. So the record is
        complete when the client has its reply. Returns the reply that the client got, None if it got no valid reply.
        """
        action = self._state.simulator.script.next_action(self._state.fault_point(stage))
        reply = action.reply if isinstance(action, ReplyWith) else due
        no_effect = isinstance(action, RawOctets | RepeatForever) or (
            isinstance(action, Silence | Drop) and not action.after_storing
        )
        if reply.positive and not no_effect and effect is not None:
            effect()
        if no_effect or isinstance(action, Silence | Drop):
            self._state.observations.notify()
            await self.replace(action)
            return None
        if not reply.positive and on_rejection is not None:
            on_rejection(reply)
        self._state.record.replies.append(str(reply))
        self._state.observations.notify()
        await self._write(reply.render(), action)
        if isinstance(action, ReplyWith) and action.then_drop:
            raise SimulatedSessionEnd("dropped")
        return reply

    async def _write(self, octets: bytes, action: FaultAction | None) -> None:
        match action:
            case Delay(seconds):
                await asyncio.sleep(seconds)
                await self._stream.send(octets)
            case Hold(released):
                await released.wait()
                await self._stream.send(octets)
            case OctetByOctet(seconds_each):
                for at in range(len(octets)):
                    await self._stream.send(octets[at : at + 1])
                    await asyncio.sleep(seconds_each)
            case AppendOctets(more):
                await self._stream.send(octets + more)
            case _:
                await self._stream.send(octets)

    async def replace(self, action: FaultAction | None) -> None:
        """Carry out an action that replaces a reply."""
        match action:
            case Silence():
                self._stream.discard_input()
                await self._stream.gone()
                raise PeerGone
            case Drop():
                self._stream.abort()
                raise SimulatedSessionEnd("dropped")
            case ReplyWith(reply, _):
                await self._stream.send(reply.render())
            case RawOctets(octets, then_drop):
                await self._stream.send(octets)
                if then_drop:
                    raise SimulatedSessionEnd("dropped")
            case RepeatForever(octets):
                while True:
                    await self._stream.send(octets)
                    await asyncio.sleep(0)
            case AppendOctets() | Delay() | Hold() | OctetByOctet() | None:
                raise ValueError(f"{action} cannot replace a reply")
