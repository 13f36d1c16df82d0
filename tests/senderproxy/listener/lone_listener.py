"""A listener in its own process for memory measurements. Prints its port; ends at the end of its input.

An argument: the connections that it accepts.
"""

import asyncio
import resource
import sys
from typing import Any

from senderproxy.clock import SystemClock
from senderproxy.listener.server import Listener
from tests.fakes.open_ways import OpenWays
from tests.fakes.recording_intake import RecordingIntake
from tests.senderproxy.listener.smtp_client import HOSTNAME, settings


async def serve() -> None:
    intake = RecordingIntake(keep=False)
    patient: dict[str, Any] = {"idle_seconds": 3600, "idle_before_mail_seconds": 3600}  # for a busy machine
    if sys.argv[1:]:
        count = int(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        chosen = settings(
            max_connections=count, max_connections_per_client=count, max_connections_per_minute=2 * count, **patient
        )
    else:
        chosen = settings(**patient)
    listener = Listener(chosen, (), HOSTNAME, intake, SystemClock(), straight=OpenWays())
    await listener.start()
    print(listener.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await listener.stop(1)
    print(intake.octets, flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
