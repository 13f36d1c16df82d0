"""Copies of messages that pass through a whole relay: which get one, what is in it, and what a failure leads to."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from senderproxy.footer.footer import Footer, FooterTable
from senderproxy.listener.body import BodyBuffer, SpillDirectory
from senderproxy.mail.address import parse_pattern
from senderproxy.mail.reply import reply
from senderproxy.relay.ports import NoToken, SpoolError
from senderproxy.routing.account import AccessToken, SentCopy
from senderproxy.routing.provider import ImapServer, Provider, Security
from senderproxy.sent_copy.copies import SentCopies
from senderproxy.sent_copy.ports import Copy, DelayKind, RefusalKind, Refused, TryLater
from senderproxy.sent_copy.runner import AT_ONCE, CopyRules, CopyRunner
from senderproxy.simulator.provider_replies import UNKNOWN_USER, server_reply
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from senderproxy.tracking.record import SENT_COPY_JOBS, EventKind
from tests.fakes.memory_folders import MemoryFolders
from tests.senderproxy.delivery.messages import smarthost_of
from tests.senderproxy.dkim.signing import ring, signing_key
from tests.senderproxy.relay.office import KUNDE, SETTINGS, RelayOffice, answering, relay_office
from tests.senderproxy.relay.routes import routes_office

IMAP = ImapServer("127.0.0.1", 993, Security.IMPLICIT_TLS)
MIME = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
LATER = TryLater(DelayKind.UNREACHABLE, "the server cannot be reached")
LOGIN = Refused(RefusalKind.LOGIN, "the password is wrong", "senderproxy account set-password anna")
FULL = Refused(RefusalKind.OVER_QUOTA, "the mailbox is full")


class CopyOffice:
    """An office whose account anna has copies."""

    def __init__(self, office: RelayOffice) -> None:
        self.office = office
        self.folders = MemoryFolders()
        rules = office.relay.rules
        office.relay.rules = replace(
            rules, providers={name: replace(one, imap=IMAP) for name, one in rules.providers.items()}
        )
        self.edit("anna", sent_copy=SentCopy())
        self.start()

    def start(self) -> None:
        """Begin the work on copies, as the service does with each spool."""
        self.runner = CopyRunner(
            self.folders,
            self.office.drawer,
            self.office.drawer,
            self.office.relay.contents,
            lambda: CopyRules(self.office.relay.rules.providers, self.office.relay.rules.footers),
            self.office.clock,
        )
        self.office.intake.copies.on_copy = self.runner.stored
        self.office.runner.results.on_copy = self.runner.stored
        self.runner.use_spool(self.office.spool)

    async def stop(self) -> None:
        await self.runner.stop(5)

    async def restart(self) -> None:
        await self.stop()
        await self.office.restart()
        self.start()

    def edit(self, account: str, **more: Any) -> None:
        self.office.drawer.accounts[account] = replace(self.office.drawer.accounts[account], **more)

    async def until_stored(self, count: int) -> None:
        await self.office.until(lambda: len(self.folders.copies) >= count, f"{count} copies")
        await self.until_idle()

    async def until_idle(self) -> None:
        """Wait until nothing is being done, and no copy is due that is not blocked."""

        def is_idle() -> bool:
            return self.runner._look is None and not any(one.is_working for one in self.runner.lanes.values())

        await self.office.until(is_idle, "the copies are idle")

    async def pass_time(self, **span: float) -> None:
        await self.until_idle()
        await self.office.advance(timedelta(**span).total_seconds())
        self.runner._begin_look()
        await self.until_idle()

    async def history(self, message: str) -> list[dict[str, str]]:
        """The facts of the events about the copy."""
        events = await self.office.spool.events(message)
        return [dict(event.facts) for event in events if event.kind is EventKind.COPY]

    async def states(self, message: str) -> list[str]:
        return [facts["state"] for facts in await self.history(message)]

    async def waiting(self) -> int:
        return sum(one.count for one in await self.office.spool.job_totals())


@asynccontextmanager
async def copy_office(folder: Path, **settings: Any) -> AsyncIterator[CopyOffice]:
    async with relay_office(folder, **settings) as office:
        place = CopyOffice(office)
        try:
            yield place
        finally:
            await place.stop()


# ---- which messages get a copy, and what is in it ----


@pytest.mark.parametrize("at", ["office", "devices", "keeps"])
async def test_a_copy_is_what_the_provider_got(tmp_path: Path, at: str) -> None:
    async with copy_office(tmp_path) as place:
        message, answer = await place.office.submit(at=at, header="Bcc: geheim@kunde.example\r\n")
        assert answer.code == 250
        await place.until_stored(1)
        [received] = place.office.simulator.received
        [(login, copy, octets)] = place.folders.copies
        assert octets == received.content
        assert (login, copy.mark, copy.message_id) == ("anna@firma.example", message, "<Guten.Tag@x>")
        assert not copy.may_be_stored
        await place.office.until_all_is_done()
        assert await place.history(message) == [
            {"state": "waiting", "account": "anna"},
            {"state": "stored", "account": "anna", "folder": "Gesendet"},
        ]
        assert await place.waiting() == 0
        assert await place.office.spool.header(message) is None  # its content is gone
        assert await place.office.statuses(message) == {KUNDE: "delivered"}


@pytest.mark.parametrize("at", ["office", "devices"])
async def test_a_copy_has_the_footer_and_the_signature_that_left(tmp_path: Path, at: str) -> None:
    key = signing_key("firma.example")
    async with copy_office(tmp_path) as place:
        footers = FooterTable([Footer((parse_pattern("@firma.example"),), "Firma GmbH · Köln")])
        place.office.relay.rules = replace(place.office.rules, footers=footers)
        place.office.relay.dkim.ring = ring(key)
        place.folders.answers.append(LATER)
        await place.office.submit(at=at, header=MIME, text="Umlaute")
        await place.office.until(lambda: place.folders.attempts, "the first attempt")
        place.office.relay.dkim.ring = None  # the settings change while the copy waits
        place.office.relay.rules = replace(place.office.rules, footers=None)
        await place.pass_time(minutes=5)
        await place.until_stored(1)
        [received] = place.office.simulator.received
        assert place.folders.octets() == [received.content]
        assert received.content.startswith(b"DKIM-Signature:")
        assert "Firma GmbH · Köln" in message_from_bytes(received.content).get_payload(decode=True).decode()  # type: ignore[union-attr]


async def test_a_large_copy_comes_from_the_file_of_the_spool(tmp_path: Path) -> None:
    async with copy_office(tmp_path) as place:
        body = BodyBuffer(100_000, SpillDirectory())
        for _ in range(1000):
            body.append(b"..Zeile\r\n" * 300)
        footers = FooterTable([Footer((parse_pattern("@firma.example"),), "Firma GmbH")])
        place.office.relay.rules = replace(place.office.rules, footers=footers)
        await place.office.submit(body=body, header=MIME)
        await place.until_stored(1)
        [received] = place.office.simulator.received
        assert place.folders.octets() == [received.content]
        assert len(received.content) > 2_000_000


async def test_a_footer_that_is_too_large_for_the_job_comes_from_the_configuration(tmp_path: Path) -> None:
    picture = "".join(f"{number * 7919 % 99991:x}" for number in range(12_000))  # does not compress well
    footer = Footer((parse_pattern("@firma.example"),), "Firma GmbH", f"<p>Firma GmbH</p><img src='{picture}'>")
    html = "MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n"
    async with copy_office(tmp_path) as place:
        place.office.relay.rules = replace(place.office.rules, footers=FooterTable([footer]))
        message, _ = await place.office.submit(header=html)
        await place.until_stored(1)
        assert place.folders.octets() == [place.office.simulator.received[0].content]
        place.folders.answers.append(LATER)
        other, _ = await place.office.submit(header=html)
        await place.office.until(lambda: len(place.folders.attempts) == 2, "the attempt")
        place.office.relay.rules = replace(place.office.rules, footers=None)
        await place.pass_time(minutes=5)
        await place.until_stored(2)
        assert place.folders.octets()[1] != place.office.simulator.received[1].content
        assert "note" not in (await place.history(message))[-1]
        assert "is not the same, octet for octet" in (await place.history(other))[-1]["note"]


@pytest.mark.parametrize(
    ("more", "settings"),
    [
        ({"null_path": True}, replace(SETTINGS, null_reverse_path_accepted=True)),
        ({"by": "bert@firma.example"}, SETTINGS),
    ],
)
async def test_mail_without_a_return_path_and_of_other_accounts_gets_none(
    tmp_path: Path, more: dict[str, Any], settings: SimulatorSettings
) -> None:
    async with copy_office(tmp_path, settings=settings) as place:
        for at in ("office", "devices"):
            message, answer = await place.office.submit(at=at, **more)
            assert answer.code == 250
            await place.office.until_all_is_done()
            assert await place.states(message) == []
        assert await place.waiting() == 0


async def test_reports_get_none(tmp_path: Path) -> None:
    async with copy_office(tmp_path, settings=answering(SETTINGS, unknown=UNKNOWN_USER)) as place:
        await place.office.submit("unknown@kunde.example", at="devices")
        await place.office.until_reported(1)
        await place.office.until_all_is_done()
        assert place.folders.attempts == []


async def test_a_refused_message_gets_none(tmp_path: Path) -> None:
    async with copy_office(tmp_path, settings=answering(SETTINGS, unknown=UNKNOWN_USER)) as place:
        _, answer = await place.office.submit("unknown@kunde.example")
        assert answer.code == 550
        assert await place.waiting() == 0


async def test_only_the_named_authors_get_copies(tmp_path: Path) -> None:
    async with copy_office(tmp_path) as place:
        carries = (*place.office.drawer.accounts["anna"].carries, parse_pattern("@laden.example"))
        place.edit("anna", carries=carries, sent_copy=SentCopy("Kopien", (parse_pattern("chefin@laden.example"),)))
        place.office.use_provider(sender_rule="any") if hasattr(place.office, "use_provider") else None
        for by in ("chefin@laden.example", "anna@firma.example", "lehrling@laden.example"):
            await place.office.submit(by=by, text=by)
        await place.until_stored(1)
        [(_, copy, octets)] = place.folders.copies
        assert copy.folder == "Kopien"
        assert b"\r\nSubject: chefin@laden.example\r\n" in octets


# ---- one copy of one message ----


async def test_a_message_to_several_recipients_has_one_copy_however_many_attempts_it_takes(tmp_path: Path) -> None:
    settings = answering(SETTINGS, later=server_reply(450, "4.2.0 Greylisted"))
    async with copy_office(tmp_path, settings=settings) as place:
        for at in ("keeps", "devices"):
            message, answer = await place.office.submit("later@kunde.example", KUNDE, "dora@kunde.example", at=at)
            assert answer.code == 250
            await place.office.until(lambda: place.folders.copies, "the copy")
            place.office.simulator.settings = SETTINGS
            await place.office.pass_time(hours=1)
            await place.office.until_all_is_done()
            await place.until_idle()
            assert await place.states(message) == ["waiting", "stored"]
            assert len(place.folders.copies) == 1
            place.folders.copies.clear()
            place.office.simulator.settings = settings


async def test_the_copy_goes_to_the_account_also_if_its_fallback_or_a_route_sends(tmp_path: Path) -> None:
    reserve = {"reserve@firma.example": SETTINGS.mailboxes["anna@firma.example"]}
    async with copy_office(tmp_path) as place, Simulator(SimulatorSettings(mailboxes=reserve)) as second:
        rules = place.office.relay.rules
        provider = Provider("second", (smarthost_of(second),), imap=IMAP)
        place.office.relay.rules = replace(rules, providers={**rules.providers, "second": provider})
        place.office.drawer.add("reserve", "reserve@firma.example", "geheim-relay")
        place.edit("reserve", provider="second", sent_copy=SentCopy())
        place.edit("anna", fallback="reserve")
        await place.office.simulator.go_offline()
        message, answer = await place.office.submit()
        assert answer.code == 250
        await place.until_stored(1)
        [(login, _, octets)] = place.folders.copies
        assert (login, octets) == ("anna@firma.example", second.received[0].content)
        assert await place.states(message) == ["waiting", "stored"]


@pytest.mark.parametrize("at", ["office", "devices"])
async def test_a_message_by_several_ways_has_one_copy(tmp_path: Path, at: str) -> None:
    async with routes_office(tmp_path) as office:
        place = CopyOffice(office)
        try:
            office.route(("@intern.example", "internal"), ("@kunde.example", "relay"))
            message, _ = await office.submit("x@intern.example", KUNDE, "dora@other.example", at=at)
            await office.until_all_is_done()
            await office.until(lambda: place.folders.copies, "the copy")

            async def is_over() -> bool:
                return await place.waiting() == 0

            await office.until(is_over, "nothing waits, also of the way that was the last")
            assert len(place.folders.copies) == 1
            assert place.folders.copies[0][0] == "anna@firma.example"
            states = await place.states(message)
            assert states.count("stored") == 1
        finally:
            await place.stop()


# ---- what fails ----


async def test_a_copy_is_lost_and_the_client_hears_250_while_the_spool_cannot_be_written(tmp_path: Path) -> None:
    async with copy_office(tmp_path) as place:
        spool = place.office.spool

        class NoCommits:
            async def accept(self, *arrivals: Any, leased: bool = False) -> None:
                raise SpoolError("The disk is full.")

            note = spool.note

        place.office.use(NoCommits())  # type: ignore[arg-type]
        message, answer = await place.office.submit()
        assert answer.code == 250
        await place.office.until(lambda: spool.events(message), "the history")
        assert await place.history(message) == [
            {"state": "lost", "account": "anna", "why": "the spool could not be written"}
        ]
        assert (await place.office.statuses(message)) == {KUNDE: "delivered"}
        assert place.folders.attempts == []


async def test_a_failure_is_retried_with_growing_waits_and_named_once(tmp_path: Path) -> None:
    async with copy_office(tmp_path) as place:
        place.folders.always = LATER
        message, _ = await place.office.submit()
        await place.office.until(lambda: place.folders.attempts, "the first attempt")
        await place.until_idle()
        for minutes, attempts in ((0.5, 1), (0.6, 2), (1, 2), (1.1, 3)):
            await place.pass_time(minutes=minutes)
            assert len(place.folders.attempts) == attempts
        assert [copy.may_be_stored for _, copy in place.folders.attempts] == [False, True, True]
        assert await place.history(message) == [
            {"state": "waiting", "account": "anna"},
            {"state": "waiting", "account": "anna", "why": "the server cannot be reached"},
        ]
        place.folders.always = None
        await place.pass_time(minutes=10)
        await place.until_stored(1)
        assert (await place.states(message))[-1] == "stored"
        assert next(iter(place.runner.lanes.values())).trouble is None


async def test_after_two_days_every_copy_of_the_account_is_given_up_after_one_attempt(tmp_path: Path) -> None:
    async with copy_office(tmp_path) as place:
        place.folders.always = FULL
        old = [(await place.office.submit(text=f"alt {number}"))[0] for number in range(5)]
        await place.office.until(lambda: place.folders.attempts, "the first attempt")
        await place.pass_time(hours=47)
        young, _ = await place.office.submit(text="jung")
        await place.pass_time(hours=1)
        tried = len(place.folders.attempts)
        await place.pass_time(hours=1.5)
        for message in old:
            assert (await place.history(message))[-1] == {
                "state": "given_up", "account": "anna", "why": "the mailbox is full"
            }  # fmt: skip
        assert (await place.states(young))[-1] == "waiting"
        assert len(place.folders.attempts) == tried + 1
        assert await place.waiting() == 1
        [state] = place.runner.lanes.values()
        assert (state.given_up, state.given_up_why) == (5, "the mailbox is full")


async def test_a_refused_login_is_tried_again_after_an_hour_or_when_the_password_has_changed(tmp_path: Path) -> None:
    async with copy_office(tmp_path) as place:
        place.folders.always = LOGIN
        for number in range(3):
            await place.office.submit(text=f"Brief {number}")
        await place.office.until(lambda: place.folders.attempts, "the first attempt")
        await place.pass_time(minutes=59)
        assert len(place.folders.attempts) == 1
        await place.pass_time(minutes=30)
        assert len(place.folders.attempts) == 2
        place.folders.always = None
        place.runner.follow_accounts()  # nothing has changed
        await place.until_idle()
        assert len(place.folders.attempts) == 2
        place.office.drawer.set_password("anna", "geheim-relay")
        place.runner.follow_accounts()
        await place.until_stored(3)
        assert {octets.split(b"Subject: ")[1][:7] for octets in place.folders.octets()} == {
            b"Brief 0",
            b"Brief 1",
            b"Brief 2",
        }


@pytest.mark.parametrize("reason", ["password", "operator"])
async def test_a_failure_of_an_attempt_that_began_before_the_account_was_repaired_costs_no_wait(
    tmp_path: Path, reason: str
) -> None:
    async with copy_office(tmp_path) as place:
        place.folders.answers.append(LOGIN)
        place.folders.release = threading.Event()
        await place.office.submit()
        await place.office.until(lambda: place.folders.attempts, "the attempt")
        if reason == "password":
            place.office.drawer.set_password("anna", "geheim-relay")
            place.runner.follow_accounts()
        else:
            place.runner.wake("anna")
        place.folders.release.set()
        await place.until_stored(1)
        assert len(place.folders.attempts) == 2


async def test_a_copy_that_the_server_never_takes_is_given_up_and_stops_no_other(tmp_path: Path) -> None:
    async with copy_office(tmp_path) as place:
        place.folders.answers.append(Refused(RefusalKind.TOO_LARGE, "the server takes 1 MB"))
        message, _ = await place.office.submit(text="gross")
        await place.office.submit(text="klein")
        await place.until_stored(1)
        assert (await place.history(message))[-1] == {
            "state": "given_up", "account": "anna", "why": "the server takes 1 MB"
        }  # fmt: skip
        assert await place.waiting() == 0


async def test_an_internal_error_costs_a_copy_its_attempt_and_stops_no_other(tmp_path: Path) -> None:
    def fault(_copy: Copy) -> None:
        raise ZeroDivisionError

    async with copy_office(tmp_path) as place:
        place.folders.answers.append(fault)
        message, _ = await place.office.submit(text="erst")
        await place.office.submit(text="dann")
        await place.until_stored(1)
        assert (await place.history(message))[-1]["why"] == "an internal error"
        await place.pass_time(minutes=5)
        await place.until_stored(2)


async def test_an_account_without_copies_any_more_drops_those_that_wait(tmp_path: Path) -> None:
    async with copy_office(tmp_path) as place:
        place.folders.always = FULL
        message, _ = await place.office.submit()
        await place.office.until(lambda: place.folders.attempts, "the first attempt")
        await place.until_idle()
        place.edit("anna", sent_copy=None)
        place.runner.follow_accounts()
        await place.until_idle()
        assert (await place.states(message))[-1] == "dropped"
        assert await place.waiting() == 0


async def test_an_access_token_that_is_refused_is_replaced_once(tmp_path: Path) -> None:
    async with copy_office(tmp_path) as place:
        drawer = place.office.drawer
        place.folders.answers.append(LOGIN)
        message, _ = await place.office.submit()
        await place.office.until(lambda: place.folders.attempts, "the attempt with the password")
        await place.until_idle()
        drawer.set_grant("anna", "grant 1")
        drawer.tokens["anna"], drawer.renewed["anna"] = AccessToken("alt"), AccessToken("neu")
        place.folders.answers.append(LOGIN)
        place.runner.follow_accounts()
        await place.until_stored(1)
        assert place.folders.secrets == ["geheim-relay", "alt", "neu"]
        assert (await place.states(message))[-1] == "stored"


@pytest.mark.parametrize(
    ("missing", "kind"),
    [
        (NoToken(reply(535, "5.7.8", "The consent was withdrawn"), needs_person=True, hint="consent"), "login"),
        (NoToken(reply(451, "4.7.0", "No connection"), needs_person=False), "unreachable"),
    ],
)
async def test_a_copy_waits_without_an_access_token(tmp_path: Path, missing: NoToken, kind: str) -> None:
    async with copy_office(tmp_path) as place:
        place.folders.answers.append(FULL)
        message, _ = await place.office.submit()
        await place.office.until(lambda: place.folders.attempts, "the attempt with the password")
        await place.until_idle()
        place.office.drawer.set_grant("anna", "grant 1")
        place.office.drawer.tokens["anna"] = missing
        place.runner.follow_accounts()
        await place.office.until(lambda: "anna" in place.office.drawer.asked_for_token, "the token")
        await place.until_idle()
        assert (await place.history(message))[-1]["why"] == missing.reply.text
        [state] = place.runner.lanes.values()
        assert state.trouble is not None
        assert (state.trouble.kind, state.trouble.hint) == (kind, missing.hint)


async def test_a_restart_repeats_a_copy_with_a_search_first(tmp_path: Path) -> None:
    def stored_unheard(copy: Copy) -> TryLater:
        place.folders.keep("anna@firma.example", copy)
        return replace(LATER, may_be_stored=True)

    async with copy_office(tmp_path) as place:
        place.folders.answers.append(stored_unheard)
        message, _ = await place.office.submit()
        await place.office.until(lambda: place.folders.attempts, "the first attempt")
        await place.until_idle()
        await place.restart()
        await place.office.until(lambda: len(place.folders.attempts) == 2, "the second attempt")
        await place.until_idle()
        assert len(place.folders.copies) == 1
        assert place.folders.attempts[1][1].may_be_stored
        assert (await place.states(message))[-1] == "stored"


async def test_a_stop_between_claim_and_attempt_is_no_failure_of_the_copy(tmp_path: Path) -> None:
    async with copy_office(tmp_path) as place:
        claim_jobs, stops = place.office.spool.claim_jobs, list[asyncio.Task[None]]()

        async def claim_and_stop(*which: Any) -> Any:
            claims = await claim_jobs(*which)
            if claims:
                stops.append(asyncio.create_task(place.runner.stop(5)))
                await asyncio.sleep(0)  # the stop begins
            return claims

        place.office.spool.claim_jobs = claim_and_stop  # type: ignore[method-assign, assignment]
        message, _ = await place.office.submit()
        await place.office.until(lambda: stops, "the stop")
        await stops[0]
        assert place.folders.attempts == []
        assert await place.history(message) == [{"state": "waiting", "account": "anna"}]
        await place.restart()
        await place.until_stored(1)
        assert await place.states(message) == ["waiting", "stored"]


async def test_a_copy_in_progress_delays_neither_mail_nor_the_stop(tmp_path: Path) -> None:
    async with copy_office(tmp_path) as place:
        place.folders.release = threading.Event()
        await place.office.submit(text="erst")
        await place.office.until(lambda: place.folders.attempts, "the attempt")
        async with asyncio.timeout(25):  # the copy in progress would take longer
            assert (await place.office.submit(text="dann"))[1].code == 250
            await place.runner.stop(0.05)
        place.folders.release.set()
        place.start()
        await place.office.until(lambda: len(place.folders.attempts) >= 2, "the other one")


async def test_a_drain_waits_for_copies_that_are_due_and_not_for_those_of_later(tmp_path: Path) -> None:
    async with copy_office(tmp_path) as place:
        assert place.runner.under_way == 0
        place.folders.release = threading.Event()
        await place.office.submit()
        await place.office.until(lambda: place.folders.attempts, "the attempt")
        assert place.runner.under_way == 1
        place.folders.release.set()
        await place.until_stored(1)
        assert place.runner.under_way == 0
        place.folders.answers.append(LATER)
        await place.office.submit()
        await place.office.until(lambda: len(place.folders.attempts) == 2, "the second one")
        await place.until_idle()
        assert (await place.waiting(), place.runner.under_way) == (1, 0)
        await place.office.advance(timedelta(days=1).total_seconds())
        assert place.runner.under_way == 1


async def test_few_copies_are_stored_at_once_and_one_of_an_account(tmp_path: Path) -> None:
    async with copy_office(tmp_path) as place:
        for number in range(8):
            place.office.drawer.add(f"p{number}", f"p{number}@firma.example", "geheim-relay")
            place.edit(f"p{number}", sent_copy=SentCopy())
        mailboxes = {f"p{number}@firma.example": SETTINGS.mailboxes["anna@firma.example"] for number in range(8)}
        place.office.simulator.settings = replace(SETTINGS, mailboxes={**SETTINGS.mailboxes, **mailboxes})
        place.folders.release = threading.Event()
        for number in range(8):
            for _ in range(2):
                await place.office.submit(by=f"p{number}@firma.example")
        await place.office.until(lambda: place.folders.busy == AT_ONCE, "as many as may be")
        place.folders.release.set()
        await place.until_stored(16)
        assert place.folders.most_busy == AT_ONCE


async def test_a_service_without_copies_loads_nothing_of_them(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        copies = SentCopies(
            office.drawer, office.drawer, office.relay.contents, lambda: office.relay.rules, office.clock
        )
        copies.load_if_needed()
        copies.use_spool(office.spool)
        copies.follow_accounts()
        await office.submit()
        await copies.stop(1)
        assert copies._runner is None
        assert await office.spool.due_jobs(SENT_COPY_JOBS) == {}
        assert copies.status() == {"waiting": 0, "accounts": []}
