"""The fallback account in `senderproxy explain`: whether it may send the message, and whether it does now.

Not here: the decision (relay.fallback), the account's state (cli.explain_state).
"""

from senderproxy.cli.explain_state import State
from senderproxy.cli.terminal import print_field
from senderproxy.mail.reasons import reason_in_words
from senderproxy.relay.decide import Decision
from senderproxy.relay.fallback import Unfit, sender_changes
from senderproxy.routing.route import Route
from senderproxy.translation import _


def print_fallback(other: Decision | Unfit | None, route: Route, state: State) -> None:
    """Lines on the fallback of the route's account; none without one."""
    name = route.account.fallback
    if name is None:
        return
    match other:
        case None:
            text = _("{account}, which does not exist or has an unknown provider").format(account=name)
        case Unfit():
            text = _("{account} may not send this message: {reason}").format(
                account=name, reason=reason_in_words(other.why)
            )
        case Decision():
            text = _("{account}, logs in as {login}, while {first} cannot send")
            if _sends_now(state):
                text = _("{account}, logs in as {login}; it sends the message now")
            text = text.format(account=name, login=other.route.account.login, first=route.account.id)
    print_field(_("fallback"), text)
    for change in sender_changes(other) if isinstance(other, Decision) else ():
        print_field("", _("then {what}: {new}").format(what=change.what, new=change.new))


def fallback_entry(other: Decision | Unfit | None, route: Route, state: State | None) -> dict[str, object] | None:
    """The fallback in values for JSON; None without one."""
    if route.account.fallback is None:
        return None
    entry: dict[str, object] = {"account": route.account.fallback, "may_send": isinstance(other, Decision)}
    if not isinstance(other, Decision):
        why = other.why if isinstance(other, Unfit) else ""
        return entry | {"reason": why, "provider": None, "sends_now": False, "reverse_path": None, "changes": []}
    return entry | {
        "reason": "",
        "provider": other.route.provider.name,
        "sends_now": state is not None and _sends_now(state),
        "reverse_path": str(other.plan.envelope.reverse_path),
        "changes": [
            {"what": change.what, "old": change.old, "new": change.new, "reason": change.reason}
            for change in sender_changes(other)
        ],
    }


def _sends_now(state: State) -> bool:
    return bool(state.status and state.status.get("sends_through"))
