"""`senderproxy explain`: the account that would send for an address or a message, and the reason.

Guarantees: decides with the functions that decide about clients and mail (listener.client_auth, relay.decide), so it
prints what a client would get; changes nothing and connects to no other host. The body of a message is not read.
Not here: the decision (relay.decide), the account's state and limits (cli.explain_state).
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
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
from senderproxy.listener.client_auth import Admission, ClientAuth
from senderproxy.mail.address import NULL_PATH, Address, AddressError, ReversePath, parse_address
from senderproxy.mail.author import AuthorFields, UnreadableAuthor, read_authors
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.reply import Reply
from senderproxy.mail.submission import Client
from senderproxy.relay.decide import Decision, MessageFacts, decide
from senderproxy.relay.explanation import (
    Lookup,
    explained,
    header_of_address,
    header_of_file,
    look_up,
    route_of,
    usual_reverse_path,
    ways_explained,
)
from senderproxy.relay.fallback import Unfit, decide_fallback
from senderproxy.relay.loop_guard import is_automatic_response
from senderproxy.relay.ways import NoWay
from senderproxy.rewriting.plan import Discard
from senderproxy.routing.recipient_routes import RecipientRoutes
from senderproxy.routing.route import Refusal
from senderproxy.translation import _
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
    authors, lookups = look_up(facts, directory, rules)
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
        _print_fields(explained(authors, lookups, decision))
        if isinstance(decision, Decision) and state is not None:
            route = decision.route
            is_automatic = is_automatic_response(path, header)
            print_state(state, route.account, route.provider, is_automatic=is_automatic)
            print_fallback(other, route, state)
            _print_fields(ways_explained(decision, rules.recipient_routes, recipients))
    return EX_OK if isinstance(decision, Decision) else EX_FAILED


def _print_fields(fields: Iterable[tuple[str, str]]) -> None:
    for name, text in fields:
        print_field(name, text)


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
        return header_of_address(typed_address(what), clock.now())
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
    return header_of_file(content)


def _reverse_path(text: str | None, authors: AuthorFields | UnreadableAuthor) -> ReversePath:
    if text is None:
        return usual_reverse_path(authors)
    bare = text.strip().removeprefix("<").removesuffix(">")
    if not bare:
        return NULL_PATH
    try:
        return parse_address(bare)
    except AddressError as error:
        raise UsageError(_("Invalid reverse-path: {error}.").format(error=error)) from error


# ---- JSON ----


def _ways_entry(decision: Decision, routes: RecipientRoutes, recipients: Sequence[Address]) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    for path in recipients:
        way, route = decision.way_of(path), route_of(decision, routes, path)
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
    lookups: Sequence[Lookup],
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
