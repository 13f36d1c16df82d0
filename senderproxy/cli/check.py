"""`senderproxy check`: is everything right? Each finding with its mend.

Promises: changes nothing; tries each login once at the most, and not that of an account whose password the running
service saw refused; ends in bounded time.
Leaves to others: the configuration's own contradictions (config.load), DNS (cli.check_dns).
"""

import argparse
import os
import pwd
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from senderproxy.accounts.keeper import VaultAccounts
from senderproxy.cli.check_dns import KNOWN, Asker, Unasked, check_domain
from senderproxy.cli.common import (
    EX_OK,
    EX_WRONG,
    Subparsers,
    config_path,
    counted,
    open_accounts,
    progress,
    read_config,
    show_json,
)
from senderproxy.cli.findings import Finding, Level
from senderproxy.cli.logins import in_words, try_login
from senderproxy.config.load import find_doubts
from senderproxy.config.model import Config, ListenerSettings
from senderproxy.control.client import NotRunning, ask
from senderproxy.delivery.courier import LoginOk
from senderproxy.errors import SenderproxyError
from senderproxy.routing.account import Account

SERVICE_USER: Final = "senderproxy"
_SHOWN: Final = {Level.OK: "ok     ", Level.ADVICE: "advice ", Level.UNKNOWN: "unknown", Level.WRONG: "WRONG  "}


def add_parser(verbs: Subparsers) -> None:
    verb = verbs.add_parser("check", help="is everything right? configuration, vault, doors, every login, DNS")
    verb.add_argument("--offline", action="store_true", help="ask neither providers nor name servers")
    verb.add_argument("--json", action="store_true", help="for programs")
    verb.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 where nothing is wrong, 1 where something is to be mended; a configuration that is refused is 78."""
    config = read_config(chosen)
    findings: list[Finding] = []
    for finding in _all(config, config_path(chosen), offline=chosen.offline):
        findings.append(finding)
        if not chosen.json:
            _show(finding)
    if chosen.json:
        show_json([{"level": f.level.value, "what": f.what, "words": f.words, "mend": f.mend} for f in findings])
    wrong = sum(finding.level is Level.WRONG for finding in findings)
    if not chosen.json:
        print(f"\n{wrong} of {counted(len(findings), 'finding')} must be mended." if wrong else "\nNothing is wrong.")
    return EX_WRONG if wrong else EX_OK


def _show(finding: Finding) -> None:
    print(f"{_SHOWN[finding.level]}  {finding.what}: {finding.words}", flush=True)
    if finding.mend:
        print(f"         -> {finding.mend}")


def _all(config: Config, path: Path, *, offline: bool) -> Iterator[Finding]:
    yield from _configuration(config, path)
    status = _ask_service(config)
    yield from _service(config, status)
    yield from _ownership(config)
    try:
        accounts = open_accounts(config)
    except SenderproxyError as error:
        yield Finding(Level.WRONG, "vault", error.message, error.hint)
        return
    yield from _vault(accounts)
    yield from _providers(config, accounts)
    if offline:
        return
    suspended = {entry["account"] for entry in (status or {}).get("accounts", []) if entry["state"] == "suspended"}
    for account in accounts.directory().accounts:
        yield from _login(config, accounts, account, suspended=account.id in suspended)
    yield from _dns(config, accounts)


# ---- configuration and service ----


def _configuration(config: Config, path: Path) -> Iterator[Finding]:
    yield Finding(Level.OK, "configuration", f"{path} can be used")
    for doubt in find_doubts(path, config):
        yield Finding(
            Level.ADVICE, "configuration", f"{doubt.key}: {doubt.wrong}" if doubt.key else doubt.wrong, doubt.mend
        )
    for listener in config.listeners:
        yield from _certificate(listener)


def _certificate(listener: ListenerSettings) -> Iterator[Finding]:
    if listener.tls == "none" or listener.certificate is None:
        return
    what = f"certificate of listener {listener.name}"
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(listener.certificate, listener.key)
    except (OSError, ssl.SSLError) as error:
        mend = f"Do {listener.certificate} and {listener.key} belong together, and may they be read?"
        yield Finding(Level.WRONG, what, f"cannot be used: {error.strerror or error}", mend)
        return
    yield Finding(Level.OK, what, f"{listener.certificate} and its key fit together")


def _ask_service(config: Config) -> dict[str, Any] | None:
    """The running service's own account of itself; empty where it runs and we may not ask, None where it does not."""
    try:
        return ask(Path(config.service.control_socket), {"do": "status"}, seconds=10)
    except NotRunning:
        return None
    except SenderproxyError:
        return {}


