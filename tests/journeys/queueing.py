"""A listener that keeps its mail, and what is asked of a queue and of what came out of it."""

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


def wait_until_empty(relay: Senderproxy, seconds: float = 60) -> None:
    wait_until(lambda: not relay.queue()["waiting"], "the queue is empty", seconds, peer=relay)
    assert relay.queue()["held"] == 0


def copies(deliveries: list[Delivery]) -> Counter[tuple[str, str]]:
    """Who got which letter, how often; reports left out."""
    return Counter(
        (str(delivery.header("Message-ID")).strip("<>"), recipient)
        for delivery in deliveries
        if "report" not in str(delivery.header("Content-Type"))
        for recipient in delivery.recipients
    )
