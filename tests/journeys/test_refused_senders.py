"""Every text in which a provider is known to refuse a sender, wherever it says so: one verdict, in two languages."""

import json
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Final

import pytest

from senderproxy.simulator.faults import Fault, FaultStage, ReplyWith
from senderproxy.simulator.provider_replies import (
    IONOS,
    LOCAL_ERROR,
    NO_SUCH_MAIL_DOMAIN,
    UNKNOWN_USER,
    ServerReply,
    server_reply,
)
from senderproxy.simulator.rules import OwnershipRule
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.journeys.sender_cases import ANNA, BERT, LADEN, MAILBOXES
from tests.journeys.test_senders import MAIL_BOXES, Doors, office_in_front_of, provider_section
from tests.peers.bench import Bench
from tests.peers.letters import Letter, hand_over
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import why_not_here
from tests.peers.provider import PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy
from tests.senderproxy.cli.conftest import beside

pytestmark = pytest.mark.slow

SHOP: Final = "shop@laden.test"  # carried by post@laden.test, as all of its domain
TEXTS: Final = {
    "IONOS, GMX, WEB.DE, mail.com": IONOS.reverse_path_refused,
    "domainfactory": server_reply(550, '"envelope sender not allowed"'),
    "Exchange, OVH": server_reply(550, "5.7.60 SMTP; Client does not have permissions to send as this sender"),
    "Microsoft 365": server_reply(
        554,
        f"5.2.252 SendAsDenied; {LADEN} not allowed to send as {SHOP};"
        " STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process message due to"
        " a permanent exception with message Cannot submit message. 0.35250:0A006A3C, 1.36674:0A000000",
    ),
    "Amazon SES": server_reply(501, "Invalid MAIL FROM address provided"),
    "Postfix, Plesk, mailcow": server_reply(553, f"5.7.1 <{SHOP}>: Sender address rejected: not owned by user {LADEN}"),
    "Yandex, envelope": server_reply(553, "5.7.1 Sender address rejected: not owned by auth user."),
    "Yandex, header": server_reply(550, "5.7.0 Sender or From header address rejected: not owned by authorized user"),
    "Zoho": server_reply(
        550, "5.7.1 Submission not allowed for messages in which header from does not match MAIL FROM"
    ),
}
OTHERS: Final = {
    "no such domain": NO_SUCH_MAIL_DOMAIN,
    "a hiccup": LOCAL_ERROR,
    "nobody there": UNKNOWN_USER,
    "a header": IONOS.policy_refused.fill(peer="192.0.2.1"),
    "too much": IONOS.send_limit,
}
STAGES: Final = (FaultStage.MAIL, FaultStage.RCPT, FaultStage.DOT)


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Simulator, Senderproxy, Doors]]:
    with (
        beside(partial(Simulator, SimulatorSettings(mailboxes=MAIL_BOXES))) as simulator,
        office_in_front_of(provider_section(simulator)) as (relay, doors, _),
    ):
        yield simulator, relay, doors


def refused_with(
    simulator: Simulator, port: int, stage: FaultStage, said: ServerReply, author: str = SHOP
) -> tuple[int, list[str]]:
    """What a client hears where the provider says this at that stage; the lines' status is taken off."""
    simulator.script.clear()
    simulator.script.add(Fault(stage, ReplyWith(said)))
    code, text = hand_over(port, author, "karl@kunde.test", Letter(author, ("karl@kunde.test",), "1@pc.test").content)
    simulator.script.clear()
    lines = text.split("\n")
    assert all(len(f"{code}-{line}\r\n") <= 512 for line in lines)
    assert all(line[0] == str(code)[0] and line[1] == "." for line in lines), "each line has its status"
    return code, [line.partition(" ")[2] for line in lines]


def test_every_text_at_every_stage_becomes_one_verdict(place: tuple[Simulator, Senderproxy, Doors]) -> None:
    simulator, _, doors = place
    for (who, said), stage in product(TEXTS.items(), STAGES):
        code, lines = refused_with(simulator, doors.office, stage, said)
        assert code == 550, (who, stage, lines)
        english, german, *last = lines
        # which account logged in, which address was refused, which rule it broke, what to do
        setting = "from_rule" if stage is FaultStage.DOT or "header" in str(said) else "sender_rule"
        field, feld = ("From", "From") if setting == "from_rule" else ("reverse-path", "Envelope-Absender")
        assert english == (
            f"hoster does not let login {LADEN} (account {LADEN}) send as {SHOP} ({field}). To fix: add its mailbox"
            f' (senderproxy account add {SHOP}), or set {setting} = "address" in [providers.hoster].'
        ), (who, stage)
        assert german == (
            f"hoster erlaubt der Anmeldung {LADEN} (Konto {LADEN}) den Absender {SHOP} nicht ({feld}). Abhilfe: Postfach"
            f' anlegen (senderproxy account add {SHOP}) oder {setting} = "address" in [providers.hoster] setzen.'
        ), (who, stage)
        words = said.lines[-1]
        assert " ".join(last) == (words.partition(" ")[2] if words[0] == "5" else words), (who, stage)
    assert simulator.received == []


