"""The list of conditions, from values."""

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from senderproxy.domain_records.history import RecordTrouble
from senderproxy.domain_records.judgement import Aspect, RecordProblem, judge
from senderproxy.domain_records.own_key import KeyLook, KeyRecord
from senderproxy.log_events import Severity
from senderproxy.monitoring.conditions import compare, find_conditions
from senderproxy.monitoring.facts import (
    AccountsFacts,
    AccountSnapshot,
    AccountTrouble,
    AlertWayFacts,
    ApplicationFacts,
    AutomaticMail,
    CertificateFacts,
    CertificateOwner,
    ClientFacts,
    ClockFacts,
    CopyFacts,
    CrashFacts,
    DkimKeyFacts,
    DomainFacts,
    DrainFacts,
    Facts,
    HopFacts,
    LimitUse,
    LookUpFacts,
    LoopFacts,
    MailGapFacts,
    MetricsFacts,
    MxStoppedFacts,
    OutdatedProgram,
    QueueFacts,
    RefusedConfiguration,
    RefusedMessages,
    SenderRuleFacts,
    SpoolFacts,
    SpoolState,
)
from senderproxy.monitoring.record import (
    AffectedKind,
    Condition,
    ConditionKey,
    condition_entry,
    read_condition,
    translated_condition,
)
from senderproxy.translation import _, in_english, language

PAGE = Path(__file__).parents[3] / "docs" / "conditions.md"
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MIB = 1 << 20


def account(number: int, trouble: AccountTrouble, ago: timedelta = MINUTE, **more: Any) -> AccountSnapshot:
    entry = AccountSnapshot(f"konto{number:02}", "ionos", trouble, "535 Authentication credentials invalid", NOW - ago)
    return replace(entry, **more)


def found(**parts: Any) -> dict[tuple[str, str], Condition]:
    """The conditions in these facts, by key and subject."""
    return {one.id: one for one in find_conditions(replace(Facts(NOW), **parts))}


def only(**parts: Any) -> Condition:
    (one,) = found(**parts).values()
    return one


def severities(**parts: Any) -> list[Severity]:
    return [one.severity for one in found(**parts).values()]


def rule(address: str, ago: timedelta = MINUTE) -> SenderRuleFacts:
    words = f'ionos refused {address} (reverse-path) although sender_rule = "any" allows it: its rule is stricter'
    return SenderRuleFacts("ionos", "konto1", address, words, "550 not allowed", "set the rule", NOW - ago)


def client(number: int, count: int, *, is_local: bool = True) -> ClientFacts:
    return ClientFacts(f"192.168.1.{number}", count, "554 5.7.1 may not send", NOW - MINUTE, is_local)


def certificate(left: timedelta, **more: Any) -> CertificateFacts:
    entry = CertificateFacts(CertificateOwner.LISTENER, "internal", NOW - 300 * DAY, NOW + left, file="/etc/cert.pem")
    return replace(entry, **more)


def domain_trouble(
    aspect: Aspect, problem: RecordProblem, number: int = 1, record: str = "", right: str = "", **values: object
) -> DomainFacts:
    right_at = NOW - DAY if right else None
    trouble = RecordTrouble(judge(aspect, problem, record, **values), NOW - HOUR, right, right_at)
    return DomainFacts(f"firma{number}.example", "ionos", trouble)


def hop(ago: timedelta = MINUTE, **more: Any) -> HopFacts:
    return replace(HopFacts("smarthost relay", "relay.example:25", "refused the connection", "", NOW - ago), **more)


