"""Certificates of the simulator: valid and invalid ones."""

import asyncio
import ssl
import warnings
from datetime import UTC, datetime

import pytest

from senderproxy.simulator.certificates import Authority
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import CertificateKind, SimulatorSettings
from tests.senderproxy.simulator.raw_client import RawClient

STRICT = getattr(ssl, "VERIFY_X509_STRICT", 0x20)  # what Python 3.13 asks for by default


def settings(kind: CertificateKind) -> SimulatorSettings:
    return SimulatorSettings(mailboxes={"anna@firma.example": SimulatedMailbox("geheim-anna")}, certificate=kind)


async def test_the_good_certificate_passes_the_strictest_verification_and_names_host_and_loopback() -> None:
    async with Simulator(settings(CertificateKind.GOOD)) as simulator:
        context = simulator.client_context()
        context.verify_flags |= STRICT
        reader, writer = await asyncio.open_connection(simulator.host, simulator.port_tls, ssl=context)
        assert (await reader.readline()).startswith(b"220")
        names = {value for _, value in writer.get_extra_info("peercert")["subjectAltName"]}
        assert names >= {"smtp.ionos.example", "localhost", "127.0.0.1"}
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (CertificateKind.EXPIRED, "expired"),
        (CertificateKind.NOT_YET_VALID, "not yet valid"),
        (CertificateKind.OTHER_NAME, "mismatch"),
        (CertificateKind.SELF_SIGNED, "self[- ]signed"),
        (CertificateKind.OTHER_AUTHORITY, "unable to get local issuer certificate"),
    ],
)
async def test_a_bad_certificate_is_refused_for_the_reason_it_was_made_for(
    kind: CertificateKind, complaint: str
) -> None:
    async with Simulator(settings(kind)) as simulator:
        with pytest.raises(ssl.SSLCertVerificationError, match=complaint):
            async with RawClient(simulator):
                pass
        await simulator.wait_until(lambda simulator: simulator.sessions[0].ended == "lost")
        assert simulator.sessions[0].commands == []


async def test_a_simulator_that_speaks_only_old_tls_finds_no_modern_client() -> None:
    async with Simulator(SimulatorSettings(only_old_tls=True)) as simulator:
        with pytest.raises(OSError):
            async with RawClient(simulator):
                pass
        old = simulator.client_context()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = ssl.TLSVersion.TLSv1
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        _, writer = await asyncio.open_connection(simulator.host, simulator.port_tls, ssl=old)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.1"
        writer.close()
        await writer.wait_closed()


async def test_two_simulators_can_share_one_authority() -> None:
    async with Simulator(SimulatorSettings()) as one, Simulator(SimulatorSettings(), authority=one.authority) as two:
        assert one.ca_file.read_bytes() == two.ca_file.read_bytes()
        async with RawClient(two) as client:
            assert (await client.read_reply())[0].startswith("220")


def test_an_authority_does_not_show_its_key() -> None:
    assert "PRIVATE" not in repr(Authority.create(datetime.now(UTC)))
