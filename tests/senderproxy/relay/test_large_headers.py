"""Decisions about large header sections: on threads, in line, and never in the way of other messages."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from senderproxy.mail.address import Address
from senderproxy.mail.reply import Reply
from senderproxy.relay.decision_thread import LARGE_HEADER, DecisionThread, TooManyDecisions
from senderproxy.routing.account import Account
from senderproxy.routing.directory import AccountDirectory, MatchTier
from senderproxy.tracking.record import Lane
from tests.senderproxy.relay.office import KUNDE, RelayOffice, relay_office

LARGE = "X-Large: " + "\r\n ".join(["x" * 70] * (LARGE_HEADER // 70)) + "\r\n"
BUSY = "451 4.3.2 Too many messages with large header sections at the same time; try again later"


class Gate:
    """Directories whose look-ups hang on every thread but the event loop's, until `release` is set."""

    def __init__(self) -> None:
        self.loop_thread = threading.get_ident()
        self.hanging = 0
        self.release = threading.Event()

    def wait(self) -> None:
        if threading.get_ident() != self.loop_thread:
            self.hanging += 1
            assert self.release.wait(30)


@asynccontextmanager
async def gated_office(tmp_path: Path) -> AsyncIterator[tuple[RelayOffice, Gate]]:
    gate = Gate()

    class GatedDirectory(AccountDirectory):
        def find(self, address: Address, tier: MatchTier) -> Account | None:
            gate.wait()
            return super().find(address, tier)

    async with relay_office(tmp_path) as office:
        office.drawer.new_directory = GatedDirectory
        office.drawer.add("dora", "dora@firma.example", "geheim-relay")  # a change, so that a new directory is made
        try:
            yield office, gate
        finally:
            gate.release.set()


def submit(office: RelayOffice, text: str, *, at: str = "office", host: str = "192.0.2.1") -> "asyncio.Task[Reply]":
    """Submit a message with a large header section."""

    async def reply() -> Reply:
        return (await office.submit(at=at, text=text, header=LARGE, host=host))[1]

    return asyncio.create_task(reply())


@pytest.mark.parametrize("mode", ["office", "devices"])
async def test_a_decision_that_takes_long_delays_its_own_message_only(tmp_path: Path, mode: str) -> None:
    async with gated_office(tmp_path) as (office, gate):
        large = submit(office, "large", at=mode)
        await office.until(lambda: gate.hanging == 1, "the decision")
        _, result = await office.submit(at=mode, text="small")
        assert result.code == 250
        await office.until(lambda: office.taken() == ["small"], "the small message")
        assert not large.done()
        gate.release.set()
        assert (await large).code == 250
        await office.until(lambda: office.taken() == ["small", "large"], "the large message")


async def test_decisions_wait_in_line_and_of_one_client_only_three(tmp_path: Path) -> None:
    async with gated_office(tmp_path) as (office, gate):
        in_line = [submit(office, f"large {number}") for number in range(3)]
        await office.until(lambda: gate.hanging == 1, "the first decision")
        assert str(await submit(office, "one too many")) == BUSY
        _, small = await office.submit(text="small", host="192.0.2.1")
        assert small.code == 250
        in_line.append(submit(office, "of another client", host="192.0.2.2"))
        gate.release.set()
        assert [(await large).code for large in in_line] == [250] * 4
        assert (await submit(office, "large again")).code == 250


async def test_the_addresses_of_one_ipv6_network_are_one_client(tmp_path: Path) -> None:
    """A host takes any address of its /64; the limit would be no limit."""
    async with gated_office(tmp_path) as (office, gate):
        in_line = [submit(office, f"large {number}", host=f"2001:db8::{number}") for number in range(3)]
        await office.until(lambda: gate.hanging == 1, "the first decision")
        assert str(await submit(office, "one too many", host="2001:db8::ffff:9")) == BUSY
        in_line.append(submit(office, "of another network", host="2001:db8:0:1::1"))
        gate.release.set()
        assert [(await large).code for large in in_line] == [250] * 4


async def test_a_message_without_a_place_in_line_is_not_queued(tmp_path: Path) -> None:
    async with gated_office(tmp_path) as (office, gate):
        in_line = [submit(office, f"large {number}", at="devices") for number in range(3)]
        await office.until(lambda: gate.hanging == 1, "the first decision")
        assert str(await submit(office, "one too many", at="devices")) == BUSY
        assert await office.waiting() == 0
        gate.release.set()
        assert [(await large).code for large in in_line] == [250] * 3
        await office.until_all_is_done()


async def test_a_queued_message_is_decided_on_another_thread_than_those_that_arrive(tmp_path: Path) -> None:
    async with gated_office(tmp_path) as (office, gate):
        gate.release.set()
        await office.simulator.go_offline()
        for text, header in (("queued large", LARGE), ("queued small", "")):
            assert (await office.submit(at="devices", by="bert@firma.example", text=text, header=header))[1].code == 250
        await office.until(lambda: Lane.of_account("bert") in office.runner.blocked, "the provider is known to be down")
        gate.release.clear()
        gate.hanging = 0
        await office.restart()  # a decision made before is forgotten
        await office.simulator.go_online()
        await office.pass_time(seconds=120)
        await office.until(lambda: gate.hanging == 1 and office.taken() == ["queued small"], "the small message")
        arriving = submit(office, "arriving large")
        await office.until(lambda: gate.hanging == 2, "both decisions")
        gate.release.set()
        assert (await arriving).code == 250
        await office.until_all_is_done()
        assert sorted(office.taken()) == ["arriving large", "queued large", "queued small"]


