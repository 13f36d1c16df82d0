"""`senderproxy status`: the state of the running service."""

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from senderproxy.cli.common import config_path, read_config
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.installed_program import outdated_program
from senderproxy.cli.severities import LABEL_WIDTH, STYLES
from senderproxy.cli.terminal import print_item, print_json, print_line, print_table
from senderproxy.clock import SystemClock
from senderproxy.config.load import find_control_socket
from senderproxy.config.problems import ConfigError
from senderproxy.control.client import NotRunning, ask, ask_status
from senderproxy.control.protocol import Answer, Verb, new_request
from senderproxy.log_events import Severity
from senderproxy.monitoring.conditions import find_conditions
from senderproxy.monitoring.facts import Facts, RefusedConfiguration
from senderproxy.monitoring.record import Condition, condition_entry, read_condition
from senderproxy.monitoring.words import (
    allowance_in_words,
    draining_in_words,
    durability_in_words,
    instances_in_words,
    label,
    queue_in_words,
    refusal_in_words,
    running_in_words,
    state_in_words,
    state_word,
)
from senderproxy.tracking.timeline import format_time
from senderproxy.translation import _, ngettext

_BLOCKED: Final = 5  # blocked accounts that are listed; the queue has all
_ACCOUNTS: Final = 40  # accounts that are listed: those that cannot send, then those with most recipients


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy status`."""
    parser.add_argument("--json", action="store_true", help=_("JSON output"))
    parser.add_argument(
        "--alive", action="store_true", help=_("print nothing; exit code 0 if the service answers, whatever its state")
    )
    parser.add_argument(
        "--all", action="store_true", help=_("all accounts; without it at most {count}").format(count=_ACCOUNTS)
    )
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 if no condition affects mail, else 1. Raises NotRunning; ConfigError if the file is invalid and none runs."""
    status = _status(chosen)
    if chosen.alive:
        return EX_OK
    if chosen.json:
        print_json({name: value for name, value in status.items() if name != "ok"})
    else:
        _print_status(status, all_accounts=chosen.all)
    conditions = [read_condition(entry) for entry in status["conditions"]]
    return EX_FAILED if any(one.severity >= Severity.WARNING for one in conditions) else EX_OK


def _status(chosen: argparse.Namespace) -> dict[str, Any]:
    """The answer of the service. An invalid file is a condition of it: the service has the configuration of before."""
    try:
        path = Path(read_config(chosen).service.control_socket)
    except ConfigError as error:
        try:
            status = _ask(chosen, find_control_socket(config_path(chosen)))
        except NotRunning:
            raise error from None
        now = SystemClock().now()
        refused = RefusedConfiguration(" ".join(error.message.split()), error.hint, now)
        return _with_own_conditions(status, Facts(now, configuration=refused, program=outdated_program(status)))
    status = _ask(chosen, path)
    return _with_own_conditions(status, Facts(SystemClock().now(), program=outdated_program(status)))


def _ask(chosen: argparse.Namespace, path: Path) -> Answer:
    return ask(path, new_request(Verb.STATUS)) if chosen.alive else ask_status(path)


def _with_own_conditions(status: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """The status with the conditions that this command sees itself, unless the service has named them."""
    known = [read_condition(entry) for entry in status["conditions"]]
    own = [one for one in find_conditions(facts) if one.key not in {other.key for other in known}]
    ordered = sorted((*known, *own), key=lambda one: -one.severity)
    return status | {"conditions": [condition_entry(one) for one in ordered]}


def _print_status(status: dict[str, Any], *, all_accounts: bool) -> None:
    print_line(running_in_words(status))
    if text := draining_in_words(status):
        print_line(text)
    print()
    conditions = [read_condition(entry) for entry in status["conditions"]]
    _print_conditions(conditions)
    _print_listeners(status["listeners"])
    print()
    _print_accounts(status["accounts"], None if all_accounts else _ACCOUNTS)
    _print_servers(status.get("servers", []))
    _print_queue(status["queue"], [name for one in conditions for name in one.affected.names])
    _print_copies(status.get("sent_copies", {}))
    _print_refusals(status["refusals"])
    for text in status["unknown_records"]:
        print()
        print_line(text)


def _print_conditions(conditions: list[Condition]) -> None:
    """The conditions, the worst first, each with its remedy."""
    for one in conditions:
        since = _("since {time}").format(time=format_time(one.since, None))
        text = f"{one.cause} ({since})"
        print_item(label(one.severity), text, one.hint, width=LABEL_WIDTH, style=STYLES[one.severity])
    if conditions:
        print()


def _print_refusals(refusals: list[dict[str, Any]]) -> None:
    """Equal refusals that are counted and not recorded each on its own; single ones are in `track`."""
    repeated = [entry for entry in refusals if entry["count"] > 1]
    if not repeated:
        return
    print("\n" + _("Refused within the last hour:"))
    for entry in repeated:
        print_line(refusal_in_words(entry), indent=2, hanging_indent=4)


def _print_listeners(listeners: list[dict[str, Any]]) -> None:
    headings = (
        _("listener"),
        _("address"),
        _("open"),
        _("busy"),
        _("accepted"),
        _("deferred"),
        _("refused"),
        _("denied"),
        _("evicted"),
    )
    shown = len(headings) if any(entry["turned_away"] or entry["evicted"] for entry in listeners) else -2
    print_table(headings[:shown], [_listener_row(entry)[:shown] for entry in listeners])
    for entry in listeners:
        if entry["faults"]:
            text = ngettext(
                "{name}: {count} internal error; see the log",
                "{name}: {count} internal errors; see the log",
                entry["faults"],
            )
            print_line(text.format(name=entry["name"], count=entry["faults"]))


def _print_accounts(accounts: list[dict[str, Any]], most: int | None) -> None:
    """The accounts; of more than `most`, those that cannot send, then those with most recipients."""
    if not accounts:
        return
    shown = accounts
    if most is not None and len(accounts) > most:
        shown = sorted(accounts, key=_importance)[:most]
    headings = (
        _("account"),
        _("state"),
        _("delivered"),
        _("deferred"),
        _("failed"),
        _("busy"),
        _("idle"),
        _("left this hour"),
    )
    print_table(headings, [_account_row(entry) for entry in shown])
    if more := len(accounts) - len(shown):
        text = ngettext("{count} more account: {command}", "{count} more accounts: {command}", more)
        print(text.format(count=more, command="senderproxy status --all"))


def _print_servers(servers: list[dict[str, Any]]) -> None:
    """The servers without a login that routes have used."""
    if not servers:
        return
    print()
    headings = (_("route"), _("server"), _("state"), _("delivered"), _("deferred"), _("failed"), _("busy"), _("idle"))
    counts = ("delivered", "deferred", "failed", "sessions_busy", "sessions_idle")
    rows = [[one["way"], one["server"], state_word(one), *(str(one[name]) for name in counts)] for one in servers]
    print_table(headings, rows)


def _importance(entry: dict[str, Any]) -> tuple[bool, int, str]:
    recipients = entry["delivered"] + entry["deferred"] + entry["failed"]
    return entry["state"] == "healthy", -recipients, entry["account"]


def _print_queue(queue: dict[str, Any], with_condition: Collection[str]) -> None:
    """The queue. `with_condition`: accounts with a condition that names their messages already."""
    if queue["problem"]:
        return  # a condition says so
    print()
    if durability := queue.get("durability"):
        print_line(durability_in_words(durability))
    if instances := queue.get("instances"):
        print_line(instances_in_words(instances))
    if not queue["waiting"] and not queue["held"]:
        print(queue_in_words(queue))
        return
    print_line(queue_in_words(queue))
    others = [entry for entry in queue["blocked"] if entry["account"] not in with_condition]
    for entry in others[:_BLOCKED]:
        if entry["seconds"] is None:
            text = _("{account} is blocked until the cause is fixed ({messages}): {why}")
        else:
            text = _("{account} is blocked for {seconds} s ({messages}): {why}")
        messages = ngettext("{count} message", "{count} messages", entry["waiting"]).format(count=entry["waiting"])
        print_line(text.format(account=entry["account"], seconds=entry["seconds"], messages=messages, why=entry["why"]))
    unlisted = queue.get("blocked_count", len(queue["blocked"])) - len(queue["blocked"])
    if more := len(others[_BLOCKED:]) + unlisted:
        print(
            ngettext("{count} more account is blocked.", "{count} more accounts are blocked.", more).format(count=more)
        )
    print(_("Details: senderproxy queue"))


def _print_copies(copies: dict[str, Any]) -> None:
    """The copies that wait; why, a condition says after a refusal."""
    for entry in copies.get("accounts", []):
        text = ngettext(
            "{count} copy for the Sent folder of {account} waits",
            "{count} copies for the Sent folder of {account} wait",
            entry["waiting"],
        )
        why = f": {entry['why']}" if entry["why"] else ""
        print_line(text.format(count=entry["waiting"], account=entry["account"]) + why)


def _listener_row(entry: dict[str, Any]) -> list[str]:
    names = ("name", "address", "connected", "under_way", "accepted", "deferred", "refused", "turned_away", "evicted")
    return [str(entry[name]) for name in names]


def _account_row(entry: dict[str, Any]) -> list[str]:
    counts = [str(entry[name]) for name in ("delivered", "deferred", "failed", "sessions_busy", "sessions_idle")]
    return [entry["account"], state_in_words(entry), *counts, allowance_in_words(entry)]
