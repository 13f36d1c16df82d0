"""A listener in a process of its own, so that its memory can be watched. Prints its port; ends when its input ends."""

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
