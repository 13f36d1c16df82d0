"""Messages are signed as they leave: after every other change, at each attempt, small and large ones."""

import asyncio
import errno
import threading
from collections.abc import Callable
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path

import dkim
import pytest

from senderproxy.dkim.choice import KeyRing
from senderproxy.dkim.key import SigningKey
from senderproxy.footer.footer import Footer, FooterTable
from senderproxy.listener.body import BodyBuffer, SpillDirectory
from senderproxy.mail.address import parse_address, parse_pattern
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Body, Message
from senderproxy.mail.outcome import Deferred, Delivered, Outcome
from senderproxy.mail.submission import Client, Submission
from senderproxy.relay.decide import Decision
from senderproxy.relay.dkim_signing import DkimSigner
from tests.senderproxy.dkim.signing import private_key, ring, signing_key, verified
from tests.senderproxy.relay.office import KUNDE, RelayOffice, relay_office
from tests.senderproxy.relay.routes import routes_office
from tests.senderproxy.relay.test_content_changes import Body as MemoryBody

HEADER = (
    "From: Anna <anna@firma.example>\r\nTo: x@kunde.example\r\nSubject: Hallo\r\nMessage-ID: <1@x>\r\n"
    "Date: Sat, 31 Jan 2026 08:15:00 +0100\r\nMIME-Version: 1.0\r\n"
)
PLAIN = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
UMLAUTS = "Grüße\r\n..\r\n".encode()
ARMOUR = "-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\nGrüße\r\n-----BEGIN PGP SIGNATURE-----\r\n".encode()
MULTIPART = 'Content-Type: multipart/{kind}; boundary="x"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'
PARTS = (
    "--x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n"
    "--x\r\nContent-Type: {second}\r\n\r\ntext\r\n--x--\r\n"
)


def buffer(octets: bytes) -> BodyBuffer:
    body = BodyBuffer(10_000_000, SpillDirectory())
    body.append(octets)
    return body


def submission(office: RelayOffice, header: str | bytes, body: Body, *recipients: str) -> Submission:
    return Submission(
        office.clock.new_id(),
        "office",
        Client("192.168.1.20", "pc.firma.example", "ESMTP"),
        Envelope(parse_address("anna@firma.example"), tuple(parse_address(path) for path in recipients or (KUNDE,))),
        Message(HeaderSection(header.encode() if isinstance(header, str) else header), body),
        office.clock.now(),
    )


async def deliver(office: RelayOffice, header: str, body: Body) -> Outcome:
    offered = submission(office, header, body)
    decision = office.relay.decide(offered)
    assert isinstance(decision, Decision)
    (outcome,) = (await office.relay.deliver(offered, decision)).values()
    return outcome


async def sent(office: RelayOffice, header: str, octets: bytes) -> bytes:
    """Deliver a message; the content that arrived."""
    assert isinstance(await deliver(office, header, buffer(octets)), Delivered)
    return office.simulator.received[-1].content


def use(office: RelayOffice, *keys: SigningKey) -> None:
    office.relay.dkim.ring = ring(*keys) if keys else None


@pytest.mark.parametrize("octets", [b"", b"text\r\n", b"..\r\n..x \r\n\r\n", b"a line\r\n" * 200_000])
async def test_a_message_is_signed_and_nothing_else_changes(tmp_path: Path, octets: bytes) -> None:
    async with relay_office(tmp_path) as office:
        before = await sent(office, HEADER + "\r\n", octets)
        use(office, signing_key())
        after = await sent(office, HEADER + "\r\n", octets)
    assert b"DKIM-Signature" not in before
    assert after.startswith(b"DKIM-Signature: v=1; a=rsa-sha256; ")
    assert after.partition(b"\r\nSubject: ")[2] == before.partition(b"\r\nSubject: ")[2]
    assert verified(after)


