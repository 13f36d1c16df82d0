"""The table of sender cases, through the whole service: against each kind of provider the simulator can be, and a real one.

One service for each provider; its settings are changed while it runs, as an admin would.
"""

import contextlib
import re
import socket
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import compat32
from functools import partial
from typing import Final

import pytest

from senderproxy.listener.client_auth import hash_password
from senderproxy.simulator import rules
from senderproxy.simulator.rules import EnforcedAt, OwnershipRule
from senderproxy.simulator.server import Simulator
from senderproxy.simulator.settings import SimulatorSettings, exchange_online_like, gmx_like, postfix_like
from tests.journeys.sender_cases import (
    ACCOUNTS,
    ANNA,
    AT_THE_OTHER,
    BERT,
    CASES,
    ELSEWHERE,
    LIMITED,
    MAILBOXES,
    SCAN,
    TILL,
    TILL_PASSWORD,
    Arrives,
    Case,
    Setting,
    Told,
)
from tests.peers.bench import Bench
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import LOOPBACK, reserved_ports, why_not_here
from tests.peers.provider import PostfixProvider, Rule
from tests.peers.senderproxy import Senderproxy, VaultAccount
from tests.senderproxy.cli.conftest import beside

pytestmark = pytest.mark.slow

MAIL_BOXES: Final = {box.login: rules.SimulatedMailbox(box.password, aliases=box.aliases) for box in MAILBOXES}
SECONDS: Final = 120.0  # for a reply

KINDS: Final = {
    "ionos": SimulatorSettings(mailboxes=MAIL_BOXES),
    "domain, refused at RCPT, looks at From, takes null": SimulatorSettings(
        mailboxes=MAIL_BOXES,
        enforced_at=EnforcedAt.RCPT,
        header_from_enforced=True,
        null_reverse_path_accepted=True,
        pipelining=True,
    ),
    "domain, refused at the end, looks at From": SimulatorSettings(
        mailboxes=MAIL_BOXES, enforced_at=EnforcedAt.DATA, header_from_enforced=True
    ),
    "gmx": gmx_like(MAIL_BOXES),
    "address, refused at the end, looks at From": SimulatorSettings(
        mailboxes=MAIL_BOXES,
        ownership_rule=OwnershipRule.ADDRESS,
        enforced_at=EnforcedAt.DATA,
        header_from_enforced=True,
    ),
    "postfix": postfix_like(MAIL_BOXES),
    "exchange online": exchange_online_like(MAIL_BOXES),
    "any": SimulatorSettings(mailboxes=MAIL_BOXES, ownership_rule=OwnershipRule.ANY, null_reverse_path_accepted=True),
}


# ---- the office ----


@dataclass
class Doors:
    """The ports of the listeners, by name."""

    office: int
    devices: int
    loose: int
    till: int

    def settings(self) -> str:
        """The listeners beyond the first one, and the clients that are known."""
        return f"""
[[listeners]]
name = "devices"
address = "{LOOPBACK}:{self.devices}"
lenient = true
sender = "{SCAN}"
[[listeners]]
name = "loose"
address = "{LOOPBACK}:{self.loose}"
lenient = true
[[listeners]]
name = "till"
address = "{LOOPBACK}:{self.till}"
auth = "required"
[[clients]]
networks = ["{LIMITED.host}"]
senders = ["{BERT}"]
[[clients]]
user = "{TILL.user}"
password = "{_TILL_HASH}"
senders = ["@laden.test"]
"""


_TILL_HASH: Final = hash_password(TILL_PASSWORD)


@contextlib.contextmanager
def office_in_front_of(
    provider: str, rest: str = "", accounts: Sequence[VaultAccount] = ACCOUNTS
) -> Iterator[tuple[Senderproxy, Doors, str]]:
    """A running service; `provider` is its section, `rest` what stands there in every setting."""
    with reserved_ports(3) as [devices, loose, till]:
        doors = Doors(0, devices, loose, till)
        more = f"{doors.settings()}{rest}"
        with Senderproxy(accounts, provider, more_settings=more) as relay:
            doors.office = relay.port
            yield relay, doors, more


def provider_section(simulator: Simulator) -> str:
    """What an admin who knows this provider writes."""
    takes = str(simulator.settings.null_reverse_path_accepted).lower()
    return f"""
host = "{simulator.host}"
port = {simulator.port_tls}
security = "tls"
ca_file = "{simulator.ca_file}"
sender_rule = "{simulator.settings.ownership_rule.value}"
takes_null_reverse_path = {takes}
"""


# ---- the clients ----


