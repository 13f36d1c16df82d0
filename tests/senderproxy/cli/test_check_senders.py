"""`senderproxy check --probe`: transactions that end before DATA, and the conclusions."""

from dataclasses import replace
from typing import Any

import pytest

from senderproxy.cli.check_senders import SenderKind, found_rule
from senderproxy.delivery.causes import Circumstances, Stage, cause_of
from senderproxy.delivery.login_check import SenderAnswer
from senderproxy.mail.address import NULL_PATH
from senderproxy.mail.reply import parse_reply
from senderproxy.routing.provider import SenderRule
from senderproxy.simulator.faults import Drop, Fault, FaultStage, ReplyWith
from senderproxy.simulator.provider_replies import IONOS, POSTFIX, server_reply
from senderproxy.simulator.rules import EnforcedAt, OwnershipRule
from tests.senderproxy.cli.conftest import Ended, Office
from tests.senderproxy.cli.pseudo_terminal import at_terminal

pytestmark = pytest.mark.usefixtures("served")

ANNA = "anna@firma.example"


def probe(office: Office, *words: str, **provider: Any) -> Ended:
    """Run a probe against a provider with these settings."""
    office.simulator.settings = replace(office.simulator.settings, **provider)
    office.add(ANNA)
    ended = office.type("check", "--probe", "--yes", *words)
    sessions = office.simulator.sessions
    assert len(office.simulator.logins()) == len(sessions) == 1, "one login, one session"
    assert not {"DATA", "BDAT"} & set(sessions[0].verbs), "no message"
    assert sessions[0].ended == "quit"
    assert office.simulator.received == []
    return ended


def findings_about(ended: Ended, what: str) -> list[str]:
    """The findings about a subject, each with its hint."""
    lines = ended.out.splitlines()
    found = [number for number, line in enumerate(lines) if f" {what}: " in line]
    return [
        " ".join(line.strip() for line in lines[number : number + 2] if line is lines[number] or "To fix: " in line)
        for number in found
    ]


@pytest.mark.parametrize("enforced_at", [EnforcedAt.MAIL, EnforcedAt.RCPT])
@pytest.mark.parametrize("replies", [IONOS, POSTFIX])
def test_the_configured_rule_is_confirmed(office: Office, enforced_at: EnforcedAt, replies: object) -> None:
    ended = probe(office, enforced_at=enforced_at, replies=replies)
    assert ended.code == 0, ended.out
    senders = findings_about(ended, f"senders of account {ANNA}")
    assert [sender.split()[0] for sender in senders] == ["ok"] * 4
    assert f"its own address <{ANNA}> is accepted" in senders[0]
    assert "another address of its domain <senderproxy-probe@firma.example> is accepted" in senders[1]
    assert "a foreign domain <senderproxy-probe@example.com> is refused at" in senders[2]
    assert "the null reverse-path <> is refused at" in senders[3]
    assert findings_about(ended, "sender_rule of ionos") == ['ok       sender_rule of ionos: "domain" is right']
    assert findings_about(ended, "takes_null_reverse_path of ionos") == [
        "ok       takes_null_reverse_path of ionos: false is right"
    ]
    assert "none was sent" in findings_about(ended, "from_rule of ionos")[0]
    assert f"RCPT TO:<{ANNA}>" in office.simulator.sessions[0].commands


def test_a_stricter_rule_than_the_configured_one_is_wrong_and_the_setting_is_named(office: Office) -> None:
    ended = probe(office, ownership_rule=OwnershipRule.ADDRESS)
    assert ended.code == 1
    [rule] = findings_about(ended, "sender_rule of ionos")
    assert rule.startswith("WRONG")
    assert 'it is "address", and the configuration has "domain": mail will be refused' in rule
    assert rule.endswith('To fix: sender_rule = "address" in [providers.ionos]')


