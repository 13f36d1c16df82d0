"""`senderproxy check`: is everything right? Each finding with its mend.

Guarantees: changes nothing; tries each login once at the most, and not that of an account whose password the running
service saw refused; ends in bounded time. With --probe it asks a person first, and the probe's login is the one try.
Not here: the configuration's own contradictions (config.load), DNS (cli.check_dns), what a provider's answers
to a probe mean (cli.check_senders).
"""

import argparse
import os
import pwd
import socket
import ssl
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli import check_senders
from senderproxy.cli.account_login_check import describe, login_hint, provider_of, try_login, try_senders
from senderproxy.cli.check_dns import KNOWN, Asker, Unasked, check_domain
from senderproxy.cli.common import (
    SERVICE_USER,
    SYSTEM_CONFIG,
    config_path,
    counted,
    open_accounts,
    read_config,
    typed_address,
)
from senderproxy.cli.errors import UsageError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.findings import Finding, Level
from senderproxy.cli.terminal import confirm, is_interactive, print_json, print_progress
from senderproxy.cli.times import local_time
from senderproxy.config.load import find_warnings
from senderproxy.config.model import Config, ListenerSettings
from senderproxy.control.client import NotRunning, ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.delivery.courier import LoginOk
from senderproxy.delivery.login_check import Probed
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import Address
from senderproxy.routing.account import Account

