"""Copies in the Sent folder: Postfix as the provider, Dovecot as the mailbox, and the service between them."""

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path

import pytest

from senderproxy.accounts.dkim_key import new_dkim_key
from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.unlock import unlock_method
from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.domain_records.own_key_history import OwnKeyHistory
from senderproxy.learned import Instant
from senderproxy.service.dkim_watch import LEARNED_KIND, _fingerprint
from tests.peers.bench import Bench
from tests.peers.letters import hand_over
from tests.peers.mailbox import DovecotMailbox
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import LOOPBACK, private_folder, wait_until, why_not_here
from tests.peers.provider import Mailbox, PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy, VaultAccount

reason = why_not_here(POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA = "anna@firma.example"
SECRET = "geheim-anna"
SENT = "Gesendete Objekte"
MARK = re.compile(rb"\AX-Senderproxy-Copy: (\S+)\r\n")
FOOTERS = '[[footers]]\nsenders = ["@firma.example"]\ntext = "Firma GmbH · Köln"\n'
STORM = 60


class Way:
    """The service between clients and a provider, with the mailbox of its account."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.provider = bench.start(PostfixProvider([Mailbox(ANNA, SECRET)], Rule.ADDRESS))
        self.mailbox = bench.start(DovecotMailbox(folder, bench.port(), {SENT: "\\Sent"}))
        self.devices = bench.port()
        queue = f'[[listeners]]\nname = "devices"\naddress = "{LOOPBACK}:{self.devices}"\nmode = "queue"\n'
        self.relay = Senderproxy(
            [VaultAccount(ANNA, SECRET)], self.section(self.mailbox.port), more_settings=queue + FOOTERS
        )
        bench.start(self.relay)
        self.relay.command("account", "edit", ANNA, "--sent-copy")

    def section(self, imap: int) -> str:
        return f"""
host = "localhost"
port = {self.provider.starttls_port}
security = "starttls"
ca_file = "{self.provider.authority.ca_file}"
sender_rule = "address"
imap_host = "127.0.0.1"
imap_port = {imap}
imap_security = "none"
"""

    def send(self, number: int, *, port: int | None = None) -> None:
        code, answer = hand_over(port or self.relay.port, ANNA, "kunde@kunde.test", letter(number))
        assert code == 250, answer

    def until_received(self, count: int) -> None:
        self.provider.wait_until(lambda: len(self.provider.received()) == count, f"{count} messages")

    def until_settled(self) -> None:
        """Wait until the spool has the result of each attempt: a crash before that sends the message again."""

        def unfinished() -> int:
            path = self.relay.folder / "spool" / "spool.db"
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as spool:
                open_ones = "SELECT count(*) FROM message WHERE finished_at IS NULL"
                return int(spool.execute(f"SELECT ({open_ones}) + (SELECT count(*) FROM new_message)").fetchone()[0])

        wait_until(lambda: not unfinished(), "the results are stored", peer=self.relay)

    def until_stored(self, count: int) -> list[bytes]:
        """The copies without the field of their mark, as soon as there are so many."""
        wait_until(lambda: len(self.mailbox.messages(SENT)) >= count, f"{count} copies", 120, peer=self.relay)
        found = self.mailbox.messages(SENT)
        assert {each.flags for each in found} == {"S"}
        contents = [each.content.replace(b"\n", b"\r\n") for each in found]  # as it stores line ends
        marks = [MARK.match(content) for content in contents]
        assert len({mark[1] for mark in marks if mark}) == len(contents)
        return [content[mark.end() :] for content, mark in zip(contents, marks, strict=True) if mark]

    def assert_equal(self, count: int) -> None:
        """Each message that the provider has got is in the folder, octet by octet, and nothing else."""
        copies = sorted(self.until_stored(count), key=message_number)
        received = sorted((each.content for each in self.provider.received()), key=message_number)
        assert len(copies) == len(received) == count
        assert copies == received


def letter(number: int) -> bytes:
    return (
        f"From: Anna <{ANNA}>\r\nTo: kunde@kunde.test\r\nSubject: Angebot {number}\r\n"
        f"Message-ID: <{number}@firma.example>\r\nDate: Mon, 23 Nov 2026 09:00:00 +0100\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        "Grüße\r\n.\r\n..zwei Punkte\r\n"
    ).encode()


def message_number(content: bytes) -> int:
    found = re.search(rb"\r\nSubject: Angebot (\d+)\r\n", content)
    assert found is not None
    return int(found[1])


def sign(relay: Senderproxy) -> None:
    """Give the domain a key whose record the service has seen, as after a look at the DNS."""
    relay.stop()
    made = new_dkim_key("firma.example", "s1", datetime.now(UTC))
    with AccountEditor.open(
        relay.folder / "accounts.vault", unlock_method(f"key-file:{relay.folder / 'vault.key'}", None)
    ) as editor:
        editor.put_record(made.record)
        editor.save()
    now = datetime.now(UTC)
    fact = {**OwnKeyHistory(now, 0, now).fact(Instant(now, 0.0)), "key": _fingerprint(made.key)}
    with contextlib.closing(sqlite3.connect(relay.folder / "spool" / "spool.db")) as spool:
        row = (f"{LEARNED_KIND}/{made.key.name}", json.dumps(fact), int(now.timestamp() * 1000))
        spool.execute("INSERT INTO learned (key, value, updated_at) VALUES (?, ?, ?)", row)
        spool.commit()
    relay.start()


def decoded(content: bytes) -> str:
    payload = message_from_bytes(content).get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Of the mailbox; it is removed after the peers have ended."""
    with private_folder("mailbox") as made:
        yield made


def test_each_sent_message_is_in_the_folder_once_whatever_is_full_or_killed(folder: Path, bench: Bench) -> None:
    """One way for all steps: its start takes longer than they do."""
    way = Way(bench, folder)
    copies_equal_what_the_provider_got_with_footer_and_signature(way)
    a_full_mailbox_is_a_condition_and_no_copy_is_lost(way)
    no_copy_is_lost_or_doubled_while_mailbox_and_service_are_killed(way)


def copies_equal_what_the_provider_got_with_footer_and_signature(way: Way) -> None:
    assert f"copies in the folder {SENT}" in way.relay.command("account", "verify", ANNA)
    way.send(1)
    way.send(2, port=way.devices)
    way.until_received(2)  # else it would leave after the stop, with a signature
    sign(way.relay)
    way.send(3)
    way.send(4, port=way.devices)
    way.assert_equal(4)
    copies = {message_number(content): content for content in way.until_stored(4)}
    assert all("Firma GmbH · Köln" in decoded(content) for content in copies.values())
    signed = [content.startswith(b"DKIM-Signature: ") for _, content in sorted(copies.items())]
    assert signed == [False, False, True, True]
    stored = f"copy stored in the folder {SENT}"

    way.relay.tracked("--to", "kunde@kunde.test", text=stored, count=4)


def a_full_mailbox_is_a_condition_and_no_copy_is_lost(way: Way) -> None:
    way.mailbox.change_quota(1)
    way.send(5)
    way.send(6, port=way.devices)
    way.relay.wait_for_log("the Sent folder waits")

    def has_condition() -> bool:
        answer = ask(way.relay.folder / "control", new_request(Verb.CONDITIONS))
        return any(one["key"] == "sent_copy_waiting" for one in answer["conditions"])

    wait_until(has_condition, "the condition", peer=way.relay)
    two = "2 copies for the Sent folder"
    wait_until(lambda: two in way.relay.command("queue"), two, peer=way.relay)
    way.mailbox.change_quota(None)
    way.relay.resume_accounts()  # it is tried at once
    way.assert_equal(6)


def no_copy_is_lost_or_doubled_while_mailbox_and_service_are_killed(way: Way) -> None:
    sent = 6
    for kill in ("mailbox", "service", "mailbox and service"):
        numbers = range(sent + 1, sent + 1 + STORM // 3)
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(lambda number: way.send(number, port=(None, way.devices)[number % 2]), numbers))
        sent += len(numbers)
        way.until_received(sent)
        way.until_settled()  # from here no copy may be lost
        if "mailbox" in kill:
            way.mailbox.stop()
        if "service" in kill:
            way.relay.kill()
        if "mailbox" in kill:
            way.mailbox.start()
        if "service" in kill:
            # Dovecot may store what the service sent last, and the search after the start would come too early.
            wait_until(way.mailbox.is_left, "the connections of the killed service have ended", peer=way.mailbox)
            way.relay.start()
        way.relay.resume_accounts()
        way.assert_equal(sent)
    wait_until(lambda: "Sent folder" not in way.relay.command("queue"), "no copy waits", peer=way.relay)
