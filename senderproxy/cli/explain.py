"""`senderproxy explain`: which account would carry an address or a message, and why."""

import argparse
import sys
from pathlib import Path
from typing import Final

from senderproxy.cli.common import Subparsers, UsageError, open_accounts, read_config, show_json
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import NULL_PATH, AddressError, ReversePath, parse_address
from senderproxy.mail.author import Authors, Mailbox, Unreadable, read_authors
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.submission import Client
from senderproxy.relay.decision import Decision, Rules, decide
from senderproxy.rewriting.plan import rule_in_words
from senderproxy.routing.route import Refusal

_REFUSED: Final = 1
_HEADER_LIMIT: Final = 512 * 1024
_ANYBODY: Final = Client(host="127.0.0.1", name="explain", protocol="ESMTP")


def add_parser(verbs: Subparsers) -> None:
    verb = verbs.add_parser("explain", help="which account would carry an address or a message, and why")
    verb.add_argument("what", metavar="ADDRESS|FILE.eml", help="an address, a message in a file, or - for one on stdin")
    verb.add_argument("--reverse-path", metavar="ADDRESS", help="what MAIL FROM says; <> for an empty one")
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 where it would go out, 1 where it would be refused."""
    config = read_config(chosen)
    accounts = open_accounts(config)
    authors = _authors(chosen.what)
    envelope = Envelope(_reverse_path(chosen.reverse_path, authors), ())
    rules = Rules(config.identity.hostname, config.provider_table(), config.routing_policy())
    verdict = decide(authors, envelope, _ANYBODY, accounts.directory(), rules)
    facts = _facts(authors, verdict)
    if chosen.json:
        show_json(facts)
    else:
        for name, value in facts.items():
            for line in value if isinstance(value, list) else [value]:
                print(f"{name.replace('_', ' '):<18} {line}")
    return _REFUSED if isinstance(verdict, Refusal) else 0


def _authors(what: str) -> Authors | Unreadable:
    if "@" in what and not Path(what).exists():
        try:
            return Authors((Mailbox(parse_address(what), None),), None, ())
        except AddressError as error:
            raise UsageError(f"That is no address: {error}.") from error
    try:
        content = sys.stdin.buffer.read(_HEADER_LIMIT) if what == "-" else Path(what).read_bytes()[:_HEADER_LIMIT]
    except OSError as error:
        raise SenderproxyError(f"{what} cannot be read: {error.strerror}.") from error
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    header, blank, _ = content.partition(b"\r\n\r\n")
    return read_authors(HeaderSection(header + blank))


def _reverse_path(text: str | None, authors: Authors | Unreadable) -> ReversePath:
    if text in ("", "<>"):
        return NULL_PATH
    if text is not None:
        try:
            return parse_address(text.strip("<>"))
        except AddressError as error:
            raise UsageError(f"That is no reverse-path: {error}.") from error
    return authors.from_[0].address if isinstance(authors, Authors) and authors.from_ else NULL_PATH


def _facts(authors: Authors | Unreadable, verdict: Decision | Refusal) -> dict[str, str | list[str]]:
    facts: dict[str, str | list[str]] = {}
    if isinstance(authors, Authors):
        facts["author"] = [str(mailbox.address) for mailbox in authors.from_] or ["none"]
    if isinstance(verdict, Refusal):
        facts["refused"] = str(verdict.reply.code)
        facts["because"] = list(verdict.reply.lines)
        return facts
    route, plan = verdict.route, verdict.plan
    facts["account"] = f"{route.account.id} (logs in as {route.account.login})"
    facts["chosen_by"] = f"{route.source.value} {route.author}: {route.tier.words}"
    facts["provider"] = f"{route.provider.name}, {', '.join(str(host) for host in route.provider.smarthosts)}"
    facts["sender_rule"] = rule_in_words(route)
    facts["reverse_path"] = f"<{plan.envelope.reverse_path}>"
    facts["from"] = "as it is"
    facts["changed"] = [f"{c.what}: {c.old} -> {c.new} ({c.reason})" for c in plan.changes] or ["nothing"]
    if plan.doubts:
        facts["doubt"] = list(plan.doubts)
    return facts
