"""Admission by network, logins, and the senders of each client."""

import asyncio
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from senderproxy.clock import Clock, SystemClock
from senderproxy.config.model import ClientSettings, ListenerSettings
from senderproxy.listener.client_auth import (
    Admission,
    ClientAuth,
    PasswordHashError,
    User,
    hash_password,
    is_loopback,
    verify_password,
)
from senderproxy.listener.login_throttle import LoginThrottle, ThrottleLimits
from senderproxy.listener.password_threads import DERIVATIONS, LOGINS_LIMIT, LOGINS_OF_HOST, PasswordThreads
from senderproxy.mail.reply import Reply
from senderproxy.wire.auth import LoginAttempt
from tests.fakes.still_clock import StillClock

SECRET = "geheim-scanner-ü"
HASHED = hash_password(SECRET)
NO_DELAY = ThrottleLimits(first_delay=0, longest_delay=0)


def auth(
    *clients: dict[str, Any],
    limits: ThrottleLimits = NO_DELAY,
    passwords: PasswordThreads | None = None,
    clock: Clock | None = None,
    **listener: Any,
) -> ClientAuth:
    entries = [ClientSettings(**client) for client in clients]
    return ClientAuth(ListenerSettings(**listener), entries, clock or SystemClock(), LoginThrottle(limits), passwords)


@contextmanager
def occupied(passwords: PasswordThreads) -> Iterator[None]:
    """The password threads are busy meanwhile: every login that needs one waits."""
    release = threading.Event()
    calls = [asyncio.ensure_future(passwords.derive(lambda: release.wait(30))) for _ in range(DERIVATIONS)]
    try:
        yield
    finally:
        release.set()
        del calls


def test_a_password_is_stored_as_a_salted_hash_of_its_own() -> None:
    other = hash_password(SECRET)
    assert other != HASHED
    assert HASHED.startswith("scrypt$32768$8$1$")
    assert "geheim" not in HASHED
    assert verify_password(SECRET, HASHED)
    assert verify_password("geheim-scanner-u\u0308", HASHED), "the same characters in another normalization form"
    assert not verify_password(SECRET + "x", HASHED)
    assert not verify_password("", HASHED)


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "geheim-1",
        "scrypt$1$2$3",
        "bcrypt$32768$8$1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAA",
        "scrypt$32767$8$1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "scrypt$1073741824$8$1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "scrypt$32768$800$1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "scrypt$32768$8$0$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "scrypt$32768$8$1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "scrypt$32768$8$1$AAAAAAAAAAAAAAAAAAAAAA$AAAA",
        "scrypt$32768$8$1$AAAAAAA*AAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ],
)
def test_an_invalid_hash_is_refused_without_being_shown(stored: str) -> None:
    with pytest.raises(PasswordHashError) as error:
        verify_password(SECRET, stored)
    assert "geheim" not in str(error.value)


def admission_of(of: ClientAuth, host: str) -> str:
    admission = of.admit(host)
    if isinstance(admission, Reply):
        return str(admission.code)
    return "login" if admission.login_required else "in"


USER = {"user": "scanner", "password": HASHED}


@pytest.mark.parametrize(
    ("auth_setting", "expected"),
    [
        ("off", {"192.168.1.5": "in", "10.1.1.1": "554", "::ffff:192.168.1.5": "in", "fd00::1": "554"}),
        ("optional", {"192.168.1.5": "in", "10.1.1.1": "login", "::ffff:192.168.1.5": "in", "fd00::1": "login"}),
        ("required", {"192.168.1.5": "login", "10.1.1.1": "554", "::ffff:192.168.1.5": "login", "fd00::1": "554"}),
    ],
)
def test_admission_of_hosts_by_network(auth_setting: str, expected: dict[str, str]) -> None:
    client_auth = auth(USER, allow=["192.168.1.0/24"], auth=auth_setting)
    assert {host: admission_of(client_auth, host) for host in expected} == expected


def test_the_smallest_network_decides_on_the_senders() -> None:
    client_auth = auth(
        {"networks": ["192.168.0.0/16"], "senders": ["@firma.example"]},
        {"networks": ["192.168.1.7"], "senders": ["scanner@firma.example"]},
        allow=["192.168.0.0/16", "10.0.0.0/8"],
    )

    def senders(host: str) -> list[str] | None:
        admission = client_auth.admit(host)
        assert isinstance(admission, Admission)
        return None if admission.senders is None else [str(pattern) for pattern in admission.senders]

    assert senders("192.168.1.7") == ["scanner@firma.example"]
    assert senders("192.168.1.8") == ["@firma.example"]
    assert senders("10.1.1.1") is None


