"""Copies at a scripted server: where they go, how they are sent, and what each refusal becomes."""

import imaplib
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from senderproxy.routing.account import Credential
from senderproxy.routing.provider import ImapServer, Security
from senderproxy.sent_copy import imap
from senderproxy.sent_copy.append import internal_date
from senderproxy.sent_copy.connection import ImapConnection
from senderproxy.sent_copy.ports import (
    AlreadyThere,
    Copy,
    DelayKind,
    FoundFolder,
    RefusalKind,
    Refused,
    Stored,
    TryLater,
)
from tests.fakes.imap_server import LOGIN, PASSWORD, Connection, Fault, Folder, imap_server
from tests.fakes.imap_server import ImapServer as Scripted
from tests.peers.certificates import Authority
from tests.senderproxy.sent_copy.mailbox import (
    FOLDERS,
    MESSAGE,
    PASSWORD_LOGIN,
    SENT_AT,
    TOKEN_LOGIN,
    address,
    copy,
    stored,
)


def at(stage: str, fault: Fault) -> Scripted:
    """A server with this failure at each visit of the stage."""
    return Scripted(fault=lambda name: fault if name == stage else None)


def says(line: bytes, *, goes_on: bool = False) -> Fault:
    def act(connection: Connection) -> None:
        connection.write(line)
        connection.goes_on = goes_on

    return act


def close(_connection: Connection) -> None:
    """End the connection."""


# ---- the copy ----


def test_the_copy_is_the_message_with_a_mark_seen_and_of_the_time_of_sending() -> None:
    with imap_server() as server:
        assert FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy()) == Stored("Gesendet")
        [message] = server.folders["Gesendet"].messages
    assert (message.content, message.flags, message.date) == (stored(), "\\Seen", "31-Jan-2026 08:15:00 +0000")


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (datetime(2026, 3, 1, 7, 5, 9, tzinfo=UTC), "01-Mar-2026 07:05:09 +0000"),
        (datetime(2026, 7, 31, 23, 59, tzinfo=timezone(timedelta(hours=2))), "31-Jul-2026 23:59:00 +0200"),
        (datetime(2026, 12, 1, tzinfo=timezone(-timedelta(hours=3, minutes=30))), "01-Dec-2026 00:00:00 -0330"),
    ],
)
def test_the_date_has_its_zone(when: datetime, text: str) -> None:
    assert internal_date(when) == text


@pytest.mark.parametrize(
    ("capability", "size", "asked"),
    [
        ("LITERAL+", 60_000, False),
        ("LITERAL+", 70_000, True),  # a refusal should come before the octets
        ("LITERAL-", 4000, False),
        ("LITERAL-", 4100, True),
        ("IMAP4rev2", 4000, False),
        ("", 100, True),
    ],
)
def test_only_a_small_literal_is_sent_without_asking(capability: str, size: int, asked: bool) -> None:
    content = MESSAGE + b"x" * (size - len(MESSAGE) - 2) + b"\r\n"
    with imap_server(Scripted(after_login=f"IMAP4rev1 SPECIAL-USE {capability}")) as server:
        assert FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy(content)) == Stored("Gesendet")
        assert (server.unasked, server.sent()) == (0 if asked else 1, [stored(content)])


def test_a_repeat_finds_the_copy_and_a_resend_with_the_same_message_id_does_not() -> None:
    with imap_server() as server:
        FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy())
        assert FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy(again=True)) == AlreadyThere("Gesendet")
        resent = copy(mark="mark-2", again=True)
        assert FOLDERS.append_copy(address(server), PASSWORD_LOGIN, resent) == Stored("Gesendet")
        assert server.sent() == [stored(), stored(mark="mark-2")]


def test_a_server_that_searches_no_unusual_fields_hides_no_copy_and_makes_none_up() -> None:
    with imap_server(Scripted(searches_fields=False)) as server:
        without_id = MESSAGE.replace(b"Message-ID: <1@firma.example>\r\n", b"")
        for mark, again in (("mark-1", True), ("mark-2", True), ("mark-1", True)):
            FOLDERS.append_copy(
                address(server), PASSWORD_LOGIN, replace(copy(without_id, mark=mark, again=again), message_id="")
            )
        assert server.sent() == [stored(without_id), stored(without_id, "mark-2")]


