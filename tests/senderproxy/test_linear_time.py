"""Every pattern and every scanner that meets remote octets takes time in proportion to its input.

Measured in CPU time of the thread, as the minimum of several runs, at N and at 8N octets of hostile units: linear work
stays below a ratio of 12, quadratic work reaches 64. The limit lies between.
"""

import ast
import functools
import importlib
import io
import itertools
import json
import os
import pkgutil
import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import senderproxy
import vault
from senderproxy.backup.archive import read_archive
from senderproxy.backup.errors import BackupInvalid
from senderproxy.cli.account_columns import read_addresses
from senderproxy.delivery import login_mechanisms
from senderproxy.delivery.login_mechanisms import LoginSecret, MechanismError, decode_challenge
from senderproxy.delivery.protocol import InvalidReplyError, ReplyReader
from senderproxy.dkim.canonical import RelaxedBodyHash, SimpleBodyHash
from senderproxy.dkim.choice import KeyRing
from senderproxy.dkim.key import SigningKey
from senderproxy.dkim.sign import sign
from senderproxy.domain_records.dkim import rsa_bits
from senderproxy.domain_records.domain import judge_domain
from senderproxy.domain_records.lookups import Lookups
from senderproxy.domain_records.own_key import look_at_key
from senderproxy.domain_records.provider_records import PROVIDER_RECORDS
from senderproxy.footer.add_footer import AddFooter
from senderproxy.footer.footer import Footer
from senderproxy.mail.address import AddressError, parse_address
from senderproxy.mail.author import MailboxError, read_authors, read_mailboxes
from senderproxy.mail.display import decode_words, encode_phrase, encode_unstructured
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.reply import reply
from senderproxy.oauth.token_answer import read_token_answer
from senderproxy.rewriting.repair import RepairContext, find_repairs, repair_author_fields
from senderproxy.rewriting.stray_lines import without_stray_lines
from senderproxy.rewriting.transfer_encoding import Reencode
from senderproxy.routing.provider import Security, Smarthost
from senderproxy.spool.sqlite.upstream_id import upstream_id
from senderproxy.wire.command import Command, read_command, read_mail, read_rcpt
from senderproxy.wire.data_decoder import HEADER_LIMIT, DataDecoder, HeaderCollector
from senderproxy.wire.line_ends import BareCr

SMARTHOST = Smarthost("smtp.hoster.example", 587, Security.STARTTLS)
IONOS = PROVIDER_RECORDS["ionos-de"]
RATIO = 24.0
FACTOR = 8
CLEARLY_LINEAR = 12.0
# What walks its input many times gets a part of it in the test command, and all of it in `make fuzz`.
LONG_INPUTS = bool(os.environ.get("LONG_INPUTS"))
TOO_SHORT = 0.005  # seconds; below that the clock and the caches decide

UNITS = [
    b" ", b"\t", b"\r\n ", b"\r\n", b"\n", b"\r", b"\0", b"<", b">", b"<>", b"@", b"a@", b"a@b", b"<a@", b"<a@b>,", b"a@b,",
    b'"', b'"a"', b"\\", b'\\"', b'"\\', b"(", b")", b"()", b"\\(", b"(\\", b",", b",a", b";", b";,", b":", b"a:", b"a:b;",
    b"a", b"a ", b" a", b"a\t", b"A.", b".", b"..", b"-", b"1", b"1 ", b"1.", b"=", b"=?", b"?=", b"=?utf-8?q?", b"=?utf-8?q?a?= ",
    b"\xff", b'"\xff', b"\xff ", b"\xc3\xa4", b"\xc3\xa4 ", b"[", b"]", b"[]", b"Jan ", b"from", b"\r\nfrom ", b"x: y\r\n",
    b"message-id", b"\r\n.", b"%", b"+", b"/", b"send ", b"id ", b"ok ", b"too many ", b"daily ", b"queued as ", b"Received: x\r\n",
]  # fmt: skip
# For the structure and the texts of a message, beside those.
MIME_UNITS = [
    b"\r\n--b", b"\r\n--", b"--b--\r\n", b"<!--", b"-->", b"</body>", b"</body\r\n", b"<a b='", b"&", b"=\r\n", b"-----BEGIN PGP ",
    b"Firma GmbH \xc2\xb7 K\xc3\xb6ln ", b"\r\n> Firma",
]  # fmt: skip