def test_other_refusals_stay_what_they_are(place: tuple[Simulator, Senderproxy, Doors]) -> None:
    simulator, relay, doors = place
    for (what, said), (stage, author) in product(OTHERS.items(), zip(STAGES, (ANNA, BERT, SHOP), strict=True)):
        # one author for each stage, and what pauses an account comes last
        code, lines = refused_with(simulator, doors.office, stage, said, author)
        explained = stage is FaultStage.MAIL and said.code >= 500  # about the sender, whatever its words
        assert code == (550 if explained else said.code), (what, stage, lines)
        assert ("Abhilfe" in " ".join(lines)) == explained, (what, stage, lines)
        telling = [line for line in said.lines if "http" not in line][-1]
        assert telling in " ".join(lines), (what, stage)
    assert simulator.received == []
    relay.restart_without_memory()  # the paused accounts are wanted again


def test_an_alias_that_only_we_know_gets_a_mend_that_mends(place: tuple[Simulator, Senderproxy, Doors]) -> None:
    simulator, relay, doors = place
    relay.restart_without_memory()
    code, lines = refused_with(simulator, doors.office, FaultStage.MAIL, IONOS.reverse_path_refused, "info@firma.test")
    assert code == 550
    for line in lines[:2]:
        assert f"senderproxy account edit {ANNA} --not info@firma.test" in line
        assert 'sender_rule = "address" in [providers.hoster]' in line


def test_a_provider_that_became_stricter_is_said_until_its_rule_is_set(
    place: tuple[Simulator, Senderproxy, Doors],
) -> None:
    """The user meets a refusal, looks at `status` and `check`, does what they say, and the mail goes out."""
    simulator, relay, doors = place
    relay.restart_without_memory()
    simulator.settings, milder = (
        SimulatorSettings(mailboxes=MAIL_BOXES, ownership_rule=OwnershipRule.ADDRESS),
        simulator.settings,
    )
    section = provider_section(simulator)
    letter = Letter(SHOP, ("karl@kunde.test",), "2@pc.test").content
    try:
        assert json.loads(relay.command("status", "--json", exit_code=None))["sender_rules"] == []
        assert hand_over(doors.office, SHOP, "karl@kunde.test", letter)[0] == 550
        for command in ("status", "check"):
            told = relay.command(command, exit_code=1)
            assert f"hoster refused {SHOP} (reverse-path) for account {LADEN} although" in told, command
            assert 'sender_rule = "domain" allows it: its rule is stricter' in told, command
            assert 'set sender_rule = "address" in [providers.hoster]' in told, command
        config = relay.config_file.read_text(encoding="utf-8")
        relay.provide(section)
        assert relay.config_file.read_text(encoding="utf-8") == config.replace('"domain"', '"address"')
        assert hand_over(doors.office, SHOP, "karl@kunde.test", letter)[0] == 250
        assert simulator.received[-1].reverse_path == LADEN
        assert "its rule is stricter" not in relay.command("status", exit_code=None)
    finally:
        simulator.settings = milder
        relay.provide(provider_section(simulator))


@pytest.mark.parametrize("stage", STAGES)
def test_a_null_reverse_path_that_is_refused_after_all_names_its_setting(
    place: tuple[Simulator, Senderproxy, Doors], stage: FaultStage
) -> None:
    simulator, relay, doors = place
    section = provider_section(simulator)
    relay.provide(section.replace("takes_null_reverse_path = false", "takes_null_reverse_path = true"))
    try:
        simulator.script.add(Fault(stage, ReplyWith(IONOS.reverse_path_refused)))
        letter = Letter(BERT, ("karl@kunde.test",), "3@pc.test").content
        code, text = hand_over(doors.office, "", "karl@kunde.test", letter)
    finally:
        simulator.script.clear()
        relay.provide(section)
    assert code == 550
    assert "send as <> (reverse-path). To fix: set takes_null_reverse_path = false in [providers.hoster]." in text
    assert "den Absender <> nicht (Envelope-Absender). Abhilfe: takes_null_reverse_path = false" in text


reason = why_not_here(POSTFIX, DOVECOT, root=True)


@pytest.mark.skipif(reason is not None, reason=str(reason))
@pytest.mark.parametrize("refuses_at_mail", [False, True], ids=["at RCPT", "at MAIL"])
def test_a_real_providers_own_words_are_explained_as_well(bench: Bench, refuses_at_mail: bool) -> None:
    provider = bench.start(PostfixProvider(MAILBOXES, Rule.ADDRESS, refuses_at_mail=refuses_at_mail))
    section = f"""
host = "localhost"
port = {provider.starttls_port}
security = "starttls"
ca_file = "{provider.authority.ca_file}"
sender_rule = "domain"
"""
    with office_in_front_of(section) as (relay, doors, _):
        letter = Letter(SHOP, ("karl@kunde.test",), "4@pc.test").content
        code, text = hand_over(doors.office, SHOP, "karl@kunde.test", letter)
        assert code == 550
        english, german, own = text.split("\n")
        assert f"does not let login {LADEN} (account {LADEN}) send as {SHOP} (reverse-path)" in english
        assert "Abhilfe: Postfach anlegen" in german
        assert own.endswith(f"<{SHOP}>: Sender address rejected: not owned by user {LADEN}")
        assert "its rule is stricter" in relay.command("status", exit_code=1)
    assert provider.received() == []
