"""`senderproxy check`: configuration, vault, doors and logins, each finding with its mend."""

import argparse
import socket
from pathlib import Path

from senderproxy.cli.common import Subparsers, open_accounts, read_config, show_json
from senderproxy.cli.logins import in_words, try_login
from senderproxy.config.model import Config
from senderproxy.control.client import NotPermitted, NotRunning, ask
from senderproxy.delivery.courier import LoginOk
from senderproxy.errors import SenderproxyError

_WRONG = 1
Finding = dict[str, object]


def add_parser(verbs: Subparsers) -> None:
    verb = verbs.add_parser("check", help="is everything right? configuration, vault, doors, every login")
    verb.add_argument("--offline", action="store_true", help="do not try the logins")
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 where everything is right, 1 where something is to be mended; a configuration that is refused is 78."""
    config = read_config(chosen)
    findings = [_finding(True, "configuration", "it can be meant")]
    findings += _doors(config)
    findings += _accounts(config, offline=chosen.offline)
    if chosen.json:
        show_json(findings)
    else:
        for finding in findings:
            print(f"{'ok   ' if finding['ok'] else 'WRONG'}  {finding['what']}: {finding['words']}")
            if finding["mend"]:
                print(f"       -> {finding['mend']}")
    return 0 if all(finding["ok"] for finding in findings) else _WRONG


def _doors(config: Config) -> list[Finding]:
    try:
        ask(Path(config.service.control_socket), {"do": "status"}, seconds=10)
        return [_finding(True, "service", "it runs")]
    except NotPermitted as error:
        return [_finding(True, "service", f"it may run; {error.message}")]
    except NotRunning:
        return [_finding(True, "service", "it does not run now"), *(_door(s.address) for s in config.listeners)]


def _door(address: str) -> Finding:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            mend = f"Who has it: ss -ltnp 'sport = :{port}'"
            return _finding(False, f"listener {address}", f"cannot be opened: {error.strerror}", mend)
    return _finding(True, f"listener {address}", "the port is free")


def _accounts(config: Config, *, offline: bool) -> list[Finding]:
    try:
        accounts = open_accounts(config)
    except SenderproxyError as error:
        return [_finding(False, "vault", error.message, error.hint)]
    directory = accounts.directory()
    findings = [_finding(False, "vault", problem) for problem in accounts.unreadable]
    findings.append(_finding(True, "vault", f"{len(directory.accounts)} accounts can be read"))
    if not directory.accounts:
        findings.append(_finding(False, "accounts", "there is none", "senderproxy account add ADDRESS --provider NAME"))
    for account in () if offline else directory.accounts:
        credential = accounts.credential(account)
        if credential is None:
            continue
        try:
            verdict = try_login(config, accounts, account, credential)
        except SenderproxyError as error:
            findings.append(_finding(False, f"account {account.id}", error.message, error.hint))
            continue
        works = isinstance(verdict, LoginOk)
        mend = "" if works else f"senderproxy account set-password {account.id}, if the password is the reason"
        findings.append(_finding(works, f"account {account.id}", in_words(verdict), mend))
    return findings


def _finding(ok: bool, what: str, words: str, mend: str = "") -> Finding:
    return {"ok": ok, "what": what, "words": words, "mend": mend}
