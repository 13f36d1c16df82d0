"""Alerts of a service that is killed again and again."""

import shutil
from email import message_from_bytes
from email.policy import default

import pytest

from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from tests.journeys.test_senders import provider_section
from tests.peers.letters import hand_over
from tests.peers.process import wait_until
from tests.peers.senderproxy import Senderproxy, VaultAccount
from tests.senderproxy.cli.conftest import beside

pytestmark = pytest.mark.slow

ANNA, LAGER, TO = "anna@firma.test", "lager@firma.test", "it@dienst.test"
LETTER = f"From: {ANNA}\r\nTo: kunde@x.test\r\nSubject: Angebot\r\n\r\nGuten Tag\r\n".encode()
SETTINGS = f"""
[alerts]
to = "{TO}"
error_delay_seconds = 0
warning_delay_seconds = 0
over_delay_seconds = 3600
"""
TIMES = 3  # of one alert at most: it is repeated after a crash that cut it off, and once more by a process that goes on
SOON = 120  # seconds; that process has run for 30 seconds


def office() -> Simulator:
    mailboxes = {ANNA: SimulatedMailbox("geheim-neu"), LAGER: SimulatedMailbox("geheim-lager")}
    return Simulator(SimulatorSettings(mailboxes=mailboxes, raise_violations=False))


def test_ten_crashes_in_a_row_send_no_storm() -> None:
    accounts = [VaultAccount(ANNA, "geheim-alt"), VaultAccount(LAGER, "geheim-lager")]
    with beside(office) as simulator:
        with Senderproxy(accounts, provider_section(simulator), more_settings=SETTINGS) as proxy:

            def subjects() -> list[str]:
                every = [message_from_bytes(one.content, policy=default) for one in simulator.received]
                return [str(one["Subject"]).partition(": ")[2] for one in every if TO in str(one["To"])]

            code, _text = hand_over(proxy.port, ANNA, "kunde@x.test", LETTER)
            assert code // 100 == 4
            refused = f"{ANNA} cannot send: password refused"
            wait_until(lambda: refused in subjects(), "the password is alerted", SOON, peer=proxy)
            for _time in range(10):
                proxy.kill()
                proxy.start()
            wait_until(
                lambda: any("the service crashed" in one for one in subjects()), "so are the crashes", SOON, peer=proxy
            )
            got = subjects()
        assert {subject: got.count(subject) for subject in got if got.count(subject) > TIMES} == {}
        assert len(got) <= 3 * TIMES, got
        assert len({one.login for one in simulator.received}) == 1


def test_crashes_without_a_spool_repeat_no_alert() -> None:
    accounts = [VaultAccount(LAGER, "geheim-lager")]
    with beside(office) as simulator:
        with Senderproxy(accounts, provider_section(simulator), more_settings=SETTINGS) as proxy:
            proxy.environment["WATCHDOG_USEC"] = "1000000"  # the housekeeping looks twice a second

            def subjects() -> list[str]:
                every = [message_from_bytes(one.content, policy=default) for one in simulator.received]
                return [str(one["Subject"]).partition(": ")[2] for one in every if TO in str(one["To"])]

            def has_looked() -> bool:
                found = ask(proxy.folder / "control", new_request(Verb.CONDITIONS))["conditions"]
                return {"spool_closed", "service_crashed"} <= {one["key"] for one in found}

            def has_noted_the_first() -> bool:
                """Else the next process sends the news again, with the severity of then, and none is worse."""
                noted = proxy.folder / "alerts"
                facts = noted.read_text().splitlines() if noted.exists() else []
                return any("service_crashed" in fact and '"alerted":"WARNING"' in fact for fact in facts)

            proxy.stop()
            shutil.rmtree(proxy.folder / "spool")
            (proxy.folder / "spool").touch()
            proxy.start()
            wait_until(subjects, "the spool is alerted", SOON, peer=proxy)
            proxy.kill()
            proxy.start()
            wait_until(has_noted_the_first, "the first crash is alerted", SOON, peer=proxy)
            for _time in range(4):
                proxy.kill()
                proxy.start()
                wait_until(has_looked, "the conditions are known", SOON, peer=proxy)
                tested = proxy.command("alert", "test")  # not before an alert that is being sent
                assert "mail: sent" in tested
            wait_until(lambda: "worse: the service crashed" in subjects(), "so are the crashes", SOON, peer=proxy)
            got = [subject for subject in subjects() if subject != "test alert"]
            assert (proxy.folder / "alerts").stat().st_mode & 0o777 == 0o600
        assert {subject: got.count(subject) for subject in got if got.count(subject) > TIMES} == {}
        assert len(got) <= 3 * TIMES, got
