"""Display names: decoding for logs and commands, encoding for header fields."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.display import decode_words


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"Anna Muster", "Anna Muster"),
        (b"  Anna \t Muster ", "Anna Muster"),
        (b"=?utf-8?q?=C3=84nna_Muster?=", "Änna Muster"),
        (b"=?UTF-8?B?w4RubmE=?=", "Änna"),
        (b"=?utf-8?B?w4RubmE?=", "Änna"),
        (b"=?utf-8*de?q?=C3=84nna?=", "Änna"),
        (b"=?iso-8859-1?Q?M=FCller?=", "Müller"),
        (b"=?windows-1252?Q?M=FCller_=96_Firma?=", "Müller – Firma"),
        (b"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
        (b"=?utf-8?q?Anna?= =?utf-8?q?bert?=", "Annabert"),
        (b"=?utf-8?q?Anna?= Muster", "Anna Muster"),
        (b"Dr. =?utf-8?q?=C3=84nna?= (Firma)", "Dr. Änna (Firma)"),
        (b"M\xc3\xbcller", "Müller"),
        (b"M\xfcller", "Müller"),
        (b"=?x-unknown?q?abc?=", "=?x-unknown?q?abc?="),
        (b"=?zlib?b?eJw=?=", "=?zlib?b?eJw=?="),
        (b"=?unicode_escape?q?=5Cx41?=", "=?unicode_escape?q?=5Cx41?="),
        (b"=?utf-8?b?%%%?=", None),
        (b"=?utf-8?q?x=0D=0ABcc:_v=40x=2Ede?=", "x Bcc: v@x.de"),
        (b"=?utf-8?q?a=E2=80=AEb=00c?=", "a b c"),
        (b"=?utf-8?q??=", None),
        (b"", None),
        (b" ", None),
        (b"x" * 500, "x" * 200),
    ],
)
def test_a_name_is_shown_as_it_was_meant(raw: bytes, shown: str | None) -> None:
    assert decode_words(raw) == shown


@given(st.one_of(st.binary(max_size=200), st.text(max_size=80).map(lambda t: f"=?utf-8?b?{t}?=".encode())))
def test_whatever_it_is_it_fits_on_a_line_and_nothing_breaks(raw: bytes) -> None:
    shown = decode_words(raw)
    assert shown is None or (shown.isprintable() and 0 < len(shown) <= 200)


@pytest.mark.parametrize(
    "shape", [b"=?utf-8?q?", b"=?", b"?=", b" ", b"=?utf-8?q?=41?= ", b"=?utf-7?q?+AAA?=", b"=?a" * 30]
)
def test_a_very_long_name_takes_no_time(shape: bytes) -> None:
    began = time.process_time()
    decode_words(shape * (100_000 // len(shape)))
    assert time.process_time() - began < 1
