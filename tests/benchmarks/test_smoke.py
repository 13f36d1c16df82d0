"""The benchmark works: what it sends arrives, and what goes wrong on the way is seen. Never a figure that a clock gave."""

import os
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import messages, table
from benchmarks.case import Case, Flow, Kind
from benchmarks.process import Ended, Load, Smarthost
from benchmarks.relays.floor import Floor
from benchmarks.relays.port import Relay
from benchmarks.relays.postgresql import DatabaseQueue
from benchmarks.relays.senderproxy import PassThrough, Queue
from benchmarks.relays.straight import Straight
from benchmarks.results import Run, summaries
from benchmarks.run import measure

pytestmark = pytest.mark.slow

LONG = 3600.0  # seconds
HUNDRED = Case("smoke", (Flow("small", 5, 100, senders=4),), warm_up=10)


@pytest.fixture
def smarthost(tmp_path: Path) -> Iterator[Smarthost]:
    with Smarthost(tmp_path, pipelining=False, rtt=0.0) as smarthost:
        yield smarthost


def test_a_hundred_messages_arrive_once_each_on_the_right_login_whatever_the_relay() -> None:
    said: list[str] = []
    relays: list[type[Relay]] = [Straight, PassThrough, Queue, DatabaseQueue, Floor]
    runs = measure(HUNDRED, relays, 1, said.append, most_seconds=LONG)  # all of them, also on a slow machine
    names = ["straight", "senderproxy", "senderproxy-queue", "senderproxy-postgresql", "floor"]
    assert [run.relay for run in runs] == names, said
    for run in runs:
        assert run.trouble() == "", said
        assert (run.accepted, run.expected, run.deliveries, run.transactions) == (100, 100, 100, 100)
    assert [
        row.split(" | ")[0] for row in table.render(_machine(), runs, [HUNDRED]).splitlines() if "senderproxy" in row
    ]


def test_large_mail_and_small_mail_beside_it_arrive_whole() -> None:
    flows = (Flow("large", 2, 2, size=3_000_000), Flow("small", 1, 0, beside=True))
    [run] = measure(Case("beside", flows), [PassThrough], 1, print)
    assert run.trouble() == ""
    assert run.deliveries == run.accepted >= 2


def test_every_recipient_counts() -> None:
    case = Case("recipients", (Flow("small", 2, 6, recipients=10, senders=2),))
    [run] = measure(case, [PassThrough], 1, print)
    assert run.trouble() == ""
    assert (run.accepted, run.deliveries) == (6, 60)


def test_connections_that_do_nothing_are_held_and_let_go() -> None:
    case = Case("held", (Flow("held", 60, 0),), kind=Kind.HELD)
    [run] = measure(case, [PassThrough], 1, print)
    assert run.trouble() == ""
    assert run.memory_per_connection is not None


def test_what_waits_in_the_spool_is_delivered_after_a_fall() -> None:
    case = Case("waiting", (Flow("small", 5, 50, senders=4),), kind=Kind.WAITING)
    runs = measure(case, [Queue], 2, print)  # the second time with sessions that were in use
    assert [(run.trouble(), run.deliveries) for run in runs] == [("", 50), ("", 50)]


def test_the_smarthost_sees_what_is_lost_doubled_cut_short_or_on_the_wrong_login(smarthost: Smarthost) -> None:
    with _logged_in(smarthost, 1) as session:
        whole = messages.header("a", 1) + messages.body(1_000)
        session.sendmail(messages.address(1), ["r@customer.example"], whole)
        session.sendmail(messages.address(1), ["r@customer.example"], whole)
        session.sendmail(messages.address(1), ["r@customer.example"], messages.header("b", 2) + messages.body(1_000))
        session.sendmail(messages.address(1), ["r@customer.example"], messages.header("c", 1) + b"half of it\r\n")
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            session.sendmail(messages.address(2), ["r@customer.example"], whole)
        assert refused.value.smtp_code == 550
    counts = smarthost.wait(4, 0.1)
    assert {name: counts[name] for name in ("deliveries", "doubled", "wrong_login", "damaged", "wrong_sender")} == {
        "deliveries": 3, "doubled": 1, "wrong_login": 1, "damaged": 1, "wrong_sender": 1,
    }  # fmt: skip
    assert Run("case", "relay", expected=4, deliveries=3, doubled=1, wrong_login=1).trouble() == (
        "1 lost, 1 doubled, 1 on the wrong login"
    )


def test_a_smarthost_in_trouble_turns_away_those_whom_it_had_let_in(smarthost: Smarthost) -> None:
    with _logged_in(smarthost, 1) as session:
        smarthost.be_busy(busy=True)
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            session.sendmail(messages.address(1), ["r@customer.example"], messages.header("a", 1))
        assert refused.value.smtp_code == 421


def test_a_relay_that_refuses_is_said_to(smarthost: Smarthost) -> None:
    smarthost.be_busy(busy=True)
    with pytest.raises(Ended, match="ended with"), Load(smarthost.starttls_port, "r", Flow("small", 1, 1)):
        pass


def test_a_row_that_lost_mail_says_so_in_capitals() -> None:
    lost = Run("smoke", "floor", accepted=100, expected=100, deliveries=99, per_second=1.0)
    [row] = [line for line in table.render(_machine(), [lost], [HUNDRED]).splitlines() if line.startswith("| floor")]
    assert "**1 LOST**" in row
    assert summaries([lost])[0].trouble() == "1 lost"


def _logged_in(smarthost: Smarthost, sender: int) -> smtplib.SMTP:
    session = smtplib.SMTP("localhost", smarthost.starttls_port, timeout=30)
    session.starttls(context=ssl.create_default_context(cafile=os.fspath(smarthost.ca_file)))
    session.login(messages.address(sender), messages.PASSWORD)
    return session


def _machine() -> dict[str, object]:
    words = (
        "command",
        "date",
        "commit",
        "processor",
        "cores",
        "memory_gb",
        "system",
        "python",
        "openssl",
        "load_average",
    )
    return {**dict.fromkeys(words, "x"), "cpu_counted_by": "x", "sync_ms": 0.1, "relays": {}, "missing": {}}
