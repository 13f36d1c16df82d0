"""Messages as they really look, through the whole service: what had not to change arrives octet for octet."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import dkim
import pytest

from senderproxy.simulator.observations import ReceivedMessage
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings, postfix_like
from tests.journeys.sender_cases import ANNA, BOUNCES, SCAN, Setting
from tests.journeys.test_senders import MAIL_BOXES, Doors, office_in_front_of, provider_section
from tests.peers.letters import hand_over
from tests.senderproxy.cli.conftest import beside

pytestmark = pytest.mark.slow

MESSAGES: Final = Path(__file__).parents[1] / "corpus" / "messages"
MARKED: Final = ("Auto-Submitted", "X-Auto-Response-Suppress", "X-Senderproxy-Loop")


@dataclass(frozen=True)
class Way:
    """With which reverse-path a message is handed in and leaves, and which fields are added to it."""

    path: str
    leaves_as: str
    adds: tuple[str, ...] = ()
    listener: str = "office"
    login: str = ANNA


WAYS: Final = {
    "out-of-office": Way("", BOUNCES, MARKED[2:]),
    "ndr": Way("", BOUNCES, MARKED[1:], login=BOUNCES),
    "read-receipt": Way("", BOUNCES, MARKED),
    "meeting-request": Way(ANNA, ANNA),
    "smime-signed": Way(ANNA, ANNA),
    "dkim-signed": Way(ANNA, ANNA),
    "tnef": Way(ANNA, ANNA),
    "folded-to": Way(ANNA, ANNA),
    "japanese-subject": Way(ANNA, ANNA),
    "german-subject": Way(ANNA, ANNA),
    "scanner": Way(SCAN, SCAN, ("Date", "Message-ID"), "devices", SCAN),
}
NOTES: Final = ("out-of-office", "read-receipt")  # the bounce's postmaster@ is no address of a mailbox


@dataclass(frozen=True)
class Place:
    """The office and its provider, for all messages."""

    simulator: Simulator
    doors: Doors

    def pass_through(self, name: str) -> tuple[bytes, ReceivedMessage]:
        """The message as it was handed in, and as it arrived."""
        content, way = (MESSAGES / f"{name}.eml").read_bytes(), WAYS[name]
        before = len(self.simulator.received)
        code, text = hand_over(getattr(self.doors, way.listener), way.path, "karl@kunde.test", content)
        assert code == 250, text
        [arrived] = self.simulator.received[before:]
        return content, arrived


def _place(settings: SimulatorSettings) -> Iterator[Place]:
    with (
        beside(partial(Simulator, settings)) as simulator,
        office_in_front_of(provider_section(simulator), Setting.GENEROUS.value) as (_, doors, _),
    ):
        yield Place(simulator, doors)


@pytest.fixture(scope="module")
def ionos() -> Iterator[Place]:
    yield from _place(SimulatorSettings(mailboxes=MAIL_BOXES))


@pytest.fixture(scope="module")
def hoster() -> Iterator[Place]:
    """It takes the null reverse-path, and each mailbox's own addresses."""
    yield from _place(postfix_like(MAIL_BOXES))


def _below_our_field(arrived: ReceivedMessage) -> bytes:
    ours = re.match(rb"Received: from .*\r\n\tby relay\.office\.test \(senderproxy\).*\r\n\t.*\r\n", arrived.content)
    assert ours, arrived.content[:300]
    return arrived.content[ours.end() :]


def _names(fields: bytes) -> tuple[str, ...]:
    return tuple(re.findall(r"^([!-9;-~]+):", fields.decode("ascii"), re.MULTILINE))


@pytest.mark.parametrize("name", WAYS)
def test_a_real_message_arrives_whole(ionos: Place, name: str) -> None:
    content, arrived = ionos.pass_through(name)
    way = WAYS[name]
    assert (arrived.login, arrived.reverse_path) == (way.login, way.leaves_as)
    header, body = content.split(b"\r\n\r\n", 1)
    below = _below_our_field(arrived)
    # Fields may have been added below the others; those that came, and the body, are the same octets.
    assert below.startswith(header + b"\r\n")
    assert below.endswith(b"\r\n\r\n" + body)
    added = below[len(header) + 2 : len(below) - len(body) - 2]
    assert _names(added) == way.adds
    if not way.adds:
        assert below == content


@pytest.mark.parametrize("name", NOTES)
def test_where_the_null_reverse_path_is_taken_nothing_is_added(hoster: Place, name: str) -> None:
    content, arrived = hoster.pass_through(name)
    assert (arrived.login, arrived.reverse_path) == (ANNA, "")
    assert _below_our_field(arrived) == content


def test_a_signed_message_still_verifies(ionos: Place, tmp_path: Path) -> None:
    _, arrived = ionos.pass_through("smime-signed")
    (tmp_path / "signed.eml").write_bytes(arrived.content)

    def verify(file: Path) -> subprocess.CompletedProcess[str]:
        authority = MESSAGES / "smime-authority.pem"
        # When it was signed does not matter here, and this machine's clock may be anything.
        command = ["openssl", "smime", "-verify", "-no_check_time", "-in", file, "-CAfile", authority]
        return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=30, check=False)

    assert verify(tmp_path / "signed.eml").returncode == 0
    assert "Der Vertrag ist angenommen" in verify(tmp_path / "signed.eml").stdout
    (tmp_path / "other.eml").write_bytes(arrived.content.replace(b"1=2E000", b"9=2E000"))
    assert verify(tmp_path / "other.eml").returncode != 0


def test_what_the_office_signed_with_dkim_still_verifies(ionos: Place) -> None:
    _, arrived = ionos.pass_through("dkim-signed")
    record = (MESSAGES / "dkim-key.txt").read_bytes()

    def dns(name: bytes, timeout: int = 5) -> bytes:
        assert name == b"office._domainkey.firma.test."
        return record

    assert dkim.verify(arrived.content, dnsfunc=dns)
    assert not dkim.verify(arrived.content.replace(b"zwei Leerzeichen", b"zwei  Leerzeichen"), dnsfunc=dns)


def test_every_message_is_there_and_has_its_note() -> None:
    files = {file.stem for file in MESSAGES.glob("*.eml")}
    assert files == set(WAYS)
    notes = (MESSAGES / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(.+)\.eml` \|", notes, re.MULTILINE)) == files
    assert len((MESSAGES / "folded-to.eml").read_bytes().partition(b"\r\nSubject:")[0].split(b"\r\n")) == 31
