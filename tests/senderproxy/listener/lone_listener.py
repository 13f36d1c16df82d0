"""A listener in its own process for memory measurements. Prints its port; ends at the end of its input."""

import asyncio
import sys

from senderproxy.clock import SystemClock
from senderproxy.listener.server import Listener
from tests.fakes.recording_intake import RecordingIntake
from tests.senderproxy.listener.smtp_client import HOSTNAME, settings


async def serve() -> None:
    intake = RecordingIntake(keep=False)
    listener = Listener(settings(), (), HOSTNAME, intake, SystemClock())
    await listener.start()
    print(listener.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await listener.stop(1)
    print(intake.octets, flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
