"""SASL mechanisms: the examples of their standards, and servers that do not keep to them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.delivery.login_mechanisms import (
    FOR_TOKENS,
    LoginDialogue,
    LoginSecret,
    MechanismError,
    begin,
    decode_challenge,
    secrets_in,
)
from senderproxy.routing.provider import PASSWORD_MECHANISMS, Security, Smarthost

SMARTHOST = Smarthost("server.example.com", 587, Security.STARTTLS)


def secret_of(login: str, secret: str, nonce: str = "nonce") -> LoginSecret:
    return LoginSecret(login.encode(), secret.encode(), SMARTHOST, nonce)


def test_plain() -> None:
    dialogue = begin("PLAIN", secret_of("tim", "geheim-tanstaaf"))
    assert dialogue.initial == b"\0tim\0geheim-tanstaaf"
    dialogue.require_complete()
    with pytest.raises(MechanismError):
        dialogue.answer(b"")


def test_login() -> None:
    dialogue = begin("LOGIN", secret_of("tim", "geheim-1"))
    assert dialogue.initial is None
    assert [dialogue.answer(b"Username:"), dialogue.answer(b"Password:")] == [b"tim", b"geheim-1"]
    with pytest.raises(MechanismError):
        dialogue.answer(b"Again:")


def test_cram_md5() -> None:
    """RFC 2195 section 2."""
    dialogue = begin("CRAM-MD5", secret_of("tim", "tanstaaftanstaaf"))
    assert dialogue.initial is None
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    assert dialogue.answer(challenge) == b"tim b913a602c7eda7a495b4e6e7334d3890"


SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def scram() -> LoginDialogue:
    """RFC 7677 section 3."""
    return begin("SCRAM-SHA-256", secret_of("user", "pencil", "rOprNGfwEbeRWgbNEkqO"))


def test_scram_sha_256() -> None:
    dialogue = scram()
    assert dialogue.initial == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert dialogue.answer(SERVER_FIRST) == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert dialogue.answer(SERVER_FINAL) == b""
    dialogue.require_complete()


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",  # no nonce of its own
        b"r=other%hvYDp,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO%" + b"x" * 2000 + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        SERVER_FIRST.replace(b"i=4096", b"i=4095"),
        SERVER_FIRST.replace(b"i=4096", b"i=20001"),
        SERVER_FIRST.replace(b"i=4096", b"i=1000000000"),
        SERVER_FIRST.replace(b"i=4096", b"i=-1"),
        SERVER_FIRST.replace(b"i=4096", "i=٤٠٩٦".encode()),
        SERVER_FIRST.replace(b",i=4096", b""),
        SERVER_FIRST.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s="),
        SERVER_FIRST.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s=!!"),
        SERVER_FIRST.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s=" + base64.b64encode(bytes(2000))),
        b"m=ext," + SERVER_FIRST,
        b"," * 100_000,
    ],
)
def test_a_scram_challenge_that_is_not_usable(challenge: bytes) -> None:
    dialogue = scram()
    with pytest.raises(MechanismError):
        dialogue.answer(challenge)


@pytest.mark.parametrize("final", [b"", b"v=", b"v=AAAA", b"e=invalid-proof", SERVER_FINAL.replace(b"6", b"7")])
def test_a_server_that_does_not_know_the_password(final: bytes) -> None:
    dialogue = scram()
    dialogue.answer(SERVER_FIRST)
    with pytest.raises(MechanismError, match="prove"):
        dialogue.answer(final)


def test_a_server_that_leaves_its_proof_out() -> None:
    dialogue = scram()
    dialogue.answer(SERVER_FIRST)
    with pytest.raises(MechanismError, match="before its end"):
        dialogue.require_complete()


@pytest.mark.parametrize(
    ("typed", "prepared"),
    [
        ("geheim-1", "geheim-1"),
        ("I\u00adX", "IX"),  # RFC 4013 section 3: a soft hyphen is mapped to nothing
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("O\u0308l", "\u00d6l"),
    ],
)
def test_passwords_are_prepared(typed: str, prepared: str) -> None:
    proofs = [
        begin("SCRAM-SHA-256", secret_of("user", text, "rOprNGfwEbeRWgbNEkqO")).answer(SERVER_FIRST)
        for text in (typed, prepared)
    ]
    assert proofs[0] == proofs[1]


def test_commas_and_equals_signs_in_a_user_name() -> None:
    assert begin("SCRAM-SHA-256", secret_of("a=b,c", "geheim-1")).initial == b"n,,n=a=3Db=2Cc,r=nonce"
    assert str(begin("OAUTHBEARER", secret_of("a=b,c", "geheim-1")).initial).startswith("b'n,a=a=3Db=2Cc,")


def test_xoauth2() -> None:
    """The example of Google's page."""
    dialogue = begin("XOAUTH2", secret_of("someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"))
    assert dialogue.initial is not None
    assert base64.b64encode(dialogue.initial) == (
        b"dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0"
        b"Q2cBAQ=="
    )
    assert dialogue.answer(b'{"status":"401"}') == b""
    with pytest.raises(MechanismError):
        dialogue.answer(b"")


def test_oauthbearer() -> None:
    """The example of RFC 7628 section 4.1, with another host and token."""
    dialogue = begin("OAUTHBEARER", secret_of("user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="))
    assert dialogue.initial == (
        b"n,a=user@example.com,\x01host=server.example.com\x01port=587\x01"
        b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
    )
    dialogue.require_complete()
    assert dialogue.answer(b'{"status":"invalid_token"}') == b"\x01"


@pytest.mark.parametrize("text", ["=", "!!", "QQ", "QQ==\n", "ü", "Q" * 5])
def test_a_challenge_that_is_not_base64(text: str) -> None:
    with pytest.raises(MechanismError):
        decode_challenge(text)


@given(st.sampled_from((*PASSWORD_MECHANISMS, *FOR_TOKENS)), st.lists(st.binary(max_size=100), max_size=6))
def test_the_number_of_answers_is_bounded(mechanism: str, challenges: list[bytes]) -> None:
    dialogue = begin(mechanism, secret_of("anna", "geheim-1"))
    answers = 0
    for challenge in challenges:
        try:
            dialogue.answer(challenge)
        except MechanismError:
            break
        answers += 1
    assert answers <= 2


@pytest.mark.parametrize("mechanism", [*PASSWORD_MECHANISMS, *FOR_TOKENS])
def test_only_the_mechanisms_of_its_kind_send_a_secret(mechanism: str) -> None:
    dialogue = begin(mechanism, secret_of("user", "pencil", "rOprNGfwEbeRWgbNEkqO"))
    sent = [dialogue.initial or b""]
    for challenge in (SERVER_FIRST, SERVER_FINAL):
        try:
            sent.append(dialogue.answer(challenge))
        except MechanismError:
            break
    assert any(b"pencil" in octets for octets in sent) == (mechanism in ("PLAIN", "LOGIN", *FOR_TOKENS))


def test_the_forms_of_a_secret_that_a_server_may_repeat() -> None:
    forms = secrets_in(b"anna", b"geheim-1")
    for mechanism in ("PLAIN", "XOAUTH2"):
        initial = begin(mechanism, secret_of("anna", "geheim-1")).initial
        assert initial is not None
        assert base64.b64encode(initial) in forms
    assert b"geheim-1" in forms
    assert secrets_in(b"anna", b"") == ()
