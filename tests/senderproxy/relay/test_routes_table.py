"""Each recipient goes its own way, with its own outcome: routes x faults x messages x modes, against a simple oracle."""

import itertools
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from senderproxy.mail.reply import Reply
from senderproxy.simulator.certificates import Authority
from senderproxy.simulator.faults import Drop, Fault, FaultScript, FaultStage
from senderproxy.simulator.provider_replies import server_reply
from senderproxy.tracking.record import Query
from tests.senderproxy.relay.office import SETTINGS
from tests.senderproxy.relay.routes import OPEN, RoutesOffice, routes_office

KUNDE, CHEF, FRIEND = "kunde@kunde.example", "chef@kunde.example", "freund@elsewhere.example"
RECIPIENTS = (KUNDE, CHEF, FRIEND)

# The ways of the three recipients are written by hand: the oracle does not look up routes.
ROUTES = {
    "none": ((), ("account", "account", "account")),
    "a domain by the smarthost": ((("@kunde.example", "relay"),), ("relay", "relay", "account")),
    "a domain by the internal server": ((("@kunde.example", "internal"),), ("internal", "internal", "account")),
    "a domain by another account": ((("@kunde.example", "account bert"),), ("bert", "bert", "account")),
    "all by the smarthost": ((("*", "relay"),), ("relay", "relay", "relay")),
    "one, then its domain": (
        (("chef@kunde.example", "internal"), ("@kunde.example", "relay")),
        ("relay", "internal", "account"),
    ),
    "one to its account, the others away": (
        (("freund@elsewhere.example", "account anna"), ("*", "internal")),
        ("internal", "internal", "account"),
    ),
}
FAULTS = ("none", "servers down", "servers refuse", "servers defer", "reply lost", "password refused")
MESSAGES = ("letter", "bounce", "foreign author")
MODES = ("office", "devices")  # pass-through and queue


class Case(NamedTuple):
    routes: str
    fault: str
    message: str
    mode: str


CASES = [Case(*case) for case in itertools.product(ROUTES, FAULTS, MESSAGES, MODES)]


@cache
def authority() -> Authority:
    return Authority.create(datetime.now(UTC))


# ---- the oracle ----


def expected_ways(case: Case) -> dict[str, str]:
    return dict(zip(RECIPIENTS, ROUTES[case.routes][1], strict=True))


def expected_outcomes(case: Case) -> dict[str, str]:
    """The outcome of each recipient in the first attempt."""

    def outcome(way: str) -> str:
        if way in ("relay", "internal"):
            faults = {"servers down": "deferred", "servers refuse": "failed", "servers defer": "deferred"}
            return {**faults, "reply lost": "deferred"}.get(case.fault, "delivered")
        return "deferred" if case.fault == "password refused" else "delivered"

    if case.message == "foreign author":
        return dict.fromkeys(RECIPIENTS, "refused")
    return {path: outcome(way) for path, way in expected_ways(case).items()}


def expected_receipts(case: Case) -> Counter[tuple[str, str]]:
    """(server, recipient) of each copy. A server whose reply is lost has the message."""
    receipts: Counter[tuple[str, str]] = Counter()
    for path, outcome in expected_outcomes(case).items():
        way = expected_ways(case)[path]
        server = "account" if way == "bert" else way
        if outcome == "delivered" or (outcome == "deferred" and case.fault == "reply lost" and server != "account"):
            receipts[server, path] += 1
    return receipts


def expected_reply(case: Case) -> int:
    outcomes = set(expected_outcomes(case).values())
    if outcomes == {"refused"}:
        return 550
    if case.mode == "devices" or len(outcomes) > 1:
        return 250
    deferral = 450 if case.fault == "servers defer" else 451  # the server's own code, if it has replied
    return {"delivered": 250, "failed": 550, "deferred": deferral}[outcomes.pop()]


def expected_statuses(case: Case) -> dict[str, str]:
    outcomes = expected_outcomes(case)
    if set(outcomes.values()) == {"refused"}:
        return dict.fromkeys(RECIPIENTS, "failed")
    left_to_client = case.mode == "office" and set(outcomes.values()) == {"deferred"}
    return {path: each if each != "deferred" or left_to_client else "waiting" for path, each in outcomes.items()}


