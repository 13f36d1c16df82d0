"""Words about the state of the service: severities, accounts, the queue, refusals. PURE.

Guarantees: command line and page show the same words. The arguments are parts of the answer to `status`.
Not here: the conditions (monitoring.conditions), the answer itself (service.status).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from senderproxy.log_events import Severity
from senderproxy.tracking.timeline import format_time
from senderproxy.translation import N_, _, ngettext

_SILENT: Final = 12  # seconds without a sign of life that `status` names; one comes every five
_LABELS: Final = {
    Severity.INFO: N_("info"),
    Severity.WARNING: N_("warning"),
    Severity.ERROR: N_("ERROR"),
    Severity.CRITICAL: N_("CRITICAL"),
}


_STATES: Final = {
    "healthy": N_("healthy"),
    "no session": N_("no session"),
    "paused": N_("paused"),
    "suspended": N_("suspended"),
}


def running_in_words(status: Mapping[str, Any]) -> str:
    """The version of the service, and since when it runs, in the time zone of this machine."""
    return _("senderproxy {version}, running since {since} as process {process}").format(
        version=status["version"],
        since=format_time(datetime.fromisoformat(status["started_at"]), None),
        process=status["process"],
    )


def draining_in_words(status: Mapping[str, Any]) -> str:
    """The drain, and since when, in the time zone of this machine; empty if there is none."""
    if (since := status.get("draining_since")) is None:
        return ""
    return _("Draining since {time}: health checks of the proxy are refused, clients that come are served.").format(
        time=format_time(datetime.fromisoformat(since), None)
    )


def label(severity: Severity) -> str:
    """The word for a severity."""
    return _(_LABELS[severity])


def state_word(account: Mapping[str, Any]) -> str:
    """The state of an account, in a word."""
    return _(_STATES.get(account["state"], account["state"]))


def state_in_words(account: Mapping[str, Any]) -> str:
    """The state of an account, in a word, and the account that sends its messages meanwhile."""
    state = state_word(account)
    if account.get("sends_through"):
        in_part = account.get("sends_in_part")
        text = _("{state}, sends in part through {fallback}") if in_part else _("{state}, sends through {fallback}")
        return text.format(state=state, fallback=account["sends_through"])
    return state


def allowance_in_words(account: Mapping[str, Any]) -> str:
    """The messages and recipients that are left of the limits of an hour."""
    left = []
    if (messages := account["messages_left"]) is not None:
        left.append(ngettext("{count} message", "{count} messages", messages).format(count=messages))
    if (recipients := account["recipients_left"]) is not None:
        left.append(ngettext("{count} recipient", "{count} recipients", recipients).format(count=recipients))
    return ", ".join(left) or _("no limit")


def queue_in_words(queue: Mapping[str, Any]) -> str:
    """The number of waiting and held messages, and the age of the oldest, in the time zone of this machine."""
    if not queue["waiting"] and not queue["held"]:
        return _("The queue is empty.")
    waiting = ngettext("{count} message waiting", "{count} messages waiting", queue["waiting"])
    held = ngettext("{count} message held", "{count} messages held", queue["held"])
    return _("Queue: {waiting}, {held}; the oldest received {time}").format(
        waiting=waiting.format(count=queue["waiting"]),
        held=held.format(count=queue["held"]),
        time=format_time(datetime.fromisoformat(queue["oldest"]), None),
    )


def durability_in_words(durability: str) -> str:
    """The cost of losing the database server. `durability`: as in `status --json`."""
    match durability:
        case "standby":
            return _("The queue is in a database: each message is on a synchronous standby before it is acknowledged.")
        case "server":
            return _(
                "The queue is in a database: acknowledged mail is on one server first, and is lost with its disk if no"
                " standby has it yet."
            )
        case _:
            return _(
                "The queue is in a database that does not sync: a crash of its machine loses acknowledged mail. See"
                " docs/cluster.md."
            )


def instances_in_words(instances: Sequence[Mapping[str, Any]]) -> str:
    """The instances that share the queue. `instances`: as in `status --json`."""
    return _("Instances: {names}.").format(names=", ".join(_instance_in_words(one) for one in instances))


def _instance_in_words(one: Mapping[str, Any]) -> str:
    facts = []
    if one["this"]:
        facts.append(_("this one"))
    elif one["silent_seconds"] >= _SILENT:
        text = ngettext(
            "silent for {seconds} s, with {count} message in progress",
            "silent for {seconds} s, with {count} messages in progress",
            one["messages"],
        )
        facts.append(text.format(seconds=one["silent_seconds"], count=one["messages"]))
    if one["draining"]:
        facts.append(_("drains"))
    return f"{one['name']} ({', '.join(facts)})" if facts else str(one["name"])


def refusal_in_words(refusal: Mapping[str, Any]) -> str:
    """Equal refusals of the last hour."""
    text = ngettext(
        "{count} message of {client} from <{path}>: {reply}",
        "{count} messages of {client} from <{path}>: {reply}",
        refusal["count"],
    )
    return text.format(
        count=refusal["count"], client=refusal["client"], path=refusal["reverse_path"], reply=refusal["reply"]
    )