def test_a_milder_rule_is_proposed_as_far_as_the_replies_prove_it(office: Office) -> None:
    office.config.write_text(office.config.read_text().replace('sender_rule = "domain"', 'sender_rule = "address"'))
    ended = probe(office, null_reverse_path_accepted=True)
    assert ended.code == 0
    [rule] = findings_about(ended, "sender_rule of ionos")
    assert rule.startswith("advice")
    assert 'sender_rule = "domain" and, until that is known, from_rule = "address" in [providers.ionos]' in rule
    [null] = findings_about(ended, "takes_null_reverse_path of ionos")
    assert null.endswith("To fix: takes_null_reverse_path = true in [providers.ionos]")


def test_a_provider_that_checks_only_the_complete_message_gives_no_conclusion(office: Office) -> None:
    ended = probe(
        office, ownership_rule=OwnershipRule.ADDRESS, enforced_at=EnforcedAt.DATA, null_reverse_path_accepted=True
    )
    assert ended.code == 0
    [rule] = findings_about(ended, "sender_rule of ionos")
    assert rule.startswith("unknown")
    assert 'or checks only the complete message, and none was sent. It stays "domain"' in rule
    assert findings_about(ended, "takes_null_reverse_path of ionos")[0].startswith("unknown")


def test_a_refused_null_reverse_path_contradicts_the_setting(office: Office) -> None:
    rule = 'sender_rule = "domain"'
    office.config.write_text(office.config.read_text().replace(rule, f"{rule}\ntakes_null_reverse_path = true"))
    ended = probe(office)
    assert ended.code == 1
    [null] = findings_about(ended, "takes_null_reverse_path of ionos")
    assert null.startswith("WRONG")
    assert null.endswith("To fix: takes_null_reverse_path = false in [providers.ionos]")


def test_a_refused_own_address_ends_the_probe(office: Office) -> None:
    office.simulator.script.add(Fault(FaultStage.MAIL, ReplyWith(server_reply(550, "Sender address is not allowed."))))
    ended = probe(office)
    assert ended.code == 1
    assert office.simulator.sessions[0].verbs.count("MAIL") == 1
    assert "not probed: another address of its domain, " in ended.out
    assert f"WRONG    senders of account {ANNA}: its own address <{ANNA}> is refused, so it cannot send" in ended.out
    assert f"To fix: Give the account the address of its mailbox: senderproxy account show {ANNA}" in ended.out
    assert findings_about(ended, "sender_rule of ionos") == []


def test_after_a_refused_recipient_another_can_be_named(office: Office) -> None:
    answers = {ANNA: server_reply(550, "Unknown User")}
    ended = probe(office, recipient_replies=answers)
    assert ended.code == 0
    assert f"the recipient <{ANNA}> was refused, so the replies prove nothing" in ended.out
    office.simulator.observations.sessions.clear()
    office.simulator.observations.logins.clear()
    again = office.type("check", "--probe", "--yes", "--to", "me@elsewhere.example")
    assert 'sender_rule of ionos: "domain" is right' in again.out
    assert "RCPT TO:<me@elsewhere.example>" in office.simulator.sessions[0].commands


def test_a_limit_or_a_lost_session_ends_the_probe_without_a_second_login(office: Office) -> None:
    office.simulator.script.add(Fault(FaultStage.MAIL, ReplyWith(IONOS.send_limit), after=1))
    ended = probe(office)
    assert office.simulator.sessions[0].verbs.count("MAIL") == 2
    assert "another address of its domain <senderproxy-probe@firma.example> is deferred at MAIL FROM: 450" in ended.out
    assert findings_about(ended, "sender_rule of ionos")[0].startswith("unknown")
    office.simulator.script.clear()
    office.simulator.script.add(Fault(FaultStage.MAIL, Drop(), after=2))
    cut = office.type("check", "--probe", "--yes")
    assert cut.code == 0, cut.out
    assert "not probed: an address of a foreign domain, the null reverse-path" in cut.out
    assert "closed the connection (stage: MAIL FROM)" in cut.out
    assert len(office.simulator.logins()) == 2