# One example of each kind, with its severity and a part of its cause.
EXAMPLES: dict[ConditionKey, tuple[dict[str, Any], Severity, str]] = {
    ConditionKey.ACCOUNT_SUSPENDED: ({"accounts": [account(1, AccountTrouble.SUSPENDED)]}, Severity.ERROR, "ionos refuses the login of account konto01: 535"),
    ConditionKey.ACCOUNT_PAUSED: ({"accounts": [account(1, AccountTrouble.PAUSED, until=NOW + MINUTE)]}, Severity.WARNING, "Mail of account konto01 at ionos waits until"),
    ConditionKey.NO_SESSION: ({"accounts": [account(1, AccountTrouble.NO_SESSION)]}, Severity.WARNING, "no session with ionos for account konto01"),
    ConditionKey.HOURLY_LIMIT: (
        {"accounts": [account(1, AccountTrouble.NONE, hourly=[LimitUse("messages", 100, 100)])]},
        Severity.WARNING, "konto01 has reached its limit of 100 messages an hour",
    ),
    ConditionKey.SENDER_RULE_STRICTER: ({"sender_rules": [rule("info@firma.example")]}, Severity.ERROR, "its rule is stricter (550"),
    ConditionKey.LOOK_UP_FAILING: (
        {"look_ups": [LookUpFacts("smtp.ionos.de", "timed out", NOW - HOUR, NOW - DAY)]}, Severity.INFO, "No address look-up of smtp.ionos.de",
    ),
    ConditionKey.SMARTHOST_CERTIFICATE: ({"accounts": [account(1, AccountTrouble.CERTIFICATE)]}, Severity.ERROR, "The certificate of ionos is not accepted"),
    ConditionKey.LISTENER_CERTIFICATE: ({"certificates": [certificate(-DAY)]}, Severity.CRITICAL, "listener internal expired at"),
    ConditionKey.CLIENT_CERTIFICATE: (
        {"certificates": [certificate(3 * DAY, owner=CertificateOwner.CLIENT, name="relay")]}, Severity.WARNING, "The client certificate for smarthost relay expires at"
    ),
    ConditionKey.MX_STOPPED: (
        {"mx_stopped": [MxStoppedFacts("firma1.example", "203.0.113.7", "v=spf1 -all", "", is_wrong=True)]},
        Severity.ERROR, 'Mail of firma1.example by via = "mx" waits: its SPF record does not name 203.0.113.7.',
    ),
    ConditionKey.ROUTE_UNREACHABLE: ({"hops": [hop()]}, Severity.WARNING, "No mail can be handed to smarthost relay (relay.example:25): refused the connection"),
    ConditionKey.APPLICATION_EXPIRES: (
        {"applications": [ApplicationFacts("microsoft", NOW + 3 * DAY, ["konto01"])]},
        Severity.WARNING, "The secret of the application microsoft expires at",
    ),
    ConditionKey.QUEUE_LATE: ({"queues": [QueueFacts("konto01", 3, 0, NOW - 2 * HOUR)]}, Severity.WARNING, "3 messages wait for account konto01"),
    ConditionKey.MESSAGE_HELD: ({"queues": [QueueFacts("konto01", 0, 2, NOW - MINUTE)]}, Severity.ERROR, "2 messages are held"),
    ConditionKey.DISK_LOW: ({"spool": SpoolFacts(free=150 * MIB, min_free=100 * MIB)}, Severity.WARNING, "150 MiB are free"),
    ConditionKey.DISK_FULL: ({"spool": SpoolFacts(SpoolState.FULL, "Too little space.", "Free some.")}, Severity.ERROR, "deferred: Too little space."),
    ConditionKey.DISK_SILENT: ({"spool": SpoolFacts(SpoolState.SILENT, "It has not responded.", "dmesg")}, Severity.ERROR, "deferred: It has not"),
    ConditionKey.DISK_BROKEN: ({"spool": SpoolFacts(SpoolState.BROKEN, "Input/output error.", "dmesg")}, Severity.CRITICAL, "Input/output error"),
    ConditionKey.SPOOL_CLOSED: ({"spool": SpoolFacts(SpoolState.CLOSED, "It has no spool.db.", "Restore it.")}, Severity.ERROR, "The queue is unavailable: It has"),
    ConditionKey.SPOOL_FILE_LOST: ({"spool": SpoolFacts(SpoolState.LOST, "spool.db was deleted.", "Do not stop.")}, Severity.CRITICAL, "was deleted"),
    ConditionKey.VAULT_UNREADABLE: ({"vault": AccountsFacts(1, "It is damaged.", "Restore it.")}, Severity.ERROR, "stay in force: It is damaged."),
    ConditionKey.VAULT_ROLLED_BACK: ({"vault": AccountsFacts(1, rolled_back="The vault is older.")}, Severity.ERROR, "The vault is older."),
    ConditionKey.VAULT_RECORD_UNUSABLE: ({"vault": AccountsFacts(1, unusable=["Record a is damaged.", "Record b too."])}, Severity.ERROR, "And 1 more record."),
    ConditionKey.NO_ACCOUNT: ({"vault": AccountsFacts(0)}, Severity.ERROR, "no account yet"),
    ConditionKey.UNKNOWN_PROVIDER: ({"vault": AccountsFacts(1, unknown_providers=[("konto01", "ionso")])}, Severity.ERROR, "at provider ionso, which"),
    ConditionKey.UNKNOWN_ACCOUNT: ({"vault": AccountsFacts(1, unknown_accounts=[("senders.bounce_account", "post")])}, Severity.ERROR, "The account post that"),
    ConditionKey.PROGRAM_OUTDATED: ({"program": OutdatedProgram("0.1.0", "0.1.1")}, Severity.INFO, "runs version 0.1.0, and version 0.1.1 is installed"),
    ConditionKey.CONFIGURATION_REFUSED: ({"configuration": RefusedConfiguration("port is 99999.", "", NOW - HOUR)}, Severity.ERROR, "the old configuration is in force: port"),
    ConditionKey.CLIENT_TURNED_AWAY: ({"clients": [client(7, 10)]}, Severity.WARNING, "Client 192.168.1.7 was turned away 10 times"),
    ConditionKey.MESSAGES_REFUSED: (
        {"refusals": [RefusedMessages("192.168.1.7", "a@b.example", "550 5.7.1 No account here", 12, NOW - MINUTE)]},
        Severity.WARNING, "12 messages of client 192.168.1.7 from <a@b.example> were refused",
    ),
    ConditionKey.MAIL_LOOP: (
        {"automatic": [AutomaticMail("a@firma.example", "b@kunde.example", 7, 2, 10)]},
        Severity.WARNING, "9 automatic messages were above the limit of 10 an hour, the latest one from a@firma.example to b@kunde",
    ),
    ConditionKey.LOOP_BLOCKED: ({"loop": LoopFacts(2, 0.4, NOW - MINUTE)}, Severity.INFO, "2 times within an hour, at most 0.4 s"),
    ConditionKey.CLOCK_STEPPED: ({"clock": ClockFacts(-7200.0, NOW - MINUTE)}, Severity.INFO, "set by -7200 s"),
    ConditionKey.ALERTS_FAILING: ({"alert_ways": [AlertWayFacts("mail", "No account can send now.", "Add one.", NOW - HOUR)]}, Severity.WARNING, "sent by mail: No account"),
    ConditionKey.METRICS_UNAVAILABLE: ({"metrics": MetricsFacts("127.0.0.1:9464", "the address is in use.", "Use another.")}, Severity.INFO, "on 127.0.0.1:9464: the address"),
    ConditionKey.DRAINING: ({"drain": DrainFacts(NOW - HOUR)}, Severity.WARNING, "The service has been draining since "),
    ConditionKey.NO_MAIL: ({"mail_gap": MailGapFacts(7 * 3600.0)}, Severity.WARNING, "No message was accepted since"),
    ConditionKey.SPF_WRONG: (
        {"domains": [domain_trouble(Aspect.SPF, RecordProblem.SPF_SEVERAL, count=2)]},
        Severity.WARNING, "SPF of firma1.example: there is more than one record (2), so none is valid.",
    ),
    ConditionKey.DKIM_WRONG: (
        {"domains": [domain_trouble(Aspect.DKIM, RecordProblem.DKIM_REVOKED, right="v=DKIM1; p=abc", name="s1._domainkey.firma1.example")]},
        Severity.WARNING, "DKIM of firma1.example: the key s1._domainkey.firma1.example is revoked: mail is sent without a valid signature. It was right at ",
    ),
    ConditionKey.DKIM_RECORD: (
        {"dkim_keys": [
            DkimKeyFacts("firma.example", "sp1", KeyLook(KeyRecord.OTHER_KEY, "v=DKIM1; p=abc"), NOW - HOUR, NOW - 2 * HOUR, signs=True),
            DkimKeyFacts("firma.example", "sp2", KeyLook(KeyRecord.NONE), NOW - MINUTE, None, signs=False),
        ]},
        Severity.WARNING,
        "DKIM key sp1 of firma.example goes on signing, and receivers cannot verify it: the record sp1._domainkey.firma.example has another key",
    ),
    ConditionKey.SENT_COPY_WAITING: (
        {"copies": [CopyFacts("konto01", 3, "over_quota", "the mailbox is full", "Delete mail.", NOW - MINUTE, is_refusal=True)]},
        Severity.WARNING, "The mail of account konto01 was sent; 3 copies for its Sent folder wait: the mailbox is full.",
    ),
    ConditionKey.SENT_COPY_GIVEN_UP: (
        {"copies": [CopyFacts("konto01", 0, given_up=2, given_up_at=NOW - HOUR, given_up_why="no connection")]},
        Severity.WARNING, "2 copies for its Sent folder were given up: no connection.",
    ),
    ConditionKey.DMARC_WRONG: (
        {"domains": [domain_trouble(Aspect.DMARC, RecordProblem.DMARC_NO_POLICY, record="v=DMARC1", right="v=DMARC1; p=none", name="_dmarc.firma1.example", policy="")]},
        Severity.WARNING, ": v=DMARC1; p=none; now: v=DMARC1.",
    ),
    ConditionKey.MX_WRONG: (
        {"domains": [domain_trouble(Aspect.MX, RecordProblem.MX_NULL)]}, Severity.WARNING, "receivers refuse mail from it",
    ),
    ConditionKey.SERVICE_CRASHED: ({"crash": CrashFacts([NOW - MINUTE], "Segmentation fault.")}, Severity.WARNING, "Segmentation fault."),
}  # fmt: skip


