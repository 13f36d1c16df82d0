"""Claims on single messages, for tests that look at one."""

from senderproxy.relay.ports import Claim, Spool
from senderproxy.tracking.record import Lane


async def next_claim(spool: Spool, account: str = "anna") -> Claim | None:
    """The message of the account that has been due longest; None if none is due."""
    claims = await spool.claim(Lane.of_account(account), 1)
    return claims[0] if claims else None
