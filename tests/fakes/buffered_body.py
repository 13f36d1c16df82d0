"""A body as the listener buffers it."""

from collections.abc import Iterable

from senderproxy.aio import wait_done
from senderproxy.listener.body import BodyBuffer, SpillDirectory


async def buffered_body(threshold: int, spill: SpillDirectory, pieces: Iterable[bytes]) -> BodyBuffer:
    """The body, written to its file if it exceeds the threshold. Raises OSError, with the body closed."""
    body = BodyBuffer(threshold, spill)
    try:
        for piece in pieces:
            body.append(piece)
            if body.must_write:
                await write(body)
        if body.on_disk:
            await write(body)
    except OSError:
        body.close()
        raise
    return body


async def write(body: BodyBuffer) -> None:
    """Write what is in memory."""
    writing = body.write()
    await wait_done(writing)
    writing.result()
