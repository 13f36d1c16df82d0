"""The accounts and messages of the demonstration, and the comparison of what was sent with what arrived. PURE.

Guarantees: `faults_in` compares with what the providers received, not with what senderproxy reports.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from senderproxy.simulator.observations import ReceivedMessage
from senderproxy.translation import N_, _, ngettext

RECIPIENT: Final = "kunde@customer.example"
IONOS: Final = "ionos"
HOSTER: Final = "hoster"


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """A mailbox at one of the two providers, with the addresses that it carries besides its own."""

    id: str
    address: str
    provider: str
    carries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DemoMessage:
    """A message and the account that must send it; None if it must be refused."""

    author: str
    account: str | None
    note: str = ""
    reverse_path: str | None = None  # if it is not the author; "" is the null reverse-path

    @property
    def envelope_from(self) -> str:
        """The address in MAIL FROM."""
        return self.author if self.reverse_path is None else self.reverse_path


ACCOUNTS: Final = (
    DemoAccount("anna", "anna@firma.example", IONOS),
    DemoAccount("bert", "bert@firma.example", IONOS),
    DemoAccount("carla", "carla@firma.example", IONOS, ("info@firma.example",)),
    DemoAccount("shop", "post@laden.example", IONOS, ("@laden.example",)),
    DemoAccount("dora", "dora@verein.example", HOSTER),
)

MESSAGES: Final = (
    DemoMessage("anna@firma.example", "anna"),
    DemoMessage("bert@firma.example", "bert"),
    DemoMessage("dora@verein.example", "dora", "hoster"),
    DemoMessage("info@firma.example", "carla", N_("alias")),
    DemoMessage("shop@laden.example", "shop", N_("catch-all")),
    DemoMessage("returns@laden.example", "shop", N_("catch-all")),
    DemoMessage("anna+offer@firma.example", "anna", "+tag"),
    DemoMessage("bert@firma.example", "bert", N_("rewritten"), reverse_path="bert@firma.lan"),
    DemoMessage("bert@firma.example", "bert", N_("absence"), reverse_path=""),
    DemoMessage("dora@verein.example", "dora", "hoster"),
    DemoMessage("nobody@other.example", None, N_("unknown")),
)


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message and the reply that ended its transaction."""

    message: DemoMessage
    message_id: str
    code: int
    lines: tuple[str, ...]

    @property
    def reply(self) -> tuple[str, ...]:
        """The reply as it was on the wire."""
        *first, last = self.lines
        return (*(f"{self.code}-{line}" for line in first), f"{self.code} {last}")


@dataclass(frozen=True, slots=True)
class ArrivedMessage:
    """A message as the provider received it."""

    provider: str
    received: ReceivedMessage


def find_arrivals(sent: SentMessage, arrived: Sequence[ArrivedMessage]) -> list[ArrivedMessage]:
    """Every copy of the message that arrived."""
    needle = f"Message-ID: {sent.message_id}\r\n".encode("ascii")
    return [each for each in arrived if needle in each.received.content]


def faults_in(sent: SentMessage, arrived: Sequence[ArrivedMessage], accounts: Sequence[DemoAccount]) -> list[str]:
    """The faults in the handling of this message; empty if there is none."""
    account = next((each for each in accounts if each.id == sent.message.account), None)
    found = find_arrivals(sent, arrived)
    if account is None:
        text = _("sent logged in as {login}, which does not own its author")
        faults = [text.format(login=each.received.login) for each in found]
        return faults + ([_("the reply was {code}").format(code=sent.code)] if sent.code < 500 else [])
    if len(found) != 1:
        text = ngettext(
            "arrived {count} time, the reply was {code}", "arrived {count} times, the reply was {code}", len(found)
        )
        return [text.format(count=len(found), code=sent.code)]
    received = found[0].received
    faults = []
    if sent.code != 250:
        faults.append(_("arrived, but the reply was {code}").format(code=sent.code))
    if (received.login, found[0].provider) != (account.address, account.provider):
        text = _("sent logged in as {login} at {provider}, not as {address}")
        faults.append(text.format(login=received.login, provider=found[0].provider, address=account.address))
    if received.reverse_path != sent.message.author:
        faults.append(_("sent with the reverse-path {path}").format(path=received.reverse_path or "<>"))
    if received.recipients != (RECIPIENT,):
        faults.append(_("sent to {recipients}").format(recipients=", ".join(received.recipients)))
    return faults