def test_the_search_covers_the_day_before_in_any_zone() -> None:
    with imap_server() as server:
        FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy(again=True))
        searches = [one for one in server.commands if "SEARCH" in one]
    assert searches == [
        "UID SEARCH SINCE 30-Jan-2026 HEADER MESSAGE-ID <1@firma.example>",
        "UID SEARCH SINCE 30-Jan-2026 HEADER X-Senderproxy-Copy mark-1",
    ]


@pytest.mark.parametrize("message_id", ["<ä@x>", "<a\r\nb@x>", '<"q" \\ r@x>', ""])
def test_no_message_id_breaks_the_search(message_id: str) -> None:
    with imap_server() as server:
        repeated = replace(copy(again=True), message_id=message_id)
        assert FOLDERS.append_copy(address(server), PASSWORD_LOGIN, repeated) == Stored("Gesendet")
        assert FOLDERS.append_copy(address(server), PASSWORD_LOGIN, repeated) == AlreadyThere("Gesendet")


# ---- the folder ----

IONOS = {"INBOX": "", "Entw&APw-rfe": "", "Gesendete Objekte": "", "Papierkorb": ""}


@pytest.mark.parametrize(
    ("capabilities", "prefix", "folders", "found"),
    [
        ("SPECIAL-USE LIST-EXTENDED", "", {"INBOX": "", "Sent": "", "Gesendet &APw-": "\\Sent"}, "Gesendet ü"),
        ("SPECIAL-USE", "", {"INBOX": "", "Sent": "", "Ablage/Postausgang": "\\Sent"}, "Ablage/Postausgang"),
        ("SPECIAL-USE LIST-EXTENDED", "", {"INBOX": "", "Sent Items": ""}, "Sent Items"),
        ("", "", IONOS, "Gesendete Objekte"),
        ("", "", {"INBOX": "", "gesendet": ""}, "gesendet"),
        ("NAMESPACE", "INBOX.", {"INBOX": "", "INBOX.Sent": ""}, "INBOX.Sent"),
        ("", "", {"INBOX": "", "INBOX.Gesendete Elemente": ""}, "INBOX.Gesendete Elemente"),
        ("", "", {"INBOX": "", "Sent": "\\Noselect", "Sent Messages": ""}, "Sent Messages"),
        ("XLIST", "", {"INBOX": "", "Sent": ""}, "Sent"),
    ],
)
def test_the_folder_for_sent_mail_is_found(capabilities: str, prefix: str, folders: dict[str, str], found: str) -> None:
    state = Scripted(
        after_login=f"IMAP4rev1 {capabilities}",
        folders={name: Folder(flags) for name, flags in folders.items()},
        prefix=prefix,
        delimiter="." if any("INBOX." in name for name in folders) else "/",
    )
    with imap_server(state) as server:
        result = FOLDERS.find_folder(address(server), PASSWORD_LOGIN)
        assert result == FoundFolder(found, exists=True, special="\\Sent" in folders.values())
        assert FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy()) == Stored(found)


@pytest.mark.parametrize(
    ("capabilities", "prefix", "folders", "created"),
    [
        ("NAMESPACE", "", ["INBOX"], "Sent"),
        ("NAMESPACE", "INBOX.", ["INBOX", "INBOX.Work"], "INBOX.Sent"),
        ("", "", ["INBOX", "INBOX.Work"], "INBOX.Sent"),
        ("", "", ["INBOX", "Work"], "Sent"),
        ("", "", [], "Sent"),
    ],
)
def test_a_missing_folder_is_created_where_the_mailbox_has_its_folders_and_subscribed(
    capabilities: str, prefix: str, folders: list[str], created: str
) -> None:
    state = Scripted(
        after_login=f"IMAP4rev1 {capabilities}",
        folders={name: Folder() for name in folders},
        prefix=prefix,
        delimiter="." if any("INBOX." in name for name in folders) else "/",
    )
    with imap_server(state) as server:
        assert FOLDERS.find_folder(address(server), PASSWORD_LOGIN) == FoundFolder(created, exists=False, special=False)
        assert created not in server.folders
        assert FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy()) == Stored(created, created=True)
        assert server.sent(created) == [stored()]
        assert f'SUBSCRIBE "{created}"' in server.commands


