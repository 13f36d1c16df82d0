"""What the client is told about the outcomes of one attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.mail.address import Address
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import Reply, parse_reply, reply
from senderproxy.relay.verdict import conclude

ANNA = Address("anna", "kunde.example")
BERT = Address("bert", "kunde.example")
CARL = Address("carl", "kunde.example")

OKAY = parse_reply([b"250 Requested mail action okay, completed: id=0Lh7M3-1csvNv3Q9v"])
UNKNOWN = parse_reply([b"550-Requested action not taken: mailbox unavailable", b"550 Unknown User"])
LIMIT = parse_reply([b"450-Requested mail action not taken: mailbox unavailable", b"450 Mail send limit exceeded."])


def test_all_taken_is_told_with_the_upstreams_words_and_our_id() -> None:
    answer = conclude({ANNA: Delivered(OKAY), BERT: Delivered(OKAY)}, "abc")
    assert answer.code == 250
    assert "id=0Lh7M3-1csvNv3Q9v" in answer.text
    assert "abc" in answer.text


def test_all_refused_is_told_with_the_last_line_and_an_enhanced_status() -> None:
    assert conclude({ANNA: Failed(UNKNOWN)}, "abc").render() == b"550 5.0.0 Unknown User\r\n"


def test_all_deferred_keeps_the_upstreams_code() -> None:
    answer = conclude({ANNA: Deferred(LIMIT), BERT: Deferred(LIMIT)}, "abc")
    assert answer.render() == b"450 4.0.0 Mail send limit exceeded.\r\n"


def test_refused_and_deferred_together_are_refused_naming_only_the_refused() -> None:
    answer = conclude({ANNA: Deferred(LIMIT), BERT: Failed(UNKNOWN)}, "abc")
    assert answer.code == 550
    assert not any("anna@" in line for line in answer.lines)


def test_a_hundred_refused_recipients_make_a_reply_that_can_be_read() -> None:
    outcomes: dict[Address, Outcome] = {
        Address(f"nobody{n}", "kunde.example"): Failed(reply(550, "5.1.1", f"no such user {n}")) for n in range(100)
    }
    answer = conclude(outcomes, "abc")
    assert len(answer.lines) == 7
    assert "95 more" in answer.lines[5]


@pytest.mark.parametrize("missed", [Failed(UNKNOWN), Deferred(LIMIT)])
def test_of_a_message_in_parts_the_author_hears_who_was_not_reached_and_nobody_sends_it_again(missed: Outcome) -> None:
    answer = conclude({ANNA: Delivered(OKAY), BERT: missed, CARL: Delivered(OKAY)}, "abc")
    assert (answer.code, str(answer.status)) == (554, "5.0.0")
    assert answer.lines[0].startswith("bert@kunde.example: ")
    assert "sent to 2 of 3 recipients; send it again to the others only" in answer.text


REPLIES = st.builds(
    lambda code, text: Reply(code, None, (text,)), st.sampled_from([421, 450, 451, 550, 554]), st.text(max_size=60)
)


def _outcome(answer: Reply) -> Outcome:
    return Deferred(answer) if answer.is_transient else Failed(answer)


@given(st.lists(REPLIES.map(_outcome), min_size=1, max_size=8))
def test_a_client_is_told_success_only_when_everybody_was_taken(outcomes: list[Outcome]) -> None:
    answer = conclude({Address(f"r{n}", "x.example"): o for n, o in enumerate(outcomes)}, "abc")
    permanent = any(isinstance(o, Failed) for o in outcomes)
    assert answer.is_permanent if permanent else answer.is_transient
    assert answer.status is not None
    assert answer.status.klass == answer.code // 100
