"""`senderproxy check`: findings about configuration, vault, listeners, logins and DNS, each with a hint.

Guarantees: changes nothing; tries each login at most once, none whose password the running service saw refused, and no
more of a provider that has refused three or cannot be reached; ends in bounded time. One cause is one finding. With
--probe it asks for confirmation first, and the probe's login is the one try.
Not here: checks without network (cli.check_local), DNS records (cli.check_dns), conclusions from a probe
(cli.check_senders).
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli import check_senders
from senderproxy.cli.account_login_check import provider_of, try_login, try_senders
from senderproxy.cli.account_names import account_id, names_of, unknown_account
from senderproxy.cli.check_database import OUTAGE_KEYS, check_database, is_same_outage, outage
from senderproxy.cli.check_dkim_keys import check_dkim_keys
from senderproxy.cli.check_dns import check_domains
from senderproxy.cli.check_fallbacks import check_dns_of_fallbacks, check_fallbacks
from senderproxy.cli.check_hops import Server, check_hops, servers_of_routes
from senderproxy.cli.check_local import (
    check_conditions,
    check_configuration,
    check_ownership,
    check_service,
    check_spool,
    check_vault,
    condition_finding,
    service_status,
)
from senderproxy.cli.check_mx import check_mx
from senderproxy.cli.check_sent_copies import check_sent_copies
from senderproxy.cli.common import SYSTEM_CONFIG, config_path, open_accounts, read_config, typed_address
from senderproxy.cli.errors import UsageError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK
from senderproxy.cli.findings import Finding, Level
from senderproxy.cli.screen import Style
from senderproxy.cli.terminal import confirm, is_interactive, print_item, print_json, print_progress, progress
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.config.values import SQLITE_ENGINE
from senderproxy.delivery.login_check import LoginOk, LoginRefused, LoginUnchecked, Probed, describe, login_hint
from senderproxy.dns_client.client import DnsClient
from senderproxy.domain_records.provider_records import records_of_domains
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import Address
from senderproxy.monitoring.record import ConditionKey, read_condition
from senderproxy.relay.ports import SpoolError
from senderproxy.routing.account import Account
from senderproxy.service.mx_spf import sender_domains
from senderproxy.translation import N_, _, ngettext

_LABELS: Final = {
    Level.OK: N_("ok"),
    Level.ADVICE: N_("advice"),
    Level.UNKNOWN: N_("unknown"),
    Level.WRONG: N_("WRONG"),
}
_STYLES: Final = {
    Level.OK: Style.GREEN,
    Level.ADVICE: Style.YELLOW,
    Level.UNKNOWN: Style.YELLOW,
    Level.WRONG: Style.BOLD_RED,
}
_LABEL_WIDTH: Final = 7  # columns
_NAMED: Final = 5  # accounts that a finding names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `senderproxy check`."""
    parser.add_argument("--offline", action="store_true", help=_("contact neither providers nor name servers"))
    parser.add_argument("--json", action="store_true", help=_("JSON output"))
    probing = parser.add_argument_group(
        _("senders that a provider accepts"), _("found by transactions that end before any message is sent")
    )
    probing.add_argument("--probe", action="store_true", help=_("find them; asks for confirmation"))
    probing.add_argument(
        "account", nargs="*", help=_("accounts to probe with, by id or address (default: one of each provider)")
    )
    probing.add_argument("--to", metavar="ADDRESS", help=_("recipient, an address of yours (default: the mailbox)"))
    probing.add_argument("--yes", action="store_true", help=_("do not ask for confirmation"))
    parser.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class _Request:
    """The extent of the check."""

    offline: bool
    probe: bool
    accounts: Sequence[str]  # to probe with; empty: one of each provider
    recipient: Address | None
    confirmed: bool
    logins: bool = True