@pytest.mark.parametrize(
    ("wanted", "folders", "used"),
    [
        ("Ablage ü", {"INBOX": "", "Gesendet": "\\Sent", "Ablage &APw-": ""}, "Ablage &APw-"),
        ("Ablage ü", {"INBOX": "", "Gesendet": "\\Sent"}, "Ablage &APw-"),
        ("Archiv", {"INBOX": "", "INBOX.Archiv": ""}, "INBOX.Archiv"),
        ("Archiv", {"INBOX": "", "INBOX.Work": ""}, "INBOX.Archiv"),
        ('Akten "2026" \\ neu*', {"INBOX": ""}, 'Akten "2026" \\ neu*'),
    ],
)
def test_a_named_folder_is_used_or_created(wanted: str, folders: dict[str, str], used: str) -> None:
    state = Scripted(
        after_login="IMAP4rev1 SPECIAL-USE",
        folders={name: Folder(flags) for name, flags in folders.items()},
        delimiter="." if any("INBOX." in name for name in folders) else "/",
    )
    with imap_server(state) as server:
        result = FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy(folder=wanted))
        assert result == Stored(used.replace("&APw-", "ü"), created=used not in folders)
        assert server.sent(used) == [stored()]


def test_a_folder_that_was_deleted_since_is_created_again() -> None:
    state = Scripted(after_login="IMAP4rev1")

    def delete(connection: Connection) -> None:
        state.folders.pop("Gesendet", None)
        state.fault = lambda _stage: None
        connection.goes_on = True

    state.fault = lambda stage: delete if stage == "append" else None
    with imap_server(state) as server:
        assert FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy()) == Stored("Gesendet", created=True)
        assert server.sent() == [stored()]


# ---- logins ----


@pytest.mark.parametrize(
    ("credential", "offered", "method"),
    [
        (PASSWORD_LOGIN, "AUTH=LOGIN AUTH=PLAIN AUTH=XOAUTH2", "AUTHENTICATE PLAIN"),
        (PASSWORD_LOGIN, "AUTH=LOGIN LOGINDISABLED", "AUTHENTICATE LOGIN"),
        (PASSWORD_LOGIN, "", f'LOGIN "{LOGIN}" "{PASSWORD}"'),
        (TOKEN_LOGIN, "AUTH=PLAIN AUTH=XOAUTH2 AUTH=OAUTHBEARER", "AUTHENTICATE XOAUTH2"),
        (TOKEN_LOGIN, "AUTH=PLAIN AUTH=OAUTHBEARER", "AUTHENTICATE OAUTHBEARER"),
    ],
)
def test_the_login_method_is_one_for_the_secret(credential: Credential, offered: str, method: str) -> None:
    with imap_server(Scripted(before_login=f"IMAP4rev1 {offered}")) as server:
        assert FOLDERS.append_copy(address(server), credential, copy()) == Stored("Gesendet")
        assert [one for one in server.commands if "LOGIN" in one.upper() or "AUTH" in one] == [method]


@pytest.mark.parametrize(
    ("credential", "offered"),
    [
        (PASSWORD_LOGIN, "LOGINDISABLED AUTH=GSSAPI"),
        (PASSWORD_LOGIN, "LOGINDISABLED AUTH=XOAUTH2"),
        (TOKEN_LOGIN, "AUTH=PLAIN AUTH=LOGIN"),
        (Credential(LOGIN, "geheim-ä", "1"), "AUTH=GSSAPI"),
    ],
)
def test_no_method_for_the_secret_sends_none(credential: Credential, offered: str) -> None:
    with imap_server(Scripted(before_login=f"IMAP4rev1 {offered}")) as server:
        result = FOLDERS.append_copy(address(server), credential, copy())
        assert isinstance(result, Refused)
        assert result.kind is RefusalKind.INCOMPATIBLE
        assert server.commands == ["CAPABILITY"]


