"""Findings of `check` about servers of routes that take mail without a login: one session for each of them.

Guarantees: sends no mail, and no command after EHLO and STARTTLS but QUIT. Ends in bounded time.
Not here: smarthosts with an account's login (cli.check), mail servers of recipients (cli.check_mx), the session itself
(delivery.hops.opening). Whether a server takes mail for a recipient is known only when it comes.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from senderproxy.cli.findings import Finding, Level
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.delivery.account_health import without_fix
from senderproxy.delivery.hops.opening import HopOpener, HopServer, HopSession
from senderproxy.delivery.login_check import short_timeouts
from senderproxy.delivery.open_failures import OpenFailed
from senderproxy.delivery.resolver import Resolver
from senderproxy.routing.hops import InternalHop, SmarthostHop
from senderproxy.translation import _
from senderproxy.wiring import own_listeners

_AT_ONCE: Final = 8  # sessions


Server: TypeAlias = SmarthostHop | InternalHop


def servers_of_routes(config: Config) -> list[Server]:
    """The servers that take mail without a login, in the order of their names."""
    return sorted((hop for hop in config.hops() if isinstance(hop, SmarthostHop | InternalHop)), key=str)


def check_hops(config: Config, hops: Sequence[Server], progress: Callable[[str], None]) -> Iterator[Finding]:
    """One finding for each of these servers."""
    if not hops:
        return
    progress(_("Opening sessions with the servers of the routes ..."))
    for hop, failed in zip(hops, asyncio.run(_try_all(config, hops)), strict=True):
        server = str(hop.server)
        if failed is None:
            yield Finding(Level.OK, str(hop), _("{server} answers").format(server=server))
            continue
        words = failed.words or without_fix(failed.reply.text)
        hint = failed.hint or _("Look whether it runs and can be reached from this machine: {server}").format(
            server=server
        )
        text = _("no mail can be handed to it: {reply}").format(reply=words)
        yield Finding(Level.WRONG, str(hop), text, hint)


async def _try_all(config: Config, hops: Sequence[Server]) -> list[OpenFailed | None]:
    opener = HopOpener(short_timeouts(), config.identity.hostname, Resolver(SystemClock()))
    opener.own_listeners = own_listeners(config)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def attempt(hop: Server) -> OpenFailed | None:
        server = HopServer.of(hop.server, hop.client if isinstance(hop, SmarthostHop) else None)
        async with slots:
            result = await opener.open(server, group=str(hop))
            if isinstance(result, HopSession):
                await result.quit()
                return None
            return result

    try:
        return await asyncio.gather(*map(attempt, hops))
    finally:
        opener.close()
