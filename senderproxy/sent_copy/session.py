"""Session at an IMAP server: TLS, login, the Sent folder, the search for a copy that is there already.

Guarantees: a login is sent only under verified TLS, or to loopback if the settings say so, and once. A password is sent
by PLAIN or LOGIN, a token by XOAUTH2 or OAUTHBEARER only. imapclient logs nothing.
Not here: APPEND (sent_copy.append), words about failures (sent_copy.results).
RFC 9051, RFC 4616, RFC 7628, https://developers.google.com/workspace/gmail/imap/xoauth2-protocol
"""

import base64
import imaplib
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Final

import imapclient
from imapclient.response_parser import parse_response

from senderproxy.routing.account import Credential
from senderproxy.routing.provider import Security
from senderproxy.sent_copy.connection import ImapConnection, ImapStep, NotImap, StarttlsMissing, TooMuchData
from senderproxy.sent_copy.ports import MARK_FIELD, Copy
from senderproxy.sent_copy.refusals import NegativeAnswer, answer_of
from senderproxy.sent_copy.sent_folder import (
    NEW_FOLDER,
    Folder,
    decode_name,
    encode_name,
    is_quotable,
    own_prefix,
    special_folder,
    usual_folder,
    with_prefix,
)

logging.getLogger("imapclient").setLevel(logging.CRITICAL + 1)  # its lines contain texts of the server

_CANDIDATES: Final = 50  # messages with the same Message-ID whose marks are compared; a resend makes one more
_GOODBYE_SECONDS: Final = 3.0  # for the answer to LOGOUT, which nothing depends on
_USUAL_PREFIXES: Final = (b"", b"INBOX.", b"INBOX/")  # where the server names no namespace


class ImapLoginRefused(Exception):
    """The server refuses the login."""

    def __init__(self, answer: NegativeAnswer) -> None:
        super().__init__("login refused")
        self.answer = answer


class NoMethod(Exception):
    """The server offers no login method for this kind of secret. `args[0]`: those that it offers."""


class FolderRefused(Exception):
    """The server does not create the folder."""

    def __init__(self, folder: str, answer: NegativeAnswer) -> None:
        super().__init__("folder refused")
        self.folder = folder
        self.answer = answer


class CommandRefused(Exception):
    """The server refuses a command without which the folder or the copy cannot be found."""

    def __init__(self, answer: NegativeAnswer) -> None:
        super().__init__("command refused")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Target:
    """The folder for copies. `raw`: as the server spells it."""

    raw: bytes
    exists: bool
    special: bool

    @property
    def name(self) -> str:
        """For people."""
        return decode_name(self.raw)


class _ImapClient(imapclient.IMAPClient):  # type: ignore[misc]  # it has no types
    """IMAPClient over a connection of ours; folder names stay as the server spells them."""

    def __init__(self, connection: ImapConnection) -> None:
        self._connection = connection
        server = connection.attempt.server
        super().__init__(server.host, server.port, ssl=server.security is Security.IMPLICIT_TLS)
        connection.debug = 0  # imapclient sets it to 5: each line would be formatted
        self.folder_encode = False

    def _create_IMAP4(self) -> ImapConnection:  # noqa: N802  imapclient calls it
        return self._connection


