"""The pool by itself: what happens around a login that goes wrong in ways no upstream can cause."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from senderproxy.clock import SystemClock
from senderproxy.delivery.classify import NotOpened, Trouble
from senderproxy.delivery.pool import FORGET_LEARNT, Key, Pool, PooledSession, SessionRequest, _Learnt
from senderproxy.delivery.reuse import PoolLimits
from senderproxy.delivery.session import Session
from senderproxy.mail.reply import reply
from senderproxy.simulator.server import Simulator
from tests.senderproxy.delivery.letters import ANNA, SETTINGS, letter, open_at, to, way_to

NO = NotOpened(Trouble.UNREACHABLE, reply(451, "4.4.1", "nobody there"))


def order(
    opened: Callable[[], Awaitable[Session | NotOpened]], version: str = "v1", connections: int = 2
) -> SessionRequest:
    return SessionRequest(
        Key("anna", ANNA, version, (), ()),
        PoolLimits(connections, None, 30.0),
        open=opened,
        objection=lambda: None,
        failed=lambda result: None,
        wait_seconds=5.0,
    )


async def test_a_bug_in_the_login_reaches_everybody_who_waits_for_it_and_the_next_one_tries_anew() -> None:
    tries = 0

    async def opened() -> Session | NotOpened:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0)
        if tries == 1:
            raise ZeroDivisionError
        return NO

    pool = Pool("anna", SystemClock())
    results = await asyncio.gather(*(pool.borrow(order(opened)) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(result, ZeroDivisionError) for result in results)
    assert await pool.borrow(order(opened)) == NO
    assert pool.is_empty


async def test_a_failed_login_with_an_old_secret_is_no_answer_for_who_has_the_new_one() -> None:
    secrets: list[str] = []

    def opens(version: str) -> Callable[[], Awaitable[Session | NotOpened]]:
        async def opened() -> Session | NotOpened:
            secrets.append(version)
            await asyncio.sleep(0)
            return NotOpened(Trouble.PASSWORD, reply(451, "4.7.8", version))

        return opened

    pool = Pool("anna", SystemClock())
    results = await asyncio.gather(*(pool.borrow(order(opens(version), version)) for version in ("v1", "v2", "v1")))
    assert [result.reply.text for result in results if isinstance(result, NotOpened)] == ["v1", "v2", "v1"]
    assert secrets == ["v1", "v2"]


async def test_a_pool_that_is_shut_cancels_the_login_under_way() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def opened() -> Session | NotOpened:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return NO

    pool = Pool("anna", SystemClock())
    waiting = asyncio.create_task(pool.borrow(order(opened)))
    await begun.wait()
    await pool.shut()
    assert ended.is_set()
    result = await waiting
    assert isinstance(result, NotOpened)
    assert result.reply.text == "senderproxy is shutting down"
    assert isinstance(await pool.borrow(order(opened)), NotOpened)


async def test_a_session_that_was_lent_and_not_taken_goes_to_the_next() -> None:
    async with Simulator(SETTINGS) as simulator:

        async def opened() -> Session | NotOpened:
            return await open_at(way_to(simulator))

        pool = Pool("anna", SystemClock())
        first = await pool.borrow(order(opened, connections=1))
        assert isinstance(first, PooledSession)
        second = asyncio.create_task(pool.borrow(order(opened, connections=1)))
        third = asyncio.create_task(pool.borrow(order(opened, connections=1)))
        await asyncio.sleep(0)
        pool.give_back(first)  # in this moment the second has it,
        second.cancel()  # and in this one he goes
        loan = await third
        assert isinstance(loan, PooledSession)
        assert loan.session is first.session
        await loan.session.transact(to(), letter(), warm=loan.warm)
        pool.give_back(loan)
        with pytest.raises(asyncio.CancelledError):
            await second
        await pool.shut()
        assert simulator.connections == 1


def test_what_was_learnt_narrows_and_is_forgotten() -> None:
    learnt = _Learnt()
    assert learnt.narrow(None, 0.0) is None
    learnt.note(10, 0.0)
    learnt.note(20, 1.0)
    assert learnt.narrow(None, 2.0) == 10
    assert learnt.narrow(5, 2.0) == 5
    assert learnt.narrow(50, 1.0 + FORGET_LEARNT) == 50
