"""The whole service, with a disk under its spool that is full, breaks, or does not answer any more."""

import os
import re
import smtplib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.crash import disks
from tests.crash.disks import Ext4, small_disk
from tests.crash.test_disk_trouble import fill_up
from tests.journeys.people import AUTHORS, Office, office_under
from tests.journeys.queueing import copies, devices, wait_until_empty
from tests.peers.bench import Bench
from tests.peers.letters import Letter, hand_in, hand_over, letters_from
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import wait_until, why_not_here
from tests.peers.provider import PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy

reason = why_not_here(POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

PADDING = b"x" * 70 + b"\r\n"


def large(letter: Letter, kilobytes: int) -> bytes:
    return letter.content + PADDING * (kilobytes * 1024 // len(PADDING))


def hand_over_until_refused(door: int, letters: list[Letter]) -> tuple[list[Letter], str]:
    """Those that were taken, and the words with which the first one was not."""
    taken: list[Letter] = []
    for letter in letters:
        code, words = hand_over(door, letter.author, letter.recipients[0], large(letter, 100))
        if code != 250:
            assert (code, words[:6]) == (452, "4.3.1 ")
            return taken, words
        taken.append(letter)
    raise AssertionError("the disk is never full")


def start(bench: Bench, provider: PostfixProvider, people: Office, more: str, **environment: str) -> Senderproxy:
    """One that does not take long to end: what cannot be written has its whole grace."""
    relay = Senderproxy.in_front_of(provider, people.accounts, service_settings="stop_seconds = 1", more_settings=more)
    relay.environment = environment
    return bench.start(relay)


def status_with(relay: Senderproxy, *words: str) -> str:
    """The output of `status`, without its line breaks, once it has these words: disk and queue are asked once a second."""

    def look() -> str:
        try:
            said = " ".join(relay.command("status", exit_code=1).split())
        except AssertionError:  # no condition yet
            return ""
        return said if all(each in said for each in words) else ""

    return wait_until(look, f"status says: {', '.join(words)}", peer=relay)


def will_free_nothing(relay: Senderproxy, disk: Path) -> bool:
    """True if the service has removed what it delivered from the disk, and closed its temporary files there."""
    links = []
    for descriptor in Path(f"/proc/{relay.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(str(descriptor.readlink()))
    unnamed = [link for link in links if link.startswith(f"{disk}/") and link.endswith(" (deleted)")]
    return not unnamed and not list((disk / "spool" / "content").iterdir())


def once(letters: list[Letter]) -> dict[tuple[str, str], int]:
    return {(letter.message_id, letter.recipients[0]): 1 for letter in letters}


@pytest.mark.parametrize("reserve", ["1 kB", "20 MB"])
def test_a_full_disk_takes_no_more_says_so_and_with_room_again_takes_mail_without_anybodys_hand(
    bench: Bench, tmp_path: Path, reserve: str
) -> None:
    people = office_under(Rule.DOMAIN)
    provider = bench.start(PostfixProvider(people.mailboxes, people.rule))
    door = bench.port()
    letters = letters_from(AUTHORS, 200)
    with small_disk(tmp_path / "disk", "64m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes((36 if reserve == "20 MB" else 54) << 20))
        spool = f'directory = "{disk}/spool"\n'
        relay = start(
            bench, provider, people, (devices(door) + spool).replace('"1 MB"', f'"{reserve}"'), TMPDIR=str(disk)
        )
        early, through, attached = (
            Letter("anna@firma.test", ("through@kunde.test",), f"{name}@desk.office.test")
            for name in ("early", "through", "attached")
        )
        provider.stop()
        taken, _ = hand_over_until_refused(door, letters)
        assert len(taken) > 5
        waiting = f"Queue: {len(taken)} messages waiting"
        said = status_with(relay, "New mail for the queue is deferred", waiting)
        assert re.search("New mail for the queue is deferred: .*(space|full)", said), said
        assert "Free some space" in said
        relay.restart()  # nor does a start on a full disk lose anything
        if reserve == "1 kB":  # not an octet is left, but the reserve, which the first results may have used
            relay.stop()
            os.truncate(ballast, 48 << 20)
            relay.start()
            assert (disk / "spool" / "reserve").stat().st_size == 4_000_000
            fill_up(disk)
        provider.start()

        def retried() -> bool:  # on a full disk it is refused until a result has released the reserve
            try:
                relay.command("queue", "retry", "--all", "--yes")
            except AssertionError:
                return not relay.queue()["waiting"]  # or every message was due by itself
            return True

        wait_until(retried, "the queue takes the command", 120, peer=relay)
        wait_until_empty(relay)  # what waits goes out before there is room for more
        assert copies(provider.received()) == once(taken)
        if reserve == "1 kB":
            relay.wait_for_log("spool's reserve file released")
        else:
            assert "spool's reserve file released" not in relay.log()
        code, words = hand_over(relay.port, early.author, early.recipients[0], large(early, 2000))
        assert code == 250, words  # with 20 MB free, temporary files are on this disk from now on
        wait_until(lambda: will_free_nothing(relay, disk), "the room of what has left is free", peer=relay)
        fill_up(disk)
        code, _ = hand_over(door, letters[-1].author, letters[-1].recipients[0], letters[-1].content)
        assert code == 452
        hand_in(relay.port, [through])  # what passes through needs no disk
        code, words = hand_over(relay.port, attached.author, attached.recipients[0], large(attached, 2000))
        assert code == 250, words  # a large message neither, though its temporary file would be there
        if reserve != "1 kB":
            relay.wait_for_log("a large message is buffered in memory")
        ballast.unlink()
        rest = letters[len(taken) :]
        hand_in(door, rest[:20])
        wait_until_empty(relay)
        assert copies(provider.received()) == once([*letters[: len(taken) + 20], early, through, attached])
        assert (disk / "spool" / "reserve").stat().st_size == 4_000_000  # taken again

        def all_is_well() -> bool:  # the disk is asked once a second
            said = relay.command("status", exit_code=None)  # 1 if the machine is busy
            return "The queue is empty." in said and "New mail for the queue is deferred" not in said

        wait_until(all_is_well, "status says that there is room again", peer=relay)
        relay.stop()


def test_a_disk_that_turned_read_only_is_told_of_and_once_mended_everything_arrives_once(
    bench: Bench, tmp_path: Path
) -> None:
    people = office_under(Rule.DOMAIN)
    provider = bench.start(PostfixProvider(people.mailboxes, people.rule))
    door = bench.port()
    disk = Ext4(tmp_path)
    try:
        spool = f'directory = "{disk.folder}/spool"\n'
        relay = start(bench, provider, people, devices(door) + spool)
        provider.stop()
        letters = letters_from(AUTHORS, 12)
        hand_in(door, letters[:10])
        disk.break_down()
        code, words = hand_over(door, letters[10].author, letters[10].recipients[0], letters[10].content)
        assert code in (451, 452), words
        said = status_with(relay, "New mail for the queue is deferred", "Queue: 10 messages waiting")
        assert "dmesg" in said
        provider.start()
        through = Letter("anna@firma.test", ("through@kunde.test",), "through@desk.office.test")
        hand_in(relay.port, [through])  # what passes through needs no disk
        relay.stop()
        disk.mend()
        relay.start()
        hand_in(door, letters[10:])
        wait_until_empty(relay)
        assert set(copies(provider.received())) == set(once([*letters, through]))
        assert copies(provider.received())[("through@desk.office.test", "through@kunde.test")] == 1
        relay.stop()
    finally:
        disk.unmount()


@pytest.mark.parametrize("size", [1, 400])
def test_a_disk_that_does_not_answer_keeps_the_service_neither_from_ending_nor_from_the_mail_it_has(
    bench: Bench, tmp_path: Path, size: int
) -> None:
    people = office_under(Rule.DOMAIN)
    provider = bench.start(PostfixProvider(people.mailboxes, people.rule))
    door, switch = bench.port(), tmp_path / "hangs"
    hooks = str(Path(disks.__file__).parent / "hooks")
    relay = start(bench, provider, people, devices(door), PYTHONPATH=hooks, DISK_HANGS_WHILE=str(switch))
    provider.stop()
    letters = letters_from(AUTHORS, 11)
    hand_in(door, letters[:10])
    switch.touch()
    with ThreadPoolExecutor(1) as somebody:
        last = letters[10]
        answer = somebody.submit(hand_over, door, last.author, last.recipients[0], large(last, size))
        refusing = "it is known that the disk does not answer"
        found = wait_until(lambda: relay.queue()["refusing"], refusing, 60, peer=relay)
        assert "has not responded for" in found["why"]
        relay.stop()
        with suppress(smtplib.SMTPServerDisconnected):
            assert answer.result()[0] in (421, 451)  # 451 if the message was slower than the discovery
    assert "spool not closed: the disk does not respond" in relay.log()
    switch.unlink()
    provider.start()
    relay.start()
    wait_until_empty(relay)
    arrived = copies(provider.received())
    assert {copy: arrived[copy] for copy in once(letters[:10])} == once(letters[:10])


def test_while_the_disk_does_not_answer_queue_listeners_reply_451_and_then_everything_arrives_once(
    bench: Bench, tmp_path: Path
) -> None:
    people = office_under(Rule.DOMAIN)
    provider = bench.start(PostfixProvider(people.mailboxes, people.rule))
    door, switch = bench.port(), tmp_path / "hangs"
    hooks = str(Path(disks.__file__).parent / "hooks")
    relay = start(bench, provider, people, devices(door), PYTHONPATH=hooks, DISK_HANGS_WHILE=str(switch))
    letters = letters_from(AUTHORS, 6)
    hand_in(door, letters[:2])
    wait_until_empty(relay)
    switch.touch()
    with ThreadPoolExecutor(1) as somebody:
        answer = somebody.submit(hand_over, door, letters[2].author, letters[2].recipients[0], letters[2].content)
        wait_until(lambda: "spool's disk does not respond" in relay.log(), "it is known", peer=relay, seconds=60)
        code, words = hand_over(door, letters[3].author, letters[3].recipients[0], letters[3].content)
        assert (code, words[:6]) == (451, "4.3.0 ")
        through = Letter("anna@firma.test", ("through@kunde.test",), "through@desk.office.test")
        hand_in(relay.port, [through])  # what passes through needs no disk
        status_with(relay, "has not responded for")
        switch.unlink()
        code, words = answer.result(60)
        assert code in (250, 451), words  # 250 if it was in the commit that hung; what was learned may have been
    wait_until(lambda: "spool's disk responds again" in relay.log(), "it is known", peer=relay)
    hand_in(door, letters[3 if code == 250 else 2 :])
    wait_until_empty(relay)
    assert copies(provider.received()) == once([*letters, through])
    relay.stop()
