"""`senderproxy explain`: which account would carry an address or a message, and why.

Guarantees: decides with the very function that decides about mail, so it says what a client would meet; changes nothing
and asks nobody. A message's body is not read.
Not here: the decision (relay.decide).
"""

import argparse
import sys
from dataclasses import dataclass, replace
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

from senderproxy.cli.common import open_accounts, read_config, typed_address
from senderproxy.cli.errors import InputError, UsageError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.terminal import print_json
from senderproxy.clock import Clock, SystemClock
from senderproxy.config.model import Config
from senderproxy.mail.address import NULL_PATH, AddressError, ReversePath, parse_address
from senderproxy.mail.author import Authors, UnreadableAuthor, read_authors
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.submission import Client
from senderproxy.relay.decide import Decision, MessageFacts, decide
from senderproxy.rewriting.draft import Draft
from senderproxy.rewriting.effective_author import stand_in
from senderproxy.rewriting.plan import Discarding, rule_in_words
from senderproxy.routing.directory import AccountDirectory, Tier
from senderproxy.routing.route import Candidate, Refusal, RoutingPolicy, list_candidates
from senderproxy.wiring import rules_of

_HEADER_LIMIT: Final = 512 * 1024
_ANYBODY: Final = Client(host="127.0.0.1", name="explain", protocol="ESMTP")
_WIDTH: Final = 14


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", metavar="ADDRESS|FILE.eml", help="an address, a message in a file, or - for one on stdin"
    )
    parser.add_argument("--reverse-path", metavar="ADDRESS", help="what MAIL FROM says (else the author); <> for none")
    parser.add_argument("--listener", metavar="NAME", help="the listener at which it is submitted (else the first)")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class _Look:
    """One candidate, and the account it led to."""

    candidate: Candidate
    account: str | None
    tier: Tier | None

    def __str__(self) -> str:
        found = f"account {self.account}, found by {self.tier.words}" if self.tier else "no account"
        return f"{self.candidate.source.value} {self.candidate.address}: {found}"


def run(chosen: argparse.Namespace) -> int:
    """0 where it would go out, 1 where it would be refused."""
    config = read_config(chosen)
    rules = rules_of(config)
    client = replace(_ANYBODY, **_door(config, chosen.listener))
    clock = SystemClock()
    header = _header(chosen.what, clock)
    authors = read_authors(header)
    path = _reverse_path(chosen.reverse_path, authors)
    directory = open_accounts(config).directory()
    verdict = decide(MessageFacts(header, Envelope(path, ()), client, "explain", clock.now()), directory, rules)
    meant = stand_in(Draft(header), path, client, rules.senders.mapped)
    looks = _looks(meant.authors, meant.reverse_path, directory, rules.routing)
    if chosen.json:
        print_json(_entry(looks, verdict))
    else:
        _tell(meant.authors, looks, verdict)
    return EX_OK if isinstance(verdict, Decision) else EX_FAILED


# ---- what is asked about ----


def _door(config: Config, name: str | None) -> dict[str, Any]:
    """What the listener with this name does with senders; the first one, where none is named."""
    doors = {listener.name: listener for listener in config.listeners}
    if name is not None and name not in doors:
        raise UsageError(f"There is no listener {name}; there are: {', '.join(doors)}.")
    door = doors[name] if name is not None else config.listeners[0]
    return {"forced_sender": door.sender, "lenient": door.lenient}


