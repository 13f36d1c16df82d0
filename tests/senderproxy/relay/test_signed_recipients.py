"""SRS in the decision and in the whole relay: redirects that leave with it, and bounces that come back to it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from senderproxy.mail.address import NULL_PATH, Address, parse_address
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.relay.decide import Decision, MessageFacts, Rules, decide
from senderproxy.rewriting.plan import Discard
from senderproxy.rewriting.srs import SigningKeys, make_srs, make_sub_address, undo_srs
from senderproxy.routing.author_policy import AuthorPolicy, ForeignAuthorPolicy
from senderproxy.routing.provider import SenderRule
from senderproxy.routing.route import Refusal
from senderproxy.simulator.provider_replies import UNKNOWN_USER
from tests.senderproxy.relay.office import SETTINGS, relay_office
from tests.senderproxy.relay.test_redirects import (
    ANNA,
    BERT,
    DIRECTORY,
    FROM,
    LIMITED,
    MALLORY,
    PROVIDERS,
    RECEIVED,
    REST,
    RULES,
    SERVER,
)

KEYS = SigningKeys((b"k" * 32,))
NOW = datetime(2026, 11, 29, 10, tzinfo=UTC)
SRS = replace(RULES, senders=replace(RULES.senders, srs=True))
REDIRECT = f"Delivered-To: {ANNA}\r\n{RECEIVED}{FROM}{REST}"
BOUNCE = f"From: Mail Delivery System <mailer-daemon@kundenserver.example>\r\n{REST}"


def _decide(
    header: str,
    path: str,
    *recipients: Address,
    rules: Rules = SRS,
    keys: SigningKeys | None = KEYS,
    now: datetime = NOW,
    client: object = SERVER,
) -> Decision | Refusal | Discard:
    envelope = Envelope(
        parse_address(path) if path else NULL_PATH, recipients or (parse_address("privat@post.example"),)
    )
    facts = MessageFacts(HeaderSection(header.encode()), envelope, client, "id", now, keys=keys)  # type: ignore[arg-type]
    return decide(facts, DIRECTORY, rules)


def _path(decision: Decision | Refusal | Discard) -> Address:
    assert isinstance(decision, Decision), decision
    path = decision.plan.envelope.reverse_path
    assert isinstance(path, Address)
    return path


def _srs(text: str = MALLORY, domain: str = "firma.example", now: datetime = NOW, keys: SigningKeys = KEYS) -> Address:
    made = make_srs(parse_address(text), domain, keys, now)
    assert made is not None
    return made


# ---- redirects ----


def test_a_redirect_leaves_with_an_srs_address_of_the_mailboxs_domain() -> None:
    path = _path(_decide(REDIRECT, MALLORY))
    assert path.domain == "firma.example"
    assert undo_srs(path, KEYS, NOW) == parse_address(MALLORY)
    shop = _path(_decide(f"Delivered-To: info@laden.example\r\n{RECEIVED}{FROM}{REST}", MALLORY))
    assert (shop.domain, undo_srs(shop, KEYS, NOW)) == ("laden.example", parse_address(MALLORY))


def test_a_redirected_srs_address_leaves_as_srs1() -> None:
    first = _srs(domain="anderswo.example", keys=SigningKeys((b"x" * 32,)))
    path = _path(_decide(REDIRECT, str(first)))
    assert path.local_part.startswith("SRS1=")
    assert undo_srs(path, KEYS, NOW) == first


@pytest.mark.parametrize(
    ("header", "path", "left"),
    [
        (REDIRECT, ANNA, ANNA),
        (REDIRECT, "", ANNA),
        (f"From: {ANNA}\r\n{REST}", MALLORY, ANNA),
        (f"From: {ANNA}\r\n{REST}", ANNA, ANNA),
        (REDIRECT, f"{'a' * 50}@fremd.example", ANNA),
        (REDIRECT, "root@server.local", ANNA),
    ],
)
def test_only_a_strangers_reverse_path_becomes_an_srs_address(header: str, path: str, left: str) -> None:
    assert str(_path(_decide(header, path))) == left


def test_without_key_setting_or_permission_the_reverse_path_is_the_mailboxs() -> None:
    strict = {"domain": replace(PROVIDERS["domain"], sender_rule=SenderRule.ADDRESS, from_rule=SenderRule.ADDRESS)}
    assert str(_path(_decide(REDIRECT, MALLORY, keys=None))) == ANNA
    assert str(_path(_decide(REDIRECT, MALLORY, rules=RULES))) == ANNA
    assert str(_path(_decide(REDIRECT, MALLORY, rules=replace(SRS, providers=strict)))) == ANNA


def test_a_provider_that_takes_any_sender_gets_srs_too() -> None:
    anything = {"domain": replace(PROVIDERS["domain"], sender_rule=SenderRule.ANY)}
    path = _path(_decide(REDIRECT, MALLORY, rules=replace(SRS, providers=anything)))
    assert undo_srs(path, KEYS, NOW) == parse_address(MALLORY)


# ---- bounces that come back ----


def test_a_bounce_goes_on_to_the_original_reverse_path() -> None:
    back = _srs()
    decision = _decide(BOUNCE, "", back)
    assert isinstance(decision, Decision)
    assert decision.undone == {back: parse_address(MALLORY)}
    assert decision.route.account.id == "anna"
    [change] = [change for change in decision.plan.changes if change.what == "recipient"]
    assert (change.old, change.new) == (str(back), MALLORY)
    shop = _decide(BOUNCE, "", _srs(domain="laden.example"))
    assert isinstance(shop, Decision)
    assert shop.route.account.id == "post"
    named = _decide(BOUNCE, "", back, rules=replace(SRS, senders=replace(SRS.senders, bounce_account="bert")))
    assert isinstance(named, Decision)
    assert named.route.account.id == "bert"
    bare = _decide(f"From: MAILER-DAEMON\r\n{REST}", "", back)
    assert isinstance(bare, Decision)


@pytest.mark.parametrize(
    ("recipient", "code", "words"),
    [
        (_srs(keys=SigningKeys((b"x" * 32,))), 550, "its signature is not from this server"),
        (_srs(now=NOW - timedelta(days=30)), 550, "it has expired"),
        (Address("SRS0=abc", "firma.example"), 550, "it is malformed"),
        (Address("SRS1=abcdef=x.example==y", "firma.example"), 550, "its signature is not from this server"),
    ],
)
@pytest.mark.parametrize("path", ["", MALLORY, ANNA])
def test_a_forged_or_expired_address_is_refused(recipient: Address, code: int, words: str, path: str) -> None:
    for header in (BOUNCE, f"From: {ANNA}\r\n{REST}"):
        refused = _decide(header, path, parse_address("privat@post.example"), recipient)
        assert isinstance(refused, Refusal)
        assert refused.reply.code == code
        assert words in refused.reply.lines[0]


def test_an_srs_address_of_another_domain_is_nobody_of_ours() -> None:
    other = _srs(domain="anderswo.example")
    decision = _decide(f"From: {ANNA}\r\n{REST}", ANNA, other)
    assert isinstance(decision, Decision)
    assert decision.undone is None


def test_without_a_key_a_returning_bounce_waits() -> None:
    refused = _decide(BOUNCE, "", _srs(), keys=None)
    assert isinstance(refused, Refusal)
    assert refused.reply.code == 451
    assert refused.hint.endswith("senderproxy vault make-srs-key")


def test_a_limited_client_sends_bounces_on_by_an_account_that_it_may_use() -> None:
    assert isinstance(_decide(BOUNCE, "", _srs(), client=LIMITED), Decision)
    assert isinstance(_decide(BOUNCE, "", _srs(), client=replace(LIMITED, senders=())), Refusal)


# ---- signed sub-addresses ----


def test_where_the_provider_takes_tags_automatic_mail_has_a_signed_one_and_an_answer_to_it_is_stopped() -> None:
    strict = replace(PROVIDERS["domain"], sender_rule=SenderRule.ADDRESS, from_rule=SenderRule.ADDRESS)
    tagged = replace(RULES, providers={"domain": replace(strict, takes_sub_addresses=True)})
    away = f"From: {BERT}\r\n{REST}"
    path = _path(_decide(away, "", rules=tagged))
    assert path.without_tag == parse_address(BERT)
    assert path == make_sub_address(parse_address(BERT), KEYS, NOW)
    assert str(_path(_decide(away, "", rules=tagged, keys=None))) == BERT
    assert str(_path(_decide(away, "", rules=replace(RULES, providers={"domain": strict})))) == BERT
    for header, reverse in (
        (f"From: {ANNA}\r\n{REST}", ""),
        (f"Auto-Submitted: auto-replied\r\nFrom: {ANNA}\r\n{REST}", ANNA),
    ):
        refused = _decide(header, reverse, path, rules=tagged)
        assert isinstance(refused, Refusal)
        assert str(refused.reply).startswith("554 5.4.6 Mail loop: ")
    assert isinstance(_decide(f"From: {ANNA}\r\n{REST}", ANNA, path, rules=tagged), Decision)


# ---- the whole relay ----


async def test_a_bounce_to_an_srs_address_arrives_at_the_stranger(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        office.drawer.keys = KEYS
        policy = AuthorPolicy(foreign=ForeignAuthorPolicy.REWRITE, srs=True)
        office.relay.rules = replace(office.rules, senders=policy)
        top = "Delivered-To: anna@firma.example\r\n"
        assert (await office.submit(by=MALLORY, header=top))[1].code == 250
        [redirected] = office.simulator.received
        assert redirected.login == "anna@firma.example"
        assert redirected.reverse_path.startswith("SRS0=")
        for listener in ("office", "devices"):
            message, result = await office.submit(
                redirected.reverse_path, by="mailer-daemon@kunde.example", null_path=True, at=listener
            )
            assert result.code == 250
            await office.until_all_is_done()
            assert office.simulator.received[-1].recipients == (MALLORY,)
        assert await office.statuses(message) == {redirected.reverse_path: "delivered"}
        _, refused = await office.submit(
            redirected.reverse_path.replace("SRS0=", "SRS0=x"), by="mailer-daemon@kunde.example", null_path=True
        )
        assert refused.code == 550
        assert len(office.simulator.received) == 3


async def test_a_refused_bounce_names_the_srs_address(tmp_path: Path) -> None:
    settings = replace(SETTINGS, recipient_replies={MALLORY: UNKNOWN_USER})
    async with relay_office(tmp_path, settings) as office:
        office.drawer.keys = KEYS
        policy = AuthorPolicy(foreign=ForeignAuthorPolicy.REWRITE, srs=True)
        office.relay.rules = replace(office.rules, senders=policy)
        back = make_srs(parse_address(MALLORY), "firma.example", KEYS, office.clock.now())
        assert back is not None
        message, result = await office.submit(str(back), by="mailer-daemon@kunde.example", null_path=True)
        assert result.code == 550

        async def is_recorded() -> bool:
            return bool(await office.event_kinds(message))

        await office.until(is_recorded, "the history")
        assert await office.statuses(message) == {str(back): "failed"}
