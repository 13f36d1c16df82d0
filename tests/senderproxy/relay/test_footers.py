"""Footers through the relay: chosen by the author, added before re-encoding, with a note in the history."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from senderproxy.footer.footer import Footer, FooterTable
from senderproxy.listener.body import BodyBuffer, SpillDirectory
from senderproxy.mail.address import AddressPattern, parse_address, parse_pattern
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.submission import Client
from senderproxy.relay import content_changes
from senderproxy.relay.decide import Decision, MessageFacts, decide
from senderproxy.routing.author_policy import AuthorMap, AuthorPolicy, ForeignAuthorPolicy
from senderproxy.routing.provider import SenderRule
from senderproxy.simulator.observations import ReceivedMessage
from senderproxy.simulator.provider_replies import server_reply
from senderproxy.tracking.record import Query
from tests.senderproxy.relay.office import KUNDE, SETTINGS, RelayOffice, answering, relay_office

TEXT = "Firma GmbH · Köln\n{name} {address}"
MIME = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"


def table(*senders: str) -> FooterTable:
    patterns: tuple[AddressPattern, ...] = tuple(map(parse_pattern, senders))
    return FooterTable([Footer(patterns, TEXT)])


@asynccontextmanager
async def footed(folder: Path, *senders: str, **settings) -> AsyncIterator[RelayOffice]:
    async with relay_office(folder, **settings) as office:
        office.relay.rules = replace(office.rules, footers=table(*senders or ("@firma.example",)))
        yield office


def text_of(received: ReceivedMessage) -> str:
    payload = message_from_bytes(received.content).get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode().replace("\r\n", "\n")


async def notes(office: RelayOffice, message_id: str) -> list[str]:
    """The notes about the footer, one for each attempt that reached the provider."""
    await office.until(lambda: office.spool.find(Query(id=message_id), limit=1), "the message in the history")
    events = await office.spool.events(message_id)
    return [event.facts["footer"] for event in events if "footer" in event.facts]


@pytest.mark.parametrize("at", ["office", "devices"])
async def test_a_message_leaves_with_the_footer_of_its_author(tmp_path: Path, at: str) -> None:
    async with footed(tmp_path) as office:
        ident, answer = await office.submit(header=MIME, at=at)
        assert answer.code == 250
        await office.until(lambda: office.simulator.received, "the message")
        assert text_of(office.simulator.received[0]) == (
            "Guten Tag\n\nFirma GmbH · Köln\nanna@firma.example anna@firma.example\n"
        )
        await office.until_all_is_done()
        assert await notes(office, ident) == ["added"]


async def test_a_message_that_gets_none_has_the_reason_in_its_history(tmp_path: Path) -> None:
    async with footed(tmp_path) as office:
        ident, answer = await office.submit(header="List-Id: <liste.firma.example>\r\n")
        assert answer.code == 250
        assert text_of(office.simulator.received[0]) == "Guten Tag\n"
        assert await notes(office, ident) == ["it is mail of a mailing list (List- fields)"]


async def test_only_an_attempt_that_reached_the_provider_has_a_note(tmp_path: Path) -> None:
    settings = answering(SETTINGS, later=server_reply(450, "4.2.0 Greylisted"))
    async with footed(tmp_path, settings=settings) as office:
        ident, answer = await office.submit("later@kunde.example", "kunde@kunde.example", at="keeps", header=MIME)
        assert answer.code == 250
        assert await notes(office, ident) == ["added"]
        office.simulator.settings = SETTINGS
        await office.pass_time(hours=1)
        await office.until_all_is_done()
        assert await notes(office, ident) == ["added", "added"]
    assert all("Köln" in text_of(received) for received in office.simulator.received)


async def test_the_footer_is_re_encoded_with_its_message_for_a_server_without_8bitmime(tmp_path: Path) -> None:
    async with footed(tmp_path, settings=replace(SETTINGS, eight_bit_mime=False)) as office:
        ident, _ = await office.submit(header=MIME)
        [received] = office.simulator.received
        assert received.content.isascii()
        assert "Firma GmbH · Köln" in text_of(received)
        assert await notes(office, ident) == ["added"]


async def test_a_large_message_is_changed_from_file_to_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def unnamed_file():
        opened.append(real())
        return opened[-1]

    real = content_changes._unnamed_file
    monkeypatch.setattr(content_changes, "_unnamed_file", unnamed_file)
    body = BodyBuffer(100_000, SpillDirectory())
    for _ in range(1000):
        body.append(b"..Zeile\r\n" * 300)
    async with footed(tmp_path) as office:
        assert (await office.submit(header=MIME, body=body))[1].code == 250
        text = text_of(office.simulator.received[0])
        assert text.startswith(".Zeile\n" * 300_000 + "\nFirma GmbH")
        await office.until(lambda: [file.closed for file in opened] == [True], "the end of the file")


@pytest.mark.parametrize(
    ("by", "how", "footers"),
    [
        ("anna@firma.example", {}, 1),
        ("ANNA+shop@firma.example", {}, 1),
        ("bert@firma.example", {}, 0),
        ("root@server.local", {"path": "anna@firma.example"}, 1),  # [senders.map]
        ("kopierer@geraet.local", {"forced": "anna@firma.example"}, 1),
        ("fremd@anderswo.example", {"path": "anna@firma.example"}, 0),  # redirected by Anna
    ],
)
async def test_the_author_decides_about_the_footer(tmp_path: Path, by: str, how: dict[str, Any], footers: int) -> None:
    async with footed(tmp_path, "anna@firma.example") as office:
        rule = SenderRule.ADDRESS
        provider = replace(office.rules.providers["simulator"], sender_rule=rule, from_rule=rule)
        mapped = AuthorMap(exact={"root@server.local": parse_address("anna@firma.example")})
        policy = AuthorPolicy(foreign=ForeignAuthorPolicy.REWRITE, mapped=mapped)
        office.relay.rules = replace(office.rules, providers={"simulator": provider}, senders=policy)
        _, answer = await office.submit(by=by, header=MIME, **how)
        assert answer.code == 250, answer
        [received] = office.simulator.received
        assert text_of(received).count("Firma GmbH") == footers
        assert text_of(received).lower().count("anna@firma.example") >= footers  # the address that leaves


async def test_a_null_reverse_path_gets_none(tmp_path: Path) -> None:
    async with footed(tmp_path) as office:
        ident, _ = await office.submit(null_path=True, header=MIME)
        assert "Firma" not in text_of(office.simulator.received[0])
        [note] = await notes(office, ident)
        assert "null" in note


async def test_a_message_whose_author_has_no_footer_is_not_copied(tmp_path: Path) -> None:
    async with footed(tmp_path, "bert@firma.example") as office:
        ident, _ = await office.submit(header=MIME)
        assert text_of(office.simulator.received[0]) == "Guten Tag\n"
        assert await notes(office, ident) == []
        facts = MessageFacts(
            HeaderSection(b"From: anna@firma.example\r\n\r\n"),
            Envelope(parse_address("anna@firma.example"), (parse_address(KUNDE),)),
            Client("192.168.1.20", "pc", "ESMTP"),
            "id",
            office.clock.now(),
        )
        plans = []
        for footers in (None, table("bert@firma.example"), table("anna@firma.example")):
            decision = decide(facts, office.drawer.directory(), replace(office.rules, footers=footers))
            assert isinstance(decision, Decision)
            plans.append(decision.plan)
        assert [len(plan.content_changes) for plan in plans] == [0, 0, 1]


async def test_the_footer_comes_before_the_re_encoding_of_long_lines(tmp_path: Path) -> None:
    body = BodyBuffer(1_000_000, SpillDirectory())
    body.append(b"<p>" + b"x " * 2000 + b"</p>\r\n")
    async with footed(tmp_path) as office:
        assert (await office.submit(header=MIME.replace("plain", "html"), body=body))[1].code == 250
        [received] = office.simulator.received
        assert max(map(len, received.content.split(b"\r\n"))) <= 998
        assert (
            text_of(received)
            .rstrip("\n")
            .endswith("<p>Firma GmbH · Köln<br>\nanna@firma.example anna@firma.example</p>")
        )


async def test_an_internal_error_sends_the_message_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(footer: Footer, name: str, address: str) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("senderproxy.footer.insertion.render", fail)
    async with footed(tmp_path) as office:
        ident, _ = await office.submit(header=MIME)
        assert text_of(office.simulator.received[0]) == "Guten Tag\n"
        assert await notes(office, ident) == ["an internal error"]
