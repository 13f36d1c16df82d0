"""Mail that real programs send on: Pigeonhole's redirect and vacation, an alias of Postfix, mail fetchers."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.journeys.test_senders import provider_section
from tests.peers.bench import Bench, bench, pytest_runtest_makereport
from tests.peers.catch_all import CatchAll, Fetcher
from tests.peers.letters import hand_over
from tests.peers.office import PostfixOffice
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.pigeonhole import Pigeonhole
from tests.peers.postfix import write_map
from tests.peers.process import private_folder, why_not_here
from tests.peers.provider import Mailbox, PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy, VaultAccount
from tests.senderproxy.cli.conftest import beside

__all__ = ["bench", "pytest_runtest_makereport"]

reason = why_not_here(POSTFIX, DOVECOT, "fetchmail", "getmail", "swaks", root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ANNA: Final = VaultAccount("anna@firma.test", "geheim-anna", ("info@firma.test",), "Firma GmbH")
BERT: Final = VaultAccount("bert@firma.test", "geheim-bert")
ALICE, PRIVATE = "alice@fern.test", "anna@privat.test"
TRICKS: Final = f"Resent-From: {BERT.login}\r\nX-Sieve-Redirected-From: {BERT.login}\r\nDelivered-To: {BERT.login}\r\n"
RECEIVED: Final = "Received: from mx.fern.test by mail.firma.test with ESMTP id 1; Sun, 29 Nov 2026 10:00:00 +0100\r\n"
LETTER: Final = (
    f"DKIM-Signature: v=1; d=fern.test; b=abc\r\n{TRICKS}From: Alice Example <{ALICE}>\r\nTo: {ANNA.login}\r\n"
    "Subject: Hallo\r\nDate: Sun, 29 Nov 2026 10:00:00 +0100\r\nMessage-ID: <1@fern.test>\r\n\r\nGuten Tag\r\n"
)
REWRITE: Final = '[senders]\nforeign_author = "rewrite"\n'


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    boxes = {account.login: SimulatedMailbox(account.password) for account in (ANNA, BERT)}
    with beside(partial(Simulator, SimulatorSettings(mailboxes=boxes))) as simulator:
        yield simulator


def _relay(bench: Bench, simulator: Simulator, more: str) -> Senderproxy:
    return bench.start(Senderproxy([ANNA, BERT], provider_section(simulator), more_settings=more))


def _header(content: bytes) -> str:
    return content.partition(b"\r\n\r\n")[0].decode()


@pytest.fixture
def folder() -> Iterator[Path]:
    with private_folder("pigeonhole") as folder:
        yield folder


def test_pigeonhole_redirects_from_the_account_of_its_mailbox(bench: Bench, simulator: Simulator, folder: Path) -> None:
    relay = _relay(bench, simulator, REWRITE)
    mailbox = Pigeonhole(folder, ANNA.login, f'redirect "{PRIVATE}";', relay.port)
    mailbox.deliver(ALICE, (RECEIVED + LETTER).encode())
    [left] = simulator.received
    assert (left.login, left.reverse_path, left.recipients) == (ANNA.login, ANNA.login, (PRIVATE,))
    header = _header(left.content)
    assert f"X-Sieve-Redirected-From: {ANNA.login}" in header
    assert f"\r\nFrom: Alice Example via Firma GmbH <{ANNA.login}>\r\n" in header
    assert f"\r\nReply-To: Alice Example <{ALICE}>\r\n" in header
    assert "DKIM-Signature" not in header
    assert mailbox.kept() == []


def test_pigeonhole_redirects_of_a_bounce_are_from_the_mailbox_too(
    bench: Bench, simulator: Simulator, folder: Path
) -> None:
    relay = _relay(bench, simulator, REWRITE)
    bounce = LETTER.replace(f"Alice Example <{ALICE}>", "Mail Delivery Subsystem <MAILER-DAEMON@fern.test>")
    Pigeonhole(folder, ANNA.login, f'redirect "{PRIVATE}";', relay.port).deliver("", (RECEIVED + bounce).encode())
    [left] = simulator.received
    assert (left.login, left.reverse_path) == (ANNA.login, ANNA.login)


def test_a_redirect_that_is_refused_stays_in_the_mailbox(bench: Bench, simulator: Simulator, folder: Path) -> None:
    relay = _relay(bench, simulator, "")
    mailbox = Pigeonhole(folder, ANNA.login, f'redirect "{PRIVATE}";', relay.port)
    mailbox.deliver(ALICE, (RECEIVED + LETTER).encode())
    assert simulator.received == []
    assert len(mailbox.kept()) == 1
    assert "5.7.1" in mailbox.log()
    relay.wait_for_log('set foreign_author = \\"rewrite\\"')


def test_pigeonholes_vacation_leaves_from_its_author(bench: Bench, simulator: Simulator, folder: Path) -> None:
    relay = _relay(bench, simulator, "")
    script = f'require "vacation";\nvacation :from "Anna Berg <{ANNA.login}>" "Ich bin im Urlaub.";'
    Pigeonhole(folder, ANNA.login, script, relay.port).deliver(ALICE, (RECEIVED + LETTER).encode())
    [left] = simulator.received
    assert (left.login, left.reverse_path, left.recipients) == (ANNA.login, ANNA.login, (ALICE,))
    header = _header(left.content)
    assert "Auto-Submitted: auto-replied" in header
    assert f"From: Anna Berg <{ANNA.login}>" in header


class _WithAlias(PostfixOffice):
    """An office whose server forwards the mail of one address to a place outside."""

    def settings(self) -> dict[str, str]:
        aliases = write_map(self.folder / "etc" / "aliases", {ANNA.login: PRIVATE})
        return {**super().settings(), "virtual_alias_maps": aliases}


@pytest.mark.parametrize("setting", ["", 'foreign_account = "bert@firma.test"'])
def test_an_alias_of_postfix_needs_the_foreign_account(bench: Bench, simulator: Simulator, setting: str) -> None:
    """Postfix says nowhere whose alias it is, and its Received field is above all that a stranger wrote."""
    relay = _relay(bench, simulator, REWRITE + setting)
    office = bench.start(_WithAlias(relay.port, ["firma.test", "fern.test"]))
    assert hand_over(office.port, ALICE, ANNA.login, LETTER.encode())[0] == 250
    office.wait_until_nothing_waits()
    if setting:
        [left] = simulator.received
        assert (left.login, left.reverse_path, left.recipients) == (BERT.login, BERT.login, (PRIVATE,))
        assert f'\r\nFrom: "Alice Example via firma.test" <{BERT.login}>\r\n' in _header(left.content)
        return
    office.wait_until(office.returned, "the bounce")
    [bounce] = office.returned()
    words = b" ".join(bounce.content.split())
    assert bounce.recipients == [ALICE]
    assert b"foreign_account under [senders]" in words
    assert b"senderproxy account" not in words
    assert simulator.received == []


@pytest.mark.parametrize("fetcher", Fetcher)
def test_a_catch_all_mailbox_and_a_relayed_domain_are_stopped_as_a_loop(bench: Bench, fetcher: Fetcher) -> None:
    """The office's server does not know its own domain, and a program fetches whatever the provider has for it."""
    post, sales = "post@firma.test", "vertrieb@firma.test"
    provider = bench.start(PostfixProvider([Mailbox(post, "geheim-post")], Rule.DOMAIN))
    account = VaultAccount(post, "geheim-post", ("@firma.test",))
    relay = bench.start(Senderproxy.in_front_of(provider, [account]))
    office = bench.start(PostfixOffice(relay.port, ["andere.test"]))
    maildir = provider.folder / "mailbox" / "all"
    catch_all = bench.start(CatchAll(provider.folder / "catch-all", maildir, bench.port()))
    letter = LETTER.replace(f"Alice Example <{ALICE}>", ANNA.login).encode()
    assert hand_over(office.port, ANNA.login, sales, letter)[0] == 250
    for number in range(3):
        provider.wait_until(catch_all.waiting, f"round {number}")
        catch_all.fetch(fetcher, sales, office.port)
        office.wait_until_nothing_waits()
    relay.wait_for_log("Mail loop: this server has sent this message 3 times")
    relay.wait_for_log("make firma.test local there")
    assert catch_all.waiting() == []
