"""Intake that records every message, and returns the replies that a test sets."""

import asyncio
from dataclasses import dataclass

from senderproxy.mail.envelope import Envelope
from senderproxy.mail.reply import Reply, reply
from senderproxy.mail.submission import Client, Submission


@dataclass(frozen=True)
class Taken:
    """One accepted message."""

    id: str
    client: Client
    envelope: Envelope
    header: bytes
    wire: bytes
    is_ascii: bool


class RecordingIntake:
    """relay.ports.Intake for tests.

    `hold()` keeps every message waiting until `release()`; `answers` are given in turn, the last one for ever; an
    exception among them is raised.
    """

    def __init__(self, *answers: Reply | BaseException, keep: bool = True) -> None:
        self.taken: list[Taken] = []
        self.octets = 0
        self.started = 0
        self.cut_off = 0
        self._answers = list(answers) or [reply(250, "2.0.0", "taken")]
        self._keep = keep
        self._open = asyncio.Event()
        self._open.set()
        self._changed = asyncio.Condition()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def accept(self, submission: Submission) -> Reply:
        self.started += 1
        await self._notify()
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        message = submission.message
        if self._keep:
            wire = b"".join(message.blocks())
            self.taken.append(
                Taken(
                    submission.id,
                    submission.client,
                    submission.envelope,
                    message.header.raw,
                    wire,
                    message.body.is_ascii,
                )
            )
            self.octets += len(wire)
        else:
            for block in message.blocks():
                self.octets += len(block)
                await asyncio.sleep(0)
        await self._notify()
        answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def until_started(self, count: int) -> None:
        """Wait until so many messages have arrived (they may be held)."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.started >= count)

    async def until_taken(self, count: int) -> None:
        """Wait until so many messages have been read to their end."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.taken) >= count)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