def test_the_default_entry_is_for_every_admitted_host_without_an_entry() -> None:
    client_auth = auth(
        {"networks": ["192.168.1.7"], "senders": ["scanner@firma.example"]},
        {"default": True, "senders": []},
        USER | {"senders": ["anna@firma.example"]},
        allow=["192.168.0.0/16"],
        auth="optional",
    )
    senders = {host: client_auth.admit(host).senders for host in ("192.168.1.7", "192.168.1.8", "127.0.0.1")}  # type: ignore[union-attr]
    assert {host: [str(pattern) for pattern in found or ()] for host, found in senders.items()} == {
        "192.168.1.7": ["scanner@firma.example"],
        "192.168.1.8": [],
        "127.0.0.1": [],
    }
    assert senders["192.168.1.8"] == ()  # none at all, not any


def test_loopback_addresses_are_recognised() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"))
    assert not any(is_loopback(host) for host in ("192.0.2.1", "fe80::1%eth0", "::ffff:192.0.2.1", "0.0.0.0"))


async def test_the_right_password_gives_the_user_with_its_senders() -> None:
    client_auth = auth({**USER, "senders": ["scanner@firma.example"]}, auth="optional")
    for _ in range(2):
        user = await client_auth.verify("192.0.2.1", LoginAttempt("scanner", SECRET))
        assert isinstance(user, User)
        assert [str(pattern) for pattern in user.senders or ()] == ["scanner@firma.example"]


async def test_a_repeated_login_needs_no_key_derivation_and_a_wrong_password_is_still_refused() -> None:
    passwords = PasswordThreads()
    client_auth = auth(USER, auth="optional", passwords=passwords)
    await client_auth.verify("192.0.2.1", LoginAttempt("scanner", SECRET))
    with occupied(passwords):
        for _ in range(50):
            assert isinstance(await client_auth.verify("192.0.2.1", LoginAttempt("scanner", SECRET)), User)
    assert isinstance(await client_auth.verify("192.0.2.1", LoginAttempt("scanner", SECRET + "x")), Reply)


async def test_a_wrong_password_and_an_unknown_user_get_the_same_reply(caplog: pytest.LogCaptureFixture) -> None:
    client_auth = auth(USER, auth="optional")
    wrong = await client_auth.verify("192.0.2.1", LoginAttempt("scanner", "geheim-falsch"))
    unknown = await client_auth.verify("192.0.2.1", LoginAttempt("geheim-typed-in-the-wrong-field", "x"))
    assert isinstance(wrong, Reply)
    assert wrong == unknown
    assert (wrong.code, str(wrong.status)) == (535, "5.7.8")
    fields = [vars(record)["senderproxy_fields"] for record in caplog.records]
    assert [entry["user"] for entry in fields] == ["scanner", None]