def expected_reports(case: Case) -> int:
    outcomes = list(expected_outcomes(case).values())
    if case.message == "bounce" or "failed" not in outcomes or expected_reply(case) != 250:
        return 0
    refusing = {way for path, way in expected_ways(case).items() if expected_outcomes(case)[path] == "failed"}
    return len(refusing) if case.mode == "devices" else 1  # by anna's account; queued mail is tried lane by lane


def expected_logins(case: Case) -> set[str]:
    ways = {way for path, way in expected_ways(case).items() if expected_outcomes(case)[path] != "refused"}
    logins = {{"account": "anna"}.get(way, way) for way in ways if way in ("account", "bert")}
    if expected_reports(case):
        logins.add("anna")
    return {f"{name}@firma.example" for name in logins}


# ---- the relay ----


def settings_of(case: Case) -> dict[str, object]:
    refusal = {
        "servers refuse": server_reply(550, "5.1.1 no such user"),
        "servers defer": server_reply(450, "4.2.1 later"),
    }
    if case.fault not in refusal:
        return {"relay": OPEN, "internal": OPEN}
    replies = dict.fromkeys(("@kunde.example", "@elsewhere.example"), refusal[case.fault])
    server = replace(OPEN, recipient_replies=replies)
    return {"relay": server, "internal": server}


async def submit(office: RoutesOffice, case: Case) -> tuple[str, Reply]:
    if case.message == "foreign author":
        return await office.submit(*RECIPIENTS, by="fremd@fremd.example", at=case.mode)
    return await office.submit(*RECIPIENTS, at=case.mode, null_path=case.message == "bounce")


@pytest.mark.parametrize("case", CASES, ids=lambda case: ", ".join(case))
async def test_each_recipient_goes_its_own_way(case: Case, tmp_path: Path) -> None:
    lost = [FaultScript(Fault(FaultStage.DOT, Drop(after_storing=True))) for _ in range(2)]
    scripts = (None, *lost) if case.fault == "reply lost" else (None, None, None)
    async with routes_office(
        tmp_path,
        *ROUTES[case.routes][0],
        settings=SETTINGS,
        scripts=scripts,
        authority=authority(),
        **settings_of(case),  # type: ignore[arg-type]
    ) as office:
        if case.fault == "servers down":
            await office.relay_host.go_offline()
            await office.internal_host.go_offline()
        if case.fault == "password refused":
            for name in ("anna", "bert"):
                office.drawer.set_password(name, "falsch")
        message_id, reply = await submit(office, case)
        assert reply.code == expected_reply(case), reply

        async def is_attempted() -> bool:
            found = await office.spool.find(Query(id=message_id), limit=2)  # a history is written soon
            states = [state for record in found for state in record.recipients.values()]
            return bool(states) and all(state.status.is_final or state.reply is not None for state in states)

        await office.until(is_attempted, "each recipient was tried")
        await office.until(lambda: len(office.reports()) == expected_reports(case), "the author's report")
        assert await office.statuses(message_id) == expected_statuses(case)
        receipts = Counter((server, path) for server in office.servers for path in office.received(server))
        assert receipts == expected_receipts(case)
        assert {login.login for login in office.simulator.logins()} == expected_logins(case)
        assert not office.relay_host.logins()
        assert not office.internal_host.logins()
        paths = {each.reverse_path for name in ("relay", "internal") for each in office.servers[name].received}
        assert paths <= {"" if case.message == "bounce" else "anna@firma.example"}
        record = await office.record(message_id)
        lanes = {str(path): str(lane) for path, lane in record.lanes.items()}
        away = {path: way for path, way in expected_ways(case).items() if way != "account" and path in lanes}
        assert {path: lane.split(":")[0] for path, lane in lanes.items()} == {
            path: {"relay": "smarthost", "bert": "account"}.get(way, way) for path, way in away.items()
        }
        assert {path for path, status in expected_statuses(case).items() if status == "waiting"} & set(away) == set(
            lanes
        )


def test_the_table_has_cases_enough() -> None:
    assert len(CASES) >= 200