_SHOWN: Final = {Level.OK: "ok     ", Level.ADVICE: "advice ", Level.UNKNOWN: "unknown", Level.WRONG: "WRONG  "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--offline", action="store_true", help="ask neither providers nor name servers")
    parser.add_argument("--json", action="store_true", help="for programs")
    probing = parser.add_argument_group(
        "which senders a provider takes", "asked with real transactions that end before any message is sent"
    )
    probing.add_argument("--probe", action="store_true", help="find it out; asks you first")
    probing.add_argument("account", nargs="*", help="ask with these accounts (else with one of each provider)")
    probing.add_argument("--to", metavar="ADDRESS", help="the recipient to name, your own (else the mailbox itself)")
    probing.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is to be found out beyond what is looked at anyway."""

    offline: bool
    probe: bool
    accounts: Sequence[str]
    recipient: Address | None
    agreed: bool


def _wish(chosen: argparse.Namespace) -> _Wish:
    """What was typed. Raises UsageError where it cannot be meant."""
    if not chosen.probe and (chosen.account or chosen.to or chosen.yes):
        raise UsageError("Accounts, --to and --yes belong to --probe.", hint="senderproxy check --probe ...")
    if chosen.probe and chosen.offline:
        raise UsageError("--probe asks the providers, --offline nobody.")
    if chosen.probe and not chosen.yes and not is_interactive():
        raise UsageError("There is no terminal to ask whether to probe.", hint="Use --yes.")
    if chosen.probe and chosen.json and not chosen.yes:
        raise UsageError("With --json nobody can be asked whether to probe.", hint="Use --yes.")
    recipient = typed_address(chosen.to) if chosen.to else None
    return _Wish(chosen.offline, chosen.probe, chosen.account, recipient, chosen.yes)


def run(chosen: argparse.Namespace) -> int:
    """0 where nothing is wrong, 1 where something is to be mended; a configuration that is refused is 78."""
    wish = _wish(chosen)
    config = read_config(chosen)
    findings: list[Finding] = []
    for finding in _all(config, config_path(chosen), wish):
        findings.append(finding)
        if not chosen.json:
            _show(finding)
    if chosen.json:
        print_json([{"level": f.level.value, "what": f.what, "words": f.words, "mend": f.mend} for f in findings])
    wrong = sum(finding.level is Level.WRONG for finding in findings)
    if not chosen.json:
        print(f"\n{wrong} of {counted(len(findings), 'finding')} must be mended." if wrong else "\nNothing is wrong.")
    return EX_FAILED if wrong else EX_OK


def _show(finding: Finding) -> None:
    print(f"{_SHOWN[finding.level]}  {finding.what}: {finding.words}", flush=True)
    if finding.mend:
        print(f"         -> {finding.mend}")


def _all(config: Config, path: Path, wish: _Wish) -> Iterator[Finding]:
    yield from _configuration(config, path)
    status = _ask_service(config)
    yield from _service(config, status)
    if path == SYSTEM_CONFIG:
        yield from _ownership(config)
    try:
        accounts = open_accounts(config)
    except SenderproxyError as error:
        yield Finding(Level.WRONG, "vault", error.message, error.hint)
        return
    yield from _vault(accounts)
    yield from _providers(config, accounts)
    if wish.offline:
        return
    suspended = {entry["account"] for entry in (status or {}).get("accounts", []) if entry["state"] == "suspended"}
    probed = _to_probe(config, accounts, wish, suspended)
    for account in accounts.directory().accounts:
        if account.id in probed:
            yield from _senders(config, accounts, account, wish.recipient or account.address)
        else:
            yield from _login(config, accounts, account, suspended=account.id in suspended)
    yield from _dns(config, accounts)


# ---- configuration and service ----


def _configuration(config: Config, path: Path) -> Iterator[Finding]:
    yield Finding(Level.OK, "configuration", f"{path} can be used")
    for warning in find_warnings(path, config):
        yield Finding(
            Level.ADVICE,
            "configuration",
            f"{warning.key}: {warning.message}" if warning.key else warning.message,
            warning.hint,
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
        return ask(Path(config.service.control_socket), new_request(Verb.STATUS), seconds=10)
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
        since = local_time(status["started_at"])
        yield Finding(Level.OK, "service", f"it runs since {since} as process {status['process']}")
        if status.get("vault_problem"):
            yield Finding(Level.WRONG, "service", f"it works with the accounts it had: {status['vault_problem']}")
        for rule in status["sender_rules"]:
            words = f"{rule['words']} (since {rule['since']}: {rule['said']})"
            yield Finding(Level.WRONG, f"sender rule of {rule['provider']}", words, rule["hint"])
        yield from _queue(status.get("queue") or {})


def _queue(queue: dict[str, Any]) -> Iterator[Finding]:
    """What the service cannot keep, and what waits for a person."""
    if queue.get("problem"):
        yield Finding(Level.WRONG, "queue", f"nothing can be kept here: {queue['problem']}", queue["hint"])
    if queue.get("held"):
        words = f"{counted(queue['held'], 'message')} held for somebody to look at"
        yield Finding(Level.WRONG, "queue", words, "senderproxy queue list --held")
    if queue.get("late"):
        yield Finding(Level.ADVICE, "queue", f"a message waits since {queue['oldest']}", "senderproxy queue")


def _door(listener: ListenerSettings) -> Finding:
    """Whether the listener could be opened now; nothing listens there afterwards."""
    host, _, port = listener.address.rpartition(":")
    host, what = host.strip("[]"), f"listener {listener.name}"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((host, int(port)))
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
    print_progress(f"Trying the login of {account.login} ...")
    verdict = try_login(config, account, credential)
    if isinstance(verdict, LoginOk):
        yield Finding(Level.OK, what, describe(verdict))
    else:
        yield Finding(Level.WRONG, what, describe(verdict), login_hint(verdict, account))


def _to_probe(config: Config, accounts: VaultAccounts, wish: _Wish, suspended: set[str]) -> set[str]:
    """The accounts that a person agreed to probe with; none where nobody did. Raises UsageError."""
    if not wish.probe:
        return set()
    directory, table = accounts.directory(), config.provider_table()
    for name in wish.accounts:
        if directory.by_id(name) is None:
            raise UsageError(f"There is no account {name}.", hint="senderproxy account list")
    able = [a for a in directory.accounts if a.id not in suspended and a.provider in table]
    if wish.accounts:
        able = [account for account in able if account.id in wish.accounts]
    else:
        able = list({account.provider: account for account in reversed(able)}.values())[::-1]
    if not able or not (wish.agreed or confirm(check_senders.question(able, wish.recipient))):
        return set()
    return {account.id for account in able}


def _senders(config: Config, accounts: VaultAccounts, account: Account, recipient: Address) -> Iterator[Finding]:
    credential = accounts.credential(account)
    if credential is None:
        return
    print_progress(f"Asking which senders {account.login} may use ...")
    senders = check_senders.senders_to_ask(account)
    result = try_senders(config, account, credential, list(senders.values()), recipient)
    if isinstance(result, Probed):
        yield from check_senders.findings(account, provider_of(config, account), recipient, result)
    else:
        yield Finding(Level.WRONG, f"account {account.id}", describe(result), login_hint(result, account))


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
        print_progress(f"Asking the DNS about {domain} ...")
        yield from check_domain(asker, domain, provider, KNOWN[_preset(config, provider)])


def _preset(config: Config, provider: str) -> str:
    named = config.providers.get(provider)
    return named.base(provider) if named else provider
