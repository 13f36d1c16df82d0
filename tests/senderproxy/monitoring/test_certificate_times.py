"""Validity of certificates, compared with what cryptography reads."""

import base64
import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.monitoring.certificate_times import read_validity

KEY = ec.generate_private_key(ec.SECP256R1())


def pem(start: dt.datetime, end: dt.datetime) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail.firma.example")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(2**150)
        .not_valid_before(start)
        .not_valid_after(end)
        .sign(KEY, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


WHOLE = pem(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 4, 1, tzinfo=dt.UTC))
DER = base64.b64decode("".join(WHOLE.splitlines()[1:-1]))


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (dt.datetime(1996, 2, 29, 23, 59, 59, tzinfo=dt.UTC), dt.datetime(2049, 12, 31, tzinfo=dt.UTC)),
        (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2050, 1, 1, 1, 2, 3, tzinfo=dt.UTC)),
        (dt.datetime(2051, 1, 1, tzinfo=dt.UTC), dt.datetime(2999, 1, 1, tzinfo=dt.UTC)),
    ],
)
def test_the_validity_is_that_of_the_certificate(start: dt.datetime, end: dt.datetime) -> None:
    assert read_validity(pem(start, end)) == (start, end)


def test_the_first_certificate_of_a_chain_counts_and_text_around_it_does_not() -> None:
    other = pem(dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2040, 1, 1, tzinfo=dt.UTC))
    key = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    assert read_validity(f"{key}subject: mail\n{WHOLE}{other}")[1] == dt.datetime(2026, 4, 1, tzinfo=dt.UTC)


@given(st.binary(max_size=60), st.integers(0, len(DER)))
def test_a_damaged_certificate_is_an_error_and_no_other_fault(octets: bytes, at: int) -> None:
    encoded = base64.b64encode(DER[:at] + octets + DER[at + len(octets) :]).decode()
    try:
        start, end = read_validity(f"-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n")
    except ValueError:
        return
    assert start.tzinfo is end.tzinfo is dt.UTC


def test_a_certificate_that_was_cut_is_an_error() -> None:
    for length in range(len(DER)):
        encoded = base64.b64encode(DER[:length]).decode()
        with pytest.raises(ValueError):
            read_validity(f"-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n")


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nMII", WHOLE.replace("END", "end"), "\0" * 10])
def test_a_text_without_a_certificate_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        read_validity(text)
