"""Validity of a certificate, read from a PEM file without a library. PURE.

Guarantees: linear in the length of the text; nothing but the two times is interpreted, and nothing is verified.
Not here: the verification of certificates (ssl).
RFC 5280 section 4.1, X.690 (DER).
"""

import binascii
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"
_SEQUENCE: Final = 0x30  # DER tag
_VERSION: Final = 0xA0  # DER tag [0], absent in version 1
_UTC_TIME: Final = 0x17  # DER tag; two digits of the year
_GENERALIZED_TIME: Final = 0x18  # DER tag; four digits of the year
_LONG_FORM: Final = 0x80  # flag in the first octet of a length
_LENGTH_OCTETS: Final = 4  # octets of a length at most; no certificate is larger
_TURN_OF_THE_CENTURY: Final = 50  # RFC 5280 section 4.1.2.5.1: years from 50 are of the 20th century


def read_validity(pem: str) -> tuple[datetime, datetime]:
    """The beginning and the end of the first certificate's validity. Raises ValueError if there is none."""
    _before, begin, rest = pem.partition(_BEGIN)
    encoded, end, _after = rest.partition(_END)
    if not begin or not end:
        raise ValueError("no certificate in PEM form")
    try:
        der = binascii.a2b_base64(encoded)
    except binascii.Error as error:
        raise ValueError("no certificate in PEM form") from error
    _tag, certificate = next(_elements(der))
    _tag, to_be_signed = next(_elements(certificate))
    fields = [(tag, content) for tag, content in _elements(to_be_signed) if tag != _VERSION]
    if len(fields) < 4 or fields[3][0] != _SEQUENCE:  # serial number, signature, issuer, validity
        raise ValueError("no validity in the certificate")
    times = list(_elements(fields[3][1]))
    if len(times) != 2:
        raise ValueError("no validity in the certificate")
    return _time(*times[0]), _time(*times[1])


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements of a DER sequence: tag and content. Raises ValueError; also if there is none."""
    at = 0
    while at < len(der) or at == 0:
        header = der[at : at + 2]
        if len(header) < 2:
            raise ValueError("the certificate is cut")
        tag, length = header
        at += 2
        if length & _LONG_FORM:
            octets = length ^ _LONG_FORM
            if octets > _LENGTH_OCTETS:
                raise ValueError("the certificate is damaged")
            length = int.from_bytes(der[at : at + octets], "big")
            at += octets
        if at + length > len(der):
            raise ValueError("the certificate is cut")
        yield tag, der[at : at + length]
        at += length


def _time(tag: int, content: bytes) -> datetime:
    """A time in UTC. Raises ValueError."""
    text = content.decode("ascii", "replace")
    if tag == _UTC_TIME:
        century = "19" if text[:2] >= str(_TURN_OF_THE_CENTURY) else "20"
        text = century + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time in the certificate's validity")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