async def test_a_decision_during_which_the_accounts_changed_is_made_again(tmp_path: Path) -> None:
    async with gated_office(tmp_path) as (office, gate):
        large = submit(office, "large")
        await office.until(lambda: gate.hanging == 1, "the decision")
        office.drawer.remove("anna")
        gate.release.set()
        assert (await large).code == 550
        assert office.taken() == []


async def test_a_decision_uses_the_rules_at_its_end(tmp_path: Path) -> None:
    async with gated_office(tmp_path) as (office, gate):
        large = submit(office, "large")
        await office.until(lambda: gate.hanging == 1, "the decision")
        office.relay.rules = replace(office.rules, providers={})
        gate.release.set()
        assert (await large).is_transient


async def test_a_small_header_section_is_decided_on_the_event_loop(tmp_path: Path) -> None:
    async with gated_office(tmp_path) as (office, gate):
        _, result = await office.submit(header="X-Small: " + "x" * 900 + "\r\n")
        assert result.code == 250
        assert gate.hanging == 0


@pytest.mark.parametrize("item", ["a@;", "(),", "<@,", ":;,", "é@;", "a@b;"])
async def test_dense_address_lists_are_decided_on_the_thread(tmp_path: Path, item: str) -> None:
    """A list of 1 KiB of these takes more than 10 ms, as long as a hundred usual decisions."""
    async with gated_office(tmp_path) as (office, gate):
        dense = "Cc: " + "\r\n ".join([item * 20] * (1000 // (len(item) * 20))) + "\r\n"
        deciding = asyncio.create_task(office.submit(text="dense", header=dense))
        await office.until(lambda: gate.hanging == 1, "the decision")
        gate.release.set()
        assert (await deciding)[1].code == 250


async def test_a_list_of_usual_addresses_is_decided_on_the_event_loop(tmp_path: Path) -> None:
    async with gated_office(tmp_path) as (office, gate):
        people = ",\r\n ".join(f'"Vorname Nachname {n}" <vorname.nachname{n}@kunde.example>' for n in range(100))
        bare = ",\r\n ".join(f"vorname.nachname{n}@kunde.example" for n in range(100))
        for header in (f"Cc: {people}\r\n", f"Cc: {bare}\r\n"):
            assert len(header) < LARGE_HEADER
            assert (await office.submit(header=header))[1].code == 250
        assert gate.hanging == 0


async def test_a_client_has_one_expensive_decision_in_a_pass_of_the_event_loop_and_others_do_not_wait(
    tmp_path: Path,
) -> None:
    """Fifty connections of one client complete such messages in the same pass."""
    passes = 0
    decided: list[tuple[str, int]] = []  # the address and the pass

    def count_passes() -> None:
        nonlocal passes
        passes += 1
        asyncio.get_running_loop().call_soon(count_passes)

    class SlowDirectory(AccountDirectory):
        def find(self, address: Address, tier: MatchTier) -> Account | None:
            if not decided or decided[-1] != (str(address), passes):
                decided.append((str(address), passes))
                if str(address) == "anna@firma.example":
                    time.sleep(0.006)
            return super().find(address, tier)

    async with relay_office(tmp_path) as office:
        office.drawer.new_directory = SlowDirectory
        office.drawer.add("dora", "dora@firma.example", "geheim-relay")
        count_passes()
        hostile = [asyncio.create_task(office.submit(text=f"hostile {n}", host=f"2001:db8::{n}")) for n in range(20)]
        usual = asyncio.create_task(office.submit(text="usual", by="bert@firma.example", host="192.0.2.2"))
        answers = await asyncio.gather(*hostile, usual)
        assert {answer.code for _id, answer in answers} == {250}
    of_hostile = [at for who, at in decided if who == "anna@firma.example"]
    assert len(of_hostile) == len(set(of_hostile)) >= 20
    assert next(at for who, at in decided if who == "bert@firma.example") == of_hostile[0]


async def test_a_cancelled_decision_ends_at_once_and_frees_its_place(tmp_path: Path) -> None:
    async with gated_office(tmp_path) as (office, gate):
        in_line = [submit(office, f"large {number}") for number in range(3)]
        await office.until(lambda: gate.hanging == 1, "the first decision")
        for large in in_line:
            large.cancel()
        await asyncio.wait(in_line)
        assert not gate.release.is_set()
        again = submit(office, "again")
        gate.release.set()
        assert (await again).code == 250
        assert office.taken(KUNDE) == ["again"]


async def test_all_clients_together_have_a_limit_too() -> None:
    thread, release = DecisionThread("test", waiting=2, of_client=9), threading.Event()

    async def decide() -> bool:
        return await thread.run("client", lambda: release.wait(30))

    waiting = [asyncio.create_task(decide()) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyDecisions):
        await thread.run("another", bool)
    release.set()
    assert await asyncio.gather(*waiting) == [True] * 3
    assert await thread.run("another", bool) is False
