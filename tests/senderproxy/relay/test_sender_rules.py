"""Sender rules in the whole relay: the limit of automatic mail, reports, hints for strangers, the history."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from senderproxy.routing.author_policy import AuthorPolicy, ForeignAuthorPolicy
from senderproxy.routing.provider import SenderRule
from senderproxy.simulator.faults import Fault, FaultScript, FaultStage, ReplyWith
from senderproxy.simulator.provider_replies import UNKNOWN_USER, server_reply
from senderproxy.tracking.record import Query
from tests.senderproxy.relay.office import KUNDE, SETTINGS, RelayOffice, answering, relay_office

NOBODY = "nobody@kunde.example"
STRANGER = "alice@fremd.example"
REPORT = "Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n"
JOURNAL = "X-MS-Journal-Report:\r\n"
REWRITE = AuthorPolicy(foreign=ForeignAuthorPolicy.REWRITE, automatic_per_hour=2)


def _limited(office: RelayOffice, **more: Any) -> None:
    office.relay.rules = replace(office.rules, senders=replace(REWRITE, **more))


# ---- the limit of automatic mail ----


@pytest.mark.parametrize("header", [REPORT, JOURNAL])
async def test_a_report_or_journal_above_the_limit_is_left_to_the_client(tmp_path: Path, header: str) -> None:
    async with relay_office(tmp_path) as office:
        _limited(office)
        for code in (250, 250, 451, 451):
            message, result = await office.submit(null_path=True, header=header)
            assert result.code == code
        assert "To fix: look for two programs that answer each other" in result.text
        assert "automatic_per_hour" in result.text
        await office.until(lambda: office.spool.find(_by_id(message), limit=1), "the history")
        assert await office.statuses(message) == {KUNDE: "deferred"}
        [pair] = office.intake.limited_pairs()
        assert (pair.author, pair.recipient, pair.refused, pair.deferred) == ("anna@firma.example", KUNDE, 0, 2)
        await office.advance(3601)
        assert (await office.submit(null_path=True, header=header))[1].code == 250


@pytest.mark.parametrize("listener", ["devices", "keeps"])
async def test_a_report_above_the_limit_is_queued_until_it_may_be_sent(tmp_path: Path, listener: str) -> None:
    async with relay_office(tmp_path) as office:
        _limited(office)
        for number in range(5):
            message, result = await office.submit(null_path=True, header=REPORT, at=listener, text=f"Bericht {number}")
            assert result.code == 250
        await _until_received(office, 2)
        await _until_waiting(office, 3)
        [state] = (await office.record(message)).recipients.values()
        assert state.reply is not None
        assert "has sent kunde@kunde.example 2 automatic messages within an hour" in state.reply.text
        for hours, sent in ((0.9, 2), (0.2, 4), (1.0, 5)):
            await office.pass_time(hours=hours)
            await _until_received(office, sent)
        await office.until_all_is_done()


async def test_an_automatic_reply_above_the_limit_is_refused_and_counted(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        _limited(office)
        codes = [(await office.submit(header="Auto-Submitted: auto-replied\r\n"))[1].code for _ in range(4)]
        assert codes == [250, 250, 554, 554]
        [pair] = office.intake.limited_pairs()
        assert (pair.refused, pair.deferred, pair.limit) == (2, 0, 2)


# ---- the history ----


async def test_each_change_is_in_the_history_once(tmp_path: Path) -> None:
    busy = server_reply(450, "4.2.1 Mailbox busy")
    settings = answering(SETTINGS, nobody=UNKNOWN_USER, busy=busy)
    async with relay_office(tmp_path, settings) as office:
        changing = "Cc:\r\nSubject: twice\r\n"
        several = (KUNDE, NOBODY, "busy@kunde.example")
        for recipients, listener in (
            (several, "office"),
            (several, "devices"),
            ((KUNDE,), "office"),
            ((KUNDE,), "devices"),
        ):
            message, result = await office.submit(*recipients, at=listener, header=changing)
            assert result.code == 250
            await _until_attempted(office, message)
            changes = [
                dict(event.facts) for event in await office.spool.events(message) if event.kind.value == "changed"
            ]
            assert {change["what"] for change in changes} == {"Cc", "Subject"}
            assert len(changes) == len({tuple(change.items()) for change in changes})


async def test_the_changes_of_a_message_that_was_queued_without_an_account_are_recorded_later(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        rules = office.rules
        office.relay.rules = replace(rules, providers={})
        message, result = await office.submit(at="devices", header="Cc:\r\n")
        assert result.code == 250
        office.relay.rules = rules
        await office.pass_time(hours=1)
        await office.until_all_is_done()
        assert (await office.event_kinds(message)).count("changed") == 1


async def _until_attempted(office: RelayOffice, message: str) -> None:
    async def is_attempted() -> bool:
        return "attempted" in await office.event_kinds(message)

    await office.until(is_attempted, "an attempt")


async def _until_waiting(office: RelayOffice, count: int) -> None:
    async def is_waiting() -> bool:
        return await office.waiting() == count

    await office.until(is_waiting, f"{count} messages wait")


async def _until_received(office: RelayOffice, count: int) -> None:
    await office.until(lambda: len(office.simulator.received) == count, f"{count} messages at the provider")


def _by_id(message: str) -> Query:
    return Query(id=message)


# ---- reports ----


async def test_a_report_comes_from_a_neutral_address_where_the_rule_permits_it(tmp_path: Path) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, nobody=UNKNOWN_USER)) as office:
        await office.submit(KUNDE, NOBODY)
        await office.until(office.reports, "the report")
        [report] = office.reports()
        assert b"\r\nFrom: Mail Delivery System <mailer-daemon@firma.example>\r\n" in report.content
        assert (report.login, report.recipients) == ("anna@firma.example", ("anna@firma.example",))


@pytest.mark.parametrize(("bounces", "login"), [(None, "anna@firma.example"), ("bert", "bert@firma.example")])
async def test_under_the_rule_address_a_report_comes_from_the_bounce_account_if_there_is_one(
    tmp_path: Path, bounces: str | None, login: str
) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, nobody=UNKNOWN_USER)) as office:
        strict = replace(
            office.rules.providers["simulator"], sender_rule=SenderRule.ADDRESS, from_rule=SenderRule.ADDRESS
        )
        policy = AuthorPolicy(bounce_account=bounces)
        office.relay.rules = replace(office.rules, providers={"simulator": strict}, senders=policy)
        await office.submit(KUNDE, NOBODY)
        await office.until(office.reports, "the report")
        [report] = office.reports()
        assert f"\r\nFrom: Mail Delivery System <{login}>\r\n".encode() in report.content
        assert (report.login, report.recipients) == (login, ("anna@firma.example",))


@pytest.mark.parametrize(
    ("by", "reply_to", "reported_to"),
    [
        ("bert@firma.example", "", "bert@firma.example"),
        ("copier@printer.local", "Reply-To: Bert <bert@firma.example>\r\n", "bert@firma.example"),
        ("copier@printer.local", "Reply-To: x@fremd.example, carl@firma.example\r\n", "carl@firma.example"),
        ("copier@printer.local", "Reply-To: x@fremd.example\r\n", "anna@firma.example"),
        ("copier@printer.local", "Reply-To: Bert\r\n", "anna@firma.example"),
        ("copier@printer.local", "", "anna@firma.example"),
        ("alice@fremd.example", "", "anna@firma.example"),
    ],
)
async def test_the_report_on_a_devices_message_goes_to_its_reply_to_in_an_own_domain(
    tmp_path: Path, by: str, reply_to: str, reported_to: str
) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, nobody=UNKNOWN_USER)) as office:
        await office.submit(KUNDE, NOBODY, by=by, forced="anna@firma.example", header=reply_to)
        await office.until(office.reports, "the report")
        [report] = office.reports()
        assert report.recipients == (reported_to,)


async def test_the_reply_says_reported_only_if_there_is_a_report(tmp_path: Path) -> None:
    async with relay_office(tmp_path, answering(SETTINGS, nobody=UNKNOWN_USER)) as office:
        for null_path, text in (
            (True, "1 accepted, 1 refused ("),
            (False, "1 accepted, 1 refused and reported to the author"),
        ):
            _, result = await office.submit(KUNDE, NOBODY, null_path=null_path)
            assert text in result.text


# ---- hints ----


async def test_a_stranger_gets_no_hint_in_a_reply_of_ours_about_the_account(tmp_path: Path) -> None:
    wrong = FaultScript(Fault(FaultStage.AUTH, ReplyWith(server_reply(535, "Authentication credentials invalid"))))
    async with relay_office(tmp_path, script=wrong) as office:
        _limited(office)
        top = "Delivered-To: anna@firma.example\r\n"
        for path, has_hint in ((STRANGER, False), ("anna@firma.example", True)):
            _, result = await office.submit(by=STRANGER, path=path, header=top)
            assert result.is_transient
            assert ("senderproxy " in str(result)) is has_hint
            assert "Authentication credentials invalid" in str(result)
