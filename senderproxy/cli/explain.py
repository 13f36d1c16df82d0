"""`senderproxy explain`: the account that would send for an address or a message, and the reason.

Guarantees: decides with the functions that decide about clients and mail (listener.client_auth, relay.decide), so it
prints what a client would get; changes nothing and connects to no other host. The body of a message is not read.
Not here: the decision (relay.decide), the account's state and limits (cli.explain_state).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from email.utils import format_datetime
from pathlib import Path
from typing import Final

from senderproxy.cli.common import open_accounts, read_config, typed_address
from senderproxy.cli.errors import InputError, UsageError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.explain_fallback import fallback_entry, print_fallback
from senderproxy.cli.explain_state import State, ask_state, limits_entry, print_state
from senderproxy.cli.terminal import print_field, print_json
from senderproxy.clock import Clock, SystemClock
from senderproxy.config.model import Config, ListenerSettings
from senderproxy.footer.add_footer import AddFooter
from senderproxy.listener.client_auth import Admission, ClientAuth
from senderproxy.mail.address import NULL_PATH, Address, AddressError, ReversePath, parse_address
from senderproxy.mail.author import AuthorFields, UnreadableAuthor, read_authors
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Client
from senderproxy.relay.decide import Decision, MessageFacts, decide
from senderproxy.relay.fallback import Unfit, decide_fallback
from senderproxy.relay.loop_guard import is_automatic_response
from senderproxy.relay.ways import AccountWay, HopWay, NoWay, Way
from senderproxy.rewriting.edited_header import EditedHeader
from senderproxy.rewriting.effective_author import determine_author
from senderproxy.rewriting.plan import Discard, RewritePlan, describe_rule
from senderproxy.routing.directory import AccountDirectory, MatchTier
from senderproxy.routing.hops import SmarthostHop
from senderproxy.routing.recipient_routes import RecipientRoute, RecipientRoutes
from senderproxy.routing.route import CandidateAddress, Refusal, RoutingPolicy, candidate_addresses
from senderproxy.translation import _, ngettext
from senderproxy.wiring import rules_of

_HEADER_LIMIT: Final = 512 * 1024  # octets read of a file; the header section of real mail is far shorter
_LOCAL_CLIENT: Final = Client(host="127.0.0.1", name="explain", protocol="ESMTP")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy explain`."""
    parser.add_argument(
        "what", metavar="ADDRESS|FILE.eml", help=_("an address, a file with a message, or - for standard input")
    )
    parser.add_argument(
        "--reverse-path", metavar="ADDRESS", help=_("address in MAIL FROM (default: the author); <> for none")
    )
    parser.add_argument(
        "--to", action="append", default=[], metavar="ADDRESS", help=_("recipient: its way, and the loop guard")
    )
    parser.add_argument("--listener", metavar="NAME", help=_("listener that receives the message (default: the first)"))
    parser.add_argument(
        "--client", metavar="IP", help=_("address of the client: may it connect, and send as the author?")
    )
    parser.add_argument("--json", action="store_true", help=_("JSON output"))
    parser.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class _Lookup:
    """One candidate address and the account found for it."""

    candidate: CandidateAddress
    account: str | None
    tier: MatchTier | None

    def __str__(self) -> str:
        if self.tier is None:
            found = _("no account")
        else:
            found = _("account {account}, found by {tier}").format(account=self.account, tier=_(self.tier.description))
        return f"{self.candidate.source.value} {self.candidate.address}: {found}"


def run(chosen: argparse.Namespace) -> int:
    """0 if the message would be sent, 1 if it would be refused or discarded."""
    config = read_config(chosen)
    rules = rules_of(config)
    recipients = tuple(typed_address(text) for text in chosen.to)
    clock = SystemClock()
    listener = _listener(config, chosen.listener)
    client = replace(_LOCAL_CLIENT, forced_sender=listener.sender, lenient=listener.lenient)
    admission: Admission | Reply | None = None
    if chosen.client:
        admission = _admission(config, listener, chosen.client, clock)
        if isinstance(admission, Reply):
            return _refuse_client(chosen, listener, admission)
        client = replace(client, host=chosen.client, senders=admission.senders)
    header = _header(chosen.what, clock)
    path = _reverse_path(chosen.reverse_path, read_authors(header))
    accounts = open_accounts(config)
    directory = accounts.directory()
    facts = MessageFacts(
        header, Envelope(path, recipients), client, "explain", clock.now(), keys=accounts.signing_keys()
    )
    decision = decide(facts, directory, rules)
    effective = determine_author(EditedHeader(header), path, client, rules.senders.mapped)
    lookups = _lookups(effective.authors, effective.reverse_path, directory, rules.routing)
    state, other = None, None
    if isinstance(decision, Decision):
        other = decide_fallback(facts, directory, rules, decision.route.account.id)
        state = ask_state(config, decision.route.account, decision.route.author, recipients)
    if chosen.json:
        entry = _entry(lookups, decision, state, chosen.client, listener.name, other)
        if isinstance(decision, Decision):
            entry["ways"] = _ways_entry(decision, rules.recipient_routes, recipients)
        print_json(entry)
    else:
        if admission is not None:
            _print_admission(chosen.client, listener, admission)
        _print_decision(effective.authors, lookups, decision)
        if isinstance(decision, Decision) and state is not None:
            route = decision.route
            is_automatic = is_automatic_response(path, header)
            print_state(state, route.account, route.provider, is_automatic=is_automatic)
            print_fallback(other, route, state)
            _print_ways(decision, rules.recipient_routes, recipients)
    return EX_OK if isinstance(decision, Decision) else EX_FAILED


