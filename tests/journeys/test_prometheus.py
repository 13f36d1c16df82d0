"""A real Prometheus scrapes the service while 2,000 messages pass: its sums are those of the clients and of the history."""

import asyncio
import contextlib
import json
import smtplib
import sqlite3
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from senderproxy.simulator.provider_replies import server_reply
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings
from senderproxy.spool.sqlite import history_packs
from tests.peers.mail_client import MailClient
from tests.peers.packages import PROMETHEUS, PROMTOOL
from tests.peers.process import LOOPBACK, reserved_ports, wait_until, why_not_here
from tests.peers.prometheus import Prometheus, promtool, running_prometheus
from tests.peers.senderproxy import Senderproxy, VaultAccount

reason = why_not_here(PROMETHEUS, PROMTOOL)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=reason or "")]

MESSAGES = 2000
CONNECTIONS = 8
DEADLINE = 120.0
SECRET = "geheim-metrics"
PEOPLE = ("anna@firma.example", "bert@firma.example", "cora@firma.example")
LOCKED = "dora@firma.example"  # the provider refuses her password
UNKNOWN = "egon@firma.example"  # has no account
RECIPIENTS = ("good@kunde.example", "fine@kunde.example", "unknown@kunde.example", "busy@kunde.example")
REPLIES = {
    "unknown@kunde.example": server_reply(550, "Requested action not taken: mailbox unavailable"),
    "busy@kunde.example": server_reply(451, "Requested action aborted: mailbox is busy"),
}


@dataclass
class Office:
    service: Senderproxy
    queue_port: int
    metrics: str
    simulator: Simulator

    def port(self, listener: str) -> int:
        return self.service.port if listener == "office" else self.queue_port

    def labels(self) -> dict[str, str]:
        """The label of each account."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=30) as answer:
            answer.read()
        status = json.loads(self.service.command("status", "--json", exit_code=None))
        assert status["metrics"]["address"] == self.metrics
        return {account: label for label, account in status["metrics"]["accounts"].items()}


@contextlib.contextmanager
def office_in_front_of(simulator: Simulator) -> Iterator[Office]:
    with reserved_ports(2) as [queue_port, metrics_port]:
        more = f"""
[[listeners]]
name = "devices"
address = "{LOOPBACK}:{queue_port}"
mode = "queue"
max_messages_per_minute = 100000

[spool]
first_retry_seconds = 3600
longest_retry_seconds = 3600

[metrics]
listen = "{LOOPBACK}:{metrics_port}"
"""
        provider = f"""
