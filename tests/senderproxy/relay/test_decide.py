"""The decision about one message: permitted senders of a client, and the hop limit."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from senderproxy.mail.address import NULL_PATH, parse_address, parse_pattern
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.submission import Client
from senderproxy.relay.decide import Decision, MessageFacts, Rules, decide
from senderproxy.rewriting.plan import Discard, apply_edits
from senderproxy.rewriting.received_field import HOP_LIMIT
from senderproxy.routing.account import Account
from senderproxy.routing.author_policy import AuthorMap, AuthorPolicy
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.provider import Provider, SenderRule
from senderproxy.routing.route import Refusal, RoutingPolicy

ANNA, BOSS, NOBODY = "anna@firma.example", "chef@firma.example", "nobody@firma.example"


def _account(address: str) -> Account:
    return Account(address.partition("@")[0], address, "p", parse_address(address), (parse_pattern(address),))


DIRECTORY = AccountDirectory([_account(ANNA), _account(BOSS)])
RULES = Rules("proxy", {"p": Provider("p", (), sender_rule=SenderRule.DOMAIN)}, RoutingPolicy())
BY_DEFAULT = Rules("proxy", RULES.providers, RoutingPolicy(default_account="chef"))


def _decide(
    author: str | None, path: str, allowed: tuple[str, ...] | None, *, sender: str | None = None, rules: Rules = RULES
) -> Decision | Refusal | Discard:
    senders = None if allowed is None else tuple(parse_pattern(text) for text in allowed)
    client = Client(host="192.168.1.9", name="pc", protocol="ESMTP", senders=senders)
    header = (f"From: {author}\r\n" if author else "") + (f"Sender: {sender}\r\n" if sender else "") + "\r\n"
    envelope = Envelope(parse_address(path) if path else NULL_PATH, (parse_address("kunde@customer.example"),))
    return decide(_facts(header, envelope, client), DIRECTORY, rules)


def _facts(header: str, envelope: Envelope, client: Client) -> MessageFacts:
    return MessageFacts(HeaderSection(header.encode()), envelope, client, "id", datetime(2026, 11, 24, tzinfo=UTC))


@pytest.mark.parametrize(
    ("author", "path", "allowed", "account"),
    [
        (ANNA, ANNA, None, "anna"),
        (BOSS, BOSS, None, "chef"),
        (ANNA, ANNA, (ANNA,), "anna"),
        (ANNA, "", (ANNA,), "anna"),
        ("Anna@Firma.Example", ANNA, (ANNA,), "anna"),
        (BOSS, BOSS, ("@firma.example",), "chef"),
        (None, ANNA, (ANNA,), "anna"),
        (BOSS, BOSS, (ANNA,), None),
        (BOSS, ANNA, (ANNA,), None),
        (ANNA, BOSS, (ANNA,), None),
        (None, BOSS, (ANNA,), None),
        (ANNA, ANNA, (), None),
    ],
)
def test_a_client_sends_as_its_own_senders_only(
    author: str | None, path: str, allowed: tuple[str, ...] | None, account: str | None
) -> None:
    decision = _decide(author, path, allowed)
    if account is None:
        assert isinstance(decision, Refusal)
        assert decision.reply.code == 550
        assert "192.168.1.9 may not send as" in decision.reply.lines[0]
    else:
        assert isinstance(decision, Decision)
        assert decision.route.account.id == account


def test_the_sender_field_does_not_permit_another_account() -> None:
    decision = _decide(NOBODY, NOBODY, (NOBODY,), sender=BOSS)
    assert isinstance(decision, Refusal)
    assert "may not send as chef@firma.example" in decision.reply.lines[0]


def test_the_default_account_is_subject_to_the_clients_senders() -> None:
    assert isinstance(_decide(NOBODY, NOBODY, None, rules=BY_DEFAULT), Decision)
    refused = _decide(NOBODY, NOBODY, (NOBODY,), rules=BY_DEFAULT)
    assert isinstance(refused, Refusal)
    assert "may not send as chef@firma.example" in refused.reply.lines[0]


def test_an_unreadable_from_field_is_refused() -> None:
    client = Client(host="127.0.0.1", name="x", protocol="ESMTP")
    envelope = Envelope(parse_address(ANNA), (parse_address("kunde@customer.example"),))
    header = f"From: {ANNA}\r\nFrom: {BOSS}\r\n\r\n"
    refusal = decide(_facts(header, envelope, client), DIRECTORY, RULES)
    assert isinstance(refusal, Refusal)
    assert str(refusal.reply.status) == "5.6.0"


def test_a_bounce_whose_author_has_no_account_is_refused_with_the_setting_for_it() -> None:
    refused = _decide("postmaster@firma.example", "", None)
    assert isinstance(refused, Refusal)
    assert "bounce_account under [senders]" in refused.reply.text
    assert "senderproxy account add postmaster@firma.example" in refused.reply.text
    ordinary = _decide("postmaster@firma.example", "postmaster@firma.example", None)
    assert isinstance(ordinary, Refusal)
    assert "bounce_account" not in " ".join(ordinary.reply.lines)


def test_a_clients_senders_are_those_after_the_rewrite() -> None:
    """The address in the message has no effect if the configuration replaces it."""
    mapped = replace(RULES, senders=AuthorPolicy(mapped=AuthorMap({"root@srv.local": parse_address(ANNA)}, {})))
    envelope = Envelope(parse_address("root@srv.local"), (parse_address("kunde@customer.example"),))
    for allowed, forced, goes in (
        (ANNA, None, True),
        ("root@srv.local", None, False),
        (ANNA, ANNA, True),
        ("root@srv.local", ANNA, False),
        (ANNA, BOSS, False),
    ):
        client = Client("192.168.1.9", "srv", "ESMTP", None, (parse_pattern(allowed),))
        client = replace(client, forced_sender=parse_address(forced) if forced else None)
        verdict = decide(_facts("From: root@srv.local\r\n\r\n", envelope, client), DIRECTORY, mapped)
        assert isinstance(verdict, Decision) is goes, (allowed, forced)


@pytest.mark.parametrize(("hops", "is_loop"), [(HOP_LIMIT, False), (HOP_LIMIT + 1, True), (60, True)])
def test_a_message_with_more_received_fields_than_the_hop_limit_is_a_loop(hops: int, is_loop: bool) -> None:
    header = "Received: from a by b; Sat, 31 Jan 2026 08:15:00 +0100\r\n" * hops + f"From: {ANNA}\r\n\r\n"
    envelope = Envelope(parse_address(ANNA), (parse_address("kunde@customer.example"),))
    decision = decide(_facts(header, envelope, Client("192.168.1.9", "pc", "ESMTP")), DIRECTORY, RULES)
    if is_loop:
        assert isinstance(decision, Refusal)
        assert str(decision.reply) == "554 5.4.6 Mail loop: the message has more than 50 Received fields."
    else:
        assert isinstance(decision, Decision)


RESTRICTED = Client(host="192.168.1.9", name="pc", protocol="ESMTP", senders=(parse_pattern(ANNA),))
TO_CUSTOMER = Envelope(parse_address(ANNA), (parse_address("kunde@customer.example"),))


def _decide_header(header: bytes, client: Client = RESTRICTED) -> Decision | Refusal | Discard:
    facts = MessageFacts(HeaderSection(header), TO_CUSTOMER, client, "id", datetime(2026, 11, 24, tzinfo=UTC))
    return decide(facts, DIRECTORY, RULES)


@pytest.mark.parametrize("field", ["Sender", "Resent-From", "Resent-Sender", "resent-from"])
def test_every_field_that_names_a_sender_is_held_to_the_clients_permissions(field: str) -> None:
    refused = _decide_header(f"{field}: {BOSS}\r\nFrom: {ANNA}\r\n\r\n".encode())
    assert isinstance(refused, Refusal)
    assert f"may not send as {BOSS}" in refused.reply.lines[0]
    below = _decide_header(f"From: {ANNA}\r\n{field}: {ANNA}\r\n{field}: {BOSS}\r\n\r\n".encode())
    assert isinstance(below, Refusal) or field == "Sender"  # two Sender fields are unreadable, so both are removed
    assert isinstance(_decide_header(f"{field}: {ANNA}\r\nFrom: {ANNA}\r\n\r\n".encode()), Decision)
    everybody = replace(RESTRICTED, senders=None)
    assert isinstance(_decide_header(f"{field}: {BOSS}\r\nFrom: {ANNA}\r\n\r\n".encode(), everybody), Decision)


@pytest.mark.parametrize("value", ["not an address", "a@b@c", "<>", f"{ANNA}, {BOSS}", "x <@>"])
def test_an_unreadable_sender_field_is_removed_before_the_client_is_judged_by_the_rest(value: str) -> None:
    decision = _decide_header(f"Sender: {value}\r\nFrom: {ANNA}\r\n\r\n".encode())
    assert isinstance(decision, Decision)
    [change] = [change for change in decision.plan.changes if change.what == "Sender"]
    assert (change.old, change.new) == (value, "")


def test_an_unreadable_resent_field_of_a_restricted_client_is_refused() -> None:
    refused = _decide_header(f"Resent-From: a@b@c\r\nFrom: {ANNA}\r\n\r\n".encode())
    assert isinstance(refused, Refusal)
    assert "Resent-From" in refused.reply.lines[0]


@pytest.mark.parametrize(
    "mark",
    [
        b"\xef\xbb\xbf",
        b"\xc2\xa0",
        b"\xa0",
        b"\xe2\x80\x8b",
        b"\xe2\x81\xa0",
        b"\xff\xfe",
        b"\x00",
        b"\x0b ",
        b"\xef\xbb\xbf ",
    ],
)
@pytest.mark.parametrize("field", [b"From", b"sender", b"RESENT-FROM", b"Resent-Sender"])
def test_a_field_behind_invisible_octets_is_refused_for_a_restricted_client(mark: bytes, field: bytes) -> None:
    header = f"From: {ANNA}\r\n".encode() + mark + field + b": " + BOSS.encode() + b"\r\n\r\n"
    refused = _decide_header(header)
    assert isinstance(refused, Refusal)
    assert refused.reply.code == 550
    spaced = f"From: {ANNA}\r\n".encode() + mark + field + b" \xc2\xa0: " + BOSS.encode() + b"\r\n\r\n"
    assert isinstance(_decide_header(spaced), Refusal)


def test_a_listener_with_a_forced_sender_leaves_no_other_name_of_a_sender() -> None:
    scanner = replace(RESTRICTED, senders=None, forced_sender=parse_address(ANNA))
    fields = "".join(f"{name}: {BOSS}\r\n" for name in ("Sender", "Resent-From", "Resent-Sender", "Resent-To"))
    for author in (ANNA, BOSS):
        decision = _decide_header(f"{fields}From: {author}\r\nSender: {ANNA}\r\n\r\n".encode(), scanner)
        assert isinstance(decision, Decision)
        header = HeaderSection(f"{fields}From: {author}\r\nSender: {ANNA}\r\n\r\n".encode())
        left = apply_edits(decision.plan, header)
        assert not [field.name for field in left.fields() if field.name.lower() == "sender" or "Resent" in field.name]


# ---- From fields without an address ----

BOUNCES = replace(RULES, senders=AuthorPolicy(bounce_account="chef"))
NAMED = replace(RULES, senders=AuthorPolicy(mapped=AuthorMap(names={"root": parse_address(BOSS)})))


def _from_left(decision: Decision | Refusal | Discard, author: str) -> list[bytes]:
    assert isinstance(decision, Decision), decision
    return apply_edits(decision.plan, HeaderSection(f"From: {author}\r\n\r\n".encode())).values("From")


@pytest.mark.parametrize(
    ("author", "path", "rules", "account", "left"),
    [
        ("root (Cron Daemon)", ANNA, RULES, "anna", f"root <{ANNA}>"),
        ("root", BOSS, RULES, "chef", f"root <{BOSS}>"),
        ("<>", ANNA, RULES, "anna", ANNA),
        ("Scan Station", ANNA, RULES, "anna", f"Scan Station <{ANNA}>"),
        ("Postmaster", ANNA, RULES, "anna", f"Postmaster <{ANNA}>"),
        ("MAILER-DAEMON", "", BOUNCES, "chef", f"MAILER-DAEMON <{BOSS}>"),
        ("MAILER-DAEMON <>", "", BOUNCES, "chef", f"MAILER-DAEMON <{BOSS}>"),
        ("Mail Delivery Subsystem <MAILER-DAEMON>", "", BOUNCES, "chef", f"Mail Delivery Subsystem <{BOSS}>"),
        ("root", NOBODY, BY_DEFAULT, "chef", f"root <{NOBODY}>"),
        ("Cron <Root>", ANNA, NAMED, "chef", f"Cron <{BOSS}>"),
        ("root", NOBODY, NAMED, "chef", f"root <{BOSS}>"),
        ("www-data", ANNA, NAMED, "anna", f"www-data <{ANNA}>"),
    ],
)
def test_a_local_name_in_from_leaves_the_choice_to_the_reverse_path(
    author: str, path: str, rules: Rules, account: str, left: str
) -> None:
    decision = _decide(author, path, None, rules=rules)
    assert isinstance(decision, Decision), decision
    assert decision.route.account.id == account
    assert _from_left(decision, author) == [b" " + left.encode()]
    assert [change.what for change in decision.plan.changes].count("From") == 1


@pytest.mark.parametrize("author", ["root", "<>", "Chef <chef>", "chef", "MAILER-DAEMON <>"])
@pytest.mark.parametrize("path", ["", NOBODY, "root@chef.local"])
def test_a_local_name_reaches_no_account_by_itself(author: str, path: str) -> None:
    assert isinstance(_decide(author, path, None), Refusal)


def test_a_local_name_does_not_extend_the_senders_of_a_client() -> None:
    assert isinstance(_decide("root", BOSS, (ANNA,)), Refusal)
    assert isinstance(_decide("root", ANNA, (ANNA,), rules=NAMED), Refusal)  # mapped to the boss
    assert isinstance(_decide("root", ANNA, (ANNA,)), Decision)


@pytest.mark.parametrize(
    "sender", ["www-data", "Scan Station", "<>", "a@b.example, c@d.example", "\u00e4@b.example", "x <"]
)
def test_an_unreadable_sender_field_is_removed_and_from_decides(sender: str) -> None:
    for allowed in (None, (ANNA,)):
        decision = _decide(ANNA, ANNA, allowed, sender=sender)
        assert isinstance(decision, Decision), decision
        assert decision.route.account.id == "anna"
        header = HeaderSection(f"From: {ANNA}\r\nSender: {sender}\r\n\r\n".encode())
        assert apply_edits(decision.plan, header).values("Sender") == []
        assert "Sender" in [change.what for change in decision.plan.changes]


def test_a_repeated_from_of_one_author_is_left_once() -> None:
    header = f"From: Anna <{ANNA}>\r\nTo: x@y.example\r\nfrom: ANNA@firma.example\r\n\r\n"
    client = Client(host="127.0.0.1", name="x", protocol="ESMTP")
    envelope = Envelope(parse_address(ANNA), (parse_address("kunde@customer.example"),))
    decision = decide(_facts(header, envelope, client), DIRECTORY, RULES)
    assert isinstance(decision, Decision)
    assert apply_edits(decision.plan, HeaderSection(header.encode())).values("From") == [b" Anna <anna@firma.example>"]


def test_an_author_outside_ascii_is_refused_with_its_own_status() -> None:
    refused = _decide("\u00e4nna@firma.example", ANNA, None)
    assert isinstance(refused, Refusal)
    assert str(refused.reply.status) == "5.6.7"
    assert "outside ASCII before the @" in refused.reply.text


# ---- loops through this server ----


def _passed(times: int, host: str = "proxy") -> str:
    one = f"Received: from mail.firma.example ([192.168.1.9])\r\n\tby {host} (senderproxy) with ESMTP id Rep{{}}xyz;\r\n\tSun, 29 Nov 2026 10:00:00 +0100\r\n"
    other = (
        "Received: from mx.kunde.example by mail.firma.example with ESMTP id 7;\r\n Sun, 29 Nov 2026 10:00:00 +0100\r\n"
    )
    return "".join(other + one.format(number) for number in range(times))


@pytest.mark.parametrize(("times", "is_loop"), [(0, False), (2, False), (3, True), (9, True)])
def test_a_message_that_this_server_has_sent_three_times_is_stopped_and_the_loop_named(
    times: int, is_loop: bool
) -> None:
    header = f"{_passed(times)}{_passed(9, 'other.example')}From: {ANNA}\r\n\r\n"
    for path in (ANNA, "alice@fremd.example"):
        envelope = Envelope(parse_address(path), (parse_address("vertrieb@firma.example"),))
        decision = decide(_facts(header, envelope, Client("192.168.1.9", "pc", "ESMTP")), DIRECTORY, RULES)
        assert isinstance(decision, Refusal) is is_loop
        if not isinstance(decision, Refusal):
            continue
        assert (decision.reply.code, str(decision.reply.status)) == (554, "5.4.6")
        assert decision.reply.lines[0] == (
            f"Mail loop: this server has sent this message {times} times, and 192.168.1.9 has submitted it again, for"
            " vertrieb@firma.example."
        )
        assert "make firma.example local there" in decision.hint
        assert "senderproxy track rep0xyz" in decision.hint
        assert (len(decision.reply.lines) == 2) is (path == ANNA), "a stranger gets no hint"


@pytest.mark.parametrize(
    "value",
    [
        "from x by proxy (senderproxy)",
        "from x (by proxy (senderproxy) with ESMTP id x) by other.example",
        "from x by proxy.example (senderproxy) with ESMTP id x;",
        "from x by notproxy (senderproxy) with ESMTP id x;",
        "(senderproxy)",
    ],
)
def test_a_received_field_of_another_server_is_no_pass(value: str) -> None:
    header = f"Received: {value}\r\n" * 5 + f"From: {ANNA}\r\n\r\n"
    assert isinstance(
        decide(_facts(header, TO_CUSTOMER, Client("192.168.1.9", "pc", "ESMTP")), DIRECTORY, RULES), Decision
    )


@pytest.mark.parametrize("lenient", [True, False])
def test_a_line_that_hides_a_second_author_reaches_no_other_account(lenient: bool) -> None:
    """What a stray line separates is never read as another From than the one that leaves."""
    client = Client(host="127.0.0.1", name="x", protocol="ESMTP", lenient=lenient)
    envelope = Envelope(parse_address(ANNA), (parse_address("kunde@customer.example"),))
    for between in ("stray", "\u00a0From: x", "From x", "\ufeff", "-", ".", "From\u200b: x"):
        for order in ((ANNA, BOSS), (BOSS, ANNA)):
            header = f"From: {order[0]}\r\n{between}\r\nFrom: {order[1]}\r\n\r\n"
            assert isinstance(decide(_facts(header, envelope, client), DIRECTORY, RULES), Refusal), header
        header = f"From: {ANNA}\r\nstray\r\n{between}\r\n From: {BOSS}\r\n\r\n"
        verdict = decide(_facts(header, envelope, client), DIRECTORY, RULES)
        assert isinstance(verdict, Refusal) or verdict.route.account.id == "anna"  # type: ignore[union-attr]


def test_a_strict_listener_names_the_line() -> None:
    client = Client(host="127.0.0.1", name="x", protocol="ESMTP")
    envelope = Envelope(parse_address(ANNA), (parse_address("kunde@customer.example"),))
    refused = decide(_facts(f"A banner\r\nFrom: {ANNA}\r\n\r\n", envelope, client), DIRECTORY, RULES)
    assert isinstance(refused, Refusal)
    assert (refused.reply.code, str(refused.reply.status)) == (550, "5.6.0")
    assert refused.reply.lines[-1] == "A line in the header section is not a header field: A banner"