async def test_only_the_key_of_the_authors_domain_signs(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        use(office, signing_key("sp1", "laden.example"), signing_key("sp1", "mail.firma.example"))
        assert b"DKIM-Signature" not in await sent(office, HEADER + "\r\n", b"text\r\n")
        use(office, signing_key("sp1", "laden.example"), signing_key())
        assert b"d=firma.example" in await sent(office, HEADER + "\r\n", b"text\r\n")
        use(office)
        assert b"DKIM-Signature" not in await sent(office, HEADER + "\r\n", b"text\r\n")


async def test_nothing_is_signed_for_a_provider_that_signs(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        use(office, signing_key())
        providers = {name: replace(one, signs=True) for name, one in office.rules.providers.items()}
        office.relay.rules = replace(office.rules, providers=providers)
        assert b"DKIM-Signature" not in await sent(office, HEADER + PLAIN, UMLAUTS)
        assert office.simulator.received[-1].content.endswith(UMLAUTS.replace(b"..", b"."))


@pytest.mark.parametrize(("way", "signed"), [("account anna", False), ("relay", True)])
async def test_a_server_that_is_not_the_provider_gets_a_signature(tmp_path: Path, way: str, *, signed: bool) -> None:
    async with routes_office(tmp_path, ("*", way)) as office:
        office.use_provider(signs=True)
        use(office, signing_key())
        assert isinstance(await deliver(office, HEADER + PLAIN, buffer(UMLAUTS)), Delivered)
        [arrived] = [*office.simulator.received, *office.relay_host.received]
    assert (b"DKIM-Signature" in arrived.content) == signed
    assert arrived.content.isascii() == signed
    if signed:
        assert verified(arrived.content)


async def test_the_signature_covers_the_repairs(tmp_path: Path) -> None:
    """A message without Date and Message-ID, with a raw umlaut in its subject, leaves with all three repaired."""
    header = "From: anna@firma.example\r\nTo: x@kunde.example\r\nSubject: Grüße\r\n\r\n"
    async with relay_office(tmp_path) as office:
        use(office, signing_key())
        after = await sent(office, header, b"text\r\n")
    assert after.isascii()
    assert b"Message-ID: <" in after
    assert verified(after)


async def test_an_own_valid_signature_stays_alone_and_one_that_a_repair_breaks_does_not(tmp_path: Path) -> None:
    def by_the_internal_server(header: str) -> str:
        raw = header.encode() + b"\r\ntext\r\n"
        pem = private_key("internal").reveal_pem().encode()
        return bytes(dkim.sign(raw, b"internal", b"firma.example", pem)).decode() + header + "\r\n"

    async with relay_office(tmp_path) as office:
        use(office, signing_key())
        alone = await sent(office, by_the_internal_server(HEADER), b"text\r\n")
        assert alone.count(b"DKIM-Signature") == 1
        assert verified(alone, signing_key("internal"))
        twice = HEADER.replace("Subject: Hallo\r\n", "Subject: Hallo\r\nSubject: Hallo\r\n")
        repaired = await sent(office, by_the_internal_server(twice), b"text\r\n")
    assert repaired.count(b"DKIM-Signature") == 2
    assert verified(repaired)


async def test_8_bit_content_is_re_encoded_before_it_is_signed(tmp_path: Path) -> None:
    """So that no server on the way has to."""
    async with relay_office(tmp_path) as office:
        use(office, signing_key())
        after = await sent(office, HEADER + PLAIN, UMLAUTS)
        assert after.isascii()
        assert message_from_bytes(after).get_payload(decode=True) == UMLAUTS.replace(b"..", b".")
        assert verified(after)
        nested = await sent(office, HEADER + MULTIPART.format(kind="mixed"), PARTS.format(second="text/plain").encode())
        assert nested.isascii()
        assert verified(nested)


@pytest.mark.parametrize(
    ("header", "octets"),
    [
        (MULTIPART.format(kind="signed"), PARTS.format(second="application/pgp-signature").encode()),
        (MULTIPART.format(kind="mixed"), PARTS.format(second='MULTIPART/Signed; boundary="y"').encode()),
        (MULTIPART.format(kind="mixed"), PARTS.format(second="application/pkcs7-mime").encode()),
        (MULTIPART.format(kind="mixed"), PARTS.format(second="message/rfc822\r\n\r\nDKIM-Signature: v=1").encode()),
        (PLAIN, ARMOUR),
    ],
    ids=["signed", "nested", "pkcs7", "enclosed", "pgp"],
)
@pytest.mark.parametrize("eight_bit_mime", [True, False])
async def test_content_with_a_signature_of_its_own_is_signed_as_it_is(
    tmp_path: Path, header: str, octets: bytes, *, eight_bit_mime: bool
) -> None:
    async with relay_office(tmp_path) as office:
        office.simulator.settings = replace(office.simulator.settings, eight_bit_mime=eight_bit_mime)
        use(office, signing_key())
        after = await sent(office, HEADER + header, octets)
        if eight_bit_mime:
            assert after.endswith(octets)
        assert verified(after)


async def test_what_a_server_without_8bitmime_gets_is_signed_after_its_re_encoding(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        office.simulator.settings = replace(office.simulator.settings, eight_bit_mime=False)
        use(office, signing_key())
        for header, octets in ((PLAIN, UMLAUTS), (PLAIN, ARMOUR), (PLAIN, b"x" * 3000 + b"\r\n" + UMLAUTS)):
            after = await sent(office, HEADER + header, octets)
            assert after.isascii()
            assert after.count(b"DKIM-Signature") == 1
            assert verified(after)


async def test_each_attempt_makes_its_own_signature(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        use(office, signing_key())
        first = await sent(office, HEADER + "\r\n", b"text\r\n")
        await office.advance(3600)
        second = await sent(office, HEADER + "\r\n", b"text\r\n")
    times = [int(raw.partition(b" t=")[2].partition(b";")[0]) for raw in (first, second)]
    assert times[1] - times[0] >= 3600
    assert verified(first)


async def test_a_queued_message_is_signed_with_the_key_of_its_attempt(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        use(office, signing_key("sp2"))
        await office.submit(at="devices", body=buffer(UMLAUTS), header=PLAIN.rstrip("\r\n") + "\r\n")
        await office.until_all_is_done()
        (taken,) = office.simulator.received
    assert verified(taken.content, signing_key("sp2"))


async def test_several_recipients_get_the_same_signature(tmp_path: Path) -> None:
    async with relay_office(tmp_path, recipients_per_message=1) as office:
        use(office, signing_key())
        offered = submission(office, HEADER + "\r\n", buffer(b"text\r\n"), "a@kunde.example", "b@kunde.example")
        decision = office.relay.decide(offered)
        assert isinstance(decision, Decision)
        await office.relay.deliver(offered, decision)
        contents = [taken.content for taken in office.simulator.received]
    assert len(contents) == 2
    assert contents[0] == contents[1]
    assert verified(contents[0])


# ---- threads, faults ----


def noting(threads: list[int], key: SigningKey) -> SigningKey:
    def sign(octets: bytes) -> bytes:
        threads.append(threading.get_ident())
        return key.sign(octets)

    return replace(key, sign=sign)


async def test_small_messages_are_signed_at_once_and_large_ones_on_a_thread(tmp_path: Path) -> None:
    threads: list[int] = []
    async with relay_office(tmp_path) as office:
        use(office, noting(threads, signing_key()))
        await sent(office, HEADER + "\r\n", b"text\r\n")
        assert threads == [threading.get_ident()]
        await sent(office, HEADER + "\r\n", b"text\r\n" * 10_000)
        await sent(
            office, HEADER + "X-Large: " + "x" * 900 + "\r\n" + f"X-Large: {'y' * 900}\r\n" * 12 + "\r\n", b"x\r\n"
        )
        on_disk = buffer(b"text\r\n" * 100)
        await on_disk.write()
        assert isinstance(await deliver(office, HEADER + "\r\n", on_disk), Delivered)
        on_disk.close()
        assert verified(office.simulator.received[-1].content)
    assert len(threads) == 4
    assert threading.get_ident() not in threads[1:]


@pytest.mark.parametrize("lines", [1, 10_000])
async def test_a_disk_that_fails_defers_the_message(tmp_path: Path, lines: int) -> None:
    body = MemoryBody(b"text\r\n" * lines, fault=OSError(errno.EIO, "Input/output error"))
    async with relay_office(tmp_path) as office:
        use(office, signing_key())
        outcome = await deliver(office, HEADER + "\r\n", body)
        assert isinstance(outcome, Deferred)
        assert str(outcome.reply).startswith("451 4.3.0")
        assert not office.simulator.received
        await office.until(lambda: body.users == 1, "the end of all uses")


async def test_a_disk_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    started, release = threading.Event(), threading.Event()

    class Hanging(MemoryBody):
        def blocks(self):
            started.set()
            assert release.wait(30)
            yield self.octets

    body = Hanging(b"text\r\n" * 10_000)
    async with relay_office(tmp_path) as office:
        office.relay.dkim = DkimSigner(office.clock, timeout_seconds=0.2)
        use(office, signing_key())
        delivering = asyncio.create_task(deliver(office, HEADER + "\r\n", body))
        await office.until(started.is_set, "the signature")
        assert isinstance(await delivering, Deferred)
        release.set()
        await office.until(lambda: body.users == 1, "the end of all uses")


def fails(*_: object) -> bytes:
    raise RuntimeError("a fault")


@pytest.mark.parametrize(
    "broken",
    [lambda key: ring(replace(key, sign=fails)), lambda _key: KeyRing({"firma.example": None})],  # type: ignore[dict-item]
    ids=["signature", "key"],
)
async def test_after_an_internal_error_the_message_leaves_unsigned(
    tmp_path: Path, broken: Callable[[SigningKey], KeyRing], caplog: pytest.LogCaptureFixture
) -> None:
    async with relay_office(tmp_path) as office:
        office.relay.dkim.ring = broken(signing_key())
        after = await sent(office, HEADER + "\r\n", b"text\r\n")
    assert b"DKIM-Signature" not in after
    faults = [record for record in caplog.records if "message sent unsigned" in record.getMessage()]
    assert len(faults) <= 1


async def test_a_footer_with_umlauts_is_added_and_re_encoded_before_the_signature(tmp_path: Path) -> None:
    async with relay_office(tmp_path) as office:
        use(office, signing_key())
        footer = Footer((parse_pattern("@firma.example"),), "-- \nFirma GmbH, Köln", "<p>Firma GmbH, Köln</p>")
        office.relay.rules = replace(office.rules, footers=FooterTable((footer,)))
        after = await sent(office, HEADER + PLAIN, UMLAUTS)
        ascii_body = await sent(office, HEADER + PLAIN, b"text\r\n")
    for raw in (after, ascii_body):
        assert raw.isascii()
        text = message_from_bytes(raw).get_payload(decode=True)
        assert isinstance(text, bytes)
        assert "Köln".encode() in text
        assert verified(raw)
