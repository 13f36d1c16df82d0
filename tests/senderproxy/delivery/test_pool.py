"""The pool alone: failures that no upstream can cause, and the choice of a session."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from senderproxy.clock import SystemClock
from senderproxy.delivery.open_failures import FailureKind, OpenFailed
from senderproxy.delivery.pool import Pool, PooledSession, SessionRequest
from senderproxy.delivery.reuse import PoolLimits, SessionKey
from senderproxy.delivery.session import Session
from senderproxy.mail.reply import reply
from senderproxy.simulator.server import Simulator
from tests.senderproxy.delivery.messages import ANNA, SETTINGS, make_message, open_at, smarthost_of, to

NO = OpenFailed(FailureKind.UNREACHABLE, reply(451, "4.4.1", "unreachable"))


def request_for(
    opened: Callable[[], Awaitable[Session | OpenFailed]], version: str = "v1", connections: int = 2
) -> SessionRequest:
    return SessionRequest(
        SessionKey("anna", ANNA, version, (), ()),
        PoolLimits(connections, None, 30.0),
        open=opened,
        blocked=lambda: None,
        login_blocked=lambda: None,
        open_failed=lambda result: None,
        wait_seconds=5.0,
    )


async def test_an_internal_error_in_the_login_reaches_all_waiting_messages() -> None:
    tries = 0

    async def opened() -> Session | OpenFailed:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0)
        if tries == 1:
            raise ZeroDivisionError
        return NO

    pool = Pool("anna", SystemClock())
    results = await asyncio.gather(*(pool.acquire(request_for(opened)) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(result, ZeroDivisionError) for result in results)
    assert await pool.acquire(request_for(opened)) == NO
    assert pool.is_empty


async def test_a_failed_login_with_an_old_secret_does_not_count_for_the_new_one() -> None:
    secrets: list[str] = []

    def opens(version: str) -> Callable[[], Awaitable[Session | OpenFailed]]:
        async def opened() -> Session | OpenFailed:
            secrets.append(version)
            await asyncio.sleep(0)
            return OpenFailed(FailureKind.LOGIN, reply(451, "4.7.8", version))

        return opened

    pool = Pool("anna", SystemClock())
    results = await asyncio.gather(
        *(pool.acquire(request_for(opens(version), version)) for version in ("v1", "v2", "v1"))
    )
    assert [result.reply.text for result in results if isinstance(result, OpenFailed)] == ["v1", "v2", "v1"]
    assert secrets == ["v1", "v2"]


async def test_close_cancels_the_login_in_progress() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def opened() -> Session | OpenFailed:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return NO

    pool = Pool("anna", SystemClock())
    waiting = asyncio.create_task(pool.acquire(request_for(opened)))
    await begun.wait()
    await pool.close()
    assert ended.is_set()
    result = await waiting
    assert isinstance(result, OpenFailed)
    assert result.reply.text == "senderproxy is shutting down"
    assert isinstance(await pool.acquire(request_for(opened)), OpenFailed)


@pytest.mark.parametrize("kind", [FailureKind.LOCAL, FailureKind.LIMIT])
async def test_messages_wait_on_if_the_last_session_ends_while_a_further_one_finds_no_room(kind: FailureKind) -> None:
    async with Simulator(SETTINGS) as simulator:
        tries, asked, answer = 0, asyncio.Event(), asyncio.Event()

        async def opened() -> Session | OpenFailed:
            nonlocal tries
            tries += 1
            if tries == 2:
                asked.set()
                await answer.wait()
                return OpenFailed(kind, reply(451, "4.3.2", "the busy one will do"))
            return await open_at(smarthost_of(simulator))

        pool = Pool("anna", SystemClock())
        first = await pool.acquire(request_for(opened))
        assert isinstance(first, PooledSession)
        second = asyncio.create_task(pool.acquire(request_for(opened)))
        await asked.wait()
        pool.give_up_one()  # another account or instance needs it
        pool.release(first)
        answer.set()
        pooled = await second
        assert isinstance(pooled, PooledSession)
        assert tries == 3
        pool.release(pooled)
        await pool.close()


async def test_a_session_assigned_to_a_cancelled_message_goes_to_the_next() -> None:
    async with Simulator(SETTINGS) as simulator:

        async def opened() -> Session | OpenFailed:
            return await open_at(smarthost_of(simulator))

        pool = Pool("anna", SystemClock())
        first = await pool.acquire(request_for(opened, connections=1))
        assert isinstance(first, PooledSession)
        second = asyncio.create_task(pool.acquire(request_for(opened, connections=1)))
        third = asyncio.create_task(pool.acquire(request_for(opened, connections=1)))
        await asyncio.sleep(0)
        pool.release(first)  # in this moment the second has it,
        second.cancel()  # and in this one he goes
        pooled = await third
        assert isinstance(pooled, PooledSession)
        assert pooled.session is first.session
        await pooled.session.transact(to(), make_message(), warm=pooled.warm)
        pool.release(pooled)
        with pytest.raises(asyncio.CancelledError):
            await second
        await pool.close()
        assert simulator.connections == 1


async def test_an_expired_session_is_closed_as_soon_as_a_message_finds_it_beside_a_good_one() -> None:
    async with Simulator(SETTINGS) as simulator:

        async def opened() -> Session | OpenFailed:
            return await open_at(smarthost_of(simulator))

        pool = Pool("anna", SystemClock())
        unlimited = request_for(opened)
        first, second = await pool.acquire(unlimited), await pool.acquire(unlimited)
        assert isinstance(first, PooledSession)
        assert isinstance(second, PooledSession)
        await second.session.transact(to(), make_message(), warm=False)
        pool.release(first)
        pool.release(second)  # the most recently used one, with one message
        limited = replace(unlimited, limits=replace(unlimited.limits, messages_per_connection=1))
        taken = await pool.acquire(limited)
        assert taken is first
        assert (pool.busy, pool.idle) == (1, 0)
        await simulator.wait_until(lambda simulator: simulator.sessions[1].ended == "quit")
        pool.release(first)
        await pool.close()
        assert simulator.connections == 2


async def test_a_message_that_finds_an_idle_session_creates_no_task_and_does_not_wait() -> None:
    async with Simulator(SETTINGS) as simulator:

        async def opened() -> Session | OpenFailed:
            return await open_at(smarthost_of(simulator))

        pool = Pool("anna", SystemClock())
        request = request_for(opened)
        first = await pool.acquire(request)
        assert isinstance(first, PooledSession)
        pool.release(first)
        before = len(asyncio.all_tasks())
        acquired = pool.acquire(request)
        with pytest.raises(StopIteration) as returned:  # the first step of the coroutine is the last
            acquired.send(None)
        assert returned.value.value is first
        assert len(asyncio.all_tasks()) == before
        pool.release(first)
        await pool.close()
