"""sendmail as its callers run it: options, header, recipients, content, exit codes."""

import os
import resource
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.header import decode_header, make_header
from pathlib import Path
from typing import IO

import pytest

from deploy import sendmail
from tests.peers.packages import POSTFIX
from tests.peers.process import why_not_here
from tests.peers.unpacked import Unpacked
from tests.senderproxy.test_linear_time import UNITS, assert_linear
from tests.sendmail.relay import RecordingRelay

PROGRAM = Path(sendmail.__file__)
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
PATIENCE = 300  # seconds; sixteen run at once in one of the tests
LETTER = b"From: anna@firma.example\nTo: carl@kunde.example\nSubject: Angebot\n\nGuten Tag\n"


class Caller:
    """A user of sendmail, with a configuration of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.aliases = folder / "aliases"
        self.configuration = folder / "sendmail.conf"

    def configure(self, port: int) -> None:
        self.configuration.write_text(
            f"# a comment\nserver = 127.0.0.1:{port}\ndomain = web1.firma.example\naliases = {self.aliases}\n"
        )

    def run(self, *words: str, content: bytes = LETTER, **environment: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-IS", str(PROGRAM), "-C", str(self.configuration), *words]
        return subprocess.run(
            command,
            input=content,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
            env={**os.environ, **environment},
        )


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    return Caller(tmp_path)


def sent(caller: Caller, *words: str, content: bytes = LETTER, **environment: str) -> RecordingRelay:
    """Run it against a relay that accepts everything."""
    with RecordingRelay() as relay:
        caller.configure(relay.port)
        done = caller.run(*words, content=content, **environment)
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"")
    return relay


def fields(message: bytes) -> dict[str, str]:
    lines = message.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").decode().split("\r\n")
    return {name: value.strip() for name, _colon, value in (line.partition(":") for line in lines)}


def test_a_message_arrives_as_it_was_given(caller: Caller) -> None:
    relay = sent(caller, "-i", "-f", "anna@firma.example", "carl@kunde.example")
    assert relay.commands[1] == b"MAIL FROM:<anna@firma.example> SIZE=%d" % len(relay.messages[0])
    assert relay.recipients() == [b"carl@kunde.example"]
    [message] = relay.messages
    header, _empty, body = message.partition(b"\r\n\r\n")
    assert header.startswith(b"From: anna@firma.example\r\nTo: carl@kunde.example\r\nSubject: Angebot\r\nDate: ")
    assert body == b"Guten Tag\r\n"
    assert set(fields(message)) == {"From", "To", "Subject", "Date", "Message-ID"}


def test_what_a_message_lacks_is_added(caller: Caller) -> None:
    [message] = sent(
        caller, "-i", '-Fcron, "the" one', "-fanna@firma.example", "x@kunde.example", content=b"hello\n"
    ).messages
    added = fields(message)
    assert added["From"] == '"cron, \\"the\\" one" <anna@firma.example>'
    assert added["Message-ID"].endswith("@web1.firma.example>")
    assert added["Date"].endswith(("+0000", "+0100", "+0200"))
    assert message.endswith(b"\r\n\r\nhello\r\n")


def test_a_name_outside_ascii_becomes_encoded_words(caller: Caller) -> None:
    name = "Jürgen Müller aus Großbüdingen"
    [message] = sent(caller, "-F", name, "-f", "j@firma.example", "x@k.example", content=b"hi\n").messages
    words, address = fields(message)["From"].rsplit(" ", 1)
    assert str(make_header(decode_header(words))) == name
    assert address == "<j@firma.example>"
    assert all(len(line) <= 78 for line in message.split(b"\r\n"))


@pytest.mark.parametrize("value", ["", "<>"])
def test_the_null_reverse_path(caller: Caller, value: str) -> None:
    relay = sent(caller, "-f", value, "x@kunde.example")
    assert relay.commands[1].startswith(b"MAIL FROM:<> ")


def test_without_f_the_user_is_the_sender(caller: Caller) -> None:
    import pwd

    relay = sent(caller, "x@kunde.example")
    assert relay.commands[1].startswith(
        b"MAIL FROM:<" + pwd.getpwuid(os.getuid()).pw_name.encode() + b"@web1.firma.example>"
    )


@pytest.mark.parametrize(
    ("header", "words", "recipients"),
    [
        ("To: a@x.example, B <b@x.example>\nCc: (c) c@x.example", ["-t"], "a b c"),
        ("To: a@x.example\nBcc: b@x.example,\n\tc@x.example", ["-t"], "a b c"),
        ("To: a@x.example", ["-t", "b@x.example"], "b a"),  # as Postfix: added
        ("To: a@x.example", ["b@x.example, C <c@x.example>"], "b c"),
        ("To: a@x.example, A <a@x.example>", ["-t"], "a"),
        ("To: office: a@x.example, b@x.example;, c@x.example", ["-t"], "a b c"),
        ("To: undisclosed-recipients:;\nBcc: a@x.example", ["-t"], "a"),
        ("to : \"x, y\" <a@x.example>", ["-t"], "a"),
        ("To: a@x.example\nResent-To: b@x.example\nResent-Bcc: c@x.example", ["-t"], "b c"),
        ("To: Anna (with, comma (and) \\) one) <a@x.example>", ["-t"], "a"),
        ("To: <@r.example,@s.example:a@x.example>", ["-t"], "a"),
    ],
)  # fmt: skip
def test_recipients(caller: Caller, header: str, words: list[str], recipients: str) -> None:
    relay = sent(caller, "-i", *words, content=f"{header}\nSubject: x\n\nbody\n".encode())
    assert relay.recipients() == [f"{name}@x.example".encode() for name in recipients.split()]
    assert b"bcc" not in relay.messages[0].lower()


def test_lines_of_an_mbox_and_stored_fields_are_dropped(caller: Caller) -> None:
    content = b"From anna Mon Nov 30\n>From x\nReturn-Path: <a@b.example>\nContent-Length: 3\n" + LETTER
    [message] = sent(caller, "x@kunde.example", content=content).messages
    assert message.startswith(b"From: anna@firma.example\r\n")


@pytest.mark.parametrize(
    ("content", "header", "body"),
    [
        (b"Subject: x\n\nbody\n", b"Subject: x", b"body\r\n"),
        (b"Subject: x\r\n\r\nbody\r\n", b"Subject: x", b"body\r\n"),
        (b"Subject: x\r\r\n\r\r\nbody\r\r\nend\r\n", b"Subject: x", b"body\r\nend\r\n"),
        (b"no header\n\nbody\n", b"From", b"no header\r\n\r\nbody\r\n"),
        (b"Subject: x\nbody: yes\nand no\n", b"Subject: x\r\nbody: yes", b"and no\r\n"),
        (b"Subject: x", b"Subject: x", b"\r\n"),
        (b"Subject: x\n\nno line end", b"Subject: x", b"no line end\r\n"),
        (b"", b"From", b"\r\n"),
        (b"\n\nbody", b"From", b"\r\nbody\r\n"),
    ],
)
def test_line_ends_and_headers(caller: Caller, content: bytes, header: bytes, body: bytes) -> None:
    [message] = sent(caller, "-i", "x@kunde.example", content=content).messages
    assert message.startswith(header)
    assert message.partition(b"\r\n\r\n")[2] == body.removeprefix(b"\r\n") if body == b"\r\n" else body


@pytest.mark.parametrize(
    ("words", "expected"),
    [([], b"one\r\n"), (["-i"], b"one\r\n..\r\n..two\r\n"), (["-oi"], b"one\r\n..\r\n..two\r\n")],
)
def test_a_lone_dot_ends_the_message_without_i(caller: Caller, words: list[str], expected: bytes) -> None:
    [message] = sent(caller, *words, "x@kunde.example", content=b"Subject: x\n\none\n.\n.two\n").messages
    assert message.partition(b"\r\n\r\n")[2] == expected


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r\r\n"])
@pytest.mark.parametrize("dot_ends", [True, False])
def test_each_cut_of_the_input_gives_the_same_lines(line_end: bytes, dot_ends: bool) -> None:
    text = line_end.join([b"a", b"", b"..", b".b", b"c.", b"...", b".", b"d"])
    expected = text.replace(b"\r", b"")
    if dot_ends:
        expected = expected[: expected.index(b"\n.\n") + 1]
    for size in (1, 2, 3, 5, 7, 1000):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # a packet is one read
        with ours, theirs:
            for start in range(0, len(text), size):
                theirs.send(text[start : start + size])
            theirs.shutdown(socket.SHUT_WR)
            assert b"".join(sendmail.unix_lines(ours.fileno(), dot_ends=dot_ends)) == expected, size


def test_local_names_are_looked_up_in_the_aliases(caller: Caller) -> None:
    caller.aliases.write_text(
        "# a comment\nroot: it, boss@firma.example\nit: |/bin/program,\n  anna@firma.example\nloop: loop2\nloop2: loop\n"
        '"Quoted": root\n'
    )
    relay = sent(caller, "Root", "nobody", "anna@other.example")
    assert set(relay.recipients()) == {
        b"boss@firma.example", b"anna@firma.example", b"nobody@web1.firma.example", b"anna@other.example",
    }  # fmt: skip


def test_an_alias_to_a_program_alone_is_no_recipient(caller: Caller) -> None:
    caller.aliases.write_text("root: |/bin/program\n")
    with RecordingRelay() as relay:
        caller.configure(relay.port)
        done = caller.run("root")
    assert done.returncode == 67
    assert relay.commands == []


def test_8bit_and_utf8_are_announced(caller: Caller) -> None:
    relay = sent(caller, "x@kunde.example", content="Subject: x\n\nGrüße\n".encode())
    assert relay.commands[1].endswith(b" BODY=8BITMIME")
    relay = sent(caller, "-B7BIT", "x@kunde.example", content="Subject: x\n\nGrüße\n".encode())
    assert b"BODY" not in relay.commands[1]
    relay = sent(caller, "jürgen@kunde.example")
    assert relay.commands[1].endswith(b" SMTPUTF8")
    assert relay.recipients() == ["jürgen@kunde.example".encode()]


@pytest.mark.parametrize(
    ("replies", "code", "words"),
    [
        ({"x@kunde.example": "550 5.1.1 no such mailbox"}, 67, "x@kunde.example: 550 5.1.1 no such mailbox"),
        ({"x@kunde.example": "550 no such mailbox"}, 67, "no such mailbox"),
        ({"x@kunde.example": "450 4.2.0 later"}, 75, "later"),
        ({"x@kunde.example": "452 4.5.3 too many recipients"}, 69, "too many"),
        ({"end": "550-5.7.1 No account here\n550 5.7.1 may send"}, 77, "550 5.7.1 No account here 5.7.1 may send"),
        ({"end": "554 5.6.0 bad content"}, 65, "bad content"),
        ({"end": "552 5.3.4 too large"}, 65, "too large"),
        ({"end": "451 4.3.0 disk full"}, 75, "disk full"),
        ({"end": "554 no"}, 69, "no"),
        ({"end": ""}, 75, "closed the connection"),
        ({"DATA": "421 4.3.2 stopping"}, 75, "stopping"),
        ({"connect": "421 4.7.0 too many connections"}, 75, "too many connections"),
        ({"connect": "554 5.7.1 not allowed"}, 77, "not allowed"),
        ({"connect": "not SMTP"}, 75, "closed the connection"),
    ],
)  # fmt: skip
def test_exit_codes_by_reply(caller: Caller, replies: dict[str, str], code: int, words: str) -> None:
    with RecordingRelay(replies) as relay:
        caller.configure(relay.port)
        done = caller.run("y@kunde.example", "x@kunde.example")
    assert done.returncode == code
    assert words in done.stderr.decode()
    assert done.stderr.startswith(b"sendmail: ")
    assert len(relay.messages) == ("end" in replies)


def test_a_relay_that_is_down_is_a_temporary_failure(caller: Caller) -> None:
    with RecordingRelay() as relay:
        caller.configure(relay.port)
    done = caller.run("x@kunde.example")
    assert done.returncode == 75
    assert b"systemctl status senderproxy" in done.stderr


@pytest.mark.parametrize(
    ("words", "content", "code"),
    [
        ([], LETTER, 64),
        (["-t"], b"Subject: x\n\n", 64),
        (["-Z", "x@kunde.example"], LETTER, 64),
        (["-f"], LETTER, 64),
        (["-B", "9BIT", "x@kunde.example"], LETTER, 64),
        (["-bd"], b"", 64),
        (["-bv", "x@kunde.example"], b"", 64),
        (["-bs", "x@kunde.example"], b"", 64),
        (["-f", "a@x.example, b@x.example", "x@kunde.example"], LETTER, 64),
        (["two words"], LETTER, 65),
        (["a@b@c"], LETTER, 65),
        (["<a@x.example> SIZE=1\r\nRCPT TO:<b@x.example"], LETTER, 65),
        (["a@x.example\r\nDATA"], LETTER, 65),
        (["-t"], b"To: Anna <anna@firma.example\n\n", 65),
        (["-t"], b'To: "anna@firma.example\n\n', 65),
        (["-C", "/nonexistent", "x@kunde.example"], LETTER, 78),
        (["-bi"], b"", 0),
        (["-I"], b"", 0),
        (["-q30m"], b"", 0),
        (["-bh"], b"", 0),
    ],
)
def test_calls_that_send_nothing(caller: Caller, words: list[str], content: bytes, code: int) -> None:
    with RecordingRelay() as relay:
        caller.configure(relay.port)
        done = caller.run(*words, content=content)
    assert done.returncode == code, done.stderr
    assert bool(done.stderr) == bool(code)
    assert relay.commands == []


# Calls of known programs and of Postfix's manual page: the exit code of both is, or is not, that of a usage error.
CALLS = [
    "-t -i", "-oi -t", "-ti", "-it", "-i -FCronDaemon -B8BITMIME -oem root", "-oem -oi root", "-odb -om x", "-odq x",
    "-Am x", "-Ac x", "-G x", "-h 3 x", "-L tag x", "-m x", "-N never x", "-N success,failure x", "-O Timeout.queue=1 x",
    "-o7 x", "-o8 x", "-R full x", "-R hdrs x", "-r a@x x", "-f a@x x", "-fa@x x", "-U x", "-V envid x", "-F Name x",
    "-v x", "-x x", "-c x", "-em x", "-e m x", "-bm x", "-t -- x", "-i -- x", "-p ESMTP x", "-q", "-q15m", "-bh", "-bH",
    "-bx", "-bt", "-ba", "-k", "-W", "-f", "-F", "-B 9BIT x", "-bp x", "-bi x", "-bs x", "-t -bp", "-t -bs", "-qX", "-s x",
    "-bs -t", "-I x", "-t -f x -- y",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(why_not_here(POSTFIX, root=True) is not None, reason=str(why_not_here(POSTFIX, root=True)))
def test_the_same_options_as_in_postfix_are_usage_errors(caller: Caller) -> None:
    (caller.folder / "main.cf").write_text(
        f"queue_directory = {caller.folder}\ncommand_directory = /nonexistent\ncompatibility_level = 3.6\n"
        f"data_directory = {caller.folder}\nmyhostname = web1.firma.example\nalias_maps =\nalias_database =\nmaillog_file =\n"
    )

    postfix = Unpacked("postfix", caller.folder)

    def is_refused(call: str) -> tuple[bool, bool]:
        """Whether ours, and whether Postfix's, refuses the command line; accepted, the latter fails a step later."""
        theirs = subprocess.run(
            postfix.command("/usr/sbin/sendmail", *call.split()),
            env={"MAIL_CONFIG": str(caller.folder), "PATH": "/usr/bin:/usr/sbin:/bin:/sbin"},
            input=LETTER,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
        return caller.run(
            *call.split()
        ).returncode == 64, theirs.returncode != 0 and b"/nonexistent" not in theirs.stderr

    with RecordingRelay() as relay, ThreadPoolExecutor(16) as threads:  # Postfix sleeps for a second after an error
        caller.configure(relay.port)
        results = dict(zip(CALLS, threads.map(is_refused, CALLS), strict=True))
    assert {call: both for call, both in results.items() if both[0] != both[1]} == {}


def test_stand_alone_mode(caller: Caller) -> None:
    dialogue = b"EHLO me\nMAIL FROM:<a@x.example>\nRCPT TO:<b@x.example>\nDATA\nSubject: x\n\n..dot\n.\nRSET\nQUIT\n"
    with RecordingRelay() as relay:
        caller.configure(relay.port)
        done = caller.run("-bs", content=dialogue)
    codes = [line[:4] for line in done.stdout.decode().split("\r\n")]
    assert codes == ["220 ", "250-", "250-", "250-", "250 ", "250 ", "250 ", "354 ", "250 ", "250 ", "221 ", ""]
    assert done.returncode == 0
    assert relay.messages == [b"Subject: x\r\n\r\n..dot\r\n"]


def test_stand_alone_mode_without_an_end_sends_nothing(caller: Caller) -> None:
    with RecordingRelay() as relay:
        caller.configure(relay.port)
        done = caller.run("-bs", content=b"EHLO me\nMAIL FROM:<a@x.example>\nDATA\nSubject: x\n\nhalf")
    assert done.returncode == 65
    assert relay.messages == []
    done = caller.run("-bs", content=b"QUIT\n")
    assert done.returncode == 75
    assert done.stdout.startswith(b"421 4.3.2 ")


def test_v_prints_the_dialogue(caller: Caller) -> None:
    with RecordingRelay() as relay:
        caller.configure(relay.port)
        done = caller.run("-v", "x@kunde.example")
    assert done.returncode == 0
    assert b">>> RCPT TO:<x@kunde.example>\n250 2.0.0 OK\n" in done.stderr


def test_a_large_message_does_not_fill_the_memory(caller: Caller, tmp_path: Path) -> None:
    line = b"." * 60 + b"\n"
    content = tmp_path / "large.eml"
    content.write_bytes(b"Subject: large\n\n" + line * 500_000)
    with RecordingRelay() as relay, content.open("rb") as opened:
        caller.configure(relay.port)
        words = ["sendmail", "-C", str(caller.configuration), "-i", "x@kunde.example"]
        peak = run_inside(words, "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])", opened)
    assert int(peak) < 40_000  # KiB; the message has 30,500,016 octets
    [message] = relay.messages
    assert message.partition(b"\r\n\r\n")[2] == (b"." + line[:-1] + b"\r\n") * 500_000


def run_inside(words: list[str], afterwards: str, stdin: IO[bytes] | None = None) -> str:
    """Run it in a process of this machine's Python that then runs a statement; returns what that prints."""
    code = (
        f"import sys; sys.argv = {words!r}; source = open({str(PROGRAM)!r}).read()\n"
        f"try: exec(compile(source, 'sendmail', 'exec'), {{'__name__': '__main__'}})\n"
        f"except SystemExit as end: assert not end.code, end.code\n{afterwards}"
    )
    command = [PYTHON, "-IS", "-c", code]
    return subprocess.run(command, stdin=stdin, stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE).stdout


def test_it_starts_fast_and_imports_nothing_of_the_project() -> None:
    loaded = set(run_inside(["sendmail", "-bi"], "print(*sys.modules)").split())
    slow = {"typing", "dataclasses", "pathlib", "email", "smtplib", "ssl", "tempfile", "tomllib", "logging"}
    assert loaded & slow == set()
    assert not [name for name in loaded if name.startswith(("senderproxy", "deploy", "pydantic"))]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(5):
        subprocess.run([PYTHON, "-IS", str(PROGRAM), "-bi"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 5 < 0.1  # seconds of CPU


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ({}, ("127.0.0.1", 2525)),
        ({"listeners": [{"address": "192.168.1.2:25"}]}, ("192.168.1.2", 25)),
        ({"listeners": [{"address": "192.168.1.2:25"}, {"address": "127.0.0.1:2526"}]}, ("127.0.0.1", 2526)),
        ({"listeners": [{"address": "0.0.0.0:25"}]}, ("127.0.0.1", 25)),
        ({"listeners": [{"address": "[::]:25"}]}, ("::1", 25)),
        ({"listeners": [{"auth": "required"}, {"address": "127.0.0.1:26", "tls": "starttls"}]}, ("127.0.0.1", 26)),
        ({"listeners": {"address": "127.0.0.1:27"}}, ("127.0.0.1", 27)),
    ],
)
def test_the_listener_for_this_machine(service: dict[str, object], expected: tuple[str, int]) -> None:
    assert sendmail._listener(service) == expected


def test_no_listener_for_this_machine() -> None:
    with pytest.raises(sendmail.Failure) as caught:
        sendmail._listener({"listeners": [{"tls": "implicit"}, {"auth": "required"}]})
    assert caught.value.code == 78


@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_header_and_addresses_are_read_in_linear_time(unit: bytes) -> None:
    def read(octets: bytes) -> None:
        with suppress(sendmail.Failure):
            sendmail.addresses(octets)
        with suppress(sendmail.Failure):
            fields, _body = sendmail.split_header(iter([octets.replace(b"\r\n", b"\n")]))
            sendmail.recipients_of(fields)

    assert_linear(lambda octets: lambda: read(unit * (octets // len(unit))), 1 << 15, unit)