class ImapSession:
    """A session, logged in; used as a context manager."""

    def __init__(self, connection: ImapConnection, credential: Credential) -> None:
        """Log in. Raises as ImapConnection, and the exceptions of this module."""
        self.connection = connection
        self._client = _ImapClient(connection)
        self.capabilities: frozenset[bytes] = frozenset()
        self._names_namespace = False
        if connection.state != "NONAUTH":
            raise NotImap  # PREAUTH: the mailbox could be any
        if connection.attempt.server.security is Security.STARTTLS:
            self._start_tls()
        self._read_capabilities()
        self._log_in(credential)
        self._read_capabilities()  # SPECIAL-USE and APPENDLIMIT show after the login only

    def __enter__(self) -> "ImapSession":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection. After an error no goodbye is sent: the server may take it for a part of the copy."""
        if kind is None and self.connection.attempt.fault is None:
            with suppress(OSError, TooMuchData):
                self.connection.send(b"bye LOGOUT\r\n")
                self.connection.allow(_GOODBYE_SECONDS)
                self.connection.readline()
        self.connection.shutdown()

    # ---- the folder ----

    def find_folder(self, wanted: str | None) -> Target:
        """The folder with this name, or the one for sent mail; one that does not exist yet if there is none."""
        self.connection.attempt.step = ImapStep.FOLDER
        if wanted is not None:
            return self._named_folder(wanted)
        if found := special_folder(self._folders_with_use()):
            return Target(found.name, exists=True, special=True)
        prefixes = self._prefixes()
        listed = self._list_below(prefixes)
        if found := special_folder(listed) or usual_folder(listed, prefixes):
            return Target(found.name, exists=True, special=b"\\sent" in found.flags)
        return self._new_folder(NEW_FOLDER, prefixes, listed)

    def create_folder(self, target: Target) -> None:
        """Create it, and subscribe to it so that mail programs show it. Raises FolderRefused."""
        self.connection.attempt.step = ImapStep.FOLDER
        try:
            self._client.create_folder(target.raw)
        except imaplib.IMAP4.error as error:
            self._raise_fault(error)
            answer = answer_of(str(error))
            if answer.code != "ALREADYEXISTS":
                raise FolderRefused(target.name, answer) from None
        self._tolerated(lambda: self._client.subscribe_folder(target.raw))

    def size_limit(self, target: Target) -> int | None:
        """The largest message that the folder accepts, in octets; None: not announced. RFC 7889."""
        for capability in self.capabilities:
            if capability.startswith(b"APPENDLIMIT="):
                return int(capability[12:])
        if b"APPENDLIMIT" not in self.capabilities or not target.exists:
            return None
        status = self._tolerated(lambda: self._client.folder_status(target.raw, [b"APPENDLIMIT"]))
        limit = status.get(b"APPENDLIMIT") if status else None
        return limit if isinstance(limit, int) else None

    # ---- the search ----

    def has_copy(self, target: Target, copy: Copy) -> bool:
        """True if the folder has the copy: by date, Message-ID and mark; a resend has the same Message-ID."""
        self.connection.attempt.step = ImapStep.SEARCH
        self._required(lambda: self._client.select_folder(target.raw, readonly=True))
        since = (copy.sent_at - timedelta(days=1)).date()  # servers compare dates of their own zone
        mark = copy.mark.encode("ascii")
        by_mark = [b"HEADER", MARK_FIELD.encode("ascii"), mark]
        by_id = [b"HEADER", b"MESSAGE-ID", copy.message_id.encode("utf-8", "surrogateescape")]
        searches = [by_id, by_mark] if is_quotable(by_id[-1]) else [by_mark]
        # Some servers do not search unusual fields: they find nothing or everything. So the marks are compared here.
        return any(mark in self._marks([b"SINCE", since, *one]) for one in searches)

    def _marks(self, criteria: list[Any]) -> set[bytes]:
        """The marks of the last messages that meet the criteria."""
        found = sorted(self._required(lambda: self._client.search(criteria)))[-_CANDIDATES:]
        if not found:
            return set()
        item = b"BODY.PEEK[HEADER.FIELDS (" + MARK_FIELD.upper().encode("ascii") + b")]"
        fetched = self._required(lambda: self._client.fetch(found, [item]))
        values = (value for one in fetched.values() for value in one.values() if isinstance(value, bytes))
        return {value.partition(b":")[2].strip() for value in values}

    # ---- parts ----

    def _start_tls(self) -> None:
        try:
            self._client.starttls(self.connection.context)
        except imaplib.IMAP4.error as error:
            self._raise_fault(error)
            raise StarttlsMissing from None

    def _read_capabilities(self) -> None:
        self.capabilities = frozenset(bytes(one).upper() for one in self._client.capabilities())

    def _log_in(self, credential: Credential) -> None:
        self.connection.attempt.step = ImapStep.LOGIN
        login, secret = credential.login, credential.reveal()
        try:
            if credential.application:
                self._log_in_by_token(login, secret)
            else:
                self._log_in_by_password(login, secret)
        except imaplib.IMAP4.error as error:
            self._raise_fault(error)
            raise ImapLoginRefused(answer_of(str(error), forms_of(login, secret))) from None

    def _log_in_by_token(self, login: str, token: str) -> None:
        bearer = f"auth=Bearer {token}\x01"
        if b"AUTH=XOAUTH2" in self.capabilities:
            self._client.sasl_login("XOAUTH2", _answers(f"user={login}\x01{bearer}\x01", ""))
        elif b"AUTH=OAUTHBEARER" in self.capabilities:
            server = self.connection.attempt.server
            name = login.replace("=", "=3D").replace(",", "=2C")
            first = f"n,a={name},\x01host={server.host}\x01port={server.port}\x01{bearer}\x01"
            self._client.sasl_login("OAUTHBEARER", _answers(first, "\x01"))
        else:
            raise NoMethod(self._methods())

    def _log_in_by_password(self, login: str, password: str) -> None:
        if b"AUTH=PLAIN" in self.capabilities:
            self._client.sasl_login("PLAIN", _answers(f"\0{login}\0{password}"))
        elif b"AUTH=LOGIN" in self.capabilities:
            self._client.sasl_login("LOGIN", _answers(login, password))
        elif b"LOGINDISABLED" not in self.capabilities and (login + password).isascii():
            self._client.login(login, password)
        else:
            raise NoMethod(self._methods())

    def _methods(self) -> str:
        methods = sorted(one[5:].decode("ascii", "replace") for one in self.capabilities if one.startswith(b"AUTH="))
        return ", ".join(methods)[:200]

    def _raise_fault(self, error: imaplib.IMAP4.error) -> None:
        """Raise the failure of the connection that imaplib reports as a refusal."""
        if self.connection.attempt.fault is not None:
            raise self.connection.attempt.fault from None
        if isinstance(error, imaplib.IMAP4.abort) or isinstance(error.__context__, imaplib.IMAP4.abort):
            raise NotImap from None  # or a goodbye

    def _tolerated(self, command: Callable[[], Any]) -> Any:  # noqa: ANN401  the result of the command
        """The result of a command that the server may refuse; None then."""
        try:
            return command()
        except imaplib.IMAP4.error as error:
            self._raise_fault(error)
            return None

    def _required(self, command: Callable[[], Any]) -> Any:  # noqa: ANN401  the result of the command
        """The result of a command. Raises CommandRefused."""
        try:
            return command()
        except imaplib.IMAP4.error as error:
            self._raise_fault(error)
            raise CommandRefused(answer_of(str(error))) from None

    def _folders_with_use(self) -> list[Folder]:
        if b"SPECIAL-USE" in self.capabilities:
            if b"LIST-EXTENDED" in self.capabilities:
                return _folders(parse_response(self._required(self.connection.special_folders)))
            return self._list(b"*")
        if b"XLIST" in self.capabilities:
            return _folders_of(self._tolerated(lambda: self._client.xlist_folders(b"", b"%")) or ())
        return []

    def _list(self, pattern: bytes) -> list[Folder]:
        return _folders_of(self._required(lambda: self._client.list_folders(b"", pattern)))

    def _list_below(self, prefixes: Sequence[bytes]) -> list[Folder]:
        """The folders at the top, and those directly below the prefixes."""
        return [folder for prefix in dict.fromkeys((b"", *prefixes)) for folder in self._list(prefix + b"%")]

    def _prefixes(self) -> Sequence[bytes]:
        """The prefixes of the mailbox's own folders, the usual one first."""
        spaces = self._required(self._client.namespace) if b"NAMESPACE" in self.capabilities else None
        named = spaces.personal if spaces is not None else None
        found = [prefix for prefix, _ in named or () if isinstance(prefix, bytes) and _is_prefix(prefix)]
        self._names_namespace = bool(found)
        return found or _USUAL_PREFIXES

    def _new_folder(self, name: str, prefixes: Sequence[bytes], listed: Sequence[Folder]) -> Target:
        prefix = prefixes[0] if self._names_namespace else own_prefix(prefixes[1:], listed)
        return Target(with_prefix(name, prefix), exists=False, special=False)

    def _named_folder(self, wanted: str) -> Target:
        prefixes = self._prefixes()
        for name in dict.fromkeys((encode_name(wanted), *(with_prefix(wanted, prefix) for prefix in prefixes))):
            for folder in self._list(name):
                if folder.name == name and folder.is_usable:
                    return Target(name, exists=True, special=b"\\sent" in folder.flags)
        return self._new_folder(wanted, prefixes, () if self._names_namespace else self._list_below(prefixes))