def _service(config: Config, status: dict[str, Any] | None) -> Iterator[Finding]:
    if status is None:
        mend = "senderproxy run, or: systemctl start senderproxy"
        yield Finding(Level.ADVICE, "service", "it does not run", mend)
        for listener in config.listeners:
            yield _door(listener)
    elif not status:
        yield Finding(Level.UNKNOWN, "service", "it runs, and does not answer this user", "sudo senderproxy check")
    else:
        yield Finding(Level.OK, "service", f"it runs since {status['started_at']} as process {status['process']}")
        if status.get("vault_problem"):
            yield Finding(Level.WRONG, "service", f"it works with the accounts it had: {status['vault_problem']}")


def _door(listener: ListenerSettings) -> Finding:
    """Whether the listener could be opened now; nothing listens there afterwards."""
    host, _, port = listener.address.rpartition(":")
    host, what = host.strip("[]"), f"listener {listener.name}"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except PermissionError:
            mend = "Take a port from 1024 on, or give the service CAP_NET_BIND_SERVICE."
            return Finding(Level.WRONG, what, f"{listener.address} may not be opened by this user", mend)
        except OSError as error:
            mend = f"Who has it: ss -ltnp 'sport = :{port}'; which addresses there are: ip address"
            return Finding(Level.WRONG, what, f"{listener.address} cannot be opened: {error.strerror}", mend)
    return Finding(Level.OK, what, f"{listener.address} is free")


# ---- the vault ----


def _ownership(config: Config) -> Iterator[Finding]:
    """Root can read everything; the service, as its own user, cannot."""
    if os.geteuid() != 0:
        return
    try:
        service = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return
    kind, _, key = config.vault.unlock.partition(":")
    for path in [Path(config.vault.path), *([Path(key)] if kind == "key-file" else [])]:
        try:
            status = path.lstat()
        except OSError:
            continue  # said elsewhere, with the reason
        if status.st_uid != service.pw_uid:
            words = f"belongs to another user than {SERVICE_USER}, as whom the service runs"
            yield Finding(Level.WRONG, str(path), words, f"chown {SERVICE_USER}: {path}")
        elif stat.S_IMODE(status.st_mode) & 0o077:
            yield Finding(Level.WRONG, str(path), "others than its owner have a way to it", f"chmod 600 {path}")


def _vault(accounts: VaultAccounts) -> Iterator[Finding]:
    count = len(accounts.directory().accounts)
    for problem in accounts.unreadable:
        yield Finding(Level.WRONG, "vault", problem, "Take it away and add it again: senderproxy account --help")
    if count:
        yield Finding(Level.OK, "vault", f"it opens, and {counted(count, 'account')} can be read")
    else:
        mend = "senderproxy account add ADDRESS --provider NAME"
        yield Finding(Level.WRONG, "vault", "it opens, and there is no account in it", mend)


def _providers(config: Config, accounts: VaultAccounts) -> Iterator[Finding]:
    directory, table = accounts.directory(), config.provider_table()
    for account in directory.accounts:
        if account.provider not in table:
            mend = f"Add [providers.{account.provider}] to the configuration."
            words = f"is at provider {account.provider}, which the configuration does not know"
            yield Finding(Level.WRONG, f"account {account.id}", words, mend)
    for setting, named in config.named_accounts():
        if directory.by_id(named) is None:
            mend = f"Mend {setting} in the configuration, or: senderproxy account add ADDRESS --id {named}"
            words = f"the account {named} that {setting} names does not exist"
            yield Finding(Level.WRONG, "configuration", words, mend)


# ---- the world outside ----


def _login(config: Config, accounts: VaultAccounts, account: Account, *, suspended: bool) -> Iterator[Finding]:
    what, mend = f"account {account.id}", f"senderproxy account set-password {account.id}"
    credential = accounts.credential(account)
    if credential is None or account.provider not in config.provider_table():
        return
    if suspended:
        yield Finding(Level.WRONG, what, "the running service saw its password refused; not tried again", mend)
        return
    progress(f"Trying the login of {account.login} ...")
    verdict = try_login(config, account, credential)
    if isinstance(verdict, LoginOk):
        yield Finding(Level.OK, what, in_words(verdict))
    else:
        yield Finding(Level.WRONG, what, in_words(verdict), f"If the password is the reason: {mend}")


def _dns(config: Config, accounts: VaultAccounts) -> Iterator[Finding]:
    wanted = dict.fromkeys(
        (pattern.domain, account.provider)
        for account in accounts.directory().accounts
        for pattern in account.carries
        if _preset(config, account.provider) in KNOWN
    )
    if not wanted:
        return
    try:
        asker = Asker()
    except Unasked as error:
        yield Finding(Level.UNKNOWN, "DNS", f"could not ask: {error}")
        return
    for domain, provider in wanted:
        progress(f"Asking the DNS about {domain} ...")
        yield from check_domain(asker, domain, provider, KNOWN[_preset(config, provider)])


def _preset(config: Config, provider: str) -> str:
    named = config.providers.get(provider)
    return named.base(provider) if named else provider
