"""Interpreter settings of the service: garbage collection, thread switches, size of reads, return of memory.

Without them, single events hold up all clients: a full collection walks over each object of each module, a thread of
the spool computes for 5 ms, a connection with a large message fills 256 KiB at once. docs/decisions/0092 and 0095 have
the measurements.
Not here: the order of large and small messages (aio).
"""

import ctypes
import gc
import sys
from asyncio import selector_events, sslproto
from typing import Final

from senderproxy.aio import PIECE_OCTETS

_NEW_OBJECTS: Final = 20_000  # before a collection of the youngest; Python's own 700 are a dozen messages
_GENERATIONS: Final = 20  # collections of one generation before the next older one; Python's own are 10
_OWN_METHODS: Final = frozenset({"_read_ready_cb", "_write_ready"})  # attributes of asyncio's transports
_FREES: Final = "_frees_transport"  # marks the replaced method
_LARGE_HEAP: Final = 2_000_000  # blocks in use; a full collection of garbage with so many took 0.1 s of CPU time
_SWITCH_INTERVAL: Final = 0.0005  # seconds that a thread computes while another waits; Python's own are 0.005


def tune_interpreter() -> None:
    """Apply the settings, once all components are loaded: their objects are never collected from then on.

    A message leaves no reference cycles, so collections find little.
    """
    _limit_reads()
    free_closed_transports()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _GENERATIONS, _GENERATIONS)
    sys.setswitchinterval(_SWITCH_INTERVAL)


def return_memory() -> None:
    """Collect garbage, then return free memory to the operating system. For an idle service, not on its event loop.

    The collection holds Python's lock, so that a client that arrives meanwhile waits; of a large heap only the young
    objects are collected. glibc keeps free memory; other C libraries have no `malloc_trim` and return it themselves.
    malloc_trim(3).
    """
    gc.collect(1 if sys.getallocatedblocks() > _LARGE_HEAP else 2)
    if _malloc_trim is not None:
        _malloc_trim(0)


def _limit_reads() -> None:
    """Limit asyncio's reads to one piece; its own 256 KiB are also the buffer of each TLS connection.

    If asyncio renames these private classes, reads have their usual size, and nothing else changes.
    """
    for kind in (getattr(selector_events, "_SelectorTransport", None), getattr(sslproto, "SSLProtocol", None)):
        if kind is not None:
            kind.max_size = PIECE_OCTETS


def free_closed_transports() -> None:
    """Let asyncio free the transport of a socket when its connection is closed.

    The transport has its own bound methods as attributes (`_read_ready_cb`, since Python 3.12 `_write_ready` too): a
    reference cycle. They are replaced when the event loop no longer calls them. If asyncio renames these private names,
    transports wait for a garbage collection as before.
    """
    kind = getattr(selector_events, "_SelectorSocketTransport", None)
    original = getattr(kind, "_call_connection_lost", None)
    if kind is None or original is None or getattr(original, _FREES, False):
        return

    def call_connection_lost(self: object, exc: BaseException | None) -> None:
        try:
            original(self, exc)
        finally:
            for name in _OWN_METHODS & vars(self).keys():
                setattr(self, name, _closed)

    setattr(call_connection_lost, _FREES, True)
    kind._call_connection_lost = call_connection_lost  # noqa: SLF001  the one name that asyncio calls


def _closed() -> None:
    """The socket of the transport is closed: nothing to read or write."""


_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of the C library; its call releases Python's lock
