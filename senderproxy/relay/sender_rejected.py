"""Sender addresses that a provider rejected: the reply to the client, and the list for `status` and `check`. PURE.

Guarantees: the reply names login, address, rule and fix in English and German, and ends with the upstream's last line.
A message that is sent always satisfies the configured rule, so such a rejection means that the provider's rule is
stricter: it stays in the list, also beyond a restart, until the same address is accepted, or until KNOWN_LIMIT others
were refused after it.
Not here: recognition of such replies (delivery.classify), the configured rules (routing.provider).
RFC 3463 section 3.8.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Final, TypeAlias

from senderproxy.learned import Fact, Instant, Notify, SharedLearnedSource, duration, ignore_change
from senderproxy.mail.address import Address, ForwardPath, ReversePath
from senderproxy.mail.author import AuthorFields, read_authors
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.outcome import Delivered, Failed, Outcome, RefusedSenderField
from senderproxy.mail.reply import Reply, reply
from senderproxy.routing.account import lists_address
from senderproxy.routing.author_policy import is_public_domain
from senderproxy.routing.provider import Provider, SenderRule
from senderproxy.routing.route import Route
from senderproxy.translation import _, in_english

LEARNED_KIND: Final = "sender-rule"  # of the facts about rejected senders
_LONGEST_AGE: Final = 10 * 365 * 86_400.0  # seconds; ten years, so that no date is out of range
_DIGEST: Final = 16  # octets; two senders never have the same digest
KNOWN_LIMIT: Final = 200  # entries; more than an operator reads, and 1 MB with the longest replies


@dataclass(frozen=True, slots=True)
class RejectedSender:
    """One sender address that a provider rejected for an account."""

    route: Route
    place: RefusedSenderField
    address: Address | None  # None: the null reverse-path
    reply: Reply


@dataclass(frozen=True, slots=True)
class StricterRule:
    """Entry of the list for `senderproxy status` and `check`; plain values for JSON."""

    provider: str
    account: str
    address: str
    said: str
    since: str  # ISO 8601
    words: str
    hint: str


def find_rejected(
    outcomes: Mapping[ForwardPath, Outcome], route: Route, path: ReversePath, header: HeaderSection
) -> RejectedSender | None:
    """The rejected sender, if it is the reason why no recipient was reached; else None."""
    if any(isinstance(outcome, Delivered) for outcome in outcomes.values()):
        return None
    for outcome in outcomes.values():
        if isinstance(outcome, Failed) and outcome.refused_sender is not None:
            place, address = _which(outcome.refused_sender, route, path, header)
            return RejectedSender(route, place, address, outcome.reply)
    return None


def _which(
    place: RefusedSenderField, route: Route, path: ReversePath, header: HeaderSection
) -> tuple[RefusedSenderField, Address | None]:
    """The sender address that the provider rejected.

    A reply to the final dot may be about the reverse-path or From; the mailbox's own address is never the rejected one.
    """
    sender = path if isinstance(path, Address) else None
    if place is RefusedSenderField.REVERSE_PATH:
        return place, sender
    authors = read_authors(header)
    known = authors.from_ if isinstance(authors, AuthorFields) else ()
    own = route.account.address
    other = next((mailbox.address for mailbox in known if mailbox.address.key != own.key), None)
    if other is None and (sender is None or sender.key != own.key):
        return RefusedSenderField.REVERSE_PATH, sender
    return place, other or own


def explain(rejected: RejectedSender, *, is_internal: bool = True) -> Reply:
    """The reply: our sentence in English and German, then the upstream's last line.

    Without login and hint if not `is_internal`: a stranger would read it in a bounce.
    """
    route, (hint, abhilfe) = rejected.route, _hints(rejected)
    if not is_internal:
        text = f"{route.provider.name} does not let this server redirect the message."
        return reply(550, "5.7.1", text, rejected.reply.reason)
    who = f"login {route.account.login} (account {route.account.id})"
    wer = f"Anmeldung {route.account.login} (Konto {route.account.id})"
    name = str(rejected.address) if rejected.address else "<>"
    place, feld = rejected.place.value, "From" if rejected.place is RefusedSenderField.FROM else "Envelope-Absender"
    return reply(
        550,
        "5.7.1",
        f"{route.provider.name} does not let {who} send as {name} ({place}). To fix: {in_english(hint)}.",
        f"{route.provider.name} erlaubt der {wer} den Absender {name} nicht ({feld}). Abhilfe: {abhilfe}.",
        rejected.reply.reason,
    )


def _hints(rejected: RejectedSender) -> tuple[str, str]:
    """The fix, marked for translation, and in German with ASCII alone, for the reply."""
    route, address = rejected.route, rejected.address
    section = f"[providers.{route.provider.name}]"
    if address is None:
        setting = f"takes_null_reverse_path = false in {section}"
        return _("set {setting}").format(setting=setting), f"{setting} setzen"
    if _is_about_dns(rejected.reply):
        return (
            _("give the domain {domain} an MX or A record in its DNS").format(domain=address.domain),
            f"der Domain {address.domain} einen MX- oder A-Eintrag im DNS geben",
        )
    setting, rule = _setting(rejected)
    if address.key == route.account.address.key:
        command = f"senderproxy account show {route.account.id}"
        return (
            _("give the account the address that its mailbox has ({command})").format(command=command),
            f"dem Konto die Adresse geben, die sein Postfach hat ({command})",
        )
    stricter = f'{setting} = "{_stricter(rule, address, route).value}" in {section}'
    if lists_address(route.account, address):
        # The address counts as the mailbox's own, so it is sent unchanged under any setting.
        command = f"senderproxy account edit {route.account.id} --not {address}"
        text = _("make it an alias of the mailbox at the provider, or remove it here ({command})")
        abhilfe = f"beim Provider als Alias des Postfachs anlegen oder hier entfernen ({command})"
        if rule is not SenderRule.ADDRESS:
            text = _(
                "set {setting}, and make it an alias of the mailbox at the provider, or remove it here ({command})"
            )
            abhilfe = f"{stricter} setzen und {abhilfe}"
        return text.format(setting=stricter, command=command), abhilfe
    if not is_public_domain(address.domain) or address.domain.endswith(f".{route.account.address.domain}"):
        # A machine has no mailbox at the provider.
        return (
            _("map {address} to an own address under [senders.map], or set {setting}").format(
                address=address, setting=stricter
            ),
            f"{address} unter [senders.map] durch eine eigene Adresse ersetzen oder {stricter} setzen",
        )
    command = f"senderproxy account add {address}"
    text = _("add its mailbox ({command}), or set {setting}").format(command=command, setting=stricter)
    return text, f"Postfach anlegen ({command}) oder {stricter} setzen"


_DNS: Final = re.compile(
    r"\bdns\b|\bmx\b|domain (?:of sender address )?.{0,260}not (?:found|exist)|nxdomain", re.IGNORECASE
)


def _is_about_dns(said: Reply) -> bool:
    """True if the provider does not know the domain of the sender. RFC 3463 section 3.2: X.1.8."""
    about_domain = said.status is not None and (said.status.subject, said.status.detail) == (1, 8)
    return about_domain or _DNS.search(said.reason) is not None


def _stricter(rule: SenderRule, address: Address, route: Route) -> SenderRule:
    """The least strict rule that does not send the address."""
    if rule is SenderRule.ANY and address.domain != route.account.address.domain:
        return SenderRule.DOMAIN
    return SenderRule.ADDRESS


def _setting(rejected: RejectedSender) -> tuple[str, SenderRule]:
    provider = rejected.route.provider
    if rejected.place is RefusedSenderField.FROM:
        return "from_rule", provider.from_rule
    return "sender_rule", provider.sender_rule


_RuleSettings: TypeAlias = tuple[str, str, bool]  # sender_rule, from_rule, takes_null_reverse_path


class RejectedSenders(SharedLearnedSource):
    """Senders that were rejected although the configured rules allow them.

    `changed` is called with the subject of a fact that has changed: a digest of account and sender.
    """

    def __init__(self) -> None:
        self.changed: Notify = ignore_change
        # By digest, with the settings of that time; the one rejected last is the last one.
        self._known: dict[str, tuple[StricterRule, _RuleSettings]] = {}

    def note(self, rejected: RejectedSender, now: datetime) -> None:
        """Add a rejected sender; the time of the first rejection stays. The one that was rejected longest ago goes."""
        route = rejected.route
        name = str(rejected.address) if rejected.address else "<>"
        setting, rule = _setting(rejected)
        setting_in_words = f'{setting} = "{rule.value}"' if rejected.address else "takes_null_reverse_path = true"
        words = _(
            "{provider} refused {name} ({field}) for account {account} although {setting} allows it: {reason}"
        ).format(
            provider=route.provider.name,
            name=name,
            field=rejected.place.value,
            account=route.account.id,
            setting=setting_in_words,
            reason=_("its DNS has no record") if _is_about_dns(rejected.reply) else _("its rule is stricter"),
        )
        key = _subject(route.account.id, name)
        earlier = self._known.pop(key, None)
        since = earlier[0].since if earlier else now.isoformat(timespec="seconds")
        entry = StricterRule(
            route.provider.name, route.account.id, name, rejected.reply.reason, since, words, _hints(rejected)[0]
        )
        self._known[key] = (entry, _settings(route.provider))
        self.changed(key)
        if len(self._known) > KNOWN_LIMIT:
            self._forget(next(iter(self._known)))

    def accepted(self, route: Route, senders: Iterable[Address | None]) -> None:
        """Remove senders that were accepted, and entries about a rule that has changed since."""
        if not self._known:
            return
        for sender in senders:
            key = _subject(route.account.id, str(sender) if sender else "<>")
            if key in self._known:
                self._forget(key)
        name, now = route.provider.name, _settings(route.provider)
        for key, (entry, then) in list(self._known.items()):
            if entry.provider == name and then != now:
                self._forget(key)

    def __len__(self) -> int:
        return len(self._known)

    def entries(self) -> list[StricterRule]:
        """All entries, oldest first."""
        return sorted((entry for entry, _settings in self._known.values()), key=lambda entry: entry.since)

    def fact(self, subject: str, at: Instant) -> Fact | None:
        """See learned.LearnedSource."""
        if subject not in self._known:
            return None
        entry, settings = self._known[subject]
        since = at.age(datetime.fromisoformat(entry.since))
        return asdict(entry) | {"since": round(since), "settings": settings}

    def restore(self, subject: str, fact: Fact, written: Instant) -> bool:
        """See learned.LearnedSource."""
        if len(self._known) >= KNOWN_LIMIT:
            return False
        self._take(subject, fact, written)
        return True

    def follow(self, subject: str, fact: Fact, written: Instant) -> None:
        """See learned.SharedLearnedSource."""
        self._known.pop(subject, None)
        self._take(subject, fact, written)
        while len(self._known) > KNOWN_LIMIT:
            del self._known[next(iter(self._known))]

    def gone(self, subject: str) -> None:
        """See learned.SharedLearnedSource. It was accepted at another instance."""
        self._known.pop(subject, None)

    def _take(self, subject: str, fact: Fact, written: Instant) -> None:
        since = written.before(duration(fact, "since", _LONGEST_AGE)).now.isoformat(timespec="seconds")
        texts = {field.name: str(fact[field.name]) for field in fields(StricterRule)}
        sender_rule, from_rule, takes_null = fact["settings"]
        entry = StricterRule(**texts | {"since": since})
        self._known[subject] = (entry, (str(sender_rule), str(from_rule), bool(takes_null)))

    def _forget(self, key: str) -> None:
        del self._known[key]
        self.changed(key)


def _subject(account: str, sender: str) -> str:
    return hashlib.blake2b(f"{account}\n{sender}".encode("utf-8", "surrogatepass"), digest_size=_DIGEST).hexdigest()


def _settings(provider: Provider) -> _RuleSettings:
    return provider.sender_rule.value, provider.from_rule.value, provider.takes_null_reverse_path
