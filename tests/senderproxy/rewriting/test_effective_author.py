"""Effective author: forced senders and the map."""

import pytest

from senderproxy.mail.address import NULL_PATH, Address, AddressPattern, parse_address, parse_pattern
from senderproxy.mail.author import AuthorFields, UnreadableAuthor
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.submission import Client
from senderproxy.rewriting.edited_header import EditedHeader
from senderproxy.rewriting.effective_author import EffectiveAuthor, determine_author
from senderproxy.routing.author_policy import AuthorMap

FORCED = "scanner@firma.example"


def _determine(
    header: str, path: str = "scan@printer.local", *, forced: bool = True, mapped: AuthorMap | None = None
) -> EffectiveAuthor:
    client = Client("192.168.1.9", "copier", "SMTP", forced_sender=parse_address(FORCED) if forced else None)
    reverse_path = parse_address(path) if path else NULL_PATH
    edited = EditedHeader(HeaderSection(header.replace("\n", "\r\n").encode() + b"\r\n"))
    return determine_author(edited, reverse_path, client, mapped or AuthorMap())


def _field(effective: EffectiveAuthor, name: str) -> list[str]:
    return [value.decode().strip() for value in effective.edited.header.values(name)]


def _from(effective: EffectiveAuthor) -> list[str]:
    assert isinstance(effective.authors, AuthorFields)
    return [str(mailbox.address) for mailbox in effective.authors.from_]


@pytest.mark.parametrize(
    ("came", "from_", "reply_to"),
    [
        ("From: Etage 2 <scan@printer.local>\n", f"Etage 2 <{FORCED}>", []),
        ("From: anna@firma.example\n", FORCED, ["anna@firma.example"]),
        ("From: Anna <anna@firma.example>\nReply-To: x@y.example\n", f"Anna <{FORCED}>", ["x@y.example"]),
        ("From: copier@192.168.1.9@x\n", FORCED, []),
        ("From: a@b.example\nFrom: c@d.example\n", FORCED, []),
        ("Subject: nothing else\n", FORCED, []),
        ("From: copier@[192.168.1.9]\n", FORCED, []),
    ],
)
def test_a_forced_sender_stands_for_whatever_a_device_wrote(came: str, from_: str, reply_to: list[str]) -> None:
    effective = _determine(came)
    assert _from(effective) == [FORCED]
    assert _field(effective, "From") == [from_]
    assert _field(effective, "Reply-To") == reply_to
    assert str(effective.reverse_path) == FORCED
    assert effective.path_changes


def test_a_device_that_names_the_forced_sender_itself_is_left_alone() -> None:
    effective = _determine(f"From: Scanner <{FORCED}>\n", FORCED)
    assert (effective.edited.changes, effective.path_changes) == ((), ())


def test_a_from_field_hidden_below_a_line_that_is_none_is_not_outvoted() -> None:
    assert isinstance(_determine("no field\nFrom: boss@firma.example\n").authors, UnreadableAuthor)


def test_a_sender_field_of_a_device_goes() -> None:
    assert _field(_determine("From: a@b.example\nSender: boss@firma.example\n"), "Sender") == []


def test_an_empty_reverse_path_is_left_to_its_own_policy() -> None:
    assert _determine("From: a@b.example\n", "").reverse_path is NULL_PATH


MAP = AuthorMap(
    {"root@server.local": Address("it", "firma.example")},
    {"server.local": parse_pattern("anna@firma.example"), "old.example": AddressPattern(None, "firma.example")},
)


@pytest.mark.parametrize(
    ("came", "stands"),
    [
        ("root@server.local", "it@firma.example"),
        ("ROOT@Server.Local", "it@firma.example"),
        ("www-data@server.local", "anna@firma.example"),
        ("bert@old.example", "bert@firma.example"),
        ("alice@elsewhere.example", "alice@elsewhere.example"),
    ],
)
def test_what_the_map_says_stands_in_from_and_in_the_reverse_path(came: str, stands: str) -> None:
    effective = _determine(f"From: Cron Daemon <{came}>\n", came, forced=False, mapped=MAP)
    assert _from(effective) == [stands]
    assert str(effective.reverse_path) == stands
    if stands != came:
        assert _field(effective, "From") == [f"Cron Daemon <{stands}>"]
    else:
        assert effective.edited.changes == ()
