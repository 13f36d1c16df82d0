"""The mailbox, the login and a message for the tests of copies."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from senderproxy.routing.account import Credential
from senderproxy.routing.provider import ImapServer, Security
from senderproxy.sent_copy.imap import ImapFolders
from senderproxy.sent_copy.ports import Copy
from tests.fakes import imap_server
from tests.fakes.imap_server import LOGIN, PASSWORD

FOLDERS: Final = ImapFolders(time.monotonic, seconds=200.0)  # for 25 MB, a busy machine and its disk
PASSWORD_LOGIN: Final = Credential(LOGIN, PASSWORD, "1")
TOKEN_LOGIN: Final = Credential(LOGIN, PASSWORD, "1", application="microsoft")
SENT_AT: Final = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
MESSAGE: Final = (
    b"From: Anna <anna@firma.example>\r\nMessage-ID: <1@firma.example>\r\nSubject: Angebot\r\n\r\n"
    b"Guten Tag\r\n.\r\n..mit Punkten\r\n\xe4\xf6\xfc\r\n"
)


def address(state: imap_server.ImapServer) -> ImapServer:
    return ImapServer("127.0.0.1", state.port, Security.NONE)


def copy(content: bytes = MESSAGE, *, mark: str = "mark-1", folder: str | None = None, again: bool = False) -> Copy:
    """A copy whose blocks have seven octets at most if it is short."""
    step = 7 if len(content) < 4096 else 65_536

    def blocks() -> Iterator[bytes]:
        return (content[at : at + step] for at in range(0, len(content), step))

    return Copy(blocks, len(content), SENT_AT, "<1@firma.example>", mark, folder, may_be_stored=again)


def stored(content: bytes = MESSAGE, mark: str = "mark-1") -> bytes:
    return f"X-Senderproxy-Copy: {mark}\r\n".encode() + content