@pytest.mark.parametrize("method", ["AUTH=PLAIN", "AUTH=LOGIN", "AUTH=XOAUTH2", "AUTH=OAUTHBEARER", ""])
def test_a_refused_login_is_tried_once(method: str) -> None:
    wrong = Credential(LOGIN, "geheim-falsch", "1", application="x" if "OAUTH" in method else "")
    with imap_server(Scripted(before_login=f"IMAP4rev1 {method}")) as server:
        result = FOLDERS.append_copy(address(server), wrong, copy())
        assert isinstance(result, Refused)
        assert result.kind is RefusalKind.LOGIN
        assert result.server_text == "[AUTHENTICATIONFAILED] wrong"
        assert len(server.commands) == 2


def test_a_password_with_quotes_and_backslashes_arrives() -> None:
    with imap_server(Scripted(before_login="IMAP4rev1")) as server:
        FOLDERS.append_copy(address(server), Credential(LOGIN, 'geheim-"\\x', "1"), copy())
        assert server.commands[1] == f'LOGIN "{LOGIN}" "geheim-\\"\\\\x"'


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("NO [UNAVAILABLE] Temporary authentication failure", DelayKind.BUSY),
        ("NO [ALERT] Too many simultaneous connections. (Failure)", DelayKind.BUSY),
        ("BAD User is authenticated but not connected.", DelayKind.BUSY),
        ("NO [ALERT] Application-specific password required (Failure)", RefusalKind.ACCESS_OFF),
        ("NO POP3/IMAP-Abruf nicht aktiviert", RefusalKind.ACCESS_OFF),
        ("NO [AUTHORIZATIONFAILED] IMAP access is disabled", RefusalKind.ACCESS_OFF),
        ("NO [PRIVACYREQUIRED] Plaintext authentication disallowed", RefusalKind.INCOMPATIBLE),
        ("NO AUTHENTICATE failed.", RefusalKind.LOGIN),
        ("NO nein", RefusalKind.LOGIN),
    ],
)
@pytest.mark.parametrize("method", ["AUTH=PLAIN", ""])
def test_words_about_a_login_have_their_cause(line: str, expected: DelayKind | RefusalKind, method: str) -> None:
    answers = {"AUTHENTICATE": line, "LOGIN": line}
    with imap_server(Scripted(before_login=f"IMAP4rev1 {method}", answers=answers)) as server:
        result = FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy())
    assert isinstance(result, Refused | TryLater)
    assert (result.kind, result.server_text) == (expected, line.partition(" ")[2])


@pytest.mark.parametrize("method", ["AUTH=PLAIN", "AUTH=LOGIN", "AUTH=XOAUTH2", ""])
def test_a_server_that_repeats_the_secret_shows_it_to_nobody(method: str) -> None:
    credential = replace_application(method)

    def echo(connection: Connection) -> None:
        line = connection.server.commands[-1].encode()
        tag = b"x"
        if b"AUTHENTICATE" in line:
            connection.write(b"+ \r\n")
            line = connection._stream.readline().strip()
            if method == "AUTH=LOGIN":
                connection.write(b"+ \r\n")
                line = connection._stream.readline().strip()
        tag = connection.tag
        connection.write(tag + b" BAD cannot parse " + line + b"\r\n")
        connection.goes_on = False

    state = Scripted(before_login=f"IMAP4rev1 {method}")
    state.fault = lambda stage: echo if stage in ("authenticate", "login") else None
    with imap_server(state) as server:
        result = FOLDERS.append_copy(address(server), credential, copy())
    assert isinstance(result, Refused | TryLater)
    assert "***" in result.words
    assert PASSWORD not in repr(result)


def replace_application(method: str) -> Credential:
    return TOKEN_LOGIN if "OAUTH" in method else PASSWORD_LOGIN


