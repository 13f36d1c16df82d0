"""Sent folders in memory, behind the interface of sent_copy.ports, with the failures that a test puts before it."""

import threading
from collections import deque
from collections.abc import Callable

from senderproxy.routing.account import Credential
from senderproxy.routing.provider import ImapServer
from senderproxy.sent_copy.ports import (
    AlreadyThere,
    Copy,
    CopyResult,
    FolderResult,
    FoundFolder,
    Refused,
    Stored,
    TryLater,
)


class MemoryFolders:
    """sent_copy.ports.SentFolders. `answers` are given before copies are stored; a callable one is called first."""

    def __init__(self) -> None:
        self.copies: list[tuple[str, Copy, bytes]] = []  # login, copy, its octets
        self.attempts: list[tuple[str, Copy]] = []  # login, copy
        self.secrets: list[str] = []
        self.answers: deque[Refused | TryLater | Callable[[Copy], CopyResult | None]] = deque()
        self.always: Refused | TryLater | None = None
        self.release: threading.Event | None = None  # an attempt waits for it
        self.busy = 0
        self.most_busy = 0
        self._lock = threading.Lock()

    def append_copy(self, server: ImapServer, credential: Credential, copy: Copy) -> CopyResult:
        with self._lock:
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        try:
            return self._append(credential, copy)
        finally:
            with self._lock:
                self.busy -= 1

    def _append(self, credential: Credential, copy: Copy) -> CopyResult:
        self.attempts.append((credential.login, copy))
        self.secrets.append(credential.reveal())
        if self.release is not None:
            assert self.release.wait(30)
        answer = self.answers.popleft() if self.answers else self.always
        given = answer(copy) if callable(answer) else answer
        if given is not None:
            return given
        folder = copy.folder or "Gesendet"
        if copy.may_be_stored and self.has(copy):
            return AlreadyThere(folder)
        self.keep(credential.login, copy)
        return Stored(folder)

    def has(self, copy: Copy) -> bool:
        return any(copy.mark == kept.mark for _, kept, _ in self.copies)

    def keep(self, login: str, copy: Copy) -> None:
        """Store a copy."""
        octets = b"".join(copy.blocks())
        assert len(octets) == copy.size
        self.copies.append((login, copy, octets))

    def find_folder(self, server: ImapServer, credential: Credential, folder: str | None = None) -> FolderResult:
        return FoundFolder(folder or "Gesendet", exists=True, special=True)

    def octets(self) -> list[bytes]:
        """The stored copies."""
        return [octets for _, _, octets in self.copies]