# ---- the message ----


def _listener(config: Config, name: str | None) -> ListenerSettings:
    """The named listener, or the first. Raises UsageError."""
    listeners = {listener.name: listener for listener in config.listeners}
    if name is not None and name not in listeners:
        raise UsageError(
            _("There is no listener {name}.").format(name=name),
            hint=_("Use one of: {names}").format(names=", ".join(listeners)),
        )
    return listeners[name] if name is not None else config.listeners[0]


def _admission(config: Config, listener: ListenerSettings, host: str, clock: Clock) -> Admission | Reply:
    """The rights of a client at the listener, or the reply that it gets. Raises UsageError."""
    try:
        return ClientAuth(listener, config.clients, clock).admit(host)
    except ValueError as error:
        raise UsageError(
            _("{text} is not an IP address.").format(text=host), hint=_("Name one, such as 192.168.1.10.")
        ) from error


def _refuse_client(chosen: argparse.Namespace, listener: ListenerSettings, refusal: Reply) -> int:
    """Print the reply to a client without access."""
    hint = _("Add its network to allow of listener {name}; allowed are: {networks}").format(
        name=listener.name, networks=", ".join(str(network) for network in listener.allow)
    )
    if chosen.json:
        entry = {"goes_out": False, "client": chosen.client, "listener": listener.name, "looked_up": []}
        status = str(refusal.status or "")
        print_json(entry | {"code": refusal.code, "status": status, "because": list(refusal.lines), "hint": hint})
        return EX_FAILED
    print_field(_("client"), _("{client} at listener {name}").format(client=chosen.client, name=listener.name))
    print_field(_("refused"), f"{refusal.code} {refusal.status or ''}".strip())
    for line in refusal.lines:
        print_field(_("because"), line)
    print_field(_("to fix"), hint)
    return EX_FAILED


def _print_admission(client: str, listener: ListenerSettings, admission: Admission | Reply) -> None:
    text = _("{client} may connect to listener {name}").format(client=client, name=listener.name)
    if isinstance(admission, Admission) and admission.login_required:
        text = _("{text}, and has to log in: its user decides about its senders").format(text=text)
    elif isinstance(admission, Admission) and admission.senders is not None:
        senders = ", ".join(str(pattern) for pattern in admission.senders) or _("none")
        text = _("{text}; its senders: {senders}").format(text=text, senders=senders)
    print_field(_("client"), text)


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
            with Path(what).open("rb") as file:
                content = file.read(_HEADER_LIMIT)
    except OSError as error:
        raise InputError(
            _("Cannot read {path}: {error}.").format(path=what, error=error.strerror),
            hint=_("Name an address, such as anna@firma.example, or a file with a message."),
        ) from error
    # A file may have the line ends of this system; on the wire they are CRLF.
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    header, blank, _body = content.partition(b"\r\n\r\n")
    return HeaderSection(header + blank)


def _reverse_path(text: str | None, authors: AuthorFields | UnreadableAuthor) -> ReversePath:
    if text is None:
        return authors.from_[0].address if isinstance(authors, AuthorFields) and authors.from_ else NULL_PATH
    bare = text.strip().removeprefix("<").removesuffix(">")
    if not bare:
        return NULL_PATH
    try:
        return parse_address(bare)
    except AddressError as error:
        raise UsageError(_("Invalid reverse-path: {error}.").format(error=error)) from error


# ---- the decision ----


def _lookups(
    authors: AuthorFields | UnreadableAuthor, path: ReversePath, directory: AccountDirectory, policy: RoutingPolicy
) -> list[_Lookup]:
    """Every address that is looked up, in order, with the closest account."""
    if isinstance(authors, UnreadableAuthor):
        return []
    lookups: list[_Lookup] = []
    for candidate in candidate_addresses(authors, path, policy):
        tiers = (MatchTier.EXACT, MatchTier.UNTAGGED, MatchTier.DOMAIN)
        found = ((tier, directory.find(candidate.address, tier)) for tier in tiers)
        tier, account = next(((t, a) for t, a in found if a is not None), (None, None))
        lookups.append(_Lookup(candidate, account.id if account else None, tier))
    return lookups


def _print_decision(
    authors: AuthorFields | UnreadableAuthor, lookups: list[_Lookup], decision: Decision | Refusal | Discard
) -> None:
    if isinstance(authors, AuthorFields):
        addresses = ", ".join(str(mailbox.address) for mailbox in authors.from_)
        print_field(_("author"), addresses or _("none in From"))
    for lookup in lookups:
        print_field(_("looked up"), str(lookup))
    if not isinstance(decision, Decision):
        outcome = _("refused") if isinstance(decision, Refusal) else _("discarded")
        print_field(outcome, f"{decision.reply.code} {decision.reply.status or ''}".strip())
        for line in decision.reply.lines:
            print_field(_("because"), line)
        if isinstance(decision, Refusal) and (hint := decision.unexplained_hint):
            print_field(_("to fix"), hint)
        return
    _print_route(decision)


