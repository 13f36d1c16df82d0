"""A copy for a Sent folder, and the results of storing it. PURE.

Guarantees: this module loads neither imapclient nor a socket, so that a service without copies does not pay for them.
Each result has words for the operator; texts of the server in it are printable and bounded, and contain no secret.
Not here: the IMAP dialogue (sent_copy.imap), which loads imapclient; repetition of an attempt (the caller).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, Protocol, TypeAlias

from senderproxy.routing.account import Credential
from senderproxy.routing.provider import ImapServer

MARK_FIELD: Final = "X-Senderproxy-Copy"  # first field of each copy; its value is the mark
_MARK: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Copy:
    """One message to store.

    `blocks`: the message as it left, from its start, without dot-stuffing (mail.dot_stuffing), with CRLF line ends; it
    is called once for each attempt that reaches the folder. `size`: its octets, exactly; the field with the mark is
    added by us and does not count. `sent_at`: aware; the date of the copy in the folder. `message_id`: as in its header
    section, with angle brackets; empty if it has none. `mark`: up to 64 of A-Z a-z 0-9 . _ -, another one for each
    sending, the same for each attempt. `folder`: overrides the search for the Sent folder; its name as people read it.
    `may_be_stored`: an attempt before this one may have stored it, so the folder is searched first.
    """

    blocks: Callable[[], Iterator[bytes]]
    size: int
    sent_at: datetime
    message_id: str
    mark: str
    folder: str | None = None
    may_be_stored: bool = False

    def __post_init__(self) -> None:
        if not _MARK.fullmatch(self.mark):
            raise ValueError("a mark has up to 64 of A-Z a-z 0-9 . _ -")

    @property
    def mark_field(self) -> bytes:
        """The first field of the copy, with its line end."""
        return f"{MARK_FIELD}: {self.mark}\r\n".encode("ascii")


@dataclass(frozen=True, slots=True)
class Stored:
    """The copy is in the folder. `created`: the folder is new."""

    folder: str
    created: bool = False


@dataclass(frozen=True, slots=True)
class AlreadyThere:
    """An attempt before this one has stored it."""

    folder: str


class RefusalKind(Enum):
    """The kinds of refusal. The value is a key for logs and JSON."""

    LOGIN = "login"  # the password or token; further attempts may lock the mailbox
    ACCESS_OFF = "access_off"  # the mailbox has no IMAP, or not for programs
    INCOMPATIBLE = "incompatible"  # certificate, no TLS, no usable login method
    NO_FOLDER = "no_folder"  # there is none, and it cannot be created
    NO_PERMISSION = "no_permission"  # for the folder
    OVER_QUOTA = "over_quota"  # the mailbox is full
    TOO_LARGE = "too_large"  # for this server
    CONTENT = "content"  # the server accepts any other message


@dataclass(frozen=True, slots=True)
class Refused:
    """The copy is not stored, and an operator or the mailbox's owner has to act.

    `is_final`: this very copy will never be stored (TOO_LARGE, CONTENT). `words`: a sentence without a final period;
    `hint`: the fix, without "To fix:", may be empty; both marked for translation. `server_text`: the server's.
    """

    kind: RefusalKind
    words: str
    hint: str = ""
    server_text: str = ""

    @property
    def is_final(self) -> bool:
        return self.kind in (RefusalKind.TOO_LARGE, RefusalKind.CONTENT)


class DelayKind(Enum):
    """The kinds of failure that pass by themselves. The value is a key for logs and JSON."""

    UNREACHABLE = "unreachable"  # name server, network, nothing listens
    BUSY = "busy"  # the server says so: too many connections or logins, maintenance, a rate
    PROTOCOL = "protocol"  # it closes the connection, does not answer in time, or not as IMAP demands
    LOCAL = "local"  # this machine: the message cannot be read


@dataclass(frozen=True, slots=True)
class TryLater:
    """The copy is not stored, as far as we know. Fields as in Refused.

    `may_be_stored`: the end of the message was sent, and no answer received; the next attempt has to search.
    """

    kind: DelayKind
    words: str
    hint: str = ""
    server_text: str = ""
    may_be_stored: bool = False


@dataclass(frozen=True, slots=True)
class FoundFolder:
    """The folder for copies. `exists`: False if the first copy creates it. `special`: the server calls it \\Sent."""

    folder: str
    exists: bool
    special: bool


CopyResult: TypeAlias = Stored | AlreadyThere | Refused | TryLater
FolderResult: TypeAlias = FoundFolder | Refused | TryLater


class SentFolders(Protocol):
    """The Sent folders of mailboxes. The calls block, and are made on threads of their own (worker_threads).

    The implementation is sent_copy.imap.ImapFolders; a service imports that module only if an account has copies.
    """

    def append_copy(self, server: ImapServer, credential: Credential, copy: Copy) -> CopyResult:
        """Store the copy, with one login. Blocks for SECONDS at most, and a look-up of the server's name.

        `credential`: with a password, or with an access token (`Credential.with_token`). Never raises for a failure of
        the network or of the server.
        """
        ...

    def find_folder(self, server: ImapServer, credential: Credential, folder: str | None = None) -> FolderResult:
        """Log in and find the folder for copies, without a change. `folder`: as of Copy. Otherwise as `append_copy`."""
        ...


SECONDS: Final = 600.0  # for a whole attempt: 25 MB at 0.5 Mbit/s; each step has its own, shorter time