# ---- refusals ----


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("NO [OVERQUOTA] Quota exceeded (mailbox for user is full)", RefusalKind.OVER_QUOTA),
        ("NO Mailbox is full / Blocks limit exceeded / Inode limit exceeded", RefusalKind.OVER_QUOTA),
        ("NO [TOOBIG] Message too large", RefusalKind.TOO_LARGE),
        ("NO maximum message size exceeded", RefusalKind.TOO_LARGE),
        ("NO [NOPERM] no", RefusalKind.NO_PERMISSION),
        ("NO [UNAVAILABLE] later", DelayKind.BUSY),
        ("NO [SERVERBUG] Internal error occurred", DelayKind.BUSY),
        ("NO nein", DelayKind.BUSY),
        ("BAD Command Error. 10", DelayKind.BUSY),
    ],
)
def test_words_about_a_copy_have_their_cause(line: str, expected: DelayKind | RefusalKind) -> None:
    with imap_server(Scripted(answers={"APPEND": line})) as server:
        result = FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy())
    assert isinstance(result, Refused | TryLater)
    assert (result.kind, result.server_text) == (expected, line.partition(" ")[2])
    assert line.partition(" ")[2] in result.words


def test_a_folder_that_is_not_created_is_named() -> None:
    answers = {"CREATE": "NO [NOPERM] Permission denied"}
    with imap_server(Scripted(after_login="IMAP4rev1", folders={}, answers=answers)) as server:
        result = FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy())
    assert isinstance(result, Refused)
    assert result.kind is RefusalKind.NO_PERMISSION
    assert " Sent" in result.words


@pytest.mark.parametrize("capability", ["APPENDLIMIT=1000", "APPENDLIMIT"])
def test_a_message_over_the_limit_is_not_sent(capability: str) -> None:
    with imap_server(Scripted(after_login=f"IMAP4rev1 SPECIAL-USE {capability}", limit=1000)) as server:
        result = FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy(MESSAGE + b"x" * 1000))
        assert isinstance(result, Refused)
        assert (result.kind, result.is_final) == (RefusalKind.TOO_LARGE, True)
        assert "1000" in result.words
        assert not any(one.startswith("APPEND") for one in server.commands)
        assert FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy()) == Stored("Gesendet")


def test_the_limit_counts_our_field() -> None:
    for limit, kind in ((len(stored()) - 1, Refused), (len(stored()), Stored)):
        with imap_server(Scripted(after_login=f"IMAP4rev1 SPECIAL-USE APPENDLIMIT={limit}")) as server:
            assert isinstance(FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy()), kind)


@pytest.mark.parametrize("mark", ["", "a b", "a\r\nBcc: x@y", "ä", "x" * 65])
def test_a_mark_is_one_word(mark: str) -> None:
    with pytest.raises(ValueError, match="mark"):
        copy(mark=mark)


def test_a_folder_without_a_limit_takes_any_size() -> None:
    with imap_server(Scripted(after_login="IMAP4rev1 SPECIAL-USE APPENDLIMIT")) as server:
        assert FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy()) == Stored("Gesendet")


@pytest.mark.parametrize(
    "content",
    [
        replace(copy(), size=len(MESSAGE) - 1),
        replace(copy(), size=len(MESSAGE) + 1),
        replace(copy(), size=len(MESSAGE) + 12),  # as many octets as a goodbye has
        copy(b"Subject: x\r\n\r\nnul \0\r\n"),
    ],
)
@pytest.mark.parametrize("capability", ["LITERAL+", ""])
def test_a_message_that_is_not_the_announced_one_is_not_stored(content: Copy, capability: str) -> None:
    with imap_server(Scripted(after_login=f"IMAP4rev1 SPECIAL-USE {capability}")) as server:
        result = FOLDERS.append_copy(address(server), PASSWORD_LOGIN, content)
    assert isinstance(result, Refused)
    assert (result.kind, result.is_final) == (RefusalKind.CONTENT, True)
    assert server.sent() == []


def test_a_message_that_cannot_be_read_is_not_stored() -> None:
    def broken():
        yield MESSAGE[:20]
        raise OSError(5, "Input/output error")

    with imap_server() as server:
        result = FOLDERS.append_copy(address(server), PASSWORD_LOGIN, replace(copy(), blocks=broken))
    assert isinstance(result, TryLater)
    assert (result.kind, result.may_be_stored) == (DelayKind.LOCAL, False)
    assert "Input/output error" in result.words
    assert server.sent() == []


