"""Transports in memory, both ends of a connection, and a provider at one of them that follows a script."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.senderproxy.straight.virtual_loop import VirtualLoop

UPSTREAM_WAY = 0.004  # seconds from us to the provider
PAUSE = 0.0002  # seconds between two writes of the provider


class MemoryTransport(asyncio.Transport):
    """Our end of a connection. `receive` gets what is written, and None at the end, after `way` seconds."""

    def __init__(self, way: float, receive: Callable[[bytes | None], None], peer: tuple[str, int]) -> None:
        super().__init__({"peername": peer})
        self._loop = asyncio.get_running_loop()
        self._way = way
        self._receive = receive
        self._protocol: Any = None
        self._closing = False
        self._is_lost = False
        self._on_way: deque[bytes | None] = deque()  # in order: timers of the same time have none
        self._on_way_back: deque[bytes | None] = deque()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert isinstance(self._protocol, asyncio.BaseProtocol)
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: Any) -> None:
        if not self._closing and data:
            self._send(bytes(data))

    def _send(self, data: bytes | None) -> None:
        self._on_way.append(data)
        self._loop.call_later(self._way, lambda: self._receive(self._on_way.popleft()))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._send(None)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._send(None)
            self._loop.call_soon(self._lose)

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        raise AssertionError("nothing here is so large")

    # --- for the other end ---

    def feed(self, data: bytes) -> None:
        """Octets from the other end."""
        self._on_way_back.append(data)
        self._loop.call_later(self._way, self._deliver)

    def feed_end(self) -> None:
        """The end of what the other end sends."""
        self._on_way_back.append(None)
        self._loop.call_later(self._way, self._deliver)

    def _deliver(self) -> None:
        data = self._on_way_back.popleft()
        assert isinstance(self._loop, VirtualLoop)
        if data is not None:
            self._loop.note_arrival(self)
        if self._closing:
            return
        if data is not None:
            self._protocol.data_received(data)
        elif not self._protocol.eof_received():
            self.close()

    def reset(self) -> None:
        """The connection is gone, for both ends."""
        self._loop.call_later(self._way, self.reset_now)

    def reset_now(self) -> None:
        self._closing = True
        self._lose()

    def _lose(self) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._protocol.connection_lost(None)


REPLIES = {"mail": b"250 2.1.0 sender ok", "rcpt": b"250 2.1.5 recipient ok", "data": b"354 go ahead"}
REFUSALS = [
    b"550 5.1.1 no such mailbox", b"451 4.3.0 try again later", b"452 4.5.3 too many recipients", b"552 5.3.4 too big",
    b"421 4.3.2 closing", b"535 5.7.8 login again", b"503 5.5.1 bad sequence", b"451 Mails per session limit",
    b"450 4.7.1 Mail send limit exceeded", b"550 5.7.1 sender address not owned by anna@firma.example",
    b"554-5.7.0 refused\r\n554 5.7.0 for a reason", b"250 2.0.0 fine", b"354 go ahead", b"299 2.0.0 odd", b"654 nonsense",
]  # fmt: skip
DELAYS = (0.5, 29.0, 31.0, 119.0, 200.0, 241.0, 301.0, 541.0, 700.0)


@dataclass
class ProviderScript:
    """How a provider answers: a share of its replies are faults, drawn for each session in order."""

    seed: int
    fault_rate: float
    pipelining: bool
    eight_bit: bool = True


@dataclass
class ProviderSession:
    """The provider's end of one session. `seen`: octets with their time."""

    script: ProviderScript
    name: str  # account and number
    seen: list[tuple[float, bytes]] = field(default_factory=list)
    in_data: bool = False
    rest: bytes = b""
    accepted: int = 0
    silent: bool = False

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.script.seed}/{self.name}")
        self.loop = asyncio.get_running_loop()
        self.transport = MemoryTransport(UPSTREAM_WAY, self.receive, ("192.0.2.1", 465))
        self.free_at = 0.0

    def receive(self, data: bytes | None) -> None:
        self.seen.append((round(self.loop.time(), 5), b"(end)" if data is None else data))
        if data is None or self.silent:
            return
        self.rest += data
        said = b""  # what is sent at once
        while not self.silent and (end := self.rest.find(b"\r\n.\r\n" if self.in_data else b"\r\n")) >= 0:
            line = self.rest[:end]
            self.rest = self.rest[end + (5 if self.in_data else 2) :]
            if self.in_data:
                self.in_data = False
                self.accepted += 1
                delay, reply = self.answer(f"250 2.0.0 taken as {self.name}.{self.accepted}".encode())
            elif (verb := line[:4].decode().lower()) == "quit":
                self.silent = True
                delay, reply = 0.0, b"221 2.0.0 bye\r\n"
            else:
                delay, reply = self.answer(REPLIES.get(verb, b"250 2.0.0 ok"))
                self.in_data = verb == "data" and reply[:3] == b"354"
            if delay:
                self.say(said)
                said, self.free_at = b"", max(self.free_at, self.loop.time()) + delay
            said += reply
        self.say(said)
        if self.silent:
            self.free_at = max(self.free_at, self.loop.time()) + PAUSE
            self.loop.call_at(self.free_at, self.transport.feed_end)

    def say(self, octets: bytes) -> None:
        """Send octets, in one or two pieces, after all that was sent before."""
        pieces = [octets]
        if octets and self.random.random() < 0.1:
            cut = self.random.randrange(1, len(octets))
            pieces = [octets[:cut], octets[cut:]]
        for piece in pieces:
            if piece:
                self.free_at = max(self.free_at, self.loop.time()) + PAUSE
                self.loop.call_at(self.free_at, self.transport.feed, piece)

    def answer(self, usual: bytes) -> tuple[float, bytes]:
        """The delay of the next reply in seconds, and the reply."""
        draw = self.random.random()
        choice = self.random.randrange(7)
        if draw >= self.script.fault_rate:
            return 0.0, usual + b"\r\n"
        if choice < 3:
            reply = self.random.choice(REFUSALS)
            self.silent = reply[:3] == b"421"
            return 0.0, reply + b"\r\n"
        if choice == 3:
            return self.random.choice(DELAYS), usual + b"\r\n"
        if choice == 4:
            self.silent = True
            return 0.0, b""
        if choice == 5:
            return 0.0, usual + b"\r\n" + self.random.choice(
                [b"250 2.0.0 and one more", b"421 4.3.2 closing", b"x"]
            ) + b"\r\n"
        strange = [b"x", b"25", b"250-first\r\n250 second", b"250-first\r\n550 second", b"2" * 3000]
        return 0.0, self.random.choice(strange) + b"\r\n"
