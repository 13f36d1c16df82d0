"""The content of a backup: what is read is what was written, and anything else is refused."""

import io
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senderproxy.backup.archive import (
    OCTETS_LIMIT,
    PARTS,
    ArchiveWriter,
    Entry,
    Item,
    Manifest,
    Octets,
    PartBegin,
    PartEnd,
    read_archive,
)
from senderproxy.backup.errors import BackupInvalid, BackupTooNew
from tests.fuzz.profile import fuzzed

MANIFEST = Manifest("1.2.3", datetime(2026, 11, 29, 2, 15, tzinfo=UTC), "relay", (("configuration", 1), ("queue", 1)))


def written(manifest: Manifest = MANIFEST) -> bytes:
    out = io.BytesIO()

    def write(octets: bytes) -> None:
        out.write(octets)

    archive = ArchiveWriter(write, manifest)
    archive.begin("configuration", {"a": [1, None]})
    archive.entry("file", {"path": "/ä\udcff"})
    archive.octets(b"x" * (OCTETS_LIMIT + 1))
    archive.octets(b"")
    archive.end({"good": True})
    archive.begin("queue", {})
    archive.end({})
    archive.finish()
    return out.getvalue()


def read(octets: bytes) -> list[Item]:
    return list(read_archive(io.BytesIO(octets).read))


def test_what_is_read_is_what_was_written() -> None:
    assert read(written()) == [
        MANIFEST,
        PartBegin("configuration", 1, {"a": [1, None]}),
        Entry("file", {"path": "/ä\udcff"}),
        Octets(b"x" * OCTETS_LIMIT),
        Octets(b"x"),
        PartEnd("configuration", 1, OCTETS_LIMIT + 1, {"good": True}),
        PartBegin("queue", 1, {}),
        PartEnd("queue", 0, 0, {}),
    ]


def test_every_cut_is_refused() -> None:
    whole = written()
    for end in [*range(600), *range(len(whole) - 600, len(whole))]:
        with pytest.raises(BackupInvalid):
            read(whole[:end])
    with pytest.raises(BackupInvalid):
        read(whole + b"x")


def frame(kind: bytes, value: object) -> bytes:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return len(content).to_bytes(4, "big") + kind + content


def manifest(**changes: object) -> bytes:
    facts = {"format": 1, "program": "9.9", "created_at": "2026-11-29T02:15:00+00:00", "host": "h", "parts": []}
    return frame(b"M", facts | changes)


END = frame(b"F", {})


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (manifest(format=2) + b"anything", "9.9 (format 2)"),
        (manifest(parts=[["queue", PARTS["queue"] + 1]]), "its part queue has version 2"),
        (manifest(parts=[["photos", 1]]), "its part photos has version 1"),
    ],
)
def test_a_later_version_is_refused_before_its_first_part(octets: bytes, text: str) -> None:
    with pytest.raises(BackupTooNew) as refused:
        read(octets)
    assert text in refused.value.message
    assert refused.value.hint


QUEUE = manifest(parts=[["queue", 1]])
BEGIN = frame(b"P", {"name": "queue", "version": 1, "facts": {}})


@pytest.mark.parametrize(
    "octets",
    [
        b"", END, manifest(), manifest(format=0) + END, manifest(format="1") + END, manifest(created_at="soon") + END,
        manifest(created_at="2026-11-29") + END, manifest(parts=5) + END, manifest(parts=[["queue", 0]]) + END,
        manifest(parts=[["queue", 1], ["queue", 1]]) + END, manifest() + manifest() + END, QUEUE + END, QUEUE + BEGIN + END,
        QUEUE + BEGIN + BEGIN, QUEUE + frame(b"P", {"name": "vault", "version": 1, "facts": {}}),
        QUEUE + frame(b"P", {"name": "queue", "version": 1, "facts": []}), QUEUE + frame(b"P", b"[" * 100_000),
        QUEUE + BEGIN + frame(b"E", {}), QUEUE + BEGIN + frame(b"E", ["x"]), QUEUE + BEGIN + frame(b"O", b"x"),
        QUEUE + BEGIN + frame(b"Z", {"name": "queue", "entries": 1, "octets": 0, "facts": {}}) + END,
        QUEUE + BEGIN + frame(b"Z", {"name": "queue", "entries": 0, "octets": 0}) + END,
        QUEUE + BEGIN + frame(b"E", ["x", 1]) + frame(b"O", b"x" * (OCTETS_LIMIT + 1)), frame(b"?", {}),
        b"\xff\xff\xff\xffM", frame(b"M", b"\xff"), frame(b"M", b"1"), frame(b"M", b"1" * 5000),
    ],
)  # fmt: skip
def test_an_archive_out_of_form_is_refused(octets: bytes) -> None:
    with pytest.raises(BackupInvalid):
        read(octets)


@fuzzed(300)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 30), st.binary(max_size=30)), min_size=1, max_size=4))
def test_no_change_raises_another_error(edits: list[tuple[int, int, bytes]]) -> None:
    """The seal refuses each of them; this is what a person with the passphrase may write."""
    changed = written()[:700] + written()[-400:]
    for place, length, octets in edits:
        at = place % (len(changed) + 1)
        changed = changed[:at] + octets + changed[at + length :]
    try:
        read(changed)
    except (BackupInvalid, BackupTooNew):
        pass
    else:
        pytest.fail("a part of it is missing")