# ---- failures of the connection ----

STAGES = ["greeting", "capability", "authenticate", "list", "namespace", "append", "continuation", "literal"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_connection_that_ends_before_the_last_octet_stores_nothing(stage: str) -> None:
    state = at(stage, close)
    state.folders = {"INBOX": Folder(), "Gesendet": Folder()}
    state.after_login = "IMAP4rev1 NAMESPACE"
    with imap_server(state) as server:
        result = FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy(MESSAGE * 100))
    assert isinstance(result, TryLater)
    assert result.kind is DelayKind.PROTOCOL
    # What this machine has accepted for sending could have arrived: that depends on its buffers.
    assert stage == "literal" or not result.may_be_stored
    assert server.sent() == []


@pytest.mark.parametrize("stage", ["literal read", "stored"])
def test_after_the_last_octet_the_copy_may_be_stored(stage: str) -> None:
    with imap_server(at(stage, close)) as server:
        result = FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy())
    assert isinstance(result, TryLater)
    assert (result.kind, result.may_be_stored) == (DelayKind.PROTOCOL, True)
    assert len(server.sent()) == (stage == "stored")


def test_a_repeat_that_fails_early_stays_in_doubt() -> None:
    with imap_server(at("greeting", close)) as server:
        result = FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy(again=True))
    assert isinstance(result, TryLater)
    assert result.may_be_stored


@pytest.mark.parametrize("stage", [*STAGES, "literal read", "stored"])
def test_a_server_that_says_goodbye_is_quoted(stage: str) -> None:
    state = at(stage, says(b"* BYE Server shutting down.\r\n"))
    state.folders = {"INBOX": Folder(), "Gesendet": Folder()}
    state.after_login = "IMAP4rev1 NAMESPACE"
    with imap_server(state) as server:
        result = FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy())
    assert isinstance(result, TryLater)
    assert (result.kind, result.server_text) == (DelayKind.BUSY, "Server shutting down.")
    assert stage == "literal" or result.may_be_stored == (stage in ("literal read", "stored"))


def test_a_refusal_in_the_middle_of_the_octets_is_understood() -> None:
    def refuse(connection: Connection) -> None:
        connection.write(b"copy1 NO [OVERQUOTA] full\r\n")

    with imap_server(at("literal", refuse)) as server:
        result = FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy(MESSAGE * 20_000))
    # TCP may discard what was sent before the end of the connection.
    assert isinstance(result, Refused | TryLater)
    assert result.kind in (RefusalKind.OVER_QUOTA, DelayKind.PROTOCOL)
    assert server.sent() == []


def test_silence_ends_at_the_deadline() -> None:
    for stage in ("greeting", "authenticate", "list", "continuation", "stored"):
        silent: list[Connection] = []

        def say_nothing(connection: Connection, silent: list[Connection] = silent) -> None:
            silent.append(connection)
            connection.wait_for_end()

        for seconds in (0.3, 3.0, 30.0):  # on a busy machine the time may end before that stage
            state = at(stage, say_nothing)
            state.after_login = "IMAP4rev1 SPECIAL-USE"
            with imap_server(state) as server:
                impatient = imap.ImapFolders(FOLDERS._monotonic, seconds=seconds)
                result = impatient.append_copy(address(server), PASSWORD_LOGIN, copy())
            if silent:
                break
        assert isinstance(result, TryLater)
        assert (result.kind, result.may_be_stored) == (DelayKind.PROTOCOL, stage == "stored")
        assert "did not answer in time" in result.words


# ---- TLS ----