host = "{LOOPBACK}"
port = {simulator.port_tls}
security = "tls"
ca_file = "{simulator.ca_file}"
messages_per_hour = 0
recipients_per_hour = 0
"""
        accounts = [VaultAccount(person, SECRET) for person in (*PEOPLE, LOCKED)]
        with Senderproxy(accounts, provider, more_settings=more) as service:
            yield Office(service, queue_port, f"{LOOPBACK}:{metrics_port}", simulator)


def outcome_of(code: int, listener: str) -> str:
    if code == 250:
        return "queued" if listener == "devices" else "delivered"
    return "deferred" if code < 500 else "refused"


def submit(office: Office, listener: str, numbers: Sequence[int]) -> Counter[tuple[str, str, str]]:
    """Submit these messages over one connection; the replies by author, listener and outcome."""
    replies: Counter[tuple[str, str, str]] = Counter()
    with MailClient(LOOPBACK, office.port(listener), timeout=DEADLINE) as client:
        client.ehlo("pc.office.test")
        for number in numbers:
            author = UNKNOWN if number % 50 == 0 else PEOPLE[number % len(PEOPLE)]
            recipient = RECIPIENTS[(number // 4) % len(RECIPIENTS)]
            client.mail(author)
            client.rcpt(recipient)
            code, _words = client.data(
                f"From: <{author}>\r\nTo: <{recipient}>\r\nSubject: {number}\r\n"
                f"Message-ID: <{number}.metrics@firma.example>\r\nDate: Sat, 31 Jan 2026 08:15:00 +0100\r\n\r\nHallo\r\n"
            )
            replies[author, listener, outcome_of(code, listener)] += 1
    return replies


def submit_all(office: Office) -> Counter[tuple[str, str, str]]:
    shares = [
        (listener, list(range(begin, MESSAGES, CONNECTIONS)))
        for begin in range(CONNECTIONS)
        for listener in [("office", "devices")[begin % 2]]
    ]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return sum(pool.map(lambda share: submit(office, *share), shares), Counter())


def history(office: Office) -> Counter[tuple[str, str]]:
    """The recipients in the history, by account and status."""
    with contextlib.closing(sqlite3.connect(office.service.folder / "spool" / "spool.db")) as spool:
        spool.execute("BEGIN")  # one state for all of these: rows become packs meanwhile
        rows = spool.execute("SELECT account, fate FROM message JOIN recipient ON message.number = recipient.message")
        found = Counter(rows.fetchall())
        for account, count in spool.execute("SELECT account, waiting FROM new_message"):
            found[account, "waiting"] += count
        for (pack,) in spool.execute("SELECT number FROM history_pack").fetchall():
            for record in history_packs.read(spool, pack):
                found.update((record.account, fate) for _address, fate, *_others in record.recipients)
        return found


def check_sums(office: Office, prometheus: Prometheus, replies: Counter[tuple[str, str, str]]) -> None:
    label = {**office.labels(), UNKNOWN: "none"}
    expected = {
        (label[author], listener, outcome): float(count) for (author, listener, outcome), count in replies.items()
    }
    # Every message is settled: what waits is busy. Then one more scrape.
    waiting = sum(count for (_author, listener, _outcome), count in replies.items() if listener == "devices")
    queue = 'sum(senderproxy_recipients_total{stage="queue"}) by (outcome)'

    def is_settled() -> bool:
        found = prometheus.values(queue)
        busy = prometheus.values('sum(senderproxy_queue_messages{state="waiting"})')
        settled = sum(count for (outcome,), count in found.items() if outcome != "queued")
        return settled + busy.get((), 0.0) == found.get(("queued",)) and found[("queued",)] >= waiting - 20

    wait_until(lambda: prometheus.values("senderproxy_messages_total") == expected, "the sums of the clients", DEADLINE)
    wait_until(is_settled, "each queued message was tried", DEADLINE)
    assert sum(expected.values()) == MESSAGES

    # The history, which is written a moment later, has what the metrics have.
    names = {account: shown for account, shown in label.items() if shown != "none"} | {"": "none"}

    def counted() -> dict[tuple[str, ...], float]:
        recipients = prometheus.values("sum(senderproxy_recipients_total) by (account, outcome)")
        return {labels: count for labels, count in recipients.items() if labels[1] != "queued"}

    def recorded() -> dict[tuple[str, ...], float]:
        found = history(office)
        return {(names[account], status): float(count) for (account, status), count in found.items()}

    def waiting_ones() -> dict[tuple[str, ...], float]:
        shown = prometheus.values('sum(senderproxy_queue_messages{state="waiting"}) by (account)')
        return {(account, "waiting"): count for (account,), count in shown.items() if count}

    def delivered() -> dict[tuple[str, ...], float]:
        return prometheus.values('sum(senderproxy_recipients_total{outcome="delivered"}) by (account)')

    def received() -> dict[tuple[str, ...], float]:
        found = Counter(label[str(message.login)] for message in office.simulator.received)
        return {(account,): float(count) for account, count in found.items()}

    def upstream() -> dict[tuple[str, ...], float]:
        found = prometheus.values('senderproxy_upstream_recipients_total{outcome="delivered"} > 0')
        return {(account,): count for (account, _outcome), count in found.items()}

    # All are complete a scrape and a commit later; reports are still sent. What the provider has was delivered.
    wait_until(
        lambda: counted() | waiting_ones() == recorded() and delivered() == received() == upstream(),
        "history, metrics and provider agree",
        DEADLINE,
    )


def check_other_series(office: Office, prometheus: Prometheus) -> None:
    label = office.labels()

    def value(query: str) -> float:
        return prometheus.values(query)[()]

    def reports() -> float:
        """On the refused ones of the queue, sent through their author's account."""
        return value('sum(senderproxy_recipients_total{outcome="queued"})') - value(
            'sum(senderproxy_messages_total{outcome="queued"})'
        )

    def attempts() -> float:
        return value("sum(senderproxy_upstream_seconds_count)")

    # Each message with an account, and Dora's; the last reports may still be on their way.
    wait_until(lambda: attempts() == MESSAGES - MESSAGES // 50 + reports() + 1, "an attempt for each message", DEADLINE)
    assert reports() > 0
    assert attempts() * 0.9 < value("sum(senderproxy_upstream_sessions_reused_total)") < attempts()
    sessions = prometheus.values("senderproxy_upstream_sessions_opened_total")
    opened = Counter(label[one.login] for one in office.simulator.sessions if one.login in label)
    assert {account: count for (account,), count in sessions.items() if count} == {
        account: float(count) for account, count in opened.items()
    }
    accepted = prometheus.values("senderproxy_accept_seconds_count")
    assert sum(accepted.values()) == MESSAGES + 1
    assert prometheus.values("senderproxy_spool_commit_seconds_count")[()] > 0
    assert prometheus.values("sum(senderproxy_queue_age_messages)") == prometheus.values(
        "sum(senderproxy_queue_messages)"
    )
    assert prometheus.values("senderproxy_accounts") == {(): 4.0}
    can_send = prometheus.values("senderproxy_account_can_send")
    assert can_send == {(label[person],): float(person != LOCKED) for person in (*PEOPLE, LOCKED)}
    assert prometheus.values("senderproxy_upstream_failed_logins_total > 0") == {(label[LOCKED],): 1.0}
    conditions = prometheus.values("senderproxy_conditions")
    assert conditions[("account_suspended", "error")] == 1.0
    last = prometheus.values(
        "senderproxy_account_last_success_timestamp_seconds - on(instance, job) group_left process_start_time_seconds"
    )
    assert set(last) == {(label[person],) for person in PEOPLE}
    assert all(seconds > 0 for seconds in last.values())
    assert prometheus.values("process_resident_memory_bytes")[()] > 20_000_000
    assert prometheus.values("process_open_fds")[()] > 10


def test_the_sums_of_prometheus_are_those_of_the_clients_and_of_the_history() -> None:
    mailboxes = {person: SimulatedMailbox(SECRET) for person in PEOPLE} | {LOCKED: SimulatedMailbox("geheim-changed")}
    settings = SimulatorSettings(mailboxes=mailboxes, recipient_replies=REPLIES)

    async def scenario() -> None:
        async with Simulator(settings) as simulator:
            await asyncio.to_thread(pass_messages, simulator)

    asyncio.run(scenario())


def pass_messages(simulator: Simulator) -> None:
    with office_in_front_of(simulator) as office, running_prometheus(office.metrics) as prometheus:
        replies = submit_all(office)
        assert len({outcome for _author, _listener, outcome in replies}) == 4
        check_sums(office, prometheus, replies)
        with MailClient(LOOPBACK, office.service.port, timeout=DEADLINE) as client:
            client.ehlo("pc.office.test")
            with pytest.raises(smtplib.SMTPDataError):
                client.sendmail(
                    LOCKED, "good@kunde.example", f"From: <{LOCKED}>\r\nTo: <good@kunde.example>\r\n\r\nHallo\r\n"
                )
        wait_until(
            lambda: (
                0.0 in prometheus.values("senderproxy_account_can_send").values()
                and ("account_suspended", "error") in prometheus.values("senderproxy_conditions")
            ),
            "Dora's account is suspended",
            DEADLINE,
        )
        accepted = "sum(senderproxy_accept_seconds_count)"  # counted last
        wait_until(lambda: prometheus.values(accepted) == {(): MESSAGES + 1.0}, "Dora's message is counted", DEADLINE)
        check_other_series(office, prometheus)
        with urllib.request.urlopen(f"http://{office.metrics}/metrics", timeout=30) as answer:
            page = answer.read()
        assert b"@" not in page
        assert promtool("check", "metrics", standard_input=page) == ""
        assert "senderproxy_messages_total" in page.decode()
        wait_until(
            lambda: "SenderproxyAccountCannotSend" in prometheus.alerts(), "the rule of a locked account", DEADLINE
        )
