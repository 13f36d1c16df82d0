"""A listener that keeps its mail, and what is asked of a queue and of what came out of it."""

import contextlib
import sqlite3
from collections import Counter

from tests.peers.postfix import Delivery
from tests.peers.process import LOOPBACK, wait_until
from tests.peers.senderproxy import Senderproxy

SOON = """
[spool]
first_retry_seconds = 1
longest_retry_seconds = 2
min_free = "1 MB"
"""


def devices(port: int) -> str:
    """A second door, whose mail is kept and delivered from here."""
    return f'\n[[listeners]]\nname = "devices"\naddress = "{LOOPBACK}:{port}"\nmode = "queue"\n{SOON}'


def wait_until_empty(relay: Senderproxy, seconds: float = 240) -> None:
    """Return when nothing waits or is held. `queue` counts when it is asked; `status` may be a second old."""
    wait_until(lambda: relay.command("queue") == "The queue is empty.\n", "the queue is empty", seconds, peer=relay)


def wait_until_waiting(relay: Senderproxy, recipients: int) -> None:
    """Return when just so many recipients wait, reports included: all other results are stored.

    A crash before that would send again what has arrived.
    """

    def waiting() -> int:
        path = relay.folder / "spool" / "spool.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as spool:
            changed = "SELECT count(*) FROM recipient WHERE fate = 'waiting'"
            new = "SELECT coalesce(sum(waiting), 0) FROM new_message"
            return int(spool.execute(f"SELECT ({changed}) + ({new})").fetchone()[0])

    wait_until(lambda: waiting() == recipients, f"{recipients} recipients wait", peer=relay)


def copies(deliveries: list[Delivery]) -> Counter[tuple[str, str]]:
    """Who got which letter, how often; reports left out."""
    return Counter(
        (str(delivery.header("Message-ID")).strip("<>"), recipient)
        for delivery in deliveries
        if "report" not in str(delivery.header("Content-Type"))
        for recipient in delivery.recipients
    )
