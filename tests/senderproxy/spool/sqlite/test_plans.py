"""Query plans: each statement uses an index and does not scan the queue."""

import itertools
import re
import sqlite3
from collections.abc import Iterator

import pytest

from senderproxy.spool.sqlite import history_packs, jobs, leases, new_messages, other_tables, search, statements
from senderproxy.spool.sqlite.database import scripts
from senderproxy.tracking.record import Query, RecipientStatus
from tests.fakes.still_clock import START

# Statements that read all waiting messages, through the index of unfinished ones only.
ALL_WAITING = {"SHIFT_RECIPIENTS", "SHIFT_MESSAGES", "WAITING", "REASONS", "OPEN_OCTETS"}
# The VALUES of the statement, not a table.
OF_VALUES = re.compile(r"SCAN (\d+ )?CONSTANT ROWS?|SCAN \d+-ROW VALUES CLAUSE|SCAN \(subquery-\d+\)")
# One step to the end of a table or of an index.
# Statements that read all jobs, of which there are few.
ALL_JOBS = {"SHIFT_JOBS", "HELD_OCTETS", "ALL"}
ONE_STEP = {"LAST_NUMBER", "LAST_NEW_NUMBER", "PACK_LAST_NUMBER"}
# Statements that read all new messages, for the totals of the queue and for searches.
ALL_NEW = {"NEW_TOTALS", "NEW_OCTETS_OF_ALL", "NEW_BY_HOUR", "NEW_SHIFT", "NEW_OLDEST_FIRST", "NEW_NEWEST_FIRST"}
# Statements that compare the keys of all packs, twenty octets a message, or read the ids of the newest ones.
ALL_PACKS = {"PACK_WITH_ID", "PACK_CANDIDATES", "PACK_BY_HOUR"}
NEWEST_PACKS = {"PACK_NEWEST_IDS"}
PREFIXES = {jobs: "JOB_", new_messages: "NEW_", history_packs: "PACK_"}
# A statement that sorts its result: hours of a month, each with the few statuses.
SORTED = {"BY_HOUR"}


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    made = sqlite3.connect(":memory:")
    for script in scripts():
        made.executescript(script)
    yield made
    made.close()


def all_statements() -> dict[str, str]:
    """Every statement of the modules that have any."""
    found: dict[str, str] = {}
    for module in (statements, leases, search, other_tables, *PREFIXES):
        for name, value in vars(module).items():
            if name.startswith("_"):  # a part of others
                continue
            texts = value if isinstance(value, tuple) else (value,)
            for number, text in enumerate(texts):
                if isinstance(text, str) and re.match(r"(SELECT|INSERT|UPDATE|DELETE) ", text):
                    key = name if name in ALL_JOBS else PREFIXES.get(module, "") + name
                    found[key if len(texts) == 1 else f"{key}-{number}"] = text
    return found


def width(text: str) -> int:
    """The number of values of one row in a statement for many rows."""
    used = [int(number) for number in re.findall(r"column(\d+)", text)]
    return max(used) if used else text[text.index("(") : text.index(")")].count(",") + 1


def plan(connection: sqlite3.Connection, text: str) -> list[str]:
    if text == history_packs.CANDIDATES:
        text = text.format(" AND instr(keys, :key0)")
    if text in (new_messages.OLDEST_FIRST, new_messages.NEWEST_FIRST):
        text = text.format(" AND instr(lower(recipients), :domain)")
    if "{}" in text:
        text = statements.for_rows(text, 64, width(text))
    names = set(re.findall(r":([a-z_0-9]+)", text))
    values = dict.fromkeys(names, "") if names else [""] * max(text.count("?"), 30)
    if not names:
        numbered = [int(number) for number in re.findall(r"\?(\d+)", text)]
        values = [""] * (max(numbered) if numbered else text.count("?"))
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)]


def test_all_statements_are_found() -> None:
    assert len(all_statements()) > 30
    every = ALL_WAITING | ONE_STEP | ALL_JOBS | SORTED | ALL_NEW | ALL_PACKS | NEWEST_PACKS
    assert set(all_statements()) >= every


