"""Criteria of a search, compared with the facts of one message in Python: for tables without an index for them. PURE.

Guarantees: the same messages match as by the statement that `search_statement` makes of the query.
Not here: subjects, which have a table of their own (spool.sqlite.search).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from senderproxy.spool.sqlite import rows
from senderproxy.spool.sqlite.history_packs import PackedRecord, message_id_key
from senderproxy.tracking.record import Query

_LAST = 2**62  # above every time


@dataclass(frozen=True, slots=True)
class Criteria:
    """The criteria as they are compared. Times are milliseconds since 1970."""

    id: str | None
    account: str | None
    sender: tuple[str, str] | None  # first key, and the first one after the last
    recipient: tuple[str, str] | None
    upstream_id: str | None
    status: str | None
    since: int
    until: int

    def keys(self) -> Iterator[str]:
        """Keys of packs: a pack with a match has each of them."""
        if self.id is not None:
            yield message_id_key(self.id)
        for kind, text in (("c", self.account), ("u", self.upstream_id), ("s", self.status)):
            if text is not None:
                yield f"{kind}{text}"
        for kind, wanted in (("a", self.sender), ("r", self.recipient)):
            if wanted is not None:
                yield f"{kind}{wanted[0]}"

    def fit(self, record: PackedRecord) -> bool:
        """True if the message matches."""
        return (
            self.since <= record.received_at < self.until
            and self.account in (None, record.account)
            and self._has_id(record)
            and self._has_sender(record)
            and self._has_recipient(record)
        )

    def _has_id(self, record: PackedRecord) -> bool:
        return self.id is None or self.id == record.id or record.message_id in (self.id, f"<{self.id}>")

    def _has_sender(self, record: PackedRecord) -> bool:
        if self.sender is None:
            return True
        keys = [rows.author_key(text) for text in (record.author, record.reverse_path) if text]
        return any(self.sender[0] <= key < self.sender[1] for key in keys)

    def _has_recipient(self, record: PackedRecord) -> bool:
        if self.recipient is None and self.upstream_id is None and self.status is None:
            return True
        for address, fate, _tries, _why, _delay_reported, upstream_id, _reply in record.recipients:
            if self.status not in (None, fate) or self.upstream_id not in (None, upstream_id):
                continue
            if self.recipient is None or self.recipient[0] <= rows.author_key(address) < self.recipient[1]:
                return True
        return False


def criteria_of(query: Query) -> Criteria:
    """The criteria of a query. Raises AddressError."""
    return Criteria(
        query.id,
        query.account,
        None if query.sender is None else rows.range_of(query.sender),
        None if query.recipient is None else rows.range_of(query.recipient),
        query.upstream_id,
        None if query.status is None else query.status.value,
        -_LAST if query.since is None else rows.to_ms(query.since),
        _LAST if query.until is None else rows.to_ms(query.until),
    )
