"""The form of a sent message in the payload of a job: exact, small, and refused if it is damaged."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.footer.add_footer import AddFooter
from senderproxy.footer.footer import Footer
from senderproxy.mail.outcome import SentForm
from senderproxy.relay.ports import JOB_PAYLOAD_LIMIT
from senderproxy.relay.sent_form import body_recipe, read_form, read_recipe, write_form
from senderproxy.rewriting.content_change import ContentChange
from senderproxy.rewriting.transfer_encoding import Reencode

RECEIVED = b"".join(b"X-Field-%d: %064x\r\n" % (number, number * 2**200 // 7) for number in range(200)) + b"\r\n"
LEFT = b"DKIM-Signature: v=1\r\nReceived: from x\r\n" + RECEIVED.replace(
    b"X-Field-7:", b"From: <anna@firma.example>\r\nX:"
)


def no_footer(_author: object) -> None:
    return None


@given(st.binary(max_size=3000), st.binary(max_size=3000), st.binary(max_size=3000))
def test_a_form_is_read_as_it_was_written(header: bytes, before: bytes, received: bytes) -> None:
    form = SentForm(header, '{"changes": [], "digest": "x"}', before)
    payload = write_form(form, received)
    assert payload is not None
    assert read_form(payload, received) == form
    assert read_form(payload, received).before == before


def test_a_header_section_costs_little_beside_the_received_one() -> None:
    assert len(RECEIVED) > 12_000
    payload = write_form(SentForm(LEFT), RECEIVED)
    assert payload is not None
    assert len(payload) < 600
    assert read_form(payload, RECEIVED) == SentForm(LEFT)


def test_a_header_section_that_does_not_fit_is_refused() -> None:
    noise = random.Random(1).randbytes(20_000)
    assert write_form(SentForm(noise), b"") is None


def test_a_footer_that_does_not_fit_is_left_to_the_configuration() -> None:
    picture = "".join(f"{number * 7919 % 99991:x}" for number in range(12_000))
    footer = Footer((), "Firma", picture)
    changes: list[ContentChange] = [
        AddFooter(footer, "Anna", "anna@firma.example"),
        Reencode(seven_bit=True, spares_signed=True),
    ]
    payload = write_form(SentForm(LEFT, body_recipe(changes, "digest"), RECEIVED), RECEIVED)
    assert payload is not None
    assert len(payload) <= JOB_PAYLOAD_LIMIT
    form = read_form(payload, RECEIVED)
    assert (form.header, form.before) == (LEFT, RECEIVED)
    recipe = read_recipe(form.body, lambda author: footer if str(author) == "anna@firma.example" else None)
    assert (list(recipe.changes), recipe.digest) == (changes, "digest")
    assert list(read_recipe(form.body, no_footer).changes) == changes[1:]


def test_the_changes_of_a_body_are_read_as_they_were_written() -> None:
    changes: list[ContentChange] = [
        AddFooter(Footer((), "Köln {name}", "<p>Köln</p>"), "Anna", "anna@firma.example", is_automatic=True),
        Reencode(),
        Reencode(seven_bit=True, spares_signed=True),
    ]
    assert list(read_recipe(body_recipe(changes, ""), no_footer).changes) == changes


@pytest.mark.parametrize(
    "payload", [b"", b"\x02abc", b"\x01", b"\x01abc", (write_form(SentForm(LEFT), RECEIVED) or b"")[:-8]]
)
def test_a_damaged_payload_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="form"):
        read_form(payload, RECEIVED)


def test_a_payload_of_another_message_is_refused() -> None:
    with pytest.raises(ValueError, match="damaged"):
        read_form(write_form(SentForm(LEFT), RECEIVED) or b"", RECEIVED + b"x")


@pytest.mark.parametrize(
    "recipe", ["", "[]", "{}", '{"changes": [{}], "digest": ""}', '{"changes": [{"footer": 1}], "digest": ""}']
)
def test_a_damaged_recipe_is_refused(recipe: str) -> None:
    with pytest.raises(ValueError):
        read_recipe(recipe, no_footer)