def _request(chosen: argparse.Namespace) -> _Request:
    """The options. Raises UsageError if they contradict each other."""
    if not chosen.probe and (chosen.account or chosen.to or chosen.yes):
        raise UsageError(_("Accounts, --to and --yes require --probe."), hint="senderproxy check --probe ...")
    if chosen.probe and chosen.offline:
        raise UsageError(_("--probe and --offline exclude each other."))
    if chosen.probe and not chosen.yes and not is_interactive():
        raise UsageError(_("There is no terminal to ask for confirmation of --probe."), hint=_("Use --yes."))
    if chosen.probe and chosen.json and not chosen.yes:
        raise UsageError(_("With --json, --probe cannot ask for confirmation."), hint=_("Use --yes."))
    recipient = typed_address(chosen.to) if chosen.to else None
    return _Request(chosen.offline, chosen.probe, chosen.account, recipient, chosen.yes)


def run(chosen: argparse.Namespace) -> int:
    """0 if no check failed, else 1. Raises ConfigError."""
    request = _request(chosen)
    config = read_config(chosen)
    if chosen.json:
        with progress():
            findings = list(_findings(config, config_path(chosen), request))
        print_json([_entry(finding) for finding in findings])
        return EX_FAILED if any(finding.level is Level.WRONG for finding in findings) else EX_OK
    return _print_findings(_findings(config, config_path(chosen), request))


def run_without_logins(config: Config, path: Path) -> int:
    """The check of `setup`, without logins: 0 if no check failed, else 1."""
    request = _Request(offline=False, probe=False, accounts=(), recipient=None, confirmed=False, logins=False)
    return _print_findings(_findings(config, path, request))


def _print_findings(found: Iterator[Finding]) -> int:
    findings: list[Finding] = []
    with progress():
        for finding in found:
            findings.append(finding)
            _print_finding(finding)
    failed = sum(finding.level is Level.WRONG for finding in findings)
    if failed:
        text = ngettext("{failed} of {count} check failed.", "{failed} of {count} checks failed.", len(findings))
        print("\n" + text.format(failed=failed, count=len(findings)))
    else:
        print("\n" + _("No check failed."))
    return EX_FAILED if failed else EX_OK


def _print_finding(finding: Finding) -> None:
    text = f"{finding.subject}: {finding.message}"
    print_item(_(_LABELS[finding.level]), text, finding.hint, width=_LABEL_WIDTH, style=_STYLES[finding.level])


def _entry(finding: Finding) -> dict[str, str]:
    return {
        "level": finding.level.value,
        "what": finding.subject,
        "words": finding.message,
        "hint": finding.hint,
    }


def _findings(config: Config, path: Path, request: _Request) -> Iterator[Finding]:
    yield from check_configuration(config, path)
    status = service_status(config)
    yield from check_service(config, path, status)
    accounts = _open_accounts(config)
    error = accounts if isinstance(accounts, SenderproxyError) else None
    if config.spool.engine != SQLITE_ENGINE:
        try:
            yield from check_database(config)
        except SpoolError as of_spool:
            with_vault = is_same_outage(config, of_spool, error)
            yield outage(of_spool, status, with_vault=with_vault)
            status = _without(status, OUTAGE_KEYS)
            error = None if with_vault else error
    elif status is None:
        yield from check_spool(config, SystemClock().now())
    if path == SYSTEM_CONFIG:
        yield from check_ownership(config)
    if error is not None:
        yield Finding(Level.WRONG, _("vault"), error.message, error.hint)
    if isinstance(accounts, SenderproxyError):
        yield from check_conditions(config, status, None, SystemClock().now())
        return
    yield from check_vault(accounts, config)
    tries_logins = request.logins and not request.offline
    shown = _without_sessions(status, servers_of_routes(config)) if tries_logins else status
    if not request.offline:
        shown = _without(shown, _DOMAIN_KEYS)  # they are looked at anew
    yield from check_conditions(config, shown, accounts, SystemClock().now())
    yield from check_fallbacks(config, accounts.directory())
    if tries_logins:
        yield from _check_providers(config, accounts, request, status)
        yield from check_hops(config, servers_of_routes(config), print_progress)
    yield from check_sent_copies(config, accounts, _suspended(status), print_progress, logs_in=tries_logins)
    if not request.offline:
        yield from _check_dns(config, accounts)
        yield from check_dkim_keys(config, accounts, print_progress)


