"""`senderproxy status`: the state of the running service."""

import argparse
from pathlib import Path
from typing import Any

from senderproxy.cli.common import read_config
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.terminal import print_hint, print_json, print_table
from senderproxy.cli.times import local_time
from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.translation import _, ngettext


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy status`."""
    parser.add_argument("--json", action="store_true", help=_("JSON output"))
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 if every account can send and the queue moves, else 1. Raises NotRunning."""
    status = ask(Path(read_config(chosen).service.control_socket), new_request(Verb.STATUS))
    if chosen.json:
        print_json({name: value for name, value in status.items() if name != "ok"})
    else:
        _print_status(status)
    unhealthy = any(entry["state"] != "healthy" for entry in status["accounts"])
    queue = status["queue"]
    stuck = queue["problem"] or queue["refusing"] or queue["held"] or queue["late"]
    return EX_FAILED if unhealthy or stuck or status["vault_problem"] or status["sender_rules"] else EX_OK


def _print_status(status: dict[str, Any]) -> None:
    print(
        _("senderproxy {version}, running since {since} as process {process}").format(
            version=status["version"], since=local_time(status["started_at"]), process=status["process"]
        )
    )
    print()
    _print_listeners(status["listeners"])
    print()
    _print_accounts(status["accounts"])
    for rule in status["sender_rules"]:
        since = _("since {time}").format(time=local_time(rule["since"]))
        print(f"\n{rule['words']} ({since}: {rule['said']})")
        print_hint(rule["hint"], indent="  ")
    _print_reused_addresses(status["reused_addresses"])
    _print_queue(status["queue"])
    if status["vault_problem"]:
        print("\n" + _("The accounts in memory stay in force: {problem}").format(problem=status["vault_problem"]))
    for text in status["unknown_records"]:
        print(f"\n{text}")


def _print_listeners(listeners: list[dict[str, Any]]) -> None:
    headings = (
        _("listener"),
        _("address"),
        _("connected"),
        _("in progress"),
        _("accepted"),
        _("deferred"),
        _("refused"),
        _("denied"),
    )
    print_table(headings, [_listener_row(entry) for entry in listeners])
    for entry in listeners:
        if entry["faults"]:
            text = ngettext(
                "{name}: {count} internal error; see the log",
                "{name}: {count} internal errors; see the log",
                entry["faults"],
            )
            print(text.format(name=entry["name"], count=entry["faults"]))


def _print_accounts(accounts: list[dict[str, Any]]) -> None:
    if not accounts:
        print(_("There is no account yet."))
        print_hint(_("Add one: senderproxy account add ADDRESS --provider NAME"))
        return
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
    print_table(headings, [_account_row(entry) for entry in accounts])
    for entry in accounts:
        if entry["state"] == "healthy":
            continue
        if entry["since"]:
            since = _("since {time}").format(time=local_time(entry["since"]))
        else:
            since = _("since the start of the service")
        print(f"\n{entry['account']} {since}: {entry['words']}")
        if entry["state"] == "suspended":
            print_hint(f"senderproxy account set-password {entry['account']}", indent="  ")


def _print_reused_addresses(hosts: list[dict[str, Any]]) -> None:
    for entry in hosts:
        text = _("No address look-up of {host} succeeds since {since} ({why}); the addresses of {found} are used.")
        since, found = local_time(entry["since"]), local_time(entry["found"])
        print("\n" + text.format(host=entry["host"], since=since, why=entry["why"], found=found))
        print_hint(_("Look for the cause: resolvectl query {host}").format(host=entry["host"]), indent="  ")


def _print_queue(queue: dict[str, Any]) -> None:
    print()
    if queue["problem"]:
        print(_("The queue is unavailable: {problem}").format(problem=queue["problem"]))
        print_hint(queue["hint"], indent="  ")
        return
    if queue["refusing"]:
        print(_("New mail for the queue is deferred: {why}").format(why=queue["refusing"]["why"]))
        print_hint(queue["refusing"]["hint"], indent="  ")
        print()
    if not queue["waiting"] and not queue["held"]:
        print(_("The queue is empty."))
        return
    waiting = ngettext("{count} message waiting", "{count} messages waiting", queue["waiting"])
    held = ngettext("{count} message held", "{count} messages held", queue["held"])
    print(
        _("Queue: {waiting}, {held}; the oldest received {time}").format(
            waiting=waiting.format(count=queue["waiting"]),
            held=held.format(count=queue["held"]),
            time=local_time(queue["oldest"]),
        )
    )
    for entry in queue["blocked"]:
        if entry["seconds"] is None:
            text = _("{account} is blocked until the cause is fixed ({messages}): {why}")
        else:
            text = _("{account} is blocked for {seconds} s ({messages}): {why}")
        messages = ngettext("{count} message", "{count} messages", entry["waiting"]).format(count=entry["waiting"])
        print(text.format(account=entry["account"], seconds=entry["seconds"], messages=messages, why=entry["why"]))
    print(_("Details: senderproxy queue"))


def _listener_row(entry: dict[str, Any]) -> list[str]:
    names = ("name", "address", "connected", "under_way", "accepted", "deferred", "refused", "turned_away")
    return [str(entry[name]) for name in names]


def _account_row(entry: dict[str, Any]) -> list[str]:
    allowance = []
    if (messages := entry["messages_left"]) is not None:
        allowance.append(ngettext("{count} message", "{count} messages", messages).format(count=messages))
    if (recipients := entry["recipients_left"]) is not None:
        allowance.append(ngettext("{count} recipient", "{count} recipients", recipients).format(count=recipients))
    counts = [str(entry[name]) for name in ("delivered", "deferred", "failed", "sessions_busy", "sessions_idle")]
    return [entry["account"], entry["state"], *counts, ", ".join(allowance) or _("no limit")]
