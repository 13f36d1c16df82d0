"""The logins of all accounts at one server: few of them fail, whatever the number of accounts."""

import asyncio

import pytest

from senderproxy.delivery.account_health import LOGIN_WAITS
from senderproxy.delivery.login_gate import HOURLY, TOGETHER, LoginGate
from senderproxy.mail.reply import reply

AWAY = reply(454, "4.7.0", "Temporary authentication failure")


class Time:
    """A clock that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def failures_in(gate: LoginGate, time: Time, seconds: float, accounts: int, *, proven: bool) -> int:
    """The failed logins of accounts that all try every ten seconds, while the server refuses each."""
    count, end = 0, time.now + seconds
    while time.now < end:
        for number in range(accounts):
            if gate.wait(f"account-{number}", "v1", proven=proven) is None:
                gate.failed(f"account-{number}", "v1", AWAY)
                count += 1
        time.now += 10.0
    return count


@pytest.mark.parametrize("proven", [False, True])
def test_forty_accounts_make_five_failed_logins_an_hour_at_most(time: Time, proven: bool) -> None:
    gate = LoginGate(time)
    counts = [failures_in(gate, time, 3600.0, 40, proven=proven) for _ in range(4)]
    assert counts[0] == TOGETHER + 2  # three at once, then after 5 and 15 minutes
    assert max(counts) <= HOURLY


def test_one_account_tries_after_5_15_and_60_minutes_and_its_success_lets_all_try(time: Time) -> None:
    gate = LoginGate(time)
    for number in range(TOGETHER):
        gate.failed(f"account-{number}", "v1", AWAY)
    for seconds in LOGIN_WAITS[:2]:
        waiting = gate.wait("account-7", "v1", proven=True)
        assert waiting is not None
        assert (waiting.seconds, waiting.accounts) == (seconds, ("account-0", "account-1", "account-2"))
        time.now += seconds
        assert gate.wait("account-7", "v1", proven=True) is None
        gate.failed("account-7", "v1", AWAY)
    waiting = gate.wait("account-8", "v1", proven=True)
    assert waiting is not None
    assert waiting.seconds == LOGIN_WAITS[2]
    time.now += waiting.seconds
    gate.succeeded()
    assert gate.wait("account-8", "v1", proven=True) is None


def test_wrong_passwords_do_not_keep_out_an_account_that_worked(time: Time) -> None:
    gate = LoginGate(time)
    for number in range(HOURLY):
        gate.failed(f"wrong-{number}", "v1", AWAY)
        gate.succeeded()
    assert gate.wait("new", "v1", proven=False) is not None
    assert gate.wait("anna", "v1", proven=True) is None
    time.now += 3600.0
    assert gate.wait("new", "v1", proven=False) is None


def test_a_new_secret_and_the_operator_end_the_wait(time: Time) -> None:
    gate = LoginGate(time)
    for number in range(HOURLY):
        gate.failed(f"account-{number}", "v1", AWAY)
    assert gate.wait("account-0", "v1", proven=False) is not None
    assert gate.wait("account-0", "v2", proven=False) is None
    assert gate.lift()
    assert not gate.lift()
    assert gate.wait("account-0", "v1", proven=False) is None


async def test_logins_wait_for_each_other_after_a_failure(time: Time) -> None:
    gate = LoginGate(time)
    for account in ("a", "b"):
        assert await gate.enter(account, "v1", proven=True) is None
    third = asyncio.create_task(gate.enter("c", "v1", proven=True))
    await asyncio.sleep(0)
    assert not third.done()  # two at the same time
    gate.failed("a", "v1", AWAY)
    gate.leave()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not third.done()  # one after a failure
    gate.leave()
    assert await third is None
    gate.leave()


async def test_a_cancelled_login_leaves_no_place_taken(time: Time) -> None:
    gate = LoginGate(time)
    for account in ("a", "b"):
        await gate.enter(account, "v1", proven=True)
    third = asyncio.create_task(gate.enter("c", "v1", proven=True))
    await asyncio.sleep(0)
    third.cancel()
    with pytest.raises(asyncio.CancelledError):
        await third
    gate.leave()
    assert await gate.enter("d", "v1", proven=True) is None
