"""Any CSV table, configuration file and request on the control socket: an answer in our words, and nothing else."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from senderproxy.cli.account_table import _read_row, _read_table
from senderproxy.cli.errors import InputError, UsageError
from senderproxy.config.load import ConfigError, Problem, load_config
from senderproxy.config.model import Config
from senderproxy.control.protocol import Request, Verb
from senderproxy.control.server import ControlServer
from senderproxy.relay.queue_admin import QueueAdmin
from senderproxy.tracking.queue_words import QueueAction
from tests.fakes.memory_spool import MemorySpool
from tests.fakes.no_reports import no_reports
from tests.fakes.still_clock import StillClock
from tests.fuzz.profile import fuzzed

# ---- the table of accounts ----

_CONFIG = Config.model_validate(
    {"identity": {"hostname": "relay.example"}, "vault": {"unlock": "passphrase"}, "providers": {"ionos": {"preset": "ionos-de"}}}
)  # fmt: skip
_CELLS = st.sampled_from(
    [b"login", b"password", b"Passwort", b"provider", b"addresses", b"name", b"ionos", b"anna@firma.example", b"@firma.example",
     b"geheim-1", b";", b",", b"\t", b"\n", b"\r\n", b"\r", b'"', b'""', b"'", b"\xe4", b"\xc3\xa4", b"\xef\xbb\xbf", b"\xff\xfe", b"\0",
     b"login;password;provider\r\n", b"login,password\n", b" ", b"x@", b"\xfe\xff"]
)  # fmt: skip
_TABLES = st.lists(_CELLS | st.binary(max_size=8), max_size=20).map(b"".join)
_BEFORE_THE_ROWS = st.sampled_from([b"", b"login;password;provider;addresses;name\n", b"login,password\r\n"])


def rows_of(content: bytes) -> list[tuple[int, dict[str, str]]]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "accounts.csv"
        path.touch(mode=0o600)
        path.write_bytes(content)
        return _read_table(path).rows


@fuzzed(300)
@given(_BEFORE_THE_ROWS, _TABLES)
@example(b"x" * 140_000 + b"\n", b"a;b\n")
@example(b"login;password\n", b'"' + b"x" * 140_000)
def test_any_table_gives_rows_or_an_error_with_a_hint(heading: bytes, table: bytes) -> None:
    try:
        rows = rows_of(heading + table)
    except (InputError, UsageError):
        return
    for line, cells in rows:
        row = _read_row(_CONFIG, "ionos", line, cells)
        assert row.result
        assert row.stored is None or row.stored.secret == cells["secret"]
        others = " ".join(text for column, text in cells.items() if column != "secret")
        assert "geheim" in others or "geheim" not in row.result


@fuzzed(100)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30), st.sampled_from(";,\t"))
def test_a_password_is_read_exactly_as_a_spreadsheet_writes_it(secret: str, delimiter: str) -> None:
    stream = io.StringIO(newline="")
    table = csv.writer(stream, delimiter=delimiter)
    table.writerows([["login", "password", "provider"], ["anna@firma.example", secret, "ionos"]])
    [(line, cells)] = rows_of(stream.getvalue().encode("utf-8"))
    stored = _read_row(_CONFIG, None, line, cells).stored
    assert stored is not None
    assert stored.secret == secret


# ---- the configuration ----

_TOML = st.sampled_from(
    ["[vault]\n", "[[listeners]]\n", "[listeners]\n", "[providers.ionos]\n", "[[clients]]\n", "[identity]\n", "[a.b.'c d']\n", "[",
     "]", "[[", "]]", "{", "}", "=", ",", "\n", "\r\n", "#", '"', '"""', "'''", "'", "\\", "unlock", "name", "address", "path", ".", " = ",
     "unlock = 'passphrase'\n", "address = '127.0.0.1:25'\n", "preset = 'ionos'\n", "1", "true", "1e400", "inf", "nan", "0x1f", "-",
     "2026-11-24T09:30:00Z", "\t", "\0", "\ufeff", "\u2028", "ä", "\\ud800", "x = [1, {a = 1}]\n"]
)  # fmt: skip
_DOCUMENTS = st.one_of(
    st.lists(_TOML | st.text(max_size=5), max_size=25).map(
        lambda parts: "".join(parts).encode("utf-8", "surrogatepass")
    ),
    st.binary(max_size=60),
)


@fuzzed(400)
@given(_DOCUMENTS)
@example(b"x = " + b"[" * 5000)
@example(b"x = " + b"{a=" * 5000)
@example(b"x = " + b"9" * 5000)
@example(b"a" + b".a" * 5000 + b" = 1")
def test_any_configuration_is_loaded_or_refused_with_its_problems(document: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "senderproxy.toml"
        path.write_bytes(document)
        problems: tuple[Problem, ...] | None = None
        try:
            load_config(path)
        except ConfigError as error:
            problems = error.problems
    assert problems != ()
    assert all(problem.message and problem.hint for problem in problems or ())


# ---- the control socket ----

_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["retry", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(["query", "limit", "after", "id", "act", "ids", "by", "report", "account", "x"])
_VERBS = st.sampled_from([*Verb, "dance", "", 5, None, ["status"]])
_ACTS: st.SearchStrategy[object] = st.sampled_from([*(action.value for action in QueueAction), "burn", None, []])
_REQUESTS = st.tuples(st.dictionaries(_KEYS, _VALUES, max_size=4), _VERBS, _ACTS).map(
    lambda parts: json.dumps(parts[0] | {"do": parts[1], "act": parts[2]}).encode()
)
_LINES = st.one_of(
    _REQUESTS, _REQUESTS, st.binary(max_size=40), st.sampled_from([b"{}", b"[]", b"null", b"\xff\xfe{", b"{" * 30])
)


async def _fail(_: Request) -> dict[str, object]:
    raise KeyError("inside")


@asynccontextmanager
async def control_socket(path: Path) -> AsyncIterator[ControlServer]:
    clock = StillClock()
    spool = MemorySpool(clock)
    queue = QueueAdmin(lambda: spool, clock, no_reports)
    handlers = {Verb(verb): handler for verb, handler in queue.handlers().items()}
    server = ControlServer(path, {**handlers, Verb.RELOAD: _fail})
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def answer(path: Path, octets: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path, limit=8 * 1024 * 1024)
    try:
        writer.write(octets)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def survive(lines: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        async with asyncio.timeout(30), control_socket(path):
            for line in lines:
                found = await answer(path, line.replace(b"\n", b" ") + b"\n")
                entry = json.loads(found)
                assert found.count(b"\n") == 1
                assert entry["ok"] or entry["error"]
                assert "inside" not in found.decode()
            totals = json.loads(await answer(path, b'{"do": "queue.totals"}\n'))
            assert totals == {"ok": True, "accounts": [], "jobs": []}


@fuzzed(60)
@given(st.lists(_LINES, min_size=1, max_size=6))
@example([b'{"do": "queue.change", "act": "retry", "ids": 5}'])
@example([b'{"do": ' + b"9" * 10_000 + b"}"])
def test_any_request_is_answered_on_one_line_and_the_next_one_too(lines: list[bytes]) -> None:
    asyncio.run(survive(lines))


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"a":' * 100_000, b'{"do": "status", "x": ' + b"[" * 100_000])
def test_deep_json_is_answered_too(line: bytes) -> None:
    asyncio.run(survive([line]))
