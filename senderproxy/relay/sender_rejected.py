"""The upstream does not let the account name that sender: what the client is told, and what `status` remembers. PURE.

Guarantees: the reply says in English and in German which login, which address, which rule and what to do, and ends in
the upstream's own last line. What leaves always satisfies the rule that is configured, so such a refusal means that the
provider's rule is another one: it is remembered until the same address is taken again.
RFC 3463 section 3.8.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from senderproxy.mail.address import Address, ForwardPath, ReversePath
from senderproxy.mail.author import Authors, read_authors
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.outcome import Delivered, Failed, Outcome, RefusedSender
from senderproxy.mail.reply import Reply, reply
from senderproxy.routing.account import carries_by_name
from senderproxy.routing.provider import Provider, SenderRule
from senderproxy.routing.route import Route


@dataclass(frozen=True, slots=True)
class RejectedSender:
    """One sender that a provider did not let an account name."""

    route: Route
    place: RefusedSender
    address: Address | None  # None: the null reverse-path
    said: Reply


@dataclass(frozen=True, slots=True)
class StricterRule:
    """What `senderproxy status` and `check` show of it; plain values, ready for JSON."""

    provider: str
    account: str
    address: str
    said: str
    since: str  # ISO 8601
    words: str
    mend: str


def find_rejected(
    outcomes: Mapping[ForwardPath, Outcome], route: Route, path: ReversePath, header: HeaderSection
) -> RejectedSender | None:
    """The sender that was refused, where that is why nobody was reached."""
    if any(isinstance(outcome, Delivered) for outcome in outcomes.values()):
        return None
    for outcome in outcomes.values():
        if isinstance(outcome, Failed) and outcome.refused_sender is not None:
            place, address = _which(outcome.refused_sender, route, path, header)
            return RejectedSender(route, place, address, outcome.reply)
    return None


def _which(
    place: RefusedSender, route: Route, path: ReversePath, header: HeaderSection
) -> tuple[RefusedSender, Address | None]:
    """The sender that is meant.

    After the whole message it may be either; a mailbox's own address in From is not the one that is refused.
    """
    way_back = path if isinstance(path, Address) else None
    if place is RefusedSender.REVERSE_PATH:
        return place, way_back
    authors = read_authors(header)
    known = authors.from_ if isinstance(authors, Authors) else ()
    own = route.account.address
    other = next((mailbox.address for mailbox in known if mailbox.address.key != own.key), None)
    if other is None and (way_back is None or way_back.key != own.key):
        return RefusedSender.REVERSE_PATH, way_back
    return place, other or own


def explain(refused: RejectedSender) -> Reply:
    """The reply: our sentence twice, then the upstream's own last line."""
    route, (mend, abhilfe) = refused.route, _mends(refused)
    who = f"login {route.account.login} (account {route.account.id})"
    wer = f"Anmeldung {route.account.login} (Konto {route.account.id})"
    name = str(refused.address) if refused.address else "<>"
    place, feld = refused.place.value, "From" if refused.place is RefusedSender.FROM else "Envelope-Absender"
    return reply(
        550,
        "5.7.1",
        f"{route.provider.name} does not let {who} send as {name} ({place}). To mend: {mend}.",
        f"{route.provider.name} erlaubt der {wer} den Absender {name} nicht ({feld}). Abhilfe: {abhilfe}.",
        refused.said.text,
    )


def _mends(refused: RejectedSender) -> tuple[str, str]:
    """What to do, in English and in German."""
    route, address = refused.route, refused.address
    section = f"[providers.{route.provider.name}]"
    if address is None:
        setting = f"takes_null_reverse_path = false in {section}"
        return f"set {setting}", f"{setting} setzen"
    setting, rule = _setting(refused)
    if address.key == route.account.address.key:
        command = f"senderproxy account show {route.account.id}"
        return (
            f"give the account the address that its mailbox has ({command})",
            f"dem Konto die Adresse geben, die sein Postfach hat ({command})",
        )
    stricter = f'{setting} = "{_stricter(rule, address, route).value}" in {section}'
    if carries_by_name(route.account, address):
        # It counts as one of the mailbox's own, so no stricter setting would keep it from leaving as it is.
        command = f"senderproxy account edit {route.account.id} --not {address}"
        first, zuerst = (
            (f"set {stricter}, and ", f"{stricter} setzen und ") if rule is not SenderRule.ADDRESS else ("", "")
        )
        return (
            f"{first}make it an alias of the mailbox at the provider, or take it away here ({command})",
            f"{zuerst}beim Provider als Alias des Postfachs anlegen oder hier entfernen ({command})",
        )
    command = f"senderproxy account add {address}"
    return f"add its mailbox ({command}), or set {stricter}", f"Postfach anlegen ({command}) oder {stricter} setzen"


def _stricter(rule: SenderRule, address: Address, route: Route) -> SenderRule:
    """The mildest rule under which the address does not leave."""
    if rule is SenderRule.ANY and address.domain != route.account.address.domain:
        return SenderRule.DOMAIN
    return SenderRule.ADDRESS


def _setting(refused: RejectedSender) -> tuple[str, SenderRule]:
    provider = refused.route.provider
    if refused.place is RefusedSender.FROM:
        return "from_rule", provider.from_rule
    return "sender_rule", provider.sender_rule


class RejectedSenders:
    """Which senders were refused lately although the settings let them through."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[StricterRule, Provider]] = {}

    def note(self, refused: RejectedSender, now: datetime) -> None:
        """One was refused; the first time is kept."""
        route = refused.route
        name = str(refused.address) if refused.address else "<>"
        setting, rule = _setting(refused)
        lets = f'{setting} = "{rule.value}"' if refused.address else "takes_null_reverse_path = true"
        words = (
            f"{route.provider.name} refused {name} ({refused.place.value}) for account {route.account.id} although"
            f" {lets} lets it through: its rule is stricter"
        )
        key = (route.account.id, name)
        since = self._known[key][0].since if key in self._known else now.isoformat(timespec="seconds")
        entry = StricterRule(
            route.provider.name, route.account.id, name, refused.said.text, since, words, _mends(refused)[0]
        )
        self._known[key] = (entry, route.provider)

    def accepted(self, route: Route, senders: Iterable[Address | None]) -> None:
        """These were taken: what was said of them is over, and so is what was said of a rule that is another by now."""
        if not self._known:
            return
        for sender in senders:
            self._known.pop((route.account.id, str(sender) if sender else "<>"), None)
        now = route.provider
        for key, (_, then) in list(self._known.items()):
            if then.name == now.name and _rules(then) != _rules(now):
                del self._known[key]

    def entries(self) -> list[StricterRule]:
        """All of them, the oldest first."""
        return sorted((entry for entry, _ in self._known.values()), key=lambda entry: entry.since)


def _rules(provider: Provider) -> tuple[SenderRule, SenderRule, bool]:
    return provider.sender_rule, provider.from_rule, provider.takes_null_reverse_path