class Talk:
    """One client at a listener."""

    def __init__(self, port: int, case: Case) -> None:
        client = case.client
        self._socket = socket.create_connection((LOOPBACK, port), SECONDS, source_address=(client.host, 0))
        self._lines = self._socket.makefile("rb")
        self._case = case

    def say(self, line: bytes) -> tuple[int, str]:
        """One command, or nothing, and the answer."""
        if line:
            self._socket.sendall(line + self._case.client.line_end.encode())
        gathered: list[bytes] = []
        while not gathered or gathered[-1][3:4] == b"-":
            gathered.append(self._lines.readline())
            assert gathered[-1].endswith(b"\r\n"), f"{self._case.name}: hung up on after {line!r}: {gathered}"
        return int(gathered[-1][:3]), "\n".join(line[4:].decode("ascii").strip() for line in gathered)

    def tell(self, recipient: str) -> tuple[int, str]:
        """The whole transaction: the answer to the final dot, or the first that is a refusal."""
        client = self._case.client
        commands = [b"", client.greeting.encode(), f"MAIL FROM:{self._case.mail}".encode()]
        commands += [f"RCPT TO:{client.rcpt.format(recipient)}".encode(), b"DATA", _content(self._case, recipient)]
        if client.user:
            plain = b64encode(f"\0{client.user}\0{TILL_PASSWORD}".encode()).decode()
            commands.insert(2, f"AUTH PLAIN {plain}".encode())
        answer = (0, "")
        for command in commands:
            answer = self.say(command)
            if answer[0] >= 400:
                break
        self._socket.sendall(b"QUIT\r\n")
        self._lines.close()
        self._socket.close()
        return answer


def _content(case: Case, recipient: str) -> bytes:
    """The message as the client writes it, with the final dot but without its line end."""
    header = case.header if isinstance(case.header, bytes) else case.header.encode("ascii")
    names = {line.partition(b":")[0].lower() for line in header.split(b"\n")}
    usual = {
        b"Date": b"Tue, 24 Nov 2026 10:00:00 +0100",
        b"Message-ID": b"<1@pc.firma.local>",
        b"To": recipient.encode(),
    }
    lines = header.split(b"\n")
    lines += [] if case.bare else [name + b": " + text for name, text in usual.items() if name.lower() not in names]
    body = re.sub(r"^\.", "..", case.body, flags=re.MULTILINE).encode().split(b"\n")[:-1]
    # The end of DATA is CR LF . CR LF whatever the program thinks of line ends.
    end = case.client.line_end.encode()
    return end.join([*lines, b"", *body]) + b"\r\n." + (b"\r" if end == b"\n" else b"")


# ---- what arrived ----


@dataclass(frozen=True)
class Mail:
    """One message as a provider got it."""

    login: str | None
    path: str
    content: bytes

    def fields(self, name: str) -> list[str]:
        """The values of the fields of this name, unfolded."""
        found = message_from_bytes(self.content, policy=compat32).get_all(name) or []
        return [re.sub(r"\r?\n[ \t]+", " ", str(value)).strip() for value in found]

    def differs_from(self, wanted: Arrives) -> Iterator[str]:
        """What is not as it should be, in words."""
        seen: Mapping[str, tuple[object, object]] = {
            "login": (self.login, wanted.login),
            "reverse-path": (self.path, wanted.path),
            "From": (self.fields("From"), [wanted.from_]),
            "Reply-To": (self.fields("Reply-To"), [wanted.reply_to] if wanted.reply_to else []),
        }
        yield from (f"{what} is {got!r} and not {want!r}" for what, (got, want) in seen.items() if got != want)
        for name, pattern in wanted.also.items():
            got = self.fields(name)
            fits = got == [] if pattern is None else len(got) == 1 and re.fullmatch(pattern, got[0])
            if not fits:
                yield f"{name} is {got!r} and not {pattern!r}"
        own, _, rest = self.content.partition(b"\r\n\tby relay.office.test")
        if not (own.startswith(b"Received: from ") and rest):
            yield "our Received field is not on top"
        if any(len(line) > 998 for line in self.content.split(b"\r\n")):
            yield "a line is longer than SMTP allows"


def run(
    relay: Senderproxy, doors: Doors, rest: str, cases: Iterable[tuple[Case, Arrives | Told]]
) -> tuple[list[str], dict[str, tuple[Case, Arrives]]]:
    """Send each, setting by setting: what was not answered as it should be, and what must arrive, by its recipient."""
    wrong: list[str] = []
    due: dict[str, tuple[Case, Arrives]] = {}
    now = Setting.PLAIN
    relay.configure(_configured(now, rest))
    for number, (case, end) in enumerate(sorted(cases, key=lambda entry: entry[0].setting.name)):
        if case.setting is not now:
            now = case.setting
            relay.configure(_configured(now, rest))
        recipient = f"case{number}@kunde.test"
        code, text = Talk(getattr(doors, case.client.listener), case).tell(recipient)
        if isinstance(end, Arrives):
            due[recipient] = (case, end)
            wanted, words = 250, ["(senderproxy "]
        else:
            wanted, words = end.code, list(end.words)
        if code != wanted or not all(word in text.replace("\n", " ") for word in words):
            wrong.append(f"{case.name} ({case.client.name}): answered {code} {text!r}, not {wanted} with {words}")
            due.pop(recipient, None)
    return wrong, due


def _configured(setting: Setting, rest: str) -> str:
    """The provider's own part comes first: it goes on with its section."""
    return f"{setting.value}\n{rest}" if setting.is_of_the_provider else f"{rest}\n{setting.value}"