def cpu_seconds(run: Callable[[], object]) -> float:
    begin = time.thread_time()
    run()
    return time.thread_time() - begin


def assert_linear(make: Callable[[int], Callable[[], object]], octets: int, what: object) -> None:
    """`make(n)` gives a call that works on n octets. Small sizes first, so that nothing quadratic runs for minutes."""
    for size in (octets // FACTOR, octets):
        small, large = make(size), make(size * FACTOR)
        before, after = cpu_seconds(small), cpu_seconds(large)
        for _ in range(9):  # the minimum of ten, where one look does not suffice: other tests run beside this one
            if after < max(TOO_SHORT, before * CLEARLY_LINEAR):
                break
            before, after = min(before, cpu_seconds(small)), min(after, cpu_seconds(large))
        assert after < TOO_SHORT or after / before < RATIO, (what, size, before, after)


# ---- patterns ----


def modules() -> Iterator[str]:
    for package in (senderproxy, vault):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not found.name.endswith("__main__") and ".simulator" not in found.name:
                yield found.name


def patterns_in(value: object) -> Iterator[re.Pattern[str] | re.Pattern[bytes]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, tuple | list | frozenset):
        for part in value:
            yield from patterns_in(part)
    elif isinstance(value, dict):
        yield from patterns_in(list(value.values()))


def patterns() -> dict[str, re.Pattern[str] | re.Pattern[bytes]]:
    """All patterns of the program, by the place where they are defined; the simulator's meet our own octets only."""
    found: dict[str, re.Pattern[str] | re.Pattern[bytes]] = {}
    for name in modules():
        for attribute, value in vars(importlib.import_module(name)).items():
            for number, pattern in enumerate(patterns_in(value)):
                if pattern not in found.values():
                    found[f"{name}.{attribute}[{number}]"] = pattern
    return found


PATTERNS = patterns()


@functools.cache
def uses(module: str) -> dict[str, set[str]]:
    """The methods that are called on each constant of a module."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(Path(str(importlib.import_module(module).__file__)).read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.setdefault(node.value.id, set()).add(node.attr)
    return found


METHODS = {"match", "fullmatch", "search", "finditer", "sub"}
CALLS: dict[str, Callable[[re.Pattern[Any], Any], object]] = {
    "match": lambda pattern, text: pattern.match(text),
    "fullmatch": lambda pattern, text: pattern.fullmatch(text),
    "search": lambda pattern, text: pattern.search(text),
    "finditer": lambda pattern, text: sum(1 for _ in pattern.finditer(text)),
    "sub": lambda pattern, text: pattern.sub(text[:0], text),
}


@pytest.mark.parametrize(("place", "pattern"), PATTERNS.items(), ids=PATTERNS)
def test_a_pattern_is_linear(place: str, pattern: re.Pattern[Any]) -> None:
    """As it is called in the program; a pattern in a table is searched for."""
    module, _, name = place.partition("[")[0].rpartition(".")
    methods = uses(module).get(name, set()) & METHODS or {"search"}
    for method, unit in itertools.product(sorted(methods), UNITS):
        for before, behind in ((b"", b"\1"), (b'a<"', b"x")):

            def make(
                size: int, edges: tuple[bytes, bytes, bytes, str] = (before, unit, behind, method)
            ) -> Callable[[], object]:
                octets = edges[0] + edges[1] * (size // len(edges[1])) + edges[2]
                text = octets if isinstance(pattern.pattern, bytes) else octets.decode("latin-1")
                return functools.partial(CALLS[edges[3]], pattern, text)

            assert_linear(make, 4096, (place, method, before, unit))


# ---- functions ----

CONTEXT = RepairContext(datetime(2026, 1, 31, tzinfo=UTC), "<id@relay.example>", None, remove_bcc=False)


def _header(name: bytes) -> Callable[[bytes], object]:
    def run(octets: bytes) -> object:
        other = b"" if name == b"From" else b"From: anna@firma.example\r\n"
        # As the DATA decoder lets it through: no bare CR or LF, no NUL.
        clean = octets.replace(b"\0", b" ").replace(b"\r\n ", b"\0").translate(None, b"\r\n").replace(b"\0", b"\r\n ")
        header = HeaderSection(other + name + b": " + clean + b"\r\n\r\n")
        return find_repairs(header, CONTEXT), repair_author_fields(header), read_authors(header)

    return run


def _reencode(octets: bytes) -> object:
    clean = octets.replace(b"\r\n", b"\n").replace(b"\r", b"").replace(b"\n", b"\r\n")
    header = HeaderSection(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n")
    parts = b"".join(
        b"--b\r\nContent-Type: " + kind + b"\r\n\r\n" + clean + b"\r\n"
        for kind in (
            b"text/plain",
            b"application/x",
            b"text/html\r\nContent-Transfer-Encoding: quoted-printable",
            clean[:60_000],
        )
    )
    return Reencode(seven_bit=True).apply(header, iter([parts]), lambda _: None)


def _footers(octets: bytes) -> object:
    """In texts of each encoding, in a header section, and as lines around boundaries, in pieces of one segment."""
    clean = octets.replace(b"\r\n", b"\n").replace(b"\r", b"").replace(b"\n", b"\r\n")
    footer = Footer((), "-- \nFirma GmbH \u00b7 K\u00f6ln\n{name}", "<p>Firma GmbH \u00b7 K\u00f6ln</p>")
    results = []
    for kind in (
        b"text/plain",
        b"text/plain; charset=iso-8859-15",
        b"text/html",
        b"text/html; charset=utf-16",
        b"text/html\r\nContent-Transfer-Encoding: quoted-printable",
        b"text/plain\r\nContent-Transfer-Encoding: base64",
        clean[:60_000],
    ):
        body = (
            b"--b\r\nContent-Type: "
            + kind
            + b"\r\n\r\n"
            + clean
            + b"\r\n--b\r\n\r\n"
            + clean
            + b"\r\n--b--\r\n"
            + clean
        )
        pieces = (body[at : at + 1448] for at in range(0, len(body), 1448))
        header = HeaderSection(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n")
        results.append(AddFooter(footer, "a\u20ac", "a@b.example").apply(header, pieces, lambda _: None))
    return results


def _stray_lines(octets: bytes) -> object:
    clean = octets.replace(b"\0", b" ").replace(b"\r\n", b"\0").translate(None, b"\r\n").replace(b"\0", b"\r\n")
    return without_stray_lines(HeaderSection(b"Subject: x\r\nstray " + clean + b"\r\nTo: x\r\n"), lenient=True)


def _data(octets: bytes, bare_cr: BareCr = BareCr.REJECT, before: bytes = b"") -> object:
    """In pieces of one segment, as a client sends it."""
    decoder, collector = DataDecoder(bare_cr=bare_cr), HeaderCollector()
    octets = before + octets
    for begin in range(0, len(octets), 1448):
        collector.feed(decoder.feed(octets[begin : begin + 1448]))
    section = collector.section()
    return section.split() if isinstance(section, HeaderSection) else section


def _replies(octets: bytes) -> object:
    reader = ReplyReader()
    try:
        return [list(reader.feed(octets[begin : begin + 1448])) for begin in range(0, len(octets), 1448)]
    except InvalidReplyError:
        return None


def _command(octets: bytes) -> object:
    """Command lines are bounded before they are read; reading them is linear all the same."""
    for lenient in (False, True):
        for verb in (b"MAIL FROM:", b"RCPT TO:", b"X "):
            found = read_command(verb + octets, lenient=lenient)
            if isinstance(found, Command):
                read_mail(found.argument, 10**9, lenient=lenient)
                read_rcpt(found.argument, lenient=lenient)
    return None


def _archive(octets: bytes) -> object:
    """As one frame of JSON, and as frames."""
    for content in (octets, len(octets).to_bytes(4, "big") + b"M" + octets):
        with suppress(BackupInvalid):
            list(read_archive(io.BytesIO(content).read))
    return None


def _domain_records(octets: bytes) -> object:
    """As each record of a domain; an answer of the DNS has 64 KB at most."""
    text = octets.decode("latin-1")
    records = {
        "TXT": [f"v=spf1 {text}", f"v=spf1 include:{text}", f"v=DKIM1; p={text}", f"v=DMARC1; {text}", f"v=spf{text}"],
        "MX": [text],
        "CNAME": [text],
    }

    def judge(record: str) -> object:
        def query(_name: str, kind: str) -> list[str]:
            return [record] if kind == "TXT" else records.get(kind, [])

        return judge_domain(query, "a.b.example", IONOS)

    found = [judge(record) for record in records["TXT"]]
    for record in records["TXT"]:
        own = Lookups(lambda _name, _kind, record=record: [record])  # type: ignore[misc]
        look_at_key(own, "sp1._domainkey.a.b.example", "a.b.example", b"public")
    return found, rsa_bits(b"\x30\x84" + len(octets).to_bytes(4, "big") + octets)


DKIM_KEY = SigningKey("firma.example", "sp1", b"public", lambda _: bytes(256), lambda _signature, _octets: False)
DKIM_KEYS = KeyRing({DKIM_KEY.domain: DKIM_KEY}, {DKIM_KEY.domain: [DKIM_KEY]})
DKIM_TAGS = b"v=1; a=rsa-sha256; c=simple/simple; d=firma.example; s=sp1; bh=%s; b=AAAA; h=from:to:" % b64encode(
    bytes(32)
)


def _dkim_header(octets: bytes) -> object:
    """As a field that is signed, and in a signature that is there; also many fields of one name."""
    clean = octets.replace(b"\0", b" ").replace(b"\r\n ", b"\0").translate(None, b"\r\n").replace(b"\0", b"\r\n ")
    author = b"From: anna@firma.example\r\nTo: "
    several = (b"To: " + clean[:8].replace(b"\r\n", b"") + b"\r\n") * (len(octets) // 16)
    headers = [
        author + clean + b"\r\n\r\n",
        b"DKIM-Signature: " + DKIM_TAGS + clean + b"\r\n" + author + b"x\r\n\r\n",
        b"DKIM-Signature: " + clean + b";" + DKIM_TAGS + b"\r\n" + author + b"x\r\n\r\n",
        several + author + b"x\r\n\r\n",
    ]
    sections = [HeaderSection(raw) for raw in headers]
    return [sign(DKIM_KEY, DKIM_KEYS, section, section, [b"x\r\n"], CONTEXT.now) for section in sections]


def _dkim_body(octets: bytes) -> object:
    """In blocks of some hundred octets, and in one."""
    for size in (700, len(octets)):
        relaxed, simple = RelaxedBodyHash(), SimpleBodyHash()
        for begin in range(0, len(octets), size):
            relaxed.feed(octets[begin : begin + size])
            simple.feed(octets[begin : begin + size])
        relaxed.digest()
        simple.digest()
    return None


def _token_answers(octets: bytes) -> object:
    """As a body, and as the words of a refusal."""
    words = json.dumps({"error": "invalid_grant", "error_description": octets.decode("latin-1")}).encode()
    return read_token_answer(200, octets), read_token_answer(400, words)


def _login_challenge(octets: bytes) -> object:
    dialogue = login_mechanisms.begin("SCRAM-SHA-256", LoginSecret(b"anna", b"geheim-1", SMARTHOST, "nonce"))
    with suppress(MechanismError):
        dialogue.answer(b"r=nonce" + octets)
    with suppress(MechanismError):
        decode_challenge(octets.decode("latin-1"))
    return None


def _swallowing(error: type[Exception], run: Callable[[bytes], object]) -> Callable[[bytes], object]:
    def call(octets: bytes) -> object:
        with suppress(error):
            return run(octets)
        return None

    return call


# What is fed to each, and how many octets at the most; an eighth of them is the other size. Eight times the header limit
# where a run with all units takes seconds. Where it would take a minute, for the repairs of fields, the MIME structure and
# the stray lines of a device, the header limit itself or a part of it; so for footers and DKIM. A command, a reply's line and an address are cut off
# at some thousand octets before they are read: eight times that.
FUNCTIONS: dict[str, tuple[Callable[[bytes], object], int]] = {
    **{
        f"header field {name.decode()}": (_header(name), HEADER_LIMIT // 2)
        for name in (b"From", b"To", b"Date", b"X-Note")
    },
    "MIME structure": (_reencode, HEADER_LIMIT // (1 if LONG_INPUTS else 4)),
    "footers": (_footers, HEADER_LIMIT // (2 if LONG_INPUTS else 8)),
    "DKIM header": (_dkim_header, HEADER_LIMIT // (1 if LONG_INPUTS else 4)),
    "DKIM body": (_dkim_body, HEADER_LIMIT * 8),
    "stray lines": (_stray_lines, HEADER_LIMIT // 4),
    "DATA": (_data, HEADER_LIMIT * 8),
    "DATA of a device": (lambda octets: _data(octets, BareCr.CONVERT), HEADER_LIMIT),
    "body of a device": (lambda octets: _data(octets, BareCr.CONVERT, b"\r\n"), HEADER_LIMIT * 8),
    "answers of a token endpoint": (_token_answers, HEADER_LIMIT // 8),
    "challenges of a login": (_login_challenge, HEADER_LIMIT // 8),
    "upstream replies": (_replies, HEADER_LIMIT * 8),
    "upstream reply text": (
        lambda octets: upstream_id(reply(250, "2.0.0", octets.decode("latin-1"))),
        HEADER_LIMIT // 8,
    ),
    "command": (_command, HEADER_LIMIT // 8),
    "address": (_swallowing(AddressError, lambda octets: parse_address(octets.decode("latin-1"))), HEADER_LIMIT // 8),
    "account cells": (
        _swallowing(AddressError, lambda octets: read_addresses(octets.decode("latin-1"), "")),
        HEADER_LIMIT // 8,
    ),
    "mailboxes": (_swallowing(MailboxError, read_mailboxes), HEADER_LIMIT),
    "encoded words": (decode_words, HEADER_LIMIT),
    "phrase": (lambda octets: encode_phrase(octets.decode("latin-1")), HEADER_LIMIT),
    "content of a backup": (_archive, HEADER_LIMIT),
    "records of a domain": (_domain_records, HEADER_LIMIT // 8),
    "subject": (lambda octets: encode_unstructured(octets.decode("latin-1")), HEADER_LIMIT),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", FUNCTIONS)
def test_a_function_is_linear(what: str) -> None:
    function, limit = FUNCTIONS[what]
    units = [*UNITS, *MIME_UNITS] if what in ("footers", "MIME structure") else UNITS
    for unit, before in itertools.product(units, (b"", b'a<"')):

        def make(size: int, edges: tuple[bytes, bytes] = (before, unit)) -> Callable[[], object]:
            return functools.partial(function, edges[0] + edges[1] * (size // len(edges[1])) + b"\1")

        assert_linear(make, limit // FACTOR, (what, before, unit))