def test_a_wrong_password_is_a_finding_and_ends_the_probe(office: Office) -> None:
    office.add(ANNA)
    office.type("account", "set-password", ANNA, "--no-verify", "--password-stdin", stdin="geheim-falsch\n")
    ended = office.type("check", "--probe", "--yes")
    assert ended.code == 1
    assert f"To fix: senderproxy account set-password {ANNA}" in ended.out
    assert len(office.simulator.logins()) == 1


def test_one_account_of_each_provider_probes_and_the_others_only_log_in(office: Office) -> None:
    office.add(ANNA)
    office.add("bert@firma.example")
    ended = office.type("check", "--probe", "--yes")
    assert ended.code == 0, ended.out
    assert [("MAIL" in session.verbs) for session in office.simulator.sessions] == [True, False]
    office.simulator.observations.sessions.clear()
    named = office.type("check", "--probe", "--yes", "bert@firma.example")
    assert "senders of account bert@firma.example" in named.out
    assert [("MAIL" in session.verbs) for session in office.simulator.sessions] == [False, True]


def test_without_confirmation_or_with_invalid_options_nothing_is_probed(office: Office) -> None:
    office.add(ANNA)
    for words in (("--probe",), ("--probe", "--offline", "--yes"), (ANNA,), ("--yes",), ("--probe", "--yes", "nobody")):
        ended = office.type("check", *words)
        assert (ended.code, "MAIL" in str(office.simulator.sessions)) == (64, False), words
    assert office.simulator.sessions == []


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "asked"), [("n", False), ("j", True)])
def test_the_question_names_the_senders_and_can_be_declined(office: Office, typed: str, asked: bool) -> None:
    office.add(ANNA)
    with at_terminal(office, "--config", str(office.config), "check", "--probe") as terminal:
        terminal.read_until("no message is sent")
        assert "<senderproxy-probe@example.com>, <>" in terminal.screen
        assert office.simulator.sessions == []
        terminal.read_until("Continue? [y/N] ")
        terminal.type(typed)
        assert terminal.end() == 0, terminal.screen
    [session] = office.simulator.sessions
    assert ("MAIL" in session.verbs) is asked


def _said(line: bytes, *, at_mail: bool = True) -> SenderAnswer:
    reply = parse_reply([line])
    cause = None if reply.is_positive else cause_of(reply, Circumstances(Stage.MAIL))
    return SenderAnswer(NULL_PATH, reply, at_mail, cause)


TAKEN = _said(b"250 OK", at_mail=False)
NOT_YOURS = _said(b"550 Sender address is not allowed.")


@pytest.mark.parametrize(
    ("other", "foreign", "rule"),
    [
        (NOT_YOURS, NOT_YOURS, SenderRule.ADDRESS),
        (_said(b"553 5.7.1 no such luck"), TAKEN, SenderRule.ADDRESS),
        (TAKEN, NOT_YOURS, SenderRule.DOMAIN),
        (TAKEN, TAKEN, None),
        (TAKEN, _said(b"550 invalid DNS MX or A/AAAA resource record"), None),
        (TAKEN, _said(b"451 Requested action aborted: local error in processing"), None),
        (_said(b"450 Mail send limit exceeded."), NOT_YOURS, None),
        (_said(b"550 5.4.5 Daily user sending limit exceeded"), NOT_YOURS, None),
        (TAKEN, None, None),
        (None, None, None),
    ],
)
def test_only_what_the_replies_prove_is_concluded(
    other: SenderAnswer | None, foreign: SenderAnswer | None, rule: SenderRule | None
) -> None:
    asked = {SenderKind.OWN: TAKEN, SenderKind.OTHER: other, SenderKind.FOREIGN: foreign}
    assert found_rule({kind: answer for kind, answer in asked.items() if answer is not None}) is rule
