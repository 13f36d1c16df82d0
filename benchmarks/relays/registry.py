"""All relays, in the order of the table."""

from typing import Final

from benchmarks.relays.exim import SenderDependentExim
from benchmarks.relays.floor import Floor
from benchmarks.relays.floor_c import FloorInC
from benchmarks.relays.haraka import Haraka
from benchmarks.relays.msmtpd import Msmtpd
from benchmarks.relays.opensmtpd import OpenSmtpd
from benchmarks.relays.port import Relay
from benchmarks.relays.postfix import BestPostfix, CachedPostfix, PlainPostfix
from benchmarks.relays.postgresql import DatabaseQueue
from benchmarks.relays.senderproxy import PassThrough, Queue
from benchmarks.relays.straight import Straight

OURS: Final = PassThrough.name
STRAIGHT: Final = Straight.name
RELAYS: Final[tuple[type[Relay], ...]] = (
    Straight, FloorInC, PassThrough, Queue, DatabaseQueue, PlainPostfix, BestPostfix, CachedPostfix,
    SenderDependentExim, OpenSmtpd, Haraka, Msmtpd, Floor,
)  # fmt: skip
MISSING: Final = "its package is not here: `make bench` as root installs it"
