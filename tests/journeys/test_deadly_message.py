"""A message of which the whole process dies: after three times it waits for a person, and all others are delivered."""

import contextlib
import json
import re
from pathlib import Path

import pytest

from tests.crash import disks
from tests.journeys.people import AUTHORS, office_under
from tests.journeys.queueing import copies, devices
from tests.peers.bench import Bench
from tests.peers.letters import Letter, hand_in, letters_from
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import PeerFailed, wait_until, why_not_here
from tests.peers.provider import PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy

reason = why_not_here(POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

DEADLY = Letter("bert@firma.test", ("deadly@kunde.test",), "deadly@desk.office.test")


def in_progress_at_deaths(relay: Senderproxy) -> list[int]:
    """The number of messages that were in progress at each death."""
    return [int(count) for count in re.findall(r"tried first, one by one messages=(\d+)", relay.log())]


def test_a_message_that_kills_the_process_three_times_is_held_and_the_others_arrive(bench: Bench) -> None:
    people = office_under(Rule.DOMAIN)
    provider = bench.start(PostfixProvider(people.mailboxes, people.rule))
    door = bench.port()
    relay = Senderproxy.in_front_of(provider, people.accounts, more_settings=devices(door))
    hooks = str(Path(disks.__file__).parent / "hooks")
    relay.environment = {"PYTHONPATH": hooks, "DIES_OF": f"letter {DEADLY.message_id} ends here"}
    bench.start(relay)
    provider.stop()
    letters = letters_from(AUTHORS, 12)
    hand_in(door, [*letters[:6], DEADLY, *letters[6:]])
    provider.start()
    for _ in range(3):
        relay.wait_for_death()
        with contextlib.suppress(PeerFailed):  # it may die of the message before it is ready
            relay.start()
    wait_until(lambda: not relay.queue()["waiting"], "everything else is delivered", 120, peer=relay)
    listed = json.loads(relay.command("queue", "list", "--held", "--json"))
    held = {
        state["address"]: (entry["reverse_path"], state["why"]) for entry in listed for state in entry["recipients"]
    }
    reverse_path, why = held[DEADLY.recipients[0]]
    assert reverse_path == DEADLY.author
    assert why.startswith("senderproxy itself crashed, 3 times in a row")
    # Beside it, usually nothing: a letter whose attempts take more than two seconds may be in progress at each death.
    assert len(held) <= in_progress_at_deaths(relay)[-1]
    arrived = copies(provider.received())
    others = {(letter.message_id, letter.recipients[0]) for letter in letters}
    assert {(message_id, to) for message_id, to in others if to not in held} <= set(arrived) <= others
    assert max(arrived.values()) <= 1 + 3  # what was under way at a death may go once more; it died three times
    assert relay.log().count('previous process crashed cause="Fatal Python error: Aborted; File ') == 3
    told = relay.command("track", "--from", DEADLY.author, "--to", DEADLY.recipients[0])
    assert told.count("senderproxy itself crashed") >= 3