@pytest.mark.parametrize("name", sorted(all_statements()))
def test_a_statement_uses_an_index(connection: sqlite3.Connection, name: str) -> None:
    steps = plan(connection, all_statements()[name])
    scans = [step for step in steps if step.startswith("SCAN") and not OF_VALUES.fullmatch(step)]
    if name in ALL_WAITING:
        assert scans == [step for step in scans if "INDEX message_open" in step], steps
    elif name in ALL_JOBS:
        assert scans == [step for step in scans if step.startswith("SCAN job")], steps
    elif name in ONE_STEP:
        assert len(steps) == 1, steps
        assert steps[0].startswith("SEARCH"), steps
    elif name in ALL_NEW:
        assert steps[0] == f"SEARCH new_message USING INTEGER PRIMARY KEY (rowid{'<' if 'NEWEST' in name else '>'}?)", (
            steps
        )
    elif name in ALL_PACKS:
        assert steps == ["SEARCH history_pack USING INDEX history_pack_overview (last>?)"], steps
    elif name in NEWEST_PACKS:
        assert steps == ["SCAN history_pack"], steps
    else:
        assert not scans, steps
    assert name in SORTED or not [step for step in steps if "TEMP B-TREE" in step], steps


def queries() -> list[Query]:
    """Every combination of criteria."""
    choices: dict[str, tuple[object, ...]] = {
        "id": (None, "w7Kq2mZ4ab9x"),
        "account": (None, "anna"),
        "sender": (None, "anna@firma.example", "@firma.example"),
        "recipient": (None, "carl@elsewhere.example", "@elsewhere.example"),
        "upstream_id": (None, "1MxDp3"),
        "subject": (None, "Angebot", "Angebot 4711 x"),
        "status": (None, RecipientStatus.FAILED),
        "unfinished": (False, True),
        "since": (None, START),
        "until": (None, START),
    }
    return [Query(**dict(zip(choices, values, strict=True))) for values in itertools.product(*choices.values())]  # type: ignore[arg-type]


def test_no_combination_of_criteria_scans_a_table(connection: sqlite3.Connection) -> None:
    asked = 0
    for query in queries():
        statement = search.search_statement(query)
        assert statement is not None
        steps = plan(connection, statement.text(query.unfinished))
        assert not [step for step in steps if step.startswith("SCAN")], (query, steps)
        # A range of numbers alone reads everything: only a search without criteria may use it; its limit ends it.
        everything = re.compile(r"SEARCH (message USING INTEGER PRIMARY KEY|recipient USING PRIMARY KEY).*[<>]")
        assert query == Query() or not [step for step in steps if everything.match(step)], (query, steps)
        asked += 1
    assert asked == 2 * 2 * 3 * 3 * 2 * 3 * 2 * 2 * 2 * 2


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (Query(id="x"), "message_by_id"),
        (Query(id="x"), "message_by_message_id"),
        (Query(account="anna"), "message_by_account"),
        (Query(sender="anna@firma.example"), "message_by_author"),
        (Query(sender="@firma.example"), "message_by_reverse_path"),
        (Query(recipient="carl@elsewhere.example"), "recipient_by_address"),
        (Query(recipient="@elsewhere.example"), "recipient_by_address"),
        (Query(recipient="carl@elsewhere.example", status=RecipientStatus.FAILED), "recipient_by_address"),
        (Query(upstream_id="1MxDp3", status=RecipientStatus.DELIVERED), "recipient_by_upstream_id"),
        (Query(subject="Angebot"), "subject_word USING PRIMARY KEY (word>? AND word<?)"),
        (Query(subject="Angebot 4711"), "subject_word_by_message (message=?"),
        (Query(status=RecipientStatus.FAILED), "recipient_by_fate"),
        (Query(unfinished=True), "message_open"),
        (Query(sender="anna@firma.example", status=RecipientStatus.DELIVERED), "message_by_author"),
        (Query(since=START, until=START), "message_by_time"),
    ],
    ids=str,
)
def test_a_criterion_uses_its_own_index(connection: sqlite3.Connection, query: Query, index: str) -> None:
    statement = search.search_statement(query)
    assert statement is not None
    assert any(index in step for step in plan(connection, statement.text(query.unfinished)))
