"""Checks without provider and name server: configuration, service, conditions, spool, file owners, vault.

Guarantees: changes nothing. The only connection is to the service's control socket. The conditions are those of the
running service; without one, the same rules are applied to what this command sees itself.
Not here: contradictions within the configuration (config.load), the listeners' addresses (cli.check_addresses), logins
and DNS (cli.check).
"""

import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from senderproxy.accounts.rollback import find_rollback
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli.check_addresses import check_addresses
from senderproxy.cli.common import SERVICE_USER
from senderproxy.cli.findings import Finding, Level
from senderproxy.cli.installed_program import outdated_program
from senderproxy.cli.screen import printable
from senderproxy.cli.times import local_time
from senderproxy.cli.vault_place import vault_place
from senderproxy.config.load import find_warnings
from senderproxy.config.model import Config
from senderproxy.config.values import SQLITE_ENGINE
from senderproxy.control.client import NotRunning, ask_status
from senderproxy.delivery.handshake import is_full_name
from senderproxy.errors import SenderproxyError
from senderproxy.log_events import Severity
from senderproxy.monitoring.conditions import find_conditions
from senderproxy.monitoring.facts import Facts
from senderproxy.monitoring.record import Condition, ConditionKey, read_condition
from senderproxy.relay.ports import SpoolError
from senderproxy.service.condition_facts import (
    accounts_facts,
    application_facts,
    client_certificate_facts,
    listener_certificate_facts,
)
from senderproxy.service.spool import disk_facts
from senderproxy.spool.sqlite.inspection import inspect_spool
from senderproxy.tracking.timeline import format_time
from senderproxy.translation import _, ngettext

_SERVICE_TIMEOUT: Final = 10.0  # seconds for the status of the running service; it answers within milliseconds

# ---- configuration ----


def check_configuration(config: Config, path: Path) -> Iterator[Finding]:
    """A configuration that loaded: permissions of its file."""
    yield Finding(Level.OK, _("configuration"), _("{path} is valid").format(path=path))
    if not is_full_name(config.identity.hostname):
        text = _("{hostname} is not a full name: EHLO uses the address literal, which some servers refuse")
        hint = _('Set hostname under [identity] to the full name of this machine, such as "mail.firma.example".')
        message = text.format(hostname=config.identity.hostname)
        yield Finding(Level.ADVICE, "identity.hostname", message, hint)
    if not config.alerts.to and config.alerts.webhook is None:
        text = _("no address gets alerts: nobody hears of a refused password or a full disk before mail waits")
        hint = _('Write to = ["ADDRESS"] under [alerts], then: senderproxy reload; senderproxy alert test')
        yield Finding(Level.ADVICE, "alerts.to", text, hint)
    for warning in find_warnings(path, config):
        message = f"{warning.key}: {warning.message}" if warning.key else warning.message
        yield Finding(Level.ADVICE, _("configuration"), message, warning.hint)


# ---- service ----


def service_status(config: Config) -> dict[str, Any] | None:
    """The status of the running service; empty if it does not answer this user, None if it is not running."""
    try:
        return ask_status(Path(config.service.control_socket), seconds=_SERVICE_TIMEOUT)
    except NotRunning:
        return None
    except SenderproxyError:
        return {}


def check_service(config: Config, path: Path, status: dict[str, Any] | None) -> Iterator[Finding]:
    """The service; while it is stopped, the listeners' addresses."""
    if status is None:
        yield Finding(
            Level.WRONG,
            _("service"),
            _("it is not running, so no mail passes"),
            _("Start it: systemctl start senderproxy, or: senderproxy run"),
        )
        yield from check_addresses(config, path)
    elif "conditions" not in status:
        yield Finding(
            Level.UNKNOWN,
            _("service"),
            _("it is running and does not answer this user, or is of another version"),
            _("Try: sudo senderproxy check"),
        )
    else:
        text = _("it is running since {time} as process {process}")
        since = local_time(status["started_at"])
        yield Finding(Level.OK, _("service"), text.format(time=since, process=status["process"]))


def check_conditions(
    config: Config, status: dict[str, Any] | None, accounts: VaultAccounts | None, now: datetime
) -> Iterator[Finding]:
    """The conditions: those of the running service, and those in the files that this command reads itself."""
    of_service = [read_condition(entry) for entry in (status or {}).get("conditions", ())]
    known = {one.id for one in of_service}
    program = outdated_program(status or {})
    facts = replace(_own_facts(config, accounts, now), program=program)
    own = [one for one in find_conditions(facts) if one.id not in known]
    found = sorted((*of_service, *own), key=lambda one: -one.severity)
    yield from (condition_finding(one) for one in found)
    named = {(one.key, one.subject) for one in found}
    for listener in config.listeners:
        if listener.tls != "none" and (ConditionKey.LISTENER_CERTIFICATE, listener.name) not in named:
            subject = _("certificate of listener {name}").format(name=listener.name)
            yield Finding(Level.OK, subject, _("{path} matches its key").format(path=listener.certificate))


def _own_facts(config: Config, accounts: VaultAccounts | None, now: datetime) -> Facts:
    """The facts without a running service. `accounts`: None if the vault does not open; that is a finding."""
    certificates = [*map(listener_certificate_facts, config.listeners), *client_certificate_facts(config)]
    return Facts(
        now,
        spool=disk_facts(Path(config.spool_directory), config.spool.min_free)
        if config.spool.engine == SQLITE_ENGINE
        else None,
        vault=None
        if accounts is None
        else accounts_facts(config, accounts, rolled_back=_rolled_back(config, accounts)),
        certificates=[one for one in certificates if one is not None],
        applications=() if accounts is None else application_facts(accounts),
    )