def _open_accounts(config: Config) -> VaultAccounts | SenderproxyError:
    try:
        return open_accounts(config)
    except SenderproxyError as error:
        return error


# ---- providers ----


def _check_providers(
    config: Config, accounts: VaultAccounts, request: _Request, status: dict[str, Any] | None
) -> Iterator[Finding]:
    suspended = _suspended(status)
    probed = _accounts_to_probe(config, accounts, request, suspended)
    logins: dict[str, _Logins] = {}
    for account in accounts.directory().accounts:
        if account.id in probed:
            yield from _check_senders(config, accounts, account, request.recipient or account.address)
        elif account.id not in suspended and account.provider in config.provider_table():
            yield from _check_login(config, accounts, account, logins.setdefault(account.provider, _Logins()))
    for provider, found in logins.items():
        yield from found.findings(provider)
    for entry in _session_conditions(status):
        if entry["subject"] not in logins:
            yield condition_finding(read_condition(entry))


def _suspended(status: dict[str, Any] | None) -> set[str]:
    """The accounts whose password the running service saw refused."""
    return {entry["account"] for entry in (status or {}).get("accounts", []) if entry["state"] == "suspended"}


def _session_conditions(status: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The service's conditions with the cause of a failed login; one finding for one cause is enough."""
    keys = (ConditionKey.NO_SESSION.value, ConditionKey.SMARTHOST_CERTIFICATE.value)
    return [entry for entry in (status or {}).get("conditions", ()) if entry["key"] in keys]


_DOMAIN_KEYS: Final = ("mx_stopped", "spf_wrong", "dkim_wrong", "dkim_record", "dmarc_wrong", "mx_wrong")


def _without(status: dict[str, Any] | None, keys: Sequence[str]) -> dict[str, Any] | None:
    """The status without the conditions of these keys."""
    if status is None:
        return None
    return status | {"conditions": [entry for entry in status.get("conditions", ()) if entry["key"] not in keys]}


def _without_sessions(status: dict[str, Any] | None, hops: Sequence[Server]) -> dict[str, Any] | None:
    """The status without the conditions of servers that are tried anew."""
    if status is None:
        return None
    of_sessions = _session_conditions(status)
    names = {str(hop) for hop in hops}
    left = [
        entry
        for entry in status.get("conditions", ())
        if entry not in of_sessions
        and not (entry["key"] == ConditionKey.ROUTE_UNREACHABLE.value and entry["subject"] in names)
    ]
    return status | {"conditions": left}


_REFUSED_LIMIT: Final = 3  # refused logins of one provider; with more it might lock out this machine


_SAME_LIMIT: Final = 2  # logins of one provider that fail in the same way before the password: it is down


@dataclass(slots=True)
class _Logins:
    """The logins of one provider so far."""

    unchecked: dict[str, tuple[LoginUnchecked, list[Account]]] = field(default_factory=dict)  # by the reason
    refused: int = 0
    not_tried: list[Account] = field(default_factory=list)  # after too many refusals

    def add_unchecked(self, result: LoginUnchecked, account: Account) -> None:
        """Add a login that could not be tried."""
        self.unchecked.setdefault(describe(result), (result, []))[1].append(account)

    @property
    def failure(self) -> LoginUnchecked | None:
        """The reason why no login at this provider can be tried; None if none is known."""
        found = (result for result, accounts in self.unchecked.values() if len(accounts) >= _SAME_LIMIT)
        return next(found, None)

    def findings(self, provider: str) -> Iterator[Finding]:
        """The findings about more than one account, and about logins that could not be tried."""
        subject = _("provider {provider}").format(provider=provider)
        for reason, (result, accounts) in self.unchecked.items():
            if len(accounts) == 1:
                subject_of_one = _("account {id}").format(id=accounts[0].id)
                yield Finding(Level.WRONG, subject_of_one, reason, login_hint(result, accounts[0]))
                continue
            text = ngettext(
                "{reason} ({count} account: {names})", "{reason} ({count} accounts: {names})", len(accounts)
            )
            message = text.format(reason=reason, count=len(accounts), names=_names(accounts))
            yield Finding(Level.WRONG, subject, message, login_hint(result, accounts[0]))
        if self.not_tried:
            text = ngettext(
                "after {refused} refused logins, {count} more account was not tried: {names}",
                "after {refused} refused logins, {count} more accounts were not tried: {names}",
                len(self.not_tried),
            )
            message = text.format(refused=self.refused, count=len(self.not_tried), names=_names(self.not_tried))
            yield Finding(Level.UNKNOWN, subject, message, _("Fix the refused ones first, then check again."))


def _names(accounts: Sequence[Account]) -> str:
    more = ", …" if len(accounts) > _NAMED else ""
    return ", ".join(account.id for account in accounts[:_NAMED]) + more


def _check_login(config: Config, accounts: VaultAccounts, account: Account, logins: _Logins) -> Iterator[Finding]:
    subject = _("account {id}").format(id=account.id)
    credential = accounts.credential(account)
    if credential is None:
        return
    if (failure := logins.failure) is not None:
        logins.add_unchecked(failure, account)
        return
    if logins.refused >= _REFUSED_LIMIT:
        logins.not_tried.append(account)
        return
    print_progress(_("Trying the login of {login} ...").format(login=account.login))
    match try_login(config, account, credential, accounts):
        case LoginOk() as result:
            yield Finding(Level.OK, subject, describe(result))
        case LoginRefused() as result:
            logins.refused += 1
            yield Finding(Level.WRONG, subject, describe(result), login_hint(result, account))
        case LoginUnchecked() as result:
            logins.add_unchecked(result, account)


def _accounts_to_probe(config: Config, accounts: VaultAccounts, request: _Request, suspended: set[str]) -> set[str]:
    """The ids of the accounts to probe with; empty if the operator declined. Raises UsageError."""
    if not request.probe:
        return set()
    directory, table = accounts.directory(), config.provider_table()
    names = names_of(directory.accounts)
    wanted = {account_id(name, names): name for name in request.accounts}
    if None in wanted:
        raise unknown_account(wanted[None], directory.accounts)
    usable = [a for a in directory.accounts if a.id not in suspended and a.provider in table]
    if wanted:
        usable = [account for account in usable if account.id in wanted]
    else:
        usable = list({account.provider: account for account in reversed(usable)}.values())[::-1]
    if not usable or not (request.confirmed or confirm(check_senders.question(usable, request.recipient))):
        return set()
    return {account.id for account in usable}


def _check_senders(config: Config, accounts: VaultAccounts, account: Account, recipient: Address) -> Iterator[Finding]:
    credential = accounts.credential(account)
    if credential is None:
        return
    print_progress(_("Probing the senders of {login} ...").format(login=account.login))
    senders = check_senders.senders_to_probe(account)
    result = try_senders(config, accounts, account, credential, list(senders.values()), recipient)
    if isinstance(result, Probed):
        yield from check_senders.findings(account, provider_of(config, account), recipient, result)
    else:
        subject = _("account {id}").format(id=account.id)
        yield Finding(Level.WRONG, subject, describe(result), login_hint(result, account))


# ---- DNS ----


def _check_dns(config: Config, accounts: VaultAccounts) -> Iterator[Finding]:
    wanted = records_of_domains(accounts.directory().accounts, config.preset_of)

    def looking_up(domain: str) -> None:
        print_progress(_("Looking up the DNS records of {domain} ...").format(domain=domain))

    domains = [(domain, provider, records) for (domain, provider), records in wanted.items()]
    yield from check_domains(lambda: DnsClient().records, domains, looking_up)
    directory = accounts.directory()
    yield from check_dns_of_fallbacks(config, directory, wanted, lambda: DnsClient().records, looking_up)
    if config.mx_vias:
        print_progress(_("Looking at this machine as a sender to mail servers ..."))
        yield from check_mx(
            config.mx.public_address,
            config.identity.hostname.lower(),
            sender_domains(directory.accounts),
            spf_is_needed="mx" in config.mx_vias,
        )