def compare(due: Mapping[str, tuple[Case, Arrives]], arrived: Mapping[str, Mail]) -> list[str]:
    """What did not arrive as it should, and what should not have arrived at all."""
    wrong = [f"{recipient}: nothing of this should have arrived" for recipient in arrived if recipient not in due]
    for recipient, (case, wanted) in due.items():
        differences = arrived[recipient].differs_from(wanted) if recipient in arrived else ["it did not arrive"]
        wrong += [f"{case.name} ({case.client.name}): {difference}" for difference in differences]
    return wrong


def asked_of(cases: Iterable[Case], rule: str, *, null_taken: bool) -> list[tuple[Case, Arrives | Told]]:
    """The rows that say something about a provider of this kind."""
    found = ((case, case.end_under(rule, null_taken=null_taken)) for case in cases)
    return [(case, end) for case, end in found if end is not None]


# ---- the journeys ----


@pytest.mark.parametrize("kind", KINDS)
def test_what_leaves_for_each_kind_of_provider_is_what_it_takes(kind: str) -> None:
    settings = KINDS[kind]
    cases = asked_of(CASES, settings.ownership_rule.value, null_taken=settings.null_reverse_path_accepted)
    assert len(cases) > 40
    with (
        beside(partial(Simulator, settings)) as simulator,
        office_in_front_of(provider_section(simulator)) as (relay, doors, rest),
    ):
        wrong, due = run(relay, doors, rest, cases)
        arrived = {mail.recipients[0]: Mail(mail.login, mail.reverse_path, mail.content) for mail in simulator.received}
        assert len(simulator.received) == len(arrived), "each came once"
        wrong += compare(due, arrived)
        assert not wrong, "\n".join(wrong)
        assert simulator.failed_logins() == 0
        # a provider that was told the truth about never had to refuse a sender
        assert simulator.refused == []


@pytest.mark.parametrize("kind", ["ionos", "gmx"])
def test_bounces_may_be_carried_by_an_account_elsewhere(kind: str) -> None:
    free = SimulatorSettings(
        mailboxes={ELSEWHERE.login: rules.SimulatedMailbox(ELSEWHERE.password)},
        ownership_rule=OwnershipRule.ANY,
        null_reverse_path_accepted=True,
    )
    with (
        beside(partial(Simulator, KINDS[kind])) as simulator,
        beside(partial(Simulator, free)) as other,
        office_in_front_of(
            provider_section(simulator),
            f"[providers.{ELSEWHERE.provider}]\n{provider_section(other)}",
            (*ACCOUNTS, ELSEWHERE),
        ) as (relay, doors, rest),
    ):
        cases = asked_of(AT_THE_OTHER, KINDS[kind].ownership_rule.value, null_taken=False)
        wrong, due = run(relay, doors, rest, cases)
        received = [*simulator.received, *other.received]
        arrived = {mail.recipients[0]: Mail(mail.login, mail.reverse_path, mail.content) for mail in received}
        wrong += compare(due, arrived)
        assert not wrong, "\n".join(wrong)
        assert (len(simulator.received), len(other.received)) == (1, 1)


reason = why_not_here(POSTFIX, DOVECOT, root=True)


@pytest.mark.skipif(reason is not None, reason=str(reason))
@pytest.mark.parametrize("null_taken", [False, True], ids=["refuses null", "takes null"])
@pytest.mark.parametrize("rule", list(Rule), ids=lambda rule: rule.value)
def test_what_leaves_for_a_real_provider_is_what_it_takes(bench: Bench, rule: Rule, null_taken: bool) -> None:
    cases = asked_of(CASES, rule.value, null_taken=null_taken)
    provider = bench.start(
        PostfixProvider(MAILBOXES, rule, takes_null_sender=null_taken, refuses_at_mail=rule is Rule.DOMAIN)
    )
    section = f"""
host = "localhost"
port = {provider.starttls_port}
security = "starttls"
ca_file = "{provider.authority.ca_file}"
sender_rule = "{rule.value}"
takes_null_reverse_path = {str(null_taken).lower()}
"""
    with office_in_front_of(section) as (relay, doors, rest):
        wrong, due = run(relay, doors, rest, cases)
        provider.wait_until(lambda: len(provider.received()) >= len(due), "every message")
        received = provider.received()
        arrived = {mail.recipients[0]: Mail(mail.login, mail.reverse_path, mail.content) for mail in received}
        assert len(received) == len(arrived), "each came once"
        wrong += compare(due, arrived)
        assert not wrong, "\n".join(wrong)
        assert provider.failed_logins() == []
        assert provider.log_lines("not owned by|Sender address is not allowed") == []


def test_the_table_is_large_and_has_no_row_twice() -> None:
    rows = [(case.name, case.client.name, rule) for case in (*CASES, *AT_THE_OTHER) for rule in case.ends]
    assert len(rows) == len(set(rows))
    assert len({case.name for case in CASES}) >= 60
    assert {ANNA, BERT} <= {end.login for case in CASES for end in case.ends.values() if isinstance(end, Arrives)}