def forms_of(login: str, secret: str) -> tuple[str, ...]:
    """The secret as a server may echo it."""
    plain = f"\0{login}\0{secret}"
    bearer = f"user={login}\x01auth=Bearer {secret}\x01\x01"
    return (secret, *(base64.b64encode(one.encode("utf-8")).decode("ascii") for one in (plain, bearer, secret)))


def _answers(*texts: str) -> Callable[[bytes], str]:
    """The answers to a server's challenges, in order; one challenge more is not IMAP."""
    left = iter(texts)

    def answer(_challenge: bytes) -> str:
        try:
            return next(left)
        except StopIteration:
            raise NotImap from None

    return answer


def _folders_of(listed: Iterable[tuple[Sequence[bytes], bytes | None, bytes | str]]) -> list[Folder]:
    """The folders in a list of IMAPClient, which makes a text of a name that is a number."""
    return [_folder(flags, delimiter, name) for flags, delimiter, name in listed]


def _folders(parsed: Sequence[Any]) -> list[Folder]:
    """The folders in a parsed answer."""
    return [_folder(*parsed[at : at + 3]) for at in range(0, len(parsed) - 2, 3)]


def _folder(flags: Sequence[Any], delimiter: bytes | None, name: object) -> Folder:
    raw = name if isinstance(name, bytes) else str(name).encode("ascii", "replace")
    known = frozenset(flag.lower() for flag in flags if isinstance(flag, bytes))
    return Folder(raw, delimiter.decode("ascii", "replace") if delimiter else None, known)


def _is_prefix(prefix: bytes) -> bool:
    return not prefix or is_quotable(prefix)
