"""ImapFolders: copies in Sent folders by IMAP, one login for each.

Guarantees: an attempt ends within its time, whatever the server does; memory does not depend on the message. A copy
that may be stored already is searched first. A folder that does not exist is created once.
Not here: threads, repetition, look-ups that never return (the caller's threads can be given up).
"""

import imaplib
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

from senderproxy.routing.account import Credential
from senderproxy.routing.provider import ImapServer
from senderproxy.sent_copy import results
from senderproxy.sent_copy.append import Appending, AppendRefused, UnreadableCopy, UnsuitableCopy
from senderproxy.sent_copy.connection import (
    Attempt,
    ImapConnection,
    NotImap,
    NotOnThisMachine,
    StarttlsMissing,
    TooMuchData,
)
from senderproxy.sent_copy.ports import (
    SECONDS,
    AlreadyThere,
    Copy,
    CopyResult,
    FolderResult,
    FoundFolder,
    Refused,
    Stored,
    TryLater,
)
from senderproxy.sent_copy.session import CommandRefused, FolderRefused, ImapLoginRefused, ImapSession, NoMethod, Target

_T = TypeVar("_T")

# What imaplib and imapclient raise for data that is not IMAP, beside their own errors.
_NOT_IMAP: Final = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError, NotImap)


class ImapFolders:
    """The Sent folders of mailboxes. See ports.SentFolders."""

    def __init__(self, monotonic: Callable[[], float], seconds: float = SECONDS) -> None:
        """`monotonic`: the clock of time limits; `seconds`: for a whole attempt."""
        self._monotonic = monotonic
        self._seconds = seconds

    def append_copy(self, server: ImapServer, credential: Credential, copy: Copy) -> CopyResult:
        """Store the copy, unless it is stored already."""
        appending: list[Appending] = []

        def store(session: ImapSession) -> CopyResult:
            target = session.find_folder(copy.folder)
            if copy.may_be_stored and target.exists and session.has_copy(target, copy):
                return AlreadyThere(target.name)
            limit, size = session.size_limit(target), len(copy.mark_field) + copy.size
            if limit is not None and size > limit:
                return results.too_large(server, target.name, size, limit)
            if created := not target.exists:
                session.create_folder(target)
            transfer = Appending(session.connection, session.capabilities, copy)
            appending.append(transfer)
            try:
                return self._append(session, transfer, target, created=created)
            except AppendRefused as refused:
                return results.copy_refused(server, target.name, refused.answer)

        result = self._run(server, credential, store)
        may_be_stored = any(transfer.may_be_stored for transfer in appending)
        if isinstance(result, TryLater):
            # The attempt before this one, too, may have stored it.
            return replace(result, may_be_stored=may_be_stored or copy.may_be_stored)
        return result

    def find_folder(self, server: ImapServer, credential: Credential, folder: str | None = None) -> FolderResult:
        """Log in and find the folder for copies."""

        def find(session: ImapSession) -> FoundFolder:
            target = session.find_folder(folder)
            return FoundFolder(target.name, target.exists, target.special)

        return self._run(server, credential, find)

    def _append(self, session: ImapSession, transfer: Appending, target: Target, *, created: bool) -> Stored:
        try:
            transfer.append(target.raw)
        except AppendRefused as refused:
            if created or not refused.answer.wants_folder:
                raise
            session.create_folder(target)  # it was deleted, or is listed only
            transfer.append(target.raw)
            created = True
        return Stored(target.name, created)

    def _run(
        self, server: ImapServer, credential: Credential, work: Callable[[ImapSession], _T]
    ) -> _T | Refused | TryLater:
        """The result of the work in a session; a failure as a result."""
        attempt = Attempt(server, self._monotonic, self._monotonic() + self._seconds)
        connection: ImapConnection | None = None
        try:
            connection = ImapConnection(attempt)
            with ImapSession(connection, credential) as session:
                return work(session)
        except ImapLoginRefused as refused:
            return results.login_refused(server, refused.answer)
        except NoMethod as missing:
            return results.no_method(server, str(missing.args[0]))
        except FolderRefused as refused:
            return results.copy_refused(server, refused.folder, refused.answer)
        except CommandRefused as refused:
            return results.command_refused(attempt, refused.answer)
        except UnsuitableCopy:
            return results.unsuitable()
        except UnreadableCopy as fault:
            return results.unreadable(str(fault.args[0]))
        except (OSError, TooMuchData, StarttlsMissing, NotOnThisMachine, imaplib.IMAP4.error, *_NOT_IMAP) as fault:
            return results.failed(fault, attempt)
        finally:
            if connection is not None:
                connection.shutdown()
