"""Two machines with one vault and one queue, and an account whose server rotates refresh tokens and notices a second use."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import pytest

from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.errors import SenderproxyError
from tests.journeys.test_oauth import ANNA, KASSE, MAILBOXES, Place
from tests.journeys.test_vault_in_database import Machine
from tests.peers.oauth_server import OAuthServer
from tests.peers.packages import DOVECOT, POSTFIX, POSTGRESQL
from tests.peers.postgresql import PostgresqlServer, running_database
from tests.peers.process import wait_until, why_not_here
from tests.peers.provider import PostfixProvider, Rule

reason = why_not_here(POSTGRESQL / "postgres", POSTFIX, DOVECOT, "node", "npm", "gcc", root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

ROUNDS: Final = 8
CALLERS: Final = 3  # at each machine
DEADLINE: Final = 120.0  # seconds


@dataclass
class Setting:
    """The two machines, and their servers."""

    server: OAuthServer
    provider: PostfixProvider
    database: PostgresqlServer
    machines: tuple[Machine, Machine]

    def place(self, number: int) -> Place:
        """One machine with the helpers of the journeys with one."""
        return Place(self.server, self.provider, self.machines[number])

    def token(self, number: int) -> str | None:
        """The access token of a machine's service; None if it has none now."""
        path = self.machines[number].folder / "control"
        found = ask(path, new_request(Verb.TOKEN, account=ANNA), seconds=DEADLINE)
        return str(found["token"]) if "token" in found else None

    def valid_token(self, number: int) -> str:
        """The same, asked again while there is none: the database may be slower than the service waits for it."""
        return wait_until(lambda: self.token(number), "a token", DEADLINE, peer=self.machines[number]) or ""

    def forget(self, number: int, token: str) -> None:
        """A smarthost has refused this token of a machine."""
        path = self.machines[number].folder / "control"
        ask(path, new_request(Verb.TOKEN_REFUSED, account=ANNA, token=token), seconds=DEADLINE)

    def from_all(self) -> set[str]:
        """The tokens that several callers of both machines get at the same time."""
        found: list[str] = []
        callers = [
            threading.Thread(target=lambda number=number: found.append(self.valid_token(number)))
            for number in (0, 1)
            for _ in range(CALLERS)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert len(found) == len(callers)
        return set(found)


@pytest.fixture
def setting() -> Iterator[Setting]:
    with ExitStack() as things:
        database = things.enter_context(running_database())
        server = things.enter_context(OAuthServer("scanner@firma.test"))
        provider = things.enter_context(
            PostfixProvider(
                MAILBOXES,
                Rule.ADDRESS,
                mechanisms="plain login xoauth2 oauthbearer",
                introspection_url=server.introspection_url,
            )
        )
        spool = f'[spool]\nengine = "{database.engine}"\n'
        first = Machine.in_front_of(provider, [KASSE], more_settings=spool)
        second = Machine.in_front_of(provider, [KASSE], more_settings=spool)
        assert isinstance(first, Machine)
        assert isinstance(second, Machine)
        first.is_first = True
        things.enter_context(first)
        things.enter_context(second)
        setting = Setting(server, provider, database, (first, second))
        setting.place(0).add_anna()
        status = new_request(Verb.STATUS)
        wait_until(
            lambda: len(ask(second.folder / "control", status, seconds=60)["accounts"]) == 2,
            "both have the account",
            peer=second,
        )
        yield setting
        for number in (0, 1):
            setting.place(number).look_for_secrets(setting.machines[number].log())
        dump = database.sql("SELECT encode(sealed, 'escape') FROM senderproxy.oauth_grant", "mail")
        setting.place(0).look_for_secrets(dump)


def test_each_refresh_token_is_spent_once_by_two_machines(setting: Setting) -> None:
    spent: list[str] = []
    for _ in range(ROUNDS):
        before = len(setting.server.seen().requests)
        [token] = setting.from_all()
        spent += setting.server.seen().requests[before:]
        for number in (0, 1):
            setting.forget(number, token)
    print(f"{ROUNDS * 2 * CALLERS} callers, {len(spent)} requests: {sorted(set(spent))}")
    assert set(spent) == {"refresh_token"}  # a second use would be refused, and end the grant
    assert len(spent) in (ROUNDS - 1, ROUNDS)  # the consent came with a token of its own
    for number in (0, 1):
        code, text = setting.place(number).send(ANNA, str(number))
        assert code == 250, text
    setting.place(0).arrived(ANNA, ANNA)
    assert setting.provider.failed_logins() == []


def test_a_machine_that_dies_while_it_asks_for_a_token_is_followed_by_the_other(setting: Setting) -> None:
    first, _second = setting.machines
    token = setting.valid_token(0)
    assert setting.valid_token(1) == token
    for number in (0, 1):
        setting.forget(number, token)
    setting.server.behave("slow")
    before = len(setting.server.seen().requests)

    def ask_in_vain() -> None:
        with pytest.raises(SenderproxyError):  # the service dies
            setting.token(0)

    asking = threading.Thread(target=ask_in_vain)
    asking.start()
    wait_until(lambda: len(setting.server.seen().requests) > before, "the request is under way", peer=first)
    first.kill()
    asking.join()
    setting.server.behave()
    begun = time.monotonic()
    wait_until(lambda: setting.token(1) is not None, "the other machine has a token", DEADLINE, peer=first)
    print(f"after {time.monotonic() - begun:.0f} s")
    assert setting.server.seen().requests[before:] == ["slow", "refresh_token"]
    code, text = setting.place(1).send(ANNA, "danach")
    assert code == 250, text


def test_commands_without_a_service_spend_each_refresh_token_once(setting: Setting) -> None:
    """A command asks the service of its machine; without one it joins the instances while it runs."""
    setting.server.behave(claimed=1)  # so each login needs a new access token
    token = setting.valid_token(0)
    for number in (0, 1):
        setting.forget(number, token)

    def verify(*numbers: int) -> list[str]:
        """The requests of `account verify` on these machines at the same time."""
        before = len(setting.server.seen().requests)
        ended: list[str] = []

        def one(number: int) -> None:
            words = ("account", "verify", ANNA)
            ended.append(setting.machines[number].command(*words, exit_code=None, seconds=DEADLINE))

        commands = [threading.Thread(target=one, args=(number,)) for number in numbers]
        for command in commands:
            command.start()
        for command in commands:
            command.join()
        for text in ended:
            setting.place(0).look_for_secrets(text)
        assert [f"{ANNA}: the login works" in text for text in ended] == [True] * len(numbers), ended
        return list(setting.server.seen().requests[before:])

    first, second = setting.machines
    second.stop()
    spent = verify(0, 1)  # one by the service, one by the command
    first.stop()
    spent += verify(0) + verify(1)
    for _ in range(ROUNDS // 2):
        spent += verify(0, 1)
    print(f"{2 + 2 + ROUNDS} commands, {len(spent)} requests: {sorted(set(spent))}")
    assert set(spent) == {"refresh_token"}  # a second use would be refused, and end the grant
    assert len(spent) >= 3 + ROUNDS // 2
    assert setting.database.sql("SELECT count(*) FROM senderproxy.instance", "mail") == "0"  # they have left again
    for machine in setting.machines:
        machine.start()
    for number in (0, 1):
        code, text = setting.place(number).send(ANNA, str(number))
        assert code == 250, text
