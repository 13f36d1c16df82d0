"""The access tokens in memory: one request at a time, renewal before the end, and refusals that are not repeated."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from senderproxy.oauth.refusals import RefusalCause, TokenRefusal
from senderproxy.oauth.token_answer import Tokens
from senderproxy.oauth.token_keeper import TokenKeeper
from senderproxy.routing.account import AccessToken
from tests.fakes.still_clock import StillClock

AWAY = TokenRefusal(RefusalCause.AWAY, "503", "")
ENDED = TokenRefusal(RefusalCause.GRANT_ENDED, "invalid_grant", "expired")


class Server:
    """A token endpoint with prepared answers: numbered tokens, or refusals."""

    def __init__(self, lifetime: float = 3600.0) -> None:
        self.lifetime = lifetime
        self.asked = 0
        self.refusal: TokenRefusal | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self) -> Tokens | TokenRefusal:
        self.asked += 1
        number = self.asked
        await self.gate.wait()
        return self.refusal or Tokens(f"geheim-{number}", self.lifetime)


async def ask(keeper: TokenKeeper, server: Server, grant: str = "grant", version: str = "1") -> str | TokenRefusal:
    found = await keeper.token(grant, version, server.fetch)
    return found.reveal() if isinstance(found, AccessToken) else found


async def test_one_request_for_all_who_wait() -> None:
    keeper, server = TokenKeeper(StillClock()), Server()
    server.gate.clear()
    callers = [asyncio.create_task(ask(keeper, server)) for _ in range(50)]
    await asyncio.sleep(0)
    callers[0].cancel()  # the first one, whose request it is
    server.gate.set()
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == ["geheim-1"] * 49
    assert server.asked == 1


@pytest.mark.parametrize(
    ("lifetime", "seconds", "asked"),
    [
        (3600, 2999, 1),  # 10 minutes before the end
        (3600, 3000, 2),
        (600, 299, 1),  # half of its life
        (600, 300, 2),
        (1, 0.4, 1),
        (1, 0.5, 2),
    ],
)
async def test_renewal_before_the_end(lifetime: float, seconds: float, asked: int) -> None:
    clock, server = StillClock(), Server(lifetime)
    keeper = TokenKeeper(clock)
    assert await ask(keeper, server) == "geheim-1"
    clock.pass_by(timedelta(seconds=seconds))
    assert await ask(keeper, server) == f"geheim-{asked}"
    assert server.asked == asked


async def test_the_old_token_is_used_while_the_server_is_away() -> None:
    clock, server = StillClock(), Server()
    keeper = TokenKeeper(clock)
    await ask(keeper, server)
    server.refusal = AWAY
    clock.pass_by(timedelta(seconds=3000))
    assert await ask(keeper, server) == "geheim-1"
    clock.pass_by(timedelta(seconds=539))
    assert await ask(keeper, server) == "geheim-1"
    clock.pass_by(timedelta(seconds=1))  # a minute before its end
    assert await ask(keeper, server) == AWAY


async def test_an_ended_grant_ends_its_token_too() -> None:
    clock, server = StillClock(), Server()
    keeper = TokenKeeper(clock)
    await ask(keeper, server)
    server.refusal = ENDED
    clock.pass_by(timedelta(seconds=3000))
    assert await ask(keeper, server) == ENDED


async def test_a_temporary_refusal_is_tried_again_after_growing_waits() -> None:
    clock, server = StillClock(), Server()
    keeper, server.refusal = TokenKeeper(clock), AWAY
    for wait in (5, 10, 20, 40, 80, 160, 300, 300):
        before = server.asked
        assert await ask(keeper, server) == AWAY
        assert await ask(keeper, server) == AWAY
        assert server.asked == before + 1
        clock.pass_by(timedelta(seconds=wait - 0.1))
        assert await ask(keeper, server) == AWAY
        assert server.asked == before + 1
        clock.pass_by(timedelta(seconds=0.1))
    server.refusal = None
    assert await ask(keeper, server) == f"geheim-{server.asked}"


_ENDS: list[Callable[[TokenKeeper], object]] = [
    lambda keeper: keeper.resume("grant"),
    lambda keeper: keeper.retain(frozenset()),
]


@pytest.mark.parametrize("end", _ENDS)
async def test_a_refusal_stands_until_a_person_acts(end: Callable[[TokenKeeper], object]) -> None:
    clock, server = StillClock(), Server()
    keeper, server.refusal = TokenKeeper(clock), ENDED
    assert await ask(keeper, server) == ENDED
    clock.pass_by(timedelta(seconds=10 * 86400))
    assert await ask(keeper, server) == ENDED
    assert server.asked == 1
    server.refusal = None
    end(keeper)
    assert await ask(keeper, server) == "geheim-2"


async def test_a_new_consent_ends_a_refusal_and_the_old_token() -> None:
    keeper, server = TokenKeeper(StillClock()), Server()
    assert await ask(keeper, server) == "geheim-1"
    assert await ask(keeper, server, version="2") == "geheim-2"
    server.refusal = ENDED
    assert await ask(keeper, server, version="3") == ENDED
    server.refusal = None
    assert await ask(keeper, server, version="4") == "geheim-4"


async def test_grants_have_tokens_of_their_own() -> None:
    keeper, server = TokenKeeper(StillClock()), Server()
    assert await ask(keeper, server, "a") == "geheim-1"
    assert await ask(keeper, server, "b") == "geheim-2"
    assert await ask(keeper, server, "a") == "geheim-1"


async def test_a_token_that_the_smarthost_refused_is_renewed_once() -> None:
    clock, server = StillClock(), Server()
    keeper = TokenKeeper(clock)
    await ask(keeper, server)
    clock.pass_by(timedelta(seconds=60))
    assert keeper.refused("grant", AccessToken("geheim-1"))
    assert not keeper.refused("grant", AccessToken("geheim-1"))
    assert await ask(keeper, server) == "geheim-2"
    assert not keeper.refused("grant", AccessToken("geheim-1"))  # another session's, from before
    assert not keeper.refused("other", AccessToken("geheim-1"))


async def test_a_fresh_token_that_the_smarthost_refused_is_not_worth_another_login() -> None:
    clock, server = StillClock(), Server()
    keeper = TokenKeeper(clock)
    await ask(keeper, server)
    clock.pass_by(timedelta(seconds=59))
    assert not keeper.refused("grant", AccessToken("geheim-1"))
    assert await ask(keeper, server) == "geheim-2"  # the refused one is not used again


async def test_the_stop_waits_for_requests_in_progress() -> None:
    keeper, server = TokenKeeper(StillClock()), Server()
    server.gate.clear()
    caller = asyncio.create_task(ask(keeper, server))
    await asyncio.sleep(0)
    closing = asyncio.create_task(keeper.close())
    await asyncio.sleep(0)
    assert not closing.done()
    server.gate.set()
    await closing
    assert await caller == "geheim-1"
    await keeper.close()


async def test_a_changed_grant_waits_for_the_request_of_the_old_one() -> None:
    keeper, server = TokenKeeper(StillClock()), Server()
    server.gate.clear()
    callers = [asyncio.create_task(ask(keeper, server, version=version)) for version in ("1", "2", "2")]
    for _ in range(5):
        await asyncio.sleep(0)
    assert server.asked == 1  # two requests at once would spend one refresh token twice
    server.gate.set()
    assert [await caller for caller in callers] == ["geheim-1", "geheim-2", "geheim-2"]


async def test_the_stop_waits_for_the_request_of_a_removed_grant() -> None:
    keeper, server = TokenKeeper(StillClock()), Server()
    server.gate.clear()
    caller = asyncio.create_task(ask(keeper, server))
    await asyncio.sleep(0)
    keeper.retain(frozenset())
    closing = asyncio.create_task(keeper.close())
    await asyncio.sleep(0)
    assert not closing.done()
    server.gate.set()
    await asyncio.gather(caller, closing)
    keeper.retain(frozenset())
    assert await ask(keeper, server) == "geheim-2"


async def test_a_fault_of_the_program_reaches_all_who_wait_and_is_no_state() -> None:
    keeper, server = TokenKeeper(StillClock()), Server()

    async def broken() -> Tokens | TokenRefusal:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await keeper.token("grant", "1", broken)
    assert await ask(keeper, server) == "geheim-1"