def _header(what: str, clock: Clock) -> HeaderSection:
    if what != "-" and "@" in what and not Path(what).exists():
        lines = (
            f"From: {typed_address(what)}",
            f"Date: {format_datetime(clock.now())}",
            "Message-ID: <explain@localhost>",
        )
        return HeaderSection("".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii"))
    try:
        if what == "-":
            content = sys.stdin.buffer.read(_HEADER_LIMIT)
        else:
            with Path(what).open("rb") as letter:
                content = letter.read(_HEADER_LIMIT)
    except OSError as error:
        hint = "Name an address, such as anna@firma.example, or a file with a message in it."
        raise InputError(f"{what} cannot be read: {error.strerror}.", hint=hint) from error
    # A file may have been saved with the line ends of this system; on the wire they are CRLF.
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    header, blank, _ = content.partition(b"\r\n\r\n")
    return HeaderSection(header + blank)


def _reverse_path(text: str | None, authors: Authors | UnreadableAuthor) -> ReversePath:
    if text is None:
        return authors.from_[0].address if isinstance(authors, Authors) and authors.from_ else NULL_PATH
    bare = text.strip().removeprefix("<").removesuffix(">")
    if not bare:
        return NULL_PATH
    try:
        return parse_address(bare)
    except AddressError as error:
        raise UsageError(f"That is no reverse-path: {error}.") from error


# ---- what came of it ----


def _looks(
    authors: Authors | UnreadableAuthor, path: ReversePath, directory: AccountDirectory, policy: RoutingPolicy
) -> list[_Look]:
    """Every address that is looked up, in order, and the closest account it leads to."""
    if isinstance(authors, UnreadableAuthor):
        return []
    looks: list[_Look] = []
    for candidate in list_candidates(authors, path, policy):
        tiers = (Tier.EXACT, Tier.UNTAGGED, Tier.DOMAIN)
        found = ((tier, directory.find(candidate.address, tier)) for tier in tiers)
        tier, account = next(((t, a) for t, a in found if a is not None), (None, None))
        looks.append(_Look(candidate, account.id if account else None, tier))
    return looks


def _tell(authors: Authors | UnreadableAuthor, looks: list[_Look], verdict: Decision | Refusal | Discarding) -> None:
    if isinstance(authors, Authors):
        _line("author", ", ".join(str(mailbox.address) for mailbox in authors.from_) or "none in From")
    for look in looks:
        _line("looked up", str(look))
    if not isinstance(verdict, Decision):
        ends = "refused" if isinstance(verdict, Refusal) else "discarded"
        _line(ends, f"{verdict.reply.code} {verdict.reply.status or ''}".strip())
        for words in verdict.reply.lines:
            _line("because", words)
        return
    route, plan = verdict.route, verdict.plan
    _line("account", f"{route.account.id}, logs in as {route.account.login}")
    _line("chosen by", f"{route.source.value} {route.author}: {route.tier.words}")
    _line("provider", f"{route.provider.name} ({', '.join(str(host) for host in route.provider.smarthosts)})")
    _line(
        "reverse-path", f"{rule_in_words(route, route.provider.sender_rule)}; leaves as <{plan.envelope.reverse_path}>"
    )
    _line("From", f"{rule_in_words(route, route.provider.from_rule)}")
    for change in plan.changes:
        _line("changed", f"{change.what}: {change.new or 'removed'}")
        if change.old:
            _line("", f"instead of {change.old}")
        _line("", f"because {change.reason}")
    if not plan.changes:
        _line("changed", "nothing")


def _line(name: str, text: str) -> None:
    print(f"{name:<{_WIDTH}} {text}")


def _entry(looks: list[_Look], verdict: Decision | Refusal | Discarding) -> dict[str, object]:
    entry: dict[str, object] = {
        "goes_out": isinstance(verdict, Decision),
        "looked_up": [
            {
                "place": look.candidate.source.value,
                "address": str(look.candidate.address),
                "account": look.account,
                "tier": look.tier.value if look.tier else None,
            }
            for look in looks
        ],
    }
    if not isinstance(verdict, Decision):
        reply = verdict.reply
        return entry | {"code": reply.code, "status": str(reply.status or ""), "because": list(reply.lines)}
    route, plan = verdict.route, verdict.plan
    return entry | {
        "account": route.account.id,
        "login": route.account.login,
        "author": str(route.author),
        "place": route.source.value,
        "tier": route.tier.value,
        "provider": route.provider.name,
        "smarthosts": [str(host) for host in route.provider.smarthosts],
        "sender_rule": route.provider.sender_rule.value,
        "from_rule": route.provider.from_rule.value,
        "reverse_path": str(plan.envelope.reverse_path),
        "changes": [{"what": c.what, "old": c.old, "new": c.new, "reason": c.reason} for c in plan.changes],
    }
