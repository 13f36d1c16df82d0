"""Provider replies: rendering and placeholders."""

import pytest

from senderproxy.simulator.provider_replies import EXCHANGE_ONLINE, IONOS, NO_SUCH_MAIL_DOMAIN, POSTFIX, server_reply


def test_a_reply_of_several_lines_has_hyphens_on_all_but_the_last() -> None:
    assert IONOS.reverse_path_refused.render() == (
        b"550-Requested action not taken: mailbox unavailable\r\n550 Sender address is not allowed.\r\n"
    )
    assert str(NO_SUCH_MAIL_DOMAIN) == (
        "550 Requested action not taken: mailbox unavailable / 550 invalid DNS MX or A/AAAA resource record"
    )


def test_a_value_is_put_in_as_it_is_braces_and_all() -> None:
    assert server_reply(553, "<{path}>: no").fill(path="{login}@x.example").lines == ("<{login}@x.example>: no",)


@pytest.mark.parametrize("wrong", [(150, "hm"), (600, "hm"), (250,), (250, "two\r\nlines")])
def test_what_is_no_reply_cannot_be_made(wrong: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match="reply"):
        server_reply(*wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("replies", [IONOS, POSTFIX, EXCHANGE_ONLINE])
def test_every_reply_can_be_filled_in_and_rendered(replies: object) -> None:
    values = dict.fromkeys(("host", "ehlo", "peer", "login", "path", "recipient", "id"), "x")
    for name in type(replies).__dataclass_fields__:  # type: ignore[attr-defined]
        assert getattr(replies, name).fill(**values).render().endswith(b"\r\n")
