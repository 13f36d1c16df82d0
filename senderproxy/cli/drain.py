"""`senderproxy drain`: take the running service out of a proxy's service, and put it back.

Guarantees: no client is refused. `--wait` returns 0 only if for QUIET seconds nobody came and nothing was under way:
the proxy has seen the refused checks by then, and no message of a client is left in between.
Not here: the drain (service.drain).
"""

import argparse
import math
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from senderproxy.cli.common import control_socket
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.terminal import print_error, print_line, print_progress, progress
from senderproxy.clock import Clock, SystemClock
from senderproxy.control.client import ask, ask_status
from senderproxy.control.protocol import Answer, Verb, new_request
from senderproxy.monitoring.words import queue_in_words
from senderproxy.tracking.timeline import format_time
from senderproxy.translation import _, ngettext

QUIET: Final = 10.0  # seconds; haproxy has seen three failed checks at 2 s, and a late PROXY header has 5
_LOOK: Final = 0.5  # seconds between two requests
_UNDER_WAY: Final = ("clients", "messages", "copies")
_OF_THE_QUEUE: Final = ("attempts", "due")  # no end comes of them while other instances fill the same queue


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy drain`."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--wait",
        nargs="?",
        type=float,
        const=math.inf,
        metavar="SECONDS",
        help=_("return when nothing is under way any more; exit code 1 after SECONDS (default: no limit)"),
    )
    choice.add_argument("--undo", action="store_true", help=_("put the service back"))
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 if done; 1 if something is still under way after the wait, or the drain ended in it. Raises NotRunning."""
    path = control_socket(chosen)
    state = ask(path, new_request(Verb.DRAIN, on=not chosen.undo))
    print_line(_undone(state) if chosen.undo else _begun(state))
    return EX_OK if chosen.wait is None else _wait(path, chosen.wait)


def _begun(state: Answer) -> str:
    if state["changed"]:
        text = _("Draining: health checks are refused at {listeners}, clients that come are served.")
        return text.format(listeners=", ".join(state["checked"]))
    since = datetime.fromisoformat(state["draining_since"])
    return _("It is draining already, since {time}.").format(time=format_time(since, None))


def _undone(state: Answer) -> str:
    return _("Back in service: health checks succeed again.") if state["changed"] else _("It was not draining.")


def _wait(path: Path, seconds: float) -> int:
    clock = SystemClock()
    quiet = QuietTime(clock)
    end = clock.monotonic() + seconds
    with progress():
        while True:
            state = ask(path, new_request(Verb.DRAIN))
            if state["draining_since"] is None:
                print_error(
                    _("The drain has ended meanwhile: it was undone, or the service was restarted."),
                    "senderproxy drain --wait",
                )
                return EX_FAILED
            if quiet.seconds(state) >= QUIET:
                break
            if not (left := end - clock.monotonic()) > 0:
                print_error(
                    _("Not ended within {seconds} s: {what}.").format(seconds=f"{seconds:g}", what=_what(state))
                )
                return EX_FAILED
            print_progress(_("Waiting: {what} (Ctrl-C ends the wait, not the drain)").format(what=_what(state)))
            time.sleep(min(_LOOK, left))
    print_line(_("Nothing is under way any more: the service can be stopped."))
    _print_queue(ask_status(path)["queue"], is_shared=state["shared"])
    return EX_OK


class QuietTime:
    """The time for which nobody has come and nothing was under way."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._arrived: int | None = None

    def seconds(self, state: Answer) -> float:
        """The seconds up to this state, an answer of the service to `drain`; 0 if something is under way."""
        now = self._clock.monotonic()
        if state["arrived"] != self._arrived or any(state[name] for name in _counted(state)):
            self._arrived, self._began = state["arrived"], now
        return now - self._began


def _counted(state: Answer) -> tuple[str, ...]:
    """The work whose end is waited for. What is in a shared queue, the other instances send."""
    return _UNDER_WAY if state["shared"] else (*_UNDER_WAY, *_OF_THE_QUEUE)


def _what(state: Answer) -> str:
    """The work under way, in words."""
    return ", ".join(_parts(state)) or _("a client came within the last {seconds} s").format(seconds=f"{QUIET:g}")


def _parts(state: Answer) -> Iterator[str]:
    if count := state["clients"]:
        yield ngettext("{count} client is connected", "{count} clients are connected", count).format(count=count)
    if count := state["messages"]:
        text = ngettext("{count} message waits for its reply", "{count} messages wait for their replies", count)
        yield text.format(count=count)
    if state["shared"]:
        pass
    elif count := state["attempts"]:
        text = ngettext("{count} queued message is being sent", "{count} queued messages are being sent", count)
        yield text.format(count=count)
    elif state["due"]:
        yield _("queued messages are due")
    if count := state["copies"]:
        text = ngettext(
            "copies of {count} account are being stored", "copies of {count} accounts are being stored", count
        )
        yield text.format(count=count)


def _print_queue(queue: Answer, *, is_shared: bool) -> None:
    if queue["problem"]:
        print_line(queue["problem"])
        return
    print_line(queue_in_words(queue))
    if is_shared:
        print_line(_("The other instances send what waits in the queue."))
    elif queue["waiting"] or queue["held"]:
        print_line(
            _("Queued messages stay on this machine, and are tried again at their times while the service runs here.")
        )
