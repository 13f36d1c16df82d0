"""The access tokens in memory: fetched once for all callers, renewed before their end.

Guarantees: one request at a time for each grant. A token is renewed at 10 minutes, or half of its life, before its end;
while the server is away, the old one is used until a minute before its end. A refusal is repeated to callers without a
request, for 5 to 300 seconds if it is temporary, else until the grant changes. Never raises for what the server does.
No repr shows a token. The number of grants is bounded by the caller's.
Not here: the requests (oauth.token_request), the transport, and where refresh tokens are stored (their callers).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from senderproxy.clock import Clock
from senderproxy.oauth.refusals import TokenRefusal
from senderproxy.oauth.token_answer import Tokens
from senderproxy.routing.account import AccessToken

EARLY: Final = 600.0  # seconds before the end; Exchange Online refuses a token that is about to expire (501 5.5.127)
_LAST_MINUTE: Final = 60.0  # seconds before the end, in which a token is not used any more
_FRESH: Final = 60.0  # seconds in which a token is surely not stale
_FIRST_WAIT: Final = 5.0  # seconds after a temporary refusal; doubled each time
_LONGEST_WAIT: Final = 300.0  # seconds

Fetch: TypeAlias = Callable[[], Awaitable[Tokens | TokenRefusal]]


@dataclass(frozen=True, slots=True)
class _Held:
    """A token and its times on the monotonic clock, in seconds."""

    token: AccessToken
    since: float
    renew_at: float
    ends_at: float


@dataclass(slots=True)
class _Grant:
    """The state of one grant. `version` changes when the grant does."""

    version: str
    held: _Held | None = None
    refusal: TokenRefusal | None = None
    retry_at: float = 0.0  # monotonic seconds; until then the refusal stands
    wait: float = _FIRST_WAIT
    fetching: "asyncio.Task[Tokens | TokenRefusal] | None" = None


class TokenKeeper:
    """The access tokens of all grants."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._grants: dict[str, _Grant] = {}

    async def token(self, grant_id: str, version: str, fetch: Fetch) -> AccessToken | TokenRefusal:
        """Return the token of a grant, by `fetch` if there is none that lasts. Never raises, but for a cancellation.

        A caller that is cancelled does not end the request: it goes on for the others, and for its refresh token.
        """
        grant = await self._grant(grant_id, version)
        now = self._clock.monotonic()
        if grant.held is not None and now < grant.held.renew_at:
            return grant.held.token
        if grant.refusal is not None and (now < grant.retry_at or not grant.refusal.is_temporary):
            return self._still_valid(grant) or grant.refusal
        if grant.fetching is None:
            grant.fetching = asyncio.create_task(self._fetch(grant, fetch))
        found = await asyncio.shield(grant.fetching)
        if isinstance(found, TokenRefusal):
            return self._still_valid(grant) or found
        return AccessToken(found.access)

    async def _grant(self, grant_id: str, version: str) -> _Grant:
        """Return the state of a grant. A request of an earlier version ends first: it spends the refresh token."""
        while (grant := self._grants.get(grant_id)) is not None and grant.version != version:
            if grant.fetching is None:
                break
            await asyncio.wait([grant.fetching])
        if grant is None or grant.version != version:
            grant = self._grants[grant_id] = _Grant(version)
        return grant

    def refused(self, grant_id: str, token: AccessToken) -> bool:
        """Forget a refused token. True if it may have been stale: a new one is worth a try.

        One that is new is not stale: the reason is another one, and a second login would fail, too.
        """
        held = None if (grant := self._grants.get(grant_id)) is None else grant.held
        if grant is None or held is None or held.token.reveal() != token.reveal():
            return False
        grant.held = None
        return self._clock.monotonic() - held.since >= _FRESH

    def resume(self, grant_id: str) -> None:
        """Forget the last refusal: the operator has acted."""
        if (grant := self._grants.get(grant_id)) is not None:
            grant.refusal, grant.wait = None, _FIRST_WAIT

    def retain(self, grant_ids: frozenset[str]) -> None:
        """Forget all other grants, except those with a request in progress: `close` waits for it."""
        for grant_id in self._grants.keys() - grant_ids:
            if self._grants[grant_id].fetching is None:
                del self._grants[grant_id]

    async def close(self) -> None:
        """Wait for the requests in progress: a refresh token in an unread answer would be lost."""
        tasks = [grant.fetching for grant in self._grants.values() if grant.fetching is not None]
        if tasks:
            await asyncio.wait(tasks)

    async def _fetch(self, grant: _Grant, fetch: Fetch) -> Tokens | TokenRefusal:
        try:
            found = await fetch()
        finally:
            grant.fetching = None
        now = self._clock.monotonic()
        if isinstance(found, TokenRefusal):
            grant.refusal, grant.retry_at = found, now + grant.wait
            grant.wait = min(grant.wait * 2, _LONGEST_WAIT)
        else:
            early = min(EARLY, found.lifetime / 2)
            end = now + found.lifetime
            grant.held = _Held(AccessToken(found.access), now, end - early, end)
            grant.refusal, grant.wait = None, _FIRST_WAIT
        return found

    def _still_valid(self, grant: _Grant) -> AccessToken | None:
        """The token in hand while no new one can be had for now; None if it is about to end, or the grant has ended."""
        held, refusal = grant.held, grant.refusal
        if held is None or refusal is None or not refusal.is_temporary:
            return None
        return held.token if self._clock.monotonic() < held.ends_at - _LAST_MINUTE else None
