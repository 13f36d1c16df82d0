"""The present in `senderproxy explain`: the account's state, its limits, the loop guard.

Guarantees: asks the running service only, on its control socket; without one the limits are those of the configuration,
and the state is unknown.
Not here: the decision about the message (cli.explain).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from senderproxy.cli.terminal import print_field, print_hint
from senderproxy.cli.times import local_time
from senderproxy.config.model import Config
from senderproxy.control.client import ask, ask_status
from senderproxy.control.protocol import Verb, new_request
from senderproxy.delivery.account_state import hourly_limits
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import Address
from senderproxy.monitoring.words import state_word
from senderproxy.routing.account import Account
from senderproxy.routing.provider import Provider
from senderproxy.translation import _, ngettext

_TIMEOUT: Final = 10.0  # seconds for an answer of the service, which comes within milliseconds
_MIB: Final = 1 << 20  # octets


@dataclass(frozen=True, slots=True)
class State:
    """The service's facts about the account now. `problem`: the reason for their absence."""

    status: Mapping[str, Any] | None = None
    automatic: Mapping[str, Any] | None = None
    problem: str = ""


def ask_state(config: Config, account: Account, author: Address, recipients: Sequence[Address]) -> State:
    """The state of the account and the loop guard in the running service."""
    path = Path(config.service.control_socket)
    request = new_request(Verb.AUTOMATIC, author=author.key, recipients=[one.key for one in recipients])
    try:
        accounts = ask_status(path, seconds=_TIMEOUT)["accounts"]
        automatic = ask(path, request, seconds=_TIMEOUT)
    except SenderproxyError as error:
        return State(problem=error.message)
    status = next((entry for entry in accounts if entry["account"] == account.id), None)
    if status is None:
        return State(problem=_("The service does not know the account yet."))
    return State(status, {name: automatic[name] for name in ("limit", "sent", "limited")})


def limits_entry(state: State, account: Account, provider: Provider) -> dict[str, object]:
    """The limits of the account in values for JSON; what is left of this hour is None if it is not known."""
    messages, recipients = hourly_limits(account, provider)
    status = state.status or {}
    return {
        "messages_per_hour": messages,
        "recipients_per_hour": recipients,
        "messages_left": status.get("messages_left"),
        "recipients_left": status.get("recipients_left"),
        "recipients_per_message": provider.limits.recipients_per_message,
        "message_size": provider.limits.message_size,
        "connections": account.connections or provider.limits.connections,
    }


def print_state(state: State, account: Account, provider: Provider, *, is_automatic: bool) -> None:
    """Lines on the state, the limits and, for an automatic message or an author above the limit, the loop guard."""
    _print_health(state)
    print_field(_("limits"), ", ".join(_limits(limits_entry(state, account, provider))))
    if state.automatic is not None:
        for text in _loop_guard(state.automatic, is_automatic=is_automatic):
            print_field(_("loop guard"), text)


def _print_health(state: State) -> None:
    status = state.status
    if status is None:
        print_field(_("state"), _("unknown: {problem}").format(problem=state.problem))
        return
    if status["state"] == "healthy":
        print_field(_("state"), state_word(status))
        return
    since = local_time(status["since"]) if status["since"] else "?"
    if status["until"]:
        text = _("{state} since {since}, until {until}: {reply}")
    else:
        text = _("{state} since {since}: {reply}")
    until = local_time(status["until"]) if status["until"] else ""
    reply = status["reply"] or status["words"]
    print_field(_("state"), text.format(state=state_word(status), since=since, until=until, reply=reply))
    print_hint(status["hint"], indent=" " * 15)


def _limits(entry: Mapping[str, Any]) -> list[str]:
    texts = []
    if (limit := entry["messages_per_hour"]) is not None:
        text = ngettext("{limit} message an hour", "{limit} messages an hour", limit).format(limit=limit)
        texts.append(text + _left(entry["messages_left"]))
    if (limit := entry["recipients_per_hour"]) is not None:
        text = ngettext("{limit} recipient an hour", "{limit} recipients an hour", limit).format(limit=limit)
        texts.append(text + _left(entry["recipients_left"]))
    if (limit := entry["recipients_per_message"]) is not None:
        text = ngettext("{limit} recipient of a message", "{limit} recipients of a message", limit)
        texts.append(text.format(limit=limit))
    if (limit := entry["message_size"]) is not None:
        texts.append(_("{size} MiB").format(size=round(limit / _MIB)))
    connections = entry["connections"]
    texts.append(ngettext("{count} connection", "{count} connections", connections).format(count=connections))
    return texts


def _left(count: int | None) -> str:
    return "" if count is None else " " + _("({count} left)").format(count=count)


def _loop_guard(automatic: Mapping[str, Any], *, is_automatic: bool) -> list[str]:
    """The counts of the loop guard; those above the limit in any case, the others for an automatic message."""
    texts = []
    for sent in automatic["sent"] if is_automatic else ():
        text = ngettext(
            "{count} of {limit} automatic message to {recipient} in this hour",
            "{count} of {limit} automatic messages to {recipient} in this hour",
            automatic["limit"],
        )
        text = text.format(count=sent["count"], limit=automatic["limit"], recipient=sent["recipient"])
        if sent["count"] >= automatic["limit"]:
            text = _("{text}: the next one is refused, a report or journal deferred").format(text=text)
        texts.append(text)
    for pair in automatic["limited"]:
        text = _("to {recipient} above the limit of {limit} an hour: {refused} refused, {deferred} deferred")
        texts.append(text.format(**pair))
    if is_automatic and not texts:
        text = ngettext(
            "{limit} automatic message to one recipient an hour",
            "{limit} automatic messages to one recipient an hour",
            automatic["limit"],
        )
        texts.append(text.format(limit=automatic["limit"]))
    return texts