@pytest.mark.parametrize("security", [Security.IMPLICIT_TLS, Security.STARTTLS])
def test_the_login_is_sent_under_verified_tls(tmp_path: Path, security: Security) -> None:
    authority = Authority(tmp_path)
    state = Scripted(before_login="IMAP4rev1 STARTTLS AUTH=PLAIN", implicit_tls=security is Security.IMPLICIT_TLS)
    with imap_server(state, authority.issue("localhost")) as server:
        trusted = ImapServer("localhost", server.port, security, str(authority.ca_file))
        assert FOLDERS.append_copy(trusted, PASSWORD_LOGIN, copy()) == Stored("Gesendet")
        server.commands.clear()
        for other in (replace(trusted, host="127.0.0.1"), replace(trusted, ca_file=None)):
            result = FOLDERS.append_copy(other, PASSWORD_LOGIN, copy())
            assert isinstance(result, Refused)
            assert result.kind is RefusalKind.INCOMPATIBLE
            assert "certificate" in result.words
        assert not any("AUTH" in one or "LOGIN" in one for one in server.commands)


def test_without_an_offer_of_starttls_no_password_is_sent() -> None:
    with imap_server() as server:
        result = FOLDERS.append_copy(replace(address(server), security=Security.STARTTLS), PASSWORD_LOGIN, copy())
        assert isinstance(result, Refused)
        assert (result.kind, server.commands) == (RefusalKind.INCOMPATIBLE, ["CAPABILITY"])


def test_answers_sent_before_tls_are_not_taken_for_answers_after_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    def inject(connection: Connection) -> None:
        connection.write(connection.tag + b" OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n")

    state = at("starttls", inject)
    state.before_login = "IMAP4rev1 STARTTLS"
    with imap_server(state, authority.issue("localhost")) as server:
        place = ImapServer("localhost", server.port, Security.STARTTLS, str(authority.ca_file))
        result = FOLDERS.append_copy(place, PASSWORD_LOGIN, copy())
    assert isinstance(result, TryLater)
    assert result.kind is DelayKind.PROTOCOL


def test_a_mailbox_that_is_open_without_a_login_is_not_used() -> None:
    with imap_server(at("greeting", says(b"* PREAUTH welcome\r\n", goes_on=True))) as server:
        result = FOLDERS.append_copy(address(server), PASSWORD_LOGIN, copy())
        assert isinstance(result, TryLater)
        assert server.commands == ["CAPABILITY"]


def test_plain_text_is_for_this_machine_only() -> None:
    result = FOLDERS.find_folder(ImapServer("192.0.2.1", 143, Security.NONE), PASSWORD_LOGIN)
    assert isinstance(result, Refused)
    assert result.kind is RefusalKind.INCOMPATIBLE
    assert "loopback" in result.words


def test_a_port_without_a_server_and_a_name_without_an_address() -> None:
    with imap_server() as server:
        gone = address(server)
    for place in (gone, replace(gone, host="nowhere.invalid")):
        result = FOLDERS.find_folder(place, PASSWORD_LOGIN)
        assert isinstance(result, TryLater)
        assert result.kind is DelayKind.UNREACHABLE


def test_a_server_without_tls_on_a_port_for_tls() -> None:
    with imap_server() as server:
        result = FOLDERS.find_folder(replace(address(server), security=Security.IMPLICIT_TLS), PASSWORD_LOGIN)
    assert isinstance(result, Refused)
    assert result.kind is RefusalKind.INCOMPATIBLE
    assert "starttls" in result.hint


def test_a_file_of_authorities_that_is_missing_or_none(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name in ("missing.pem", "empty.pem"):
        place = ImapServer("localhost", 1, Security.IMPLICIT_TLS, str(tmp_path / name))
        result = FOLDERS.find_folder(place, PASSWORD_LOGIN)
        assert isinstance(result, Refused)
        assert result.kind is RefusalKind.INCOMPATIBLE


# ---- the libraries ----


def test_no_method_of_ours_replaces_one_of_imaplib_by_accident() -> None:
    ours = {name for name in vars(ImapConnection) if not name.startswith("__")}
    theirs = set(dir(imaplib.IMAP4))
    assert ours & theirs == {"open", "read", "readline", "send", "shutdown", "starttls", "login"}


def test_a_tls_context_verifies(tmp_path: Path) -> None:
    from senderproxy.sent_copy import connection

    context = connection._verified_context(str(Authority(tmp_path).ca_file))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_the_date_of_the_copy_is_the_time_of_sending() -> None:
    assert internal_date(SENT_AT) == "31-Jan-2026 08:15:00 +0000"
