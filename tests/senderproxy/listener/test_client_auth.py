"""Who may submit: networks, users, and the senders each may use."""

import asyncio
import time
from statistics import median
from typing import Any

import pytest

from senderproxy.clock import SystemClock
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
from senderproxy.listener.login_throttle import ThrottleLimits
from senderproxy.mail.reply import Reply
from senderproxy.wire.auth import LoginAttempt

SECRET = "geheim-scanner-ü"
HASHED = hash_password(SECRET)
NO_DELAY = ThrottleLimits(first_delay=0, longest_delay=0)


def auth(*clients: dict[str, Any], limits: ThrottleLimits = NO_DELAY, **listener: Any) -> ClientAuth:
    return ClientAuth(
        ListenerSettings(**listener), [ClientSettings(**client) for client in clients], SystemClock(), limits
    )


def test_a_password_is_stored_as_a_salted_hash_of_its_own() -> None:
    other = hash_password(SECRET)
    assert other != HASHED
    assert HASHED.startswith("scrypt$32768$8$1$")
    assert "geheim" not in HASHED
    assert verify_password(SECRET, HASHED)
    assert verify_password("geheim-scanner-u\u0308", HASHED), "the same letters, typed on another keyboard"
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
def test_what_is_no_hash_is_refused_without_being_shown(stored: str) -> None:
    with pytest.raises(PasswordHashError) as error:
        verify_password(SECRET, stored)
    assert "geheim" not in str(error.value)


def verdict(of: ClientAuth, host: str) -> str:
    admission = of.admit(host)
    if isinstance(admission, Reply):
        return str(admission.code)
    return "login" if admission.login_required else "in"


USER = {"user": "scanner", "password": HASHED}


@pytest.mark.parametrize(
    ("auth_setting", "verdicts"),
    [
        ("off", {"192.168.1.5": "in", "10.1.1.1": "554", "::ffff:192.168.1.5": "in", "fd00::1": "554"}),
        ("optional", {"192.168.1.5": "in", "10.1.1.1": "login", "::ffff:192.168.1.5": "in", "fd00::1": "login"}),
        ("required", {"192.168.1.5": "login", "10.1.1.1": "554", "::ffff:192.168.1.5": "login", "fd00::1": "554"}),
    ],
)
def test_which_host_gets_in(auth_setting: str, verdicts: dict[str, str]) -> None:
    door = auth(USER, allow=["192.168.1.0/24"], auth=auth_setting)
    assert {host: verdict(door, host) for host in verdicts} == verdicts


def test_of_several_networks_the_smallest_says_which_senders() -> None:
    door = auth(
        {"networks": ["192.168.0.0/16"], "senders": ["@firma.example"]},
        {"networks": ["192.168.1.7"], "senders": ["scanner@firma.example"]},
        allow=["192.168.0.0/16", "10.0.0.0/8"],
    )

    def senders(host: str) -> list[str] | None:
        admission = door.admit(host)
        assert isinstance(admission, Admission)
        return None if admission.senders is None else [str(pattern) for pattern in admission.senders]

    assert senders("192.168.1.7") == ["scanner@firma.example"]
    assert senders("192.168.1.8") == ["@firma.example"]
    assert senders("10.1.1.1") is None


def test_this_machine_is_known_by_all_its_names() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"))
    assert not any(is_loopback(host) for host in ("192.0.2.1", "fe80::1%eth0", "::ffff:192.0.2.1", "0.0.0.0"))


async def test_the_right_password_lets_a_user_in_with_its_senders() -> None:
    door = auth({**USER, "senders": ["scanner@firma.example"]}, auth="optional")
    for _ in range(2):
        user = await door.verify("192.0.2.1", LoginAttempt("scanner", SECRET))
        assert isinstance(user, User)
        assert [str(pattern) for pattern in user.senders or ()] == ["scanner@firma.example"]


async def test_who_logged_in_once_is_recognised_without_the_work_and_a_wrong_password_still_is_not() -> None:
    door = auth(USER, auth="optional")
    await door.verify("192.0.2.1", LoginAttempt("scanner", SECRET))
    started = time.monotonic()
    for _ in range(50):
        assert isinstance(await door.verify("192.0.2.1", LoginAttempt("scanner", SECRET)), User)
    assert time.monotonic() - started < 1.0
    assert isinstance(await door.verify("192.0.2.1", LoginAttempt("scanner", SECRET + "x")), Reply)


async def test_a_wrong_password_and_an_unknown_user_get_the_same_words(caplog: pytest.LogCaptureFixture) -> None:
    door = auth(USER, auth="optional")
    wrong = await door.verify("192.0.2.1", LoginAttempt("scanner", "geheim-falsch"))
    nobody = await door.verify("192.0.2.1", LoginAttempt("geheim-typed-in-the-wrong-field", "x"))
    assert isinstance(wrong, Reply)
    assert wrong == nobody
    assert (wrong.code, str(wrong.status)) == (535, "5.7.8")
    fields = [vars(record)["senderproxy_fields"] for record in caplog.records]
    assert [entry["user"] for entry in fields] == ["scanner", None]


async def test_an_unknown_user_costs_as_much_time_as_a_known_one() -> None:
    limits = ThrottleLimits(failures=1000, first_delay=0, longest_delay=0)
    door = auth(USER, auth="optional", limits=limits)

    async def spent(user: str) -> float:
        started = time.process_time()
        await door.verify("192.0.2.1", LoginAttempt(user, "geheim-falsch"))
        return time.process_time() - started

    await spent("scanner")
    known, unknown = [], []
    for _ in range(7):
        known.append(await spent("scanner"))
        unknown.append(await spent("nobody"))
    assert 0.6 < median(known) / median(unknown) < 1.6


async def test_after_five_failures_even_the_right_password_has_to_wait() -> None:
    door = auth(USER, auth="optional")
    for _ in range(5):
        await door.verify("192.0.2.1", LoginAttempt("scanner", "geheim-falsch"))
    answer = await door.verify("192.0.2.2", LoginAttempt("scanner", SECRET))
    assert isinstance(answer, Reply)
    assert (answer.code, str(answer.status)) == (454, "4.7.0")
    assert "5 minutes" in answer.text


async def test_guessing_on_many_connections_at_once_gains_no_more_guesses() -> None:
    door = auth(USER, auth="optional")
    answers = await asyncio.gather(
        *(door.verify("192.0.2.1", LoginAttempt("scanner", f"geheim-{n}")) for n in range(20))
    )
    codes = [answer.code for answer in answers if isinstance(answer, Reply)]
    assert codes.count(535) <= 6
    assert codes.count(454) >= 14


async def test_many_devices_with_the_right_password_at_once_all_get_in() -> None:
    door = auth(USER, auth="optional")
    answers = await asyncio.gather(*(door.verify("192.0.2.1", LoginAttempt("scanner", SECRET)) for _ in range(20)))
    assert all(isinstance(answer, User) for answer in answers)


async def test_the_event_loop_is_free_while_a_password_is_verified() -> None:
    door = auth(USER, auth="optional")
    task = asyncio.ensure_future(door.verify("192.0.2.1", LoginAttempt("scanner", SECRET)))
    turns = 0
    while not task.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 5