@pytest.mark.parametrize("key", ConditionKey)
def test_each_kind_of_condition_is_found_with_its_cause_and_a_remedy(key: ConditionKey) -> None:
    parts, severity, words = EXAMPLES[key]
    one = only(**parts)
    assert (one.key, one.severity) == (key, severity)
    assert words in one.cause
    assert one.hint
    assert "{" not in one.cause + one.hint
    assert one.since <= NOW


@pytest.mark.parametrize(
    ("snapshot", "severity", "words"),
    [
        (account(1, AccountTrouble.SUSPENDED), Severity.WARNING, "535 Authentication credentials invalid. Its mail is sent through account reserve meanwhile."),
        (account(1, AccountTrouble.PAUSED, until=NOW + MINUTE), Severity.INFO, "ionos takes no mail of account konto01 until"),
        (account(1, AccountTrouble.NO_SESSION), Severity.INFO, "Its mail is sent through account reserve meanwhile."),
        (account(1, AccountTrouble.NO_SESSION, HOUR), Severity.WARNING, "Its mail is sent through account reserve meanwhile."),
        (account(1, AccountTrouble.CERTIFICATE), Severity.WARNING, "Its mail is sent through account reserve meanwhile."),
        (account(1, AccountTrouble.NONE, hourly=[LimitUse("messages", 9, 9)]), Severity.INFO, "its limit of 9 messages an hour. Its mail is sent"),
    ],
)  # fmt: skip
def test_an_account_whose_fallback_sends_is_less_severe(
    snapshot: AccountSnapshot, severity: Severity, words: str
) -> None:
    one = only(accounts=[replace(snapshot, sends_through="reserve")])
    assert one.severity is severity
    assert words in one.cause
    assert one.hint
    assert "wait" not in one.cause
    waiting = only(
        accounts=[replace(snapshot, sends_through="reserve")], queues=[QueueFacts("konto01", 2, 0, NOW - MINUTE)]
    )
    assert "2 messages wait" in waiting.cause


