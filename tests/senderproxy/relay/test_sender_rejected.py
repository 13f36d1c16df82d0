"""The reply about a sender address that a provider rejected, and the list of such senders."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from senderproxy.delivery.causes import Circumstances, Stage
from senderproxy.delivery.classify import outcome
from senderproxy.learned import Instant
from senderproxy.mail.address import NULL_PATH, Address, ReversePath, parse_address, parse_pattern
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.outcome import Delivered, Failed, Outcome, RefusedSenderField
from senderproxy.mail.reply import parse_reply
from senderproxy.relay.sender_rejected import KNOWN_LIMIT, RejectedSender, RejectedSenders, explain, find_rejected
from senderproxy.routing.account import Account
from senderproxy.routing.directory import MatchTier
from senderproxy.routing.provider import Provider, SenderRule
from senderproxy.routing.route import AddressSource, Route

ANNA, INFO, KUNDE = (parse_address(text) for text in ("anna@firma.example", "info@firma.example", "k@kunde.example"))
ACCOUNT = Account(
    "anna", "anna@firma.example", "ionos-de", ANNA, (parse_pattern(str(ANNA)), parse_pattern("@firma.example"))
)
ALIASED = replace(ACCOUNT, carries=(parse_pattern(str(ANNA)), parse_pattern(str(INFO))))
HEADER = HeaderSection(b"From: info@firma.example\r\n\r\n")
NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def _route(rule: SenderRule = SenderRule.DOMAIN, account: Account = ACCOUNT) -> Route:
    return Route(
        account, Provider("ionos-de", (), sender_rule=rule, from_rule=rule), INFO, AddressSource.FROM, MatchTier.EXACT
    )


def _found(
    said: bytes,
    stage: Stage,
    path: ReversePath = INFO,
    rule: SenderRule = SenderRule.DOMAIN,
    account: Account = ACCOUNT,
) -> RejectedSender | None:
    return find_rejected(
        {KUNDE: outcome(parse_reply(said.split(b"\n")), Circumstances(stage), "smtp.example")},
        _route(rule, account),
        path,
        HEADER,
    )


@pytest.mark.parametrize(
    ("said", "stage", "place"),
    [
        (
            b"550-Requested action not taken: mailbox unavailable\n550 Sender address is not allowed.",
            Stage.MAIL,
            "reverse-path",
        ),
        (b'550 "envelope sender not allowed"', Stage.MAIL, "reverse-path"),
        (
            b"553 5.7.1 <info@firma.example>: Sender address rejected: not owned by user anna",
            Stage.RCPT,
            "reverse-path",
        ),
        (b"553 5.7.1 Sender address rejected: not owned by auth user.", Stage.MAIL, "reverse-path"),
        (b"550 5.7.0 Sender or From header address rejected: not owned by authorized user", Stage.FINAL_DOT, "From"),
        (b"550 5.7.60 SMTP; Client does not have permissions to send as this sender", Stage.FINAL_DOT, "From"),
        (b"554 5.2.252 SendAsDenied; a@x not allowed to send as b@y; STOREDRV.Submission", Stage.FINAL_DOT, "From"),
        (b"501 Invalid MAIL FROM address provided", Stage.MAIL, "reverse-path"),
        (
            b"550 5.7.1 Submission not allowed for messages in which header from does not match MAIL FROM",
            Stage.FINAL_DOT,
            "From",
        ),
    ],
)
def test_the_replies_of_all_providers_are_recognised(said: bytes, stage: Stage, place: str) -> None:
    refused = _found(said, stage)
    assert refused is not None
    assert refused.place.value == place
    answer = explain(refused)
    assert (answer.code, str(answer.status)) == (550, "5.7.1")
    english, german, last = answer.lines
    for line in (english, german):
        assert "anna@firma.example" in line
        assert "info@firma.example" in line
        assert "senderproxy account add info@firma.example" in line
        assert '"address" in [providers.ionos-de]' in line
        assert len(line) <= 300
    assert "does not let" in english
    assert "Abhilfe" in german
    assert last == parse_reply(said.split(b"\n")).reason
    assert all(len(line) <= 512 for line in answer.render().split(b"\r\n"))


@pytest.mark.parametrize(
    ("said", "stage"),
    [
        (b"550 Unknown User", Stage.RCPT),
        (b"451 Requested action aborted: local error in processing", Stage.MAIL),
        (b"554-Transaction failed\n554 Reject due to policy restrictions.", Stage.FINAL_DOT),
    ],
)
def test_other_refusals_are_not_about_the_sender(said: bytes, stage: Stage) -> None:
    assert _found(said, stage) is None


def test_a_rejected_null_reverse_path_has_its_own_setting() -> None:
    refused = _found(b"550 Sender address is not allowed.", Stage.MAIL, NULL_PATH)
    assert refused is not None
    assert "send as <> (reverse-path)" in explain(refused).lines[0]
    assert "takes_null_reverse_path = false in [providers.ionos-de]" in explain(refused).lines[0]


NOT_ALLOWED = b"550 Sender address is not allowed."


@pytest.mark.parametrize("rule", list(SenderRule))
def test_a_rejected_alias_is_to_be_added_at_the_provider_or_removed_here(rule: SenderRule) -> None:
    refused = _found(NOT_ALLOWED, Stage.MAIL, INFO, rule, ALIASED)
    assert refused is not None
    for line in explain(refused).lines[:2]:
        assert "senderproxy account edit anna --not info@firma.example" in line
        assert "account add" not in line, "the address has an account already"
        assert ('sender_rule = "address" in [providers.ionos-de]' in line) is (rule is not SenderRule.ADDRESS)


@pytest.mark.parametrize("rule", list(SenderRule))
def test_a_rejected_own_address_is_not_the_mailboxs(rule: SenderRule) -> None:
    refused = _found(NOT_ALLOWED, Stage.MAIL, ANNA, rule)
    assert refused is not None
    for line in explain(refused).lines[:2]:
        assert "senderproxy account show anna" in line
        assert "account add" not in line


def test_the_least_strict_rule_that_excludes_the_address_is_proposed() -> None:
    for address, rule in ((INFO, "address"), (KUNDE, "domain")):
        refused = _found(NOT_ALLOWED, Stage.MAIL, address, SenderRule.ANY)
        assert refused is not None
        assert f'set sender_rule = "{rule}" in [providers.ionos-de]' in explain(refused).lines[0]


@pytest.mark.parametrize(
    ("from_", "path", "place", "address"),
    [
        (INFO, INFO, "From", INFO),
        (INFO, ANNA, "From", INFO),
        (ANNA, INFO, "reverse-path", INFO),
        (ANNA, NULL_PATH, "reverse-path", None),
        (ANNA, ANNA, "From", ANNA),
    ],
)
def test_a_rejection_of_the_message_is_about_the_address_that_is_not_the_mailboxs(
    from_: Address, path: ReversePath, place: str, address: Address | None
) -> None:
    said = outcome(parse_reply([NOT_ALLOWED]), Circumstances(Stage.FINAL_DOT), "smtp.example")
    header = HeaderSection(f"From: {from_}\r\n\r\n".encode())
    refused = find_rejected({KUNDE: said}, _route(), path, header)
    assert refused is not None
    assert (refused.place.value, refused.address) == (place, address)


def test_a_message_accepted_for_one_recipient_has_no_rejected_sender() -> None:
    okay = parse_reply([b"250 OK"])
    outcomes: dict[object, Outcome] = {ANNA: Delivered(okay), KUNDE: Failed(okay, RefusedSenderField.FROM)}
    assert find_rejected(outcomes, _route(), INFO, HEADER) is None  # type: ignore[arg-type]


def test_a_stricter_rule_is_listed_until_the_address_is_accepted() -> None:
    known = RejectedSenders()
    refused = _found(b"550 Sender address is not allowed.", Stage.MAIL)
    assert refused is not None
    known.note(refused, NOW)
    known.note(refused, NOW.replace(hour=12))
    [entry] = known.entries()
    assert (entry.provider, entry.account, entry.address) == ("ionos-de", "anna", "info@firma.example")
    assert entry.since == "2026-11-24T09:30:00+00:00"
    assert 'although sender_rule = "domain" allows it' in entry.words
    assert 'sender_rule = "address" in [providers.ionos-de]' in entry.hint
    known.accepted(_route(), (ANNA,))
    assert known.entries()
    known.accepted(_route(), (INFO, ANNA))
    assert known.entries() == []
    known.note(refused, NOW)
    known.accepted(_route(SenderRule.ADDRESS), (ANNA,))
    assert known.entries() == [], "said of a rule that is another one by now"


def test_the_list_outlives_a_restart() -> None:
    known, subjects = RejectedSenders(), list[str]()
    known.changed = subjects.append
    refused = _found(b"550 Sender address is not allowed.", Stage.MAIL)
    assert refused is not None
    known.note(refused, NOW)
    (subject,) = subjects
    assert "info" not in subject
    fact = known.fact(subject, Instant(NOW + timedelta(seconds=50), 1050.0))
    assert fact is not None
    after = RejectedSenders()
    after.changed = subjects.append
    assert after.restore(subject, json.loads(json.dumps(fact)), Instant(NOW + timedelta(seconds=50), 3.0))
    assert after.entries() == known.entries()
    after.accepted(_route(), (ANNA,))
    assert after.entries() == known.entries()
    after.accepted(_route(), (INFO, ANNA))
    assert after.entries() == []
    assert subjects == [subject, subject]
    assert after.fact(subject, Instant(NOW, 5.0)) is None
    assert after.restore(subject, json.loads(json.dumps(fact)), Instant(NOW, 3.0))
    after.accepted(_route(SenderRule.ADDRESS), (ANNA,))
    assert after.entries() == [], "said of a rule that is another one by now"


@pytest.mark.parametrize("without", ["since", "settings", "provider", "hint"])
def test_a_stored_entry_without_a_field_is_an_error(without: str) -> None:
    known, subjects = RejectedSenders(), list[str]()
    known.changed = subjects.append
    refused = _found(b"550 Sender address is not allowed.", Stage.MAIL)
    assert refused is not None
    known.note(refused, NOW)
    fact = dict(known.fact(subjects[0], Instant(NOW, 0.0)) or {})
    del fact[without]
    with pytest.raises(KeyError):
        RejectedSenders().restore(subjects[0], fact, Instant(NOW, 0.0))


def test_an_entry_of_another_instance_is_listed_until_that_one_deletes_it() -> None:
    known, others = RejectedSenders(), RejectedSenders()
    subjects, told = list[str](), list[str]()
    known.changed, others.changed = subjects.append, told.append
    refused = _found(b"550 Sender address is not allowed.", Stage.MAIL)
    assert refused is not None
    known.note(refused, NOW)
    fact = json.loads(json.dumps(known.fact(subjects[0], Instant(NOW, 0.0))))
    for _ in range(2):
        others.follow(subjects[0], fact, Instant(NOW, 0.0))
        assert others.entries() == known.entries()
    others.gone(subjects[0])
    others.gone(subjects[0])
    assert others.entries() == []
    assert told == []  # the other one writes its own entries
    for number in range(KNOWN_LIMIT + 1):
        others.follow(f"subject{number}", fact, Instant(NOW, 0.0))
    assert len(others) == KNOWN_LIMIT


def test_a_stranger_reads_neither_login_nor_hint() -> None:
    rejected = _found(
        b"550-Requested action not taken: mailbox unavailable\n550 Sender address is not allowed.", Stage.MAIL
    )
    assert rejected is not None
    assert explain(rejected, is_internal=False).lines == (
        "ionos-de does not let this server redirect the message.",
        "Sender address is not allowed.",
    )


@pytest.mark.parametrize("address", ["root@vm.local", "www@web1.firma.example", "scan@printer"])
def test_a_rejected_machine_is_to_be_mapped_and_not_added(address: str) -> None:
    said = b"550-Requested action not taken: mailbox unavailable\n550 Sender address is not allowed."
    rejected = _found(said, Stage.MAIL, path=parse_address(address), rule=SenderRule.ANY)
    assert rejected is not None
    assert rejected.address == parse_address(address)
    for line in explain(rejected).lines[:2]:
        assert "[senders.map]" in line
        assert "account add" not in line
