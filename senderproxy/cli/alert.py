"""`senderproxy alert`: a test of the ways of alerts, and the last alerts.

Guarantees: the test goes through the running service, as real alerts do.
Not here: the alerts (service.alert_sender).
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from senderproxy.cli import unit_failed
from senderproxy.cli.common import config_path, read_config
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.screen import printable
from senderproxy.cli.terminal import print_error, print_hint, print_json, print_progress, print_table
from senderproxy.cli.times import local_time
from senderproxy.config.load import find_control_socket
from senderproxy.config.problems import ConfigError
from senderproxy.control.client import ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.translation import N_, _, ngettext

_TIMEOUT: Final = 300.0  # seconds; a way may try three accounts for a minute each

_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "begun": N_("begun"),
        "worse": N_("worse"),
        "reminder": N_("still there"),
        "over": N_("over"),
        "digest": N_("digest"),
        "weekly": N_("weekly"),
    }
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Actions of `senderproxy alert`."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    test = actions.add_parser("test", help=_("send a test by every way, and say which one fails"))
    test.add_argument("--json", action="store_true", help=_("print JSON"))
    test.set_defaults(run=run_test)
    listing = actions.add_parser("list", help=_("the ways, and the last alerts"))
    listing.add_argument("--json", action="store_true", help=_("print JSON"))
    listing.set_defaults(run=run_list)
    unit_failed.add_arguments(
        actions.add_parser("unit-failed", help=_("send the alert about a failed unit; systemd calls it"))
    )


def run_test(chosen: argparse.Namespace) -> int:
    """0 if every way took the test, 1 if one failed or none is set. Raises SenderproxyError without a service."""
    path = _socket(chosen)
    print_progress(_("Sending a test by every way ..."))
    results = ask(path, new_request(Verb.ALERT_TEST), seconds=_TIMEOUT)["ways"]
    if not results:
        return _no_way()
    if chosen.json:
        print_json({"ways": results})
    else:
        for result in results:
            _print_result(result)
    return EX_FAILED if any(result["why"] for result in results) else EX_OK


def _print_result(result: Mapping[str, Any]) -> None:
    if not result["why"]:
        print(printable(_("{way}: sent").format(way=result["way"])))
        return
    text = _("{way}: sent in part. {why}") if result["sent"] else _("{way}: failed. {why}")
    print(printable(text.format(way=result["way"], why=result["why"])))
    print_hint(result["hint"], indent="  ")


def run_list(chosen: argparse.Namespace) -> int:
    """0; 1 if no way is set. Raises SenderproxyError if the service cannot be reached."""
    answer = ask(_socket(chosen), new_request(Verb.ALERTS))
    if chosen.json:
        print_json({name: answer[name] for name in ("ways", "open", "alerts")})
        return EX_OK
    if not answer["ways"]:
        return _no_way()
    for way in answer["ways"]:
        if way["problem"]:
            print(printable(_("{way}: failed. {why}").format(way=way["way"], why=way["problem"])))
            print_hint(way["hint"], indent="  ")
        else:
            print(printable(_("{way}: no failure known").format(way=way["way"])))
    if not answer["alerts"]:
        print(_("No alert was sent so far."))
        return EX_OK
    print()
    rows = [
        [
            local_time(entry["time"]),
            _(_KINDS[entry["kind"]]) if entry["kind"] in _KINDS else entry["kind"],
            _about(entry),
            ", ".join(entry["ways"]),
        ]
        for entry in reversed(answer["alerts"])
    ]
    print_table([_("time"), _("kind"), _("condition"), _("sent by")], rows)
    return EX_OK


def _about(entry: Mapping[str, Any]) -> str:
    conditions = entry["conditions"]
    if not conditions:
        return ""
    first = f"{conditions[0]['key']} {conditions[0]['subject']}".strip()
    more = entry["count"] - 1
    if not more:
        return first
    return ngettext("{first} and {count} more", "{first} and {count} more", more).format(first=first, count=more)


def _no_way() -> int:
    print_error(
        _("No way of alerts is set."),
        _('Write to = "ADDRESS" under [alerts] in the configuration, then: senderproxy reload'),
    )
    return EX_FAILED


def _socket(chosen: argparse.Namespace) -> Path:
    try:
        return Path(read_config(chosen).service.control_socket)
    except ConfigError:  # the service runs with the previous one
        return find_control_socket(config_path(chosen))
