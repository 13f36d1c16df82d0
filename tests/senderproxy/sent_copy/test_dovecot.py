"""Copies in a real mailbox: Dovecot with German folders, with none, and with a quota."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from senderproxy.routing.account import Credential
from senderproxy.routing.provider import ImapServer, Security
from senderproxy.sent_copy.ports import AlreadyThere, FoundFolder, RefusalKind, Refused, Stored, TryLater
from tests.peers.mailbox import LOGIN, DovecotMailbox
from tests.peers.process import LOOPBACK, private_folder, reserved_ports
from tests.senderproxy.sent_copy.mailbox import FOLDERS, MESSAGE, PASSWORD_LOGIN, SENT_AT, copy, stored

pytestmark = pytest.mark.slow


@contextmanager
def mailbox(folders: Mapping[str, str], **settings: Any) -> Iterator[tuple[DovecotMailbox, ImapServer]]:
    with (
        private_folder("sent-copy") as folder,
        reserved_ports(1) as [port],
        DovecotMailbox(folder, port, folders, **settings) as server,
    ):
        yield server, ImapServer(LOOPBACK, port, Security.NONE)


@pytest.mark.parametrize(
    ("folders", "prefix", "found", "raw"),
    [
        ({"Gesendete Elemente": "\\Sent", "Sent": ""}, "", "Gesendete Elemente", "Gesendete Elemente"),
        ({"Übermittelt": "\\Sent", "Gesendet": ""}, "", "Übermittelt", "&ANw-bermittelt"),
        ({"INBOX.Gesendet": "\\Sent"}, "INBOX.", "INBOX.Gesendet", "Gesendet"),
        ({"Gesendete Objekte": "", "Entwürfe": ""}, "", "Gesendete Objekte", "Gesendete Objekte"),
        ({"INBOX.Sent Items": ""}, "INBOX.", "INBOX.Sent Items", "Sent Items"),
    ],
)
def test_the_copy_is_in_the_folder_for_sent_mail_once(
    folders: dict[str, str], prefix: str, found: str, raw: str
) -> None:
    names = {name.removeprefix(prefix): use for name, use in folders.items()}
    with mailbox(names, prefix=prefix) as (server, address):
        special = "\\Sent" in folders.values()
        assert FOLDERS.find_folder(address, PASSWORD_LOGIN) == FoundFolder(found, exists=True, special=special)
        assert FOLDERS.append_copy(address, PASSWORD_LOGIN, copy()) == Stored(found), server.log()
        assert FOLDERS.append_copy(address, PASSWORD_LOGIN, copy(again=True)) == AlreadyThere(found)
        resent = copy(mark="mark-2", again=True)
        assert FOLDERS.append_copy(address, PASSWORD_LOGIN, resent) == Stored(found)
        messages = server.messages(raw)
    expected = [content.replace(b"\r\n", b"\n") for content in (stored(), stored(mark="mark-2"))]
    assert sorted(message.content for message in messages) == expected
    assert {(message.flags, message.date) for message in messages} == {("S", SENT_AT)}


@pytest.mark.parametrize("prefix", ["", "INBOX."])
def test_a_mailbox_without_a_folder_for_sent_mail_gets_one(prefix: str) -> None:
    with mailbox({"Entwürfe": "\\Drafts"}, prefix=prefix) as (server, address):
        created = f"{prefix}Sent"
        assert FOLDERS.find_folder(address, PASSWORD_LOGIN) == FoundFolder(created, exists=False, special=False)
        assert FOLDERS.append_copy(address, PASSWORD_LOGIN, copy()) == Stored(created, created=True), server.log()
        assert FOLDERS.append_copy(address, PASSWORD_LOGIN, copy(again=True)) == AlreadyThere(created)
        assert len(server.messages("Sent")) == 1
        assert server.subscribed() == ["Sent"]


def test_a_named_folder_is_created_with_its_umlauts() -> None:
    with mailbox({"Gesendet": "\\Sent"}) as (server, address):
        assert FOLDERS.append_copy(address, PASSWORD_LOGIN, copy(folder="Büro.Übermittelt")) == Stored(
            "Büro.Übermittelt", created=True
        )
        assert len(server.messages("B&APw-ro.&ANw-bermittelt")) == 1
        assert server.messages("Gesendet") == []


def test_a_full_mailbox_says_so_and_takes_the_copy_later() -> None:
    with mailbox({"Gesendet": "\\Sent"}, quota_kilobytes=100) as (server, address):
        large = copy(MESSAGE + b"x" * 200_000 + b"\r\n")
        for _ in range(2):
            result = FOLDERS.append_copy(address, PASSWORD_LOGIN, large)
            assert isinstance(result, Refused), server.log()
            assert (result.kind, result.is_final) == (RefusalKind.OVER_QUOTA, False)
            assert result.server_text.startswith("[OVERQUOTA]")
        assert server.messages("Gesendet") == []
        assert FOLDERS.append_copy(address, PASSWORD_LOGIN, copy()) == Stored("Gesendet")


def test_a_wrong_password_and_a_server_that_is_away() -> None:
    with mailbox({"Gesendet": "\\Sent"}) as (server, address):
        result = FOLDERS.append_copy(address, Credential(LOGIN, "geheim-falsch", "1"), copy())
        assert isinstance(result, Refused)
        assert (result.kind, result.server_text[:22]) == (RefusalKind.LOGIN, "[AUTHENTICATIONFAILED]")
        server.stop()
        assert isinstance(FOLDERS.append_copy(address, PASSWORD_LOGIN, copy()), TryLater)
        server.start()
        assert FOLDERS.append_copy(address, PASSWORD_LOGIN, copy()) == Stored("Gesendet")


def test_25_megabytes_arrive_as_they_are() -> None:
    lines = b"".join(hashlib.sha256(b"%d" % number).hexdigest().encode() + b"\r\n" for number in range(400_000))
    content = MESSAGE + lines
    with mailbox({"Gesendet": "\\Sent"}) as (server, address):
        assert FOLDERS.append_copy(address, PASSWORD_LOGIN, copy(content)) == Stored("Gesendet")
        [message] = server.messages("Gesendet")
    assert message.content == stored(content).replace(b"\r\n", b"\n")