def _print_route(decision: Decision) -> None:
    route, plan = decision.route, decision.plan
    account = _("{id}, logs in as {login}").format(id=route.account.id, login=route.account.login)
    print_field(_("account"), account)
    print_field(_("chosen by"), f"{route.source.value} {route.author}: {_(route.tier.description)}")
    print_field(_("provider"), f"{route.provider.name} ({', '.join(str(host) for host in route.provider.smarthosts)})")
    sent_as = _("{rule}; sent as <{path}>").format(
        rule=describe_rule(route, route.provider.sender_rule), path=plan.envelope.reverse_path
    )
    print_field("reverse-path", sent_as)
    print_field("From", describe_rule(route, route.provider.from_rule))
    _print_changes(plan)


def _print_changes(plan: RewritePlan) -> None:
    for change in plan.changes:
        print_field(_("changed"), f"{change.what}: {change.new or _('removed')}")
        if change.old:
            print_field("", _("instead of {old}").format(old=change.old))
        print_field("", _("because {reason}").format(reason=change.reason))
    if not plan.changes:
        print_field(_("changed"), _("nothing"))
    if plan.content_changes and isinstance(footer := plan.content_changes[0], AddFooter):
        senders = ", ".join(map(str, footer.footer.senders))
        text = _("of {senders}, unless the content of the message excludes it: senderproxy footer try")
        print_field(_("footer"), text.format(senders=senders))


# ---- the ways of the recipients ----


def _print_ways(decision: Decision, routes: RecipientRoutes, recipients: Sequence[Address]) -> None:
    """The way of each recipient, and what differs from the message by the author's account."""
    if routes and not recipients:
        text = ngettext(
            "{count} route by recipient; --to ADDRESS shows the way of a recipient",
            "{count} routes by recipient; --to ADDRESS shows the way of a recipient",
            len(routes.routes),
        )
        print_field(_("routes"), text.format(count=len(routes.routes)))
    if not routes:
        return
    for path in recipients:
        way, route = decision.way_of(path), _route_of(decision, routes, path)
        setting = _("no route") if route is None else route.setting
        print_field(_("way"), f"{path}: {_way_in_words(decision, way)} ({setting})")
        match way:
            case NoWay(refusal):
                print_field("", f"{refusal.reply}")
            case AccountWay() | HopWay():
                print_field("", _("sent as <{path}>").format(path=way.plan.envelope.reverse_path))
                _print_changes(way.plan)
            case None:
                pass


def _route_of(decision: Decision, routes: RecipientRoutes, path: Address) -> RecipientRoute | None:
    return routes.find((decision.undone or {}).get(path, path))


def _way_in_words(decision: Decision, way: Way | None) -> str:
    match way:
        case None:
            return f"account {decision.route.account.id}"
        case HopWay(SmarthostHop() as hop):
            return f"{hop}, {hop.server}"
        case _:
            return str(way)


def _ways_entry(decision: Decision, routes: RecipientRoutes, recipients: Sequence[Address]) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    for path in recipients:
        way, route = decision.way_of(path), _route_of(decision, routes, path)
        plan = decision.plan if way is None else None if isinstance(way, NoWay) else way.plan
        entries.append(
            {
                "recipient": str(path),
                "way": f"account {decision.route.account.id}" if way is None else str(way),
                "route": None if route is None else route.setting,
                "reverse_path": None if plan is None else str(plan.envelope.reverse_path),
                "because": list(way.refusal.reply.lines) if isinstance(way, NoWay) else [],
            }
        )
    return entries


def _entry(
    lookups: list[_Lookup],
    decision: Decision | Refusal | Discard,
    state: State | None,
    client: str | None,
    listener: str,
    other: Decision | Unfit | None = None,
) -> dict[str, object]:
    entry: dict[str, object] = {
        "goes_out": isinstance(decision, Decision),
        "client": client,
        "listener": listener,
        "looked_up": [
            {
                "place": lookup.candidate.source.value,
                "address": str(lookup.candidate.address),
                "account": lookup.account,
                "tier": lookup.tier.value if lookup.tier else None,
            }
            for lookup in lookups
        ],
    }
    if not isinstance(decision, Decision):
        reply = decision.reply
        entry |= {"code": reply.code, "status": str(reply.status or ""), "because": list(reply.lines)}
        return entry | ({"hint": decision.hint} if isinstance(decision, Refusal) and decision.hint else {})
    route, plan = decision.route, decision.plan
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
        "state": state.status["state"] if state and state.status else None,
        "state_reply": state.status["reply"] if state and state.status else None,
        "state_hint": state.status["hint"] if state and state.status else "",
        "limits": limits_entry(state or State(), route.account, route.provider),
        "loop_guard": state.automatic if state else None,
        "fallback": fallback_entry(other, route, state),
    }