def _rolled_back(config: Config, accounts: VaultAccounts) -> str:
    return find_rollback(vault_place(config), accounts.vault_id, accounts.generation) or ""


def condition_finding(one: Condition) -> Finding:
    """A condition among the findings: errors are wrong, all others an advice."""
    level = Level.WRONG if one.severity >= Severity.ERROR else Level.ADVICE
    since = _("since {time}").format(time=format_time(one.since, None))
    subject = f"{one.key.value} {one.subject}".rstrip()
    return Finding(level, printable(subject), printable(f"{one.cause} ({since})"), printable(one.hint))


# ---- spool ----


def check_spool(config: Config, now: datetime) -> Iterator[Finding]:
    """The result of opening a stopped service's spool."""
    subject = _("spool")
    try:
        found = inspect_spool(Path(config.spool_directory), now)
    except SpoolError as error:
        yield Finding(Level.WRONG, subject, error.message, error.hint)
        return
    if found is None:
        yield Finding(Level.OK, subject, _("there is none yet; the service creates it"))
    elif found.is_older:
        yield Finding(Level.OK, subject, _("it opens; it is of an earlier version, and the service converts it"))
    else:
        yield Finding(Level.OK, subject, spool_text(found.waiting, found.held))


def spool_text(waiting: int, held: int) -> str:
    """The finding of a spool that opens."""
    waits = ngettext("{count} message waits", "{count} messages wait", waiting).format(count=waiting)
    is_held = ngettext("{count} message is held", "{count} messages are held", held).format(count=held)
    return _("it opens, {waiting}, {held}").format(waiting=waits, held=is_held)


# ---- files of the service's user ----


def check_ownership(config: Config) -> Iterator[Finding]:
    """Files as the service's user sees them, for root only: root can read files that the service cannot."""
    if os.geteuid() != 0:
        return
    try:
        service = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return
    kind, _colon, key = config.vault.unlock.partition(":")
    for path in [Path(config.vault.files), *([Path(key)] if kind == "key-file" else [])]:
        try:
            status = path.lstat()
        except OSError:
            continue  # the vault's own check gives the reason
        if status.st_uid != service.pw_uid:
            text = _("belongs to another user than {user}, the user of the service").format(user=SERVICE_USER)
            yield Finding(Level.WRONG, str(path), text, f"chown {SERVICE_USER}: {path}")
        elif stat.S_IMODE(status.st_mode) & 0o077:
            text = _("users other than the owner have access")
            yield Finding(Level.WRONG, str(path), text, f"chmod 600 {path}")
    spool = Path(config.spool_directory)
    if spool.is_dir() and spool.stat().st_uid != service.pw_uid:
        text = _("belongs to another user than {user}, the user of the service").format(user=SERVICE_USER)
        yield Finding(Level.WRONG, str(spool), text, f"chown -R {SERVICE_USER}: {spool}")
    for name in dict.fromkeys(_files_to_read(config)):
        if (blocked := _not_readable(Path(name), service)) is not None:
            text = _("the user of the service, {user}, cannot read it").format(user=SERVICE_USER)
            hint = _("Give access to {path}: setfacl -m u:{user}:rX {path}").format(path=blocked, user=SERVICE_USER)
            yield Finding(Level.WRONG, name, text, hint)


def _files_to_read(config: Config) -> Iterator[str]:
    """Certificates, keys and authorities of the configuration."""
    for listener in config.listeners:
        if listener.tls != "none":
            yield from (name for name in (listener.certificate, listener.key) if name is not None)
    yield from (provider.ca_file for provider in config.providers.values() if provider.ca_file is not None)


def _not_readable(path: Path, user: pwd.struct_passwd) -> Path | None:
    """The file, or the folder above it, that this user may not read; None if it may, or if there is no such file."""
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    for place in (*reversed(path.absolute().parents), path):
        try:
            status = place.stat()
        except OSError:
            return None  # the configuration's own check gives the reason
        wanted = stat.S_IROTH if place is path else stat.S_IXOTH
        if status.st_uid == user.pw_uid:
            wanted <<= 6
        elif status.st_gid in groups:
            wanted <<= 3
        if not status.st_mode & wanted and not _has_acl(place):
            return place
    return None


def _has_acl(path: Path) -> bool:
    """True if an access control list decides about the file (acl(5)); then its mode says too little."""
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:
        return False


# ---- vault ----


def check_vault(accounts: VaultAccounts, config: Config) -> Iterator[Finding]:
    """The records of a vault that opened."""
    if config.senders.srs and accounts.signing_keys() is None:
        text = _("srs = true, and the vault has no SRS key: redirected mail leaves without SRS")
        yield Finding(Level.WRONG, _("vault"), text, "senderproxy vault make-srs-key")
    count = len(accounts.directory().accounts)
    for record in accounts.unknown:
        hint = _("A newer version of senderproxy made it; this one leaves it as it is.")
        yield Finding(Level.ADVICE, _("vault"), record.describe(), hint)
    if count:
        text = ngettext("it opens, {count} account is readable", "it opens, {count} accounts are readable", count)
        yield Finding(Level.OK, _("vault"), text.format(count=count))