def test_of_many_accounts_those_with_a_fallback_are_named() -> None:
    many = [account(number, AccountTrouble.SUSPENDED) for number in range(5)]
    some = [replace(one, sends_through="reserve") for one in many[:2]]
    one = only(accounts=[*some, *many[2:]])
    assert one.severity is Severity.ERROR
    assert "Mail of 2 accounts (konto00, konto01) is sent through account reserve meanwhile." in one.cause
    one = only(accounts=[replace(each, sends_through="reserve") for each in many])
    assert one.severity is Severity.WARNING
    assert "Their mail is sent through account reserve meanwhile." in one.cause


def test_each_kind_has_a_section_on_the_page_and_each_section_a_kind() -> None:
    headings = re.findall(r"^### `(.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(ConditionKey)


def test_every_part_of_the_facts_can_have_a_condition() -> None:
    used = {name for parts, _severity, _words in EXAMPLES.values() for name in parts}
    assert used == {field.name for field in fields(Facts)} - {"now"}


def waiting_copies(number: int, since: timedelta = HOUR, *, is_refusal: bool = True) -> CopyFacts:
    return CopyFacts(f"konto{number:02}", number, "kind", "the reason", "", NOW - since, is_refusal=is_refusal)


def test_copies_that_wait_for_a_server_are_no_condition_at_first() -> None:
    assert find_conditions(Facts(NOW, copies=[waiting_copies(1, is_refusal=False)])) == ()
    late = only(copies=[waiting_copies(1, 4 * HOUR, is_refusal=False)])
    assert late.key is ConditionKey.SENT_COPY_WAITING
    assert late.hint == "Try it: senderproxy account verify konto01"


def test_copies_of_many_accounts_that_wait_are_one_condition() -> None:
    assert len(find_conditions(Facts(NOW, copies=[waiting_copies(number) for number in (1, 2, 3)]))) == 3
    one = only(copies=[waiting_copies(number) for number in range(1, 21)])
    assert one.cause.startswith("The mail of account konto20 was sent; 20 copies for its Sent folder wait: the reason.")
    assert one.cause.endswith("The same holds for 19 more accounts.")
    assert len(one.affected.names) == 20


def test_copies_that_were_given_up_are_a_condition_for_a_day() -> None:
    old = CopyFacts("konto01", 0, given_up=1, given_up_at=NOW - DAY, given_up_why="x")
    assert find_conditions(Facts(NOW, copies=[old])) == ()


def stopped(number: int, why: str = "", *, is_wrong: bool = True) -> MxStoppedFacts:
    return MxStoppedFacts(f"firma{number}.example", "2001:db8::7", "v=spf1 -all", why, is_wrong=is_wrong)


def test_a_domain_whose_mail_to_mail_servers_waits_has_its_reason_and_the_fix() -> None:
    wrong, invalid, unknown = (
        only(mx_stopped=[one]) for one in (stopped(1), stopped(1, "ip4:zzz"), stopped(1, "Timeout", is_wrong=False))
    )
    assert (wrong.severity, wrong.hint) == (Severity.ERROR, "Add ip6:2001:db8::7 to the record, before its end.")
    assert "is invalid (ip4:zzz)" in invalid.cause
    assert invalid.hint == "Correct the record: v=spf1 -all"
    assert (unknown.severity, unknown.affected.names) == (Severity.WARNING, ("firma1.example",))
    assert "could not be evaluated yet (Timeout)" in unknown.cause


def test_many_domains_whose_mail_waits_are_one_condition() -> None:
    one = only(mx_stopped=[stopped(number) for number in range(30)])
    assert one.subject == "mx"
    assert "The same holds for 29 more domains." in one.cause
    assert len(one.affected.names) == 30


def test_a_server_of_a_route_that_stays_away_is_an_error() -> None:
    assert severities(hops=[hop(9 * MINUTE)]) == [Severity.WARNING]
    assert severities(hops=[hop(10 * MINUTE)]) == [Severity.ERROR]
    assert severities(hops=[hop(about_certificate=True)]) == [Severity.ERROR]
    assert len(found(hops=[hop(), hop(way="internal 192.168.1.20:25")])) == 2


@pytest.mark.parametrize(
    ("left", "severity"),
    [
        (31 * DAY, None),
        (30 * DAY, Severity.INFO),
        (7 * DAY, Severity.WARNING),
        (DAY, Severity.ERROR),
        (-MINUTE, Severity.CRITICAL),
    ],
)
def test_the_client_certificate_of_a_smarthost_expires(left: timedelta, severity: Severity | None) -> None:
    own = certificate(left, owner=CertificateOwner.CLIENT, name="relay", valid_from=NOW - 400 * DAY)
    assert severities(certificates=[own]) == ([severity] if severity else [])


def test_an_unusable_client_certificate_is_an_error() -> None:
    one = only(
        certificates=[certificate(DAY, owner=CertificateOwner.CLIENT, name="relay", problem="key values mismatch")]
    )
    assert (one.key, one.severity) == (ConditionKey.CLIENT_CERTIFICATE, Severity.ERROR)
    assert "key values mismatch" in one.cause


@pytest.mark.parametrize(
    ("left", "accounts", "severity"),
    [
        (31 * DAY, ["konto01"], None),
        (30 * DAY, ["konto01"], Severity.INFO),
        (7 * DAY, ["konto01"], Severity.WARNING),
        (DAY, ["konto01"], Severity.ERROR),
        (-MINUTE, ["konto01"], Severity.CRITICAL),
        (-MINUTE, [], None),
    ],
)
def test_a_secret_of_an_application_expires(left: timedelta, accounts: list[str], severity: Severity | None) -> None:
    conditions = find_conditions(Facts(NOW, applications=[ApplicationFacts("microsoft", NOW + left, accounts)]))
    assert [one.severity for one in conditions] == ([] if severity is None else [severity])
    assert ("expired" in "".join(one.cause for one in conditions)) == (severity is Severity.CRITICAL)


def test_without_trouble_there_is_no_condition() -> None:
    healthy = [account(number, AccountTrouble.NONE, hourly=[LimitUse("messages", 79, 100)]) for number in range(50)]
    assert not found(
        accounts=healthy,
        queues=[QueueFacts("konto01", 5, 0, NOW - 59 * MINUTE)],
        spool=SpoolFacts(free=200 * MIB, min_free=100 * MIB),
        vault=AccountsFacts(50),
        certificates=[certificate(60 * DAY), CertificateFacts(CertificateOwner.SMARTHOST, "smtp.ionos.de:465")],
        loop=LoopFacts(0, 0.02, NOW),
        clock=ClockFacts(90.0, NOW - HOUR),
        crash=CrashFacts([NOW - DAY]),
        clients=[client(7, 9)],
    )


# ---- one cause, one condition ----


def test_forty_accounts_of_a_dead_provider_are_one_condition_with_their_messages() -> None:
    accounts = [account(number, AccountTrouble.NO_SESSION, number * MINUTE) for number in range(40)]
    one = only(accounts=accounts, queues=[QueueFacts(f"konto{n:02}", 2, 0, NOW - 3 * HOUR) for n in range(40)])
    assert one.id == ("no_session", "ionos")
    assert one.severity is Severity.ERROR
    assert one.since == NOW - 39 * MINUTE
    assert "40 accounts (konto00, konto01, konto02, konto03, konto04, …)" in one.cause
    assert "Authentication credentials invalid. 80 messages wait, the oldest since" in one.cause
    assert len(one.affected.names) == 40


def test_a_wrong_password_is_a_condition_of_its_own_until_there_are_too_many() -> None:
    three = [account(number, AccountTrouble.SUSPENDED) for number in range(3)]
    assert set(found(accounts=three)) == {("account_suspended", f"konto0{number}") for number in range(3)}
    many = only(accounts=[*three, account(3, AccountTrouble.SUSPENDED, words="535 other")])
    assert many.id == ("account_suspended", "ionos")
    assert "535 Authentication credentials invalid" in many.cause


def test_accounts_of_two_providers_have_two_causes() -> None:
    accounts = [account(1, AccountTrouble.NO_SESSION), account(2, AccountTrouble.NO_SESSION, provider="gmail")]
    assert set(found(accounts=accounts)) == {("no_session", "ionos"), ("no_session", "gmail")}


def test_late_messages_of_an_account_without_trouble_are_a_condition_beside_those_that_have_one() -> None:
    conditions = found(
        accounts=[account(1, AccountTrouble.SUSPENDED)],
        queues=[QueueFacts("konto01", 4, 0, NOW - 2 * HOUR), QueueFacts("konto02", 1, 0, NOW - 5 * HOUR)],
    )
    assert "4 messages wait" in conditions["account_suspended", "konto01"].cause
    late = conditions["queue_late", ""]
    assert late.severity is Severity.ERROR
    assert late.affected.names == ("konto02",)
    assert "1 message waits for account konto02" in late.cause
    assert late.since == NOW - 4 * HOUR


def test_messages_of_a_pause_that_is_over_wait_too_long() -> None:
    paused = account(1, AccountTrouble.PAUSED, until=NOW)
    assert set(found(accounts=[paused], queues=[QueueFacts("konto01", 1, 0, NOW - HOUR)])) == {("queue_late", "")}


def test_a_disk_that_does_not_respond_is_the_cause_of_late_messages() -> None:
    silent = SpoolFacts(SpoolState.SILENT, "It has not responded.", "dmesg")
    assert set(found(spool=silent, queues=[QueueFacts("konto01", 1, 0, NOW - DAY)])) == {("disk_silent", "")}


def test_rejected_senders_of_one_provider_are_one_condition() -> None:
    one = only(sender_rules=[rule("b@firma.example"), rule("a@firma.example", HOUR), rule("c@firma.example")])
    assert one.since == NOW - HOUR
    assert one.cause.startswith("ionos refused a@firma.example")
    assert one.cause.endswith("and 2 more senders")
    assert one.affected.kind is AffectedKind.SENDERS


def test_many_clients_are_one_condition_that_names_the_most_frequent() -> None:
    one = only(clients=[client(number, 10 + number) for number in range(20)])
    assert one.id == ("client_turned_away", "")
    assert "Client 192.168.1.19 was turned away 29 times" in one.cause
    assert "So were 19 more clients." in one.cause


def test_hosts_without_look_up_are_one_condition_if_there_are_many() -> None:
    hosts = [LookUpFacts(f"smtp{n}.example", "timed out", NOW - 2 * DAY, NOW - 3 * DAY) for n in range(9)]
    one = only(look_ups=hosts)
    assert (one.subject, one.severity) == ("", Severity.WARNING)


def test_the_list_stays_short_whatever_happens() -> None:
    used_up = [LimitUse("messages", 9, 9)]
    conditions = found(
        accounts=[account(n, trouble, hourly=used_up) for n in range(1000) for trouble in AccountTrouble],
        clients=[client(number, 99) for number in range(5000)],
        refusals=[RefusedMessages(f"10.0.{n}.1", "a@b.example", "550 no", 99, NOW) for n in range(5000)],
        sender_rules=[rule(f"a{n}@firma.example") for n in range(5000)],
        look_ups=[LookUpFacts(f"h{n}.example", "no", NOW, NOW) for n in range(5000)],
        vault=AccountsFacts(9, unusable=["x"] * 5000, unknown_providers=[(f"k{n}", "nobody") for n in range(5000)]),
    )
    assert len(conditions) < 20


# ---- severities ----


@pytest.mark.parametrize(
    ("left", "severity"),
    [
        (31 * DAY, None),
        (30 * DAY, Severity.INFO),
        (8 * DAY, Severity.INFO),
        (7 * DAY, Severity.WARNING),
        (2 * DAY, Severity.WARNING),
        (DAY, Severity.ERROR),
        (MINUTE, Severity.ERROR),
        (timedelta(), Severity.CRITICAL),
    ],
)
def test_a_certificate_of_a_year_is_announced_30_7_and_1_days_before_its_end(
    left: timedelta, severity: Severity | None
) -> None:
    assert severities(certificates=[certificate(left)]) == ([severity] if severity else [])


def test_a_certificate_that_is_renewed_more_often_is_announced_later() -> None:
    of_90_days = certificate(25 * DAY, valid_from=NOW - 65 * DAY)
    of_6_days = certificate(2 * DAY, valid_from=NOW - 4 * DAY)
    assert not found(certificates=[of_90_days, of_6_days])
    assert severities(certificates=[replace(of_6_days, valid_until=NOW + DAY)]) == [Severity.INFO]


def test_a_certificate_that_is_not_valid_yet_or_unusable_is_wrong() -> None:
    early = only(certificates=[certificate(300 * DAY, valid_from=NOW + HOUR)])
    assert early.severity is Severity.ERROR
    assert "is not valid before" in early.cause
    broken = only(certificates=[certificate(300 * DAY, problem="the key does not belong to it")])
    assert "cannot be used: the key does not belong to it" in broken.cause


def test_a_renewed_certificate_that_is_not_in_use_needs_only_a_reload() -> None:
    assert "has a newer one: systemctl reload" in only(certificates=[certificate(DAY, renewed=True)]).hint


def test_a_limit_is_announced_at_80_percent() -> None:
    near = only(accounts=[account(1, AccountTrouble.NONE, hourly=[LimitUse("recipients", 80, 100)])])
    assert near.severity is Severity.INFO
    assert "account konto01 has nearly reached its limit of 100 recipients an hour" in near.cause
    assert near.hint.endswith("senderproxy account edit konto01 --recipients-per-hour N")


def test_the_worse_of_two_limits_counts() -> None:
    hourly = [LimitUse("messages", 85, 100), LimitUse("recipients", 500, 500)]
    assert "500 recipients" in only(accounts=[account(1, AccountTrouble.NONE, hourly=hourly)]).cause


def test_no_session_becomes_an_error_after_ten_minutes() -> None:
    assert severities(accounts=[account(1, AccountTrouble.NO_SESSION, 10 * MINUTE)]) == [Severity.ERROR]


@pytest.mark.parametrize(
    ("ago", "severity"),
    [
        ([MINUTE, MINUTE, MINUTE], Severity.ERROR),
        ([5 * HOUR, MINUTE], Severity.WARNING),
        ([2 * HOUR], Severity.INFO),
        ([DAY], None),
    ],
)
def test_a_crash_is_news_for_a_day_and_three_within_an_hour_are_an_error(
    ago: Sequence[timedelta], severity: Severity | None
) -> None:
    assert severities(crash=CrashFacts([NOW - one for one in ago])) == ([severity] if severity else [])


def test_a_stranger_that_gets_nowhere_is_no_warning() -> None:
    assert severities(clients=[client(7, 500, is_local=False)]) == [Severity.INFO]


def test_ten_blocks_within_an_hour_are_a_warning() -> None:
    assert severities(loop=LoopFacts(10, 0.4, NOW - MINUTE)) == [Severity.WARNING]


# ---- order, beginning, changes ----


def test_the_worst_comes_first_and_of_equal_ones_the_oldest() -> None:
    conditions = find_conditions(
        Facts(
            NOW,
            accounts=[account(1, AccountTrouble.SUSPENDED), account(2, AccountTrouble.SUSPENDED, HOUR)],
            certificates=[certificate(-DAY), certificate(20 * DAY, name="other")],
            clock=ClockFacts(90.0, NOW - MINUTE),
        )
    )
    assert [one.subject or one.key for one in conditions] == [
        "internal",
        "konto02",
        "konto01",
        "clock_stepped",
        "other",
    ]


def test_a_condition_keeps_its_beginning() -> None:
    facts = Facts(NOW, spool=SpoolFacts(SpoolState.FULL, "Too little space.", "Free some."))
    known = {("disk_full", ""): NOW - HOUR}
    assert [one.since for one in find_conditions(facts, known)] == [NOW - HOUR]
    assert [one.since for one in find_conditions(facts)] == [NOW]


def test_changes_are_beginnings_other_severities_and_ends() -> None:
    clock = ClockFacts(90.0, NOW)
    at_first = find_conditions(Facts(NOW, accounts=[account(1, AccountTrouble.NO_SESSION)], clock=clock))
    accounts = [account(1, AccountTrouble.NO_SESSION), account(2, AccountTrouble.SUSPENDED)]
    later = find_conditions(Facts(NOW + HOUR, accounts=accounts, clock=clock))
    changes = compare(at_first, later)
    assert [one.id for one in changes.begun] == [("account_suspended", "konto02")]
    assert [(one.id, one.severity) for one in changes.changed] == [(("no_session", "ionos"), Severity.ERROR)]
    assert changes.ended == [("clock_stepped", "")]
    unchanged = compare(later, later)
    assert (unchanged.begun, unchanged.changed, unchanged.ended) == ([], [], [])


def test_a_condition_that_becomes_part_of_a_wider_one_does_not_end() -> None:
    three = find_conditions(Facts(NOW, accounts=[account(n, AccountTrouble.SUSPENDED) for n in range(3)]))
    four = find_conditions(Facts(NOW, accounts=[account(n, AccountTrouble.SUSPENDED) for n in range(4)]))
    wider = compare(three, four)
    assert [one.id for one in wider.begun] == [("account_suspended", "ionos")]
    assert wider.ended == []
    narrower = compare(four, three)
    assert (narrower.begun, narrower.ended) == ([], [("account_suspended", "ionos")])


def test_after_a_restart_a_condition_that_goes_on_is_not_new_and_one_that_is_over_ends() -> None:
    now = find_conditions(Facts(NOW, spool=SpoolFacts(SpoolState.FULL, "Too little space.", "Free some.")))
    changes = compare((), now, {("disk_full", ""): NOW - HOUR, ("no_session", "ionos"): NOW - HOUR})
    assert (changes.begun, changes.ended) == ([], [("no_session", "ionos")])


# ---- JSON ----


@pytest.mark.parametrize("key", ConditionKey)
def test_a_condition_passes_through_json_unchanged(key: ConditionKey) -> None:
    one = only(**EXAMPLES[key][0])
    assert read_condition(condition_entry(one)) == one


def test_the_entry_of_a_condition_is_bounded() -> None:
    accounts = [account(number, AccountTrouble.NO_SESSION, words="5" * 5000) for number in range(1000)]
    entry = condition_entry(only(accounts=accounts))
    assert entry["affected"]["count"] == 1000
    assert len(entry["affected"]["names"]) == 200
    assert len(entry["cause"]) == 1000


def test_many_domains_of_one_provider_with_the_same_trouble_are_one_condition() -> None:
    three = [domain_trouble(Aspect.SPF, RecordProblem.SPF_NONE, number) for number in range(3)]
    assert [subject for _key, subject in found(domains=three)] == ["firma0.example", "firma1.example", "firma2.example"]
    many = [domain_trouble(Aspect.SPF, RecordProblem.SPF_NONE, number) for number in range(40)]
    one = only(domains=many)
    assert (one.subject, len(one.affected.names), one.affected.kind) == ("ionos", 40, AffectedKind.DOMAINS)
    assert one.cause.endswith(" The same holds for 39 more domains.")
    both = [*many, domain_trouble(Aspect.MX, RecordProblem.MX_NONE, 5)]
    assert list(found(domains=both)) == [("mx_wrong", "firma5.example"), ("spf_wrong", "ionos")]


def test_another_build_of_the_same_version_is_another_program() -> None:
    [found] = find_conditions(Facts(NOW, program=OutdatedProgram("0.1.0", "0.1.0")))
    assert "another build of version 0.1.0" in found.cause
    assert found.hint == "systemctl restart senderproxy"


# ---- another language ----


def test_the_same_conditions_are_found_in_german_with_the_texts_in_their_facts() -> None:
    facts = Facts(
        NOW,
        accounts=[account(1, AccountTrouble.SUSPENDED, hint=_("Choose another id."))],
        spool=SpoolFacts(SpoolState.FULL, why=_("There is no account yet."), hint=_("There is no account yet.")),
        vault=AccountsFacts(0),
    )
    with language("de"):
        suspended, full, none = sorted(find_conditions(facts), key=lambda one: one.key)
    assert full.cause == "Neue Mail für die Warteschlange wird zurückgestellt: Es gibt noch kein Konto."
    assert full.hint == "Es gibt noch kein Konto."
    assert none.hint == "Legen Sie eines an: senderproxy account add ADDRESS --provider NAME"
    assert suspended.cause.startswith("ionos lehnt die Anmeldung von Konto konto01 ab: 535 ")
    assert [one.cause for one in find_conditions(facts)] != [suspended.cause, none.cause, full.cause]
    assert {one.id for one in find_conditions(facts)} == {full.id, none.id, suspended.id}


@pytest.mark.parametrize("key", ConditionKey)
def test_a_condition_is_put_into_german_later_as_if_it_were_found_in_german(key: ConditionKey) -> None:
    waiting = [QueueFacts("konto01", 3, 0, NOW - 2 * MINUTE)]
    parts = {"queues": waiting} | EXAMPLES[key][0]
    english = found(**parts)
    with language("de"):
        german = found(**parts)
        assert {id_: translated_condition(one) for id_, one in english.items()} == german
        assert {id_: in_english(one.cause) for id_, one in german.items()} == {
            id_: one.cause for id_, one in english.items()
        }
    same = {one.cause for one in english.values()} & {one.cause for one in german.values()}
    # The example's text comes from elsewhere, as plain text.
    assert bool(same) == (key in (ConditionKey.VAULT_ROLLED_BACK, ConditionKey.SENDER_RULE_STRICTER))


def test_of_many_accounts_with_lost_copies_the_one_with_most_is_named() -> None:
    copies = [
        CopyFacts(f"konto0{number}", waiting=9 - number, given_up=number, given_up_at=NOW, given_up_why="no connection")
        for number in range(1, 5)
    ]
    one = only(copies=copies)
    assert "The mail of account konto04 was sent; 4 copies for its Sent folder were given up" in one.cause
    assert one.cause.endswith("The same holds for 3 more accounts.")


def test_a_server_that_ends_its_words_with_a_period_gets_no_second_one() -> None:
    words = "the mailbox is full: [OVERQUOTA] Quota exceeded (0.002 secs)."
    one = only(copies=[CopyFacts("konto01", 1, "over_quota", words, "Delete mail.", NOW - MINUTE, is_refusal=True)])
    assert one.cause.endswith("(0.002 secs).")
    assert not one.cause.endswith("..")