async def test_an_unknown_user_takes_the_same_key_derivation_as_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A derivation is nearly all the time that a login takes."""
    client_auth, made, derive = auth(USER, auth="optional"), list[dict[str, Any]](), hashlib.scrypt

    def counted(password: bytes, *, salt: bytes, **parameters: Any) -> bytes:
        made.append(parameters | {"salt": len(salt)})
        return derive(password, salt=salt, **parameters)

    monkeypatch.setattr(hashlib, "scrypt", counted)
    for user in ("scanner", "nobody"):
        await client_auth.verify("192.0.2.1", LoginAttempt(user, "geheim-falsch"))
    known, unknown = made
    assert known == unknown


async def test_after_five_failures_the_right_password_is_locked_too() -> None:
    client_auth = auth(USER, auth="optional", clock=StillClock())
    for _ in range(5):
        await client_auth.verify("192.0.2.1", LoginAttempt("scanner", "geheim-falsch"))
    answer = await client_auth.verify("192.0.2.2", LoginAttempt("scanner", SECRET))
    assert isinstance(answer, Reply)
    assert (answer.code, str(answer.status)) == (454, "4.7.0")
    assert "5 minutes" in answer.text


async def test_guessing_on_many_connections_at_once_gains_no_more_guesses() -> None:
    client_auth = auth(USER, auth="optional")
    answers = await asyncio.gather(
        *(client_auth.verify("192.0.2.1", LoginAttempt("scanner", f"geheim-{n}")) for n in range(20))
    )
    codes = [answer.code for answer in answers if isinstance(answer, Reply)]
    assert codes.count(535) <= 6
    assert codes.count(454) >= 14


async def test_many_devices_with_the_right_password_log_in_at_once() -> None:
    client_auth = auth(USER, auth="optional")
    answers = await asyncio.gather(
        *(client_auth.verify("192.0.2.1", LoginAttempt("scanner", SECRET)) for _ in range(20))
    )
    assert all(isinstance(answer, User) for answer in answers)


async def test_the_event_loop_is_free_while_a_password_is_verified() -> None:
    turns_of = []
    for _ in range(10):  # on a busy machine the loop may get no turn during some of them
        client_auth = auth(USER, auth="optional")
        task = asyncio.ensure_future(client_auth.verify("192.0.2.1", LoginAttempt("scanner", SECRET)))
        turns = 0
        while not task.done():
            await asyncio.sleep(0.001)
            turns += 1
        turns_of.append(turns)
    assert max(turns_of) > 5, turns_of


async def test_a_password_is_verified_with_a_lower_priority_than_mail() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert await PasswordThreads().derive(niceness) == max(10, niceness())  # the tests may have a low one themselves


async def test_one_host_cannot_fill_the_queue_and_a_full_queue_gets_a_temporary_refusal() -> None:
    passwords = PasswordThreads()
    client_auth, other = (auth(USER, auth="optional", passwords=passwords) for _ in range(2))
    hosts = [f"192.0.2.{number}" for number in range(LOGINS_LIMIT // LOGINS_OF_HOST + 1)]
    with occupied(passwords):
        await asyncio.sleep(0)
        waiting = [
            asyncio.create_task(client_auth.verify(host, LoginAttempt("scanner", f"geheim-{number}")))
            for host in hosts[:-1]
            for number in range(LOGINS_OF_HOST - 1)
        ]
        await asyncio.sleep(0)
        last = asyncio.create_task(client_auth.verify(hosts[0], LoginAttempt("scanner", "geheim-last")))
        await asyncio.sleep(0)
        refused = await client_auth.verify(hosts[0], LoginAttempt("scanner", SECRET))
        assert isinstance(refused, Reply)
        assert (refused.code, str(refused.status), "at once" in refused.text) == (454, "4.7.0", True)
        waiting += [
            asyncio.create_task(other.verify(hosts[-1], LoginAttempt("scanner", SECRET)))
            for _ in range(LOGINS_LIMIT - len(waiting) - 1)
        ]
        await asyncio.sleep(0)
        assert await other.verify("192.0.2.99", LoginAttempt("scanner", SECRET)) == refused
    await asyncio.gather(last, *waiting)
    assert isinstance(await other.verify("192.0.2.99", LoginAttempt("scanner", SECRET)), User)


async def test_a_system_without_threads_is_a_temporary_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    client_auth = auth(USER, auth="optional")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        refused = await client_auth.verify("192.0.2.1", LoginAttempt("scanner", SECRET))
    assert isinstance(refused, Reply)
    assert refused.code == 454
    assert isinstance(await client_auth.verify("192.0.2.1", LoginAttempt("scanner", SECRET)), User)


async def test_all_addresses_of_an_ipv6_network_have_the_places_of_one_host() -> None:
    passwords = PasswordThreads()
    client_auth = auth(USER, auth="optional", passwords=passwords)
    with occupied(passwords):
        waiting = [
            asyncio.create_task(client_auth.verify(f"2001:db8::{n:x}", LoginAttempt("scanner", SECRET)))
            for n in range(LOGINS_OF_HOST)
        ]
        await asyncio.sleep(0)
        refused = await client_auth.verify("2001:db8::ffff", LoginAttempt("scanner", SECRET))
        assert isinstance(refused, Reply)
        assert "at once" in refused.text
    assert all(isinstance(answer, User) for answer in await asyncio.gather(*waiting))


async def test_a_login_that_was_verified_before_needs_no_thread() -> None:
    passwords = PasswordThreads()
    client_auth = auth(USER, auth="optional", passwords=passwords)
    await client_auth.verify("192.0.2.1", LoginAttempt("scanner", SECRET))
    with occupied(passwords):
        assert isinstance(await client_auth.verify("192.0.2.2", LoginAttempt("scanner", SECRET)), User)


async def test_a_failed_login_counts_also_if_its_client_has_left(caplog: pytest.LogCaptureFixture) -> None:
    client_auth = auth(USER, auth="optional", limits=ThrottleLimits(failures=1, first_delay=0, longest_delay=0))
    attempt = asyncio.create_task(client_auth.verify("192.0.2.1", LoginAttempt("scanner", "geheim-falsch")))
    await asyncio.sleep(0)
    attempt.cancel()
    async with asyncio.timeout(30):
        while not caplog.records:
            await asyncio.sleep(0.001)
    answer = await client_auth.verify("192.0.2.2", LoginAttempt("scanner", SECRET))
    assert isinstance(answer, Reply)
    assert "failed logins" in answer.text
