"""Checks that contact no provider and no name server: configuration, service, listeners, file owners, vault.

Guarantees: changes nothing. The only connection is to the service's control socket.
Not here: contradictions within the configuration (config.load), logins and DNS (cli.check).
"""

import os
import pwd
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli.common import SERVICE_USER
from senderproxy.cli.findings import Finding, Level
from senderproxy.cli.times import local_time
from senderproxy.config.load import find_warnings
from senderproxy.config.model import Config, ListenerSettings
from senderproxy.control.client import NotRunning, ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _, ngettext

_SERVICE_TIMEOUT: Final = 10.0  # seconds for the status of the running service; it answers within milliseconds

# ---- configuration ----


def check_configuration(config: Config, path: Path) -> Iterator[Finding]:
    """A configuration that loaded: permissions of its file, certificates of its listeners."""
    yield Finding(Level.OK, _("configuration"), _("{path} is valid").format(path=path))
    for warning in find_warnings(path, config):
        message = f"{warning.key}: {warning.message}" if warning.key else warning.message
        yield Finding(Level.ADVICE, _("configuration"), message, warning.hint)
    for listener in config.listeners:
        yield from _check_certificate(listener)


def _check_certificate(listener: ListenerSettings) -> Iterator[Finding]:
    if listener.tls == "none" or listener.certificate is None:
        return
    subject = _("certificate of listener {name}").format(name=listener.name)
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(listener.certificate, listener.key)
    except (OSError, ssl.SSLError) as error:
        yield Finding(
            Level.WRONG,
            subject,
            _("cannot be used: {error}").format(error=error.strerror or error),
            _("Use a certificate and its own key, both readable: {certificate}, {key}").format(
                certificate=listener.certificate, key=listener.key
            ),
        )
        return
    yield Finding(Level.OK, subject, _("{path} matches its key").format(path=listener.certificate))


# ---- service ----


def service_status(config: Config) -> dict[str, Any] | None:
    """The status of the running service; empty if it does not answer this user, None if it is not running."""
    try:
        return ask(Path(config.service.control_socket), new_request(Verb.STATUS), seconds=_SERVICE_TIMEOUT)
    except NotRunning:
        return None
    except SenderproxyError:
        return {}


def check_service(config: Config, status: dict[str, Any] | None) -> Iterator[Finding]:
    """The service and its queue; while it is stopped, the listeners' addresses."""
    if status is None:
        yield Finding(Level.ADVICE, _("service"), _("it is not running"), _("Start it: systemctl start senderproxy"))
        for listener in config.listeners:
            yield _check_address(listener)
    elif not status:
        yield Finding(
            Level.UNKNOWN, _("service"), _("it is running and does not answer this user"), "sudo senderproxy check"
        )
    else:
        text = _("it is running since {time} as process {process}")
        since = local_time(status["started_at"])
        yield Finding(Level.OK, _("service"), text.format(time=since, process=status["process"]))
        yield from _check_running(status)


def _check_running(status: dict[str, Any]) -> Iterator[Finding]:
    if status.get("vault_problem"):
        text = _("the accounts in memory stay in force: {problem}").format(problem=status["vault_problem"])
        yield Finding(Level.WRONG, _("service"), text)
    for rule in status["sender_rules"]:
        since = _("since {time}").format(time=local_time(rule["since"]))
        subject = _("sender rule of {provider}").format(provider=rule["provider"])
        yield Finding(Level.WRONG, subject, f"{rule['words']} ({since}: {rule['said']})", rule["hint"])
    yield from check_queue(status.get("queue") or {})


def check_queue(queue: dict[str, Any]) -> Iterator[Finding]:
    """The queue in the service's status: unavailable, held messages, late messages."""
    if queue.get("problem"):
        text = _("it is unavailable: {problem}").format(problem=queue["problem"])
        yield Finding(Level.WRONG, _("queue"), text, queue["hint"])
    if held := queue.get("held"):
        text = ngettext("{count} message is held", "{count} messages are held", held).format(count=held)
        yield Finding(Level.WRONG, _("queue"), text, _("Look at the reason: senderproxy queue list --held"))
    if queue.get("late"):
        text = _("a message is waiting since {time}").format(time=local_time(queue["oldest"]))
        yield Finding(Level.ADVICE, _("queue"), text, _("Look at the reason: senderproxy queue"))


def _check_address(listener: ListenerSettings) -> Finding:
    """Bind the listener's address, and release it at once."""
    host, _colon, port = listener.address.rpartition(":")
    host, subject = host.strip("[]"), _("listener {name}").format(name=listener.name)
    address = listener.address
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except PermissionError:
            return Finding(
                Level.WRONG,
                subject,
                _("this user may not listen on {address}").format(address=address),
                _("Use a port from 1024, or give the service CAP_NET_BIND_SERVICE."),
            )
        except OSError as error:
            return Finding(
                Level.WRONG,
                subject,
                _("cannot listen on {address}: {error}").format(address=address, error=error.strerror),
                _("Find the process: ss -ltnp 'sport = :{port}'; list the addresses: ip address").format(port=port),
            )
    return Finding(Level.OK, subject, _("{address} is free").format(address=address))


# ---- vault ----


def check_ownership(config: Config) -> Iterator[Finding]:
    """Owner and mode of the vault and its key, for root only: root can read files that the service cannot."""
    if os.geteuid() != 0:
        return
    try:
        service = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return
    kind, _colon, key = config.vault.unlock.partition(":")
    for path in [Path(config.vault.path), *([Path(key)] if kind == "key-file" else [])]:
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


def check_vault(accounts: VaultAccounts, config: Config) -> Iterator[Finding]:
    """The records of a vault that opened."""
    if config.senders.srs and accounts.signing_keys() is None:
        text = _("srs = true, and the vault has no SRS key: redirected mail leaves without SRS")
        yield Finding(Level.WRONG, _("vault"), text, "senderproxy vault make-srs-key")
    count = len(accounts.directory().accounts)
    for problem in accounts.unreadable:
        yield Finding(
            Level.WRONG, _("vault"), problem, _("Remove the account and add it again: senderproxy account --help")
        )
    for record in accounts.unknown:
        hint = _("A newer version of senderproxy made it; this one leaves it as it is.")
        yield Finding(Level.ADVICE, _("vault"), record.describe(), hint)
    if count:
        text = ngettext("it opens, {count} account is readable", "it opens, {count} accounts are readable", count)
        yield Finding(Level.OK, _("vault"), text.format(count=count))
    else:
        yield Finding(
            Level.WRONG,
            _("vault"),
            _("it opens, and contains no account"),
            "senderproxy account add ADDRESS --provider NAME",
        )


def check_references(config: Config, accounts: VaultAccounts) -> Iterator[Finding]:
    """Providers that accounts name, and accounts that settings name."""
    directory, table = accounts.directory(), config.provider_table()
    for account in directory.accounts:
        if account.provider not in table:
            yield Finding(
                Level.WRONG,
                _("account {id}").format(id=account.id),
                _("is at provider {provider}, which the configuration does not know").format(provider=account.provider),
                _("Add [providers.{provider}] to the configuration.").format(provider=account.provider),
            )
    for setting, named in config.named_accounts():
        if directory.by_id(named) is None:
            yield Finding(
                Level.WRONG,
                _("configuration"),
                _("the account {id} that {setting} names does not exist").format(id=named, setting=setting),
                _("Correct {setting}, or: senderproxy account add ADDRESS --id {id}").format(setting=setting, id=named),
            )
