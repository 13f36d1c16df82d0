"""The changes of `senderproxy setup`: the configuration's text and the accounts, compared with the files.

Guarantees: reads only. An answer that the installation has already is no change; a setting or an account that no
answer names stays as it is.
Not here: questions (cli.setup_questions), writing (cli.setup), single values (cli.setup_values).
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from senderproxy.accounts.new_account import default_login
from senderproxy.accounts.record import StoredAccount
from senderproxy.accounts.unlock import UnlockMethod, unlock_method
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.accounts.vault_place import has_vault
from senderproxy.cli.account_table import Row, read_accounts
from senderproxy.cli.common import open_accounts
from senderproxy.cli.errors import FileInTheWay, UsageError
from senderproxy.cli.setup_answers import Answers, MailboxAnswer
from senderproxy.cli.setup_files import SetupPaths
from senderproxy.cli.setup_values import (
    DEFAULT_PORT,
    ProviderChoice,
    checked,
    checked_provider_name,
    choose_provider,
    clients_of,
    endpoint,
    fitting_allow,
    listen_address,
    name_of_server,
    network_text,
    own_address_for,
)
from senderproxy.cli.terminal import ask_secret, passphrase_prompt
from senderproxy.cli.vault_place import vault_place
from senderproxy.config.example import render_config
from senderproxy.config.load import load_config, parse_config, system_hostname
from senderproxy.config.model import Config
from senderproxy.config.toml_edit import TomlValue, with_settings
from senderproxy.config.toml_lines import SettingPath
from senderproxy.config.values import read_host, read_hostname, split_address
from senderproxy.mail.address import Address, AddressPattern
from senderproxy.routing.account import Account
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.fallback import require_valid
from senderproxy.routing.presets import PRESETS
from senderproxy.routing.provider_names import preset_named
from senderproxy.translation import _

NEW_KEY: Final = "key-file"  # the answer `key` for a new key file in the usual place


@dataclass(frozen=True, slots=True)
class Existing:
    """The present installation. Without `config` there is none; without `accounts` it has no vault."""

    text: str = ""
    config: Config | None = None
    unlock: UnlockMethod | None = None
    accounts: VaultAccounts | None = None
    stored: Mapping[str, StoredAccount] = field(default_factory=dict)  # by id

    def find(self, address: Address) -> StoredAccount | None:
        """The account of a mailbox."""
        own = (stored for stored in self.stored.values() if stored.account.address.key == address.key)
        return next(own, None) or self.stored.get(address.key)


@dataclass(frozen=True, slots=True)
class Plan:
    """The text of the configuration, and the new and the different accounts. Empty lists: nothing changes."""

    text: str
    config: Config
    settings: tuple[str, ...]  # changed ones; of a new configuration none
    accounts: tuple[StoredAccount, ...]

    def changes(self, existing: Existing) -> list[str]:
        """Each change in words."""
        found = [_("setting {name}").format(name=name) for name in self.settings]
        if existing.config is None:
            found.append(_("configuration (new)"))
        for stored in self.accounts:
            text = _("account {id}") if stored.account.id in existing.stored else _("account {id} (new)")
            carries = ", ".join(str(pattern) for pattern in stored.account.carries)
            found.append(text.format(id=stored.account.id) + f": {carries}")
        return found


def read_existing(paths: SetupPaths, chosen: argparse.Namespace) -> Existing:
    """Read the installation. Raises FileInTheWay for a vault or a key without a configuration, ConfigError, …"""
    if chosen.force:
        return Existing()
    if not paths.config.exists():
        if found := next((path for path in (paths.vault, paths.key) if path.exists()), None):
            raise FileInTheWay(
                _("{path} exists already, and there is no {config}; setup overwrites nothing.").format(
                    path=found, config=paths.config
                ),
                hint=_("Put the configuration back, or start over: senderproxy setup --force"),
            )
        return Existing()
    text, config = paths.config.read_text(encoding="utf-8"), load_config(paths.config)
    if not has_vault(vault_place(config)):
        return Existing(text, config)
    prompt = passphrase_prompt()
    if prompt is None and chosen.password_stdin:
        prompt = lambda words: ask_secret(words.rstrip(": "), from_stdin=True)  # noqa: E731
    unlock = unlock_method(chosen.unlock or config.vault.unlock, prompt)
    accounts = open_accounts(config, unlock)
    stored = {
        account.id: entry
        for account in accounts.directory().accounts
        if (entry := accounts.stored(account)) is not None
    }
    return Existing(text, config, unlock, accounts, stored)


# ---- provider ----


def provider_of_answers(answers: Answers, existing: Existing) -> ProviderChoice | None:
    """The provider of new accounts; None if the answers name none and none is needed. Raises UsageError."""
    if answers.provider is not None and answers.host is not None:
        return ProviderChoice(checked_provider_name(answers.provider), _host(answers.host), answers.port)
    if answers.host is not None:
        host = _host(answers.host)
        return ProviderChoice(name_of_server(host), host, answers.port)
    if answers.provider is not None:
        if existing.config is not None and answers.provider in existing.config.providers:
            return ProviderChoice(answers.provider, None, answers.port)
        domain = answers.mailboxes[0].address.domain if answers.mailboxes else ""
        choice = choose_provider(answers.provider, domain, lambda: None)
        return replace(choice, port=answers.port or choice.port)
    return None


def _host(text: str) -> str:
    return checked(read_host, text, "host")


def _named_provider(name: str, config: Config) -> str:
    """The provider of a single mailbox. Raises UsageError."""
    found = name if name in config.provider_table() else preset_named(name)
    if found is None:
        raise UsageError(
            _("There is no provider {name}.").format(name=name),
            hint=_("Use one of: {names}").format(names=", ".join(sorted(config.provider_table()))),
        )
    return found


# ---- configuration ----


def config_text(answers: Answers, choice: ProviderChoice | None, existing: Existing, paths: SetupPaths) -> str:
    """The text of the configuration with these answers. Raises UsageError, EditFailed."""
    if existing.config is not None:
        return with_settings(existing.text, changed_settings(answers, choice, existing))
    listen, allow = _listener(answers)
    return render_config(
        hostname=checked(read_hostname, answers.hostname, "hostname")
        if answers.hostname
        else system_hostname() or "localhost",
        vault=str(paths.vault),
        unlock=f"key-file:{paths.key}" if answers.key in (None, NEW_KEY) else str(answers.key),
        address=listen,
        allow=allow,
        providers={} if choice is None else {choice.name: dict(_provider_settings(answers, choice))},
        control_socket=str(paths.control_socket),
        alerts_to=answers.alerts_to or (),
    )


def _provider_settings(answers: Answers, choice: ProviderChoice) -> Iterator[tuple[str, str | int]]:
    for name, value in (
        ("host", choice.host),
        ("port", choice.port),
        ("security", answers.security or choice.security),
        ("ca_file", answers.ca_file),
    ):
        if value is not None:
            yield name, value


def _listener(answers: Answers) -> tuple[str, tuple[str, ...]]:
    """Address and networks of a new listener."""
    clients = clients_of(answers.allow or ())
    usual = usual_listen_address(clients, None)
    listen = usual if answers.listen is None else listen_address(answers.listen, own_address_for(clients))
    return listen, fitting_allow(clients, listen)


def changed_settings(
    answers: Answers, choice: ProviderChoice | None, existing: Existing
) -> dict[SettingPath, TomlValue]:
    """The changed settings of an existing configuration. Raises UsageError."""
    config = existing.config
    assert config is not None
    changes: dict[SettingPath, TomlValue] = {}
    if answers.key not in (None, NEW_KEY, config.vault.unlock):
        raise UsageError(
            _("The vault has the unlock {unlock} already; setup does not change it.").format(
                unlock=config.vault.unlock
            ),
            hint=_("senderproxy vault add-unlock {key}, then change vault.unlock").format(key=answers.key),
        )
    if answers.hostname and (name := checked(read_hostname, answers.hostname, "hostname")) != config.identity.hostname:
        changes["identity", "hostname"] = name
    if answers.alerts_to and set(answers.alerts_to) != set(map(str, config.alerts.to)):
        changes["alerts", "to"] = answers.alerts_to
    changes |= _changed_listener(answers, config)
    if choice is not None:
        section = config.providers.get(choice.name)
        for field_name, value in _provider_settings(answers, choice):
            current = getattr(section, field_name, None)
            if getattr(current, "value", current) != value:
                changes["providers", choice.name, field_name] = value
    return changes


def _changed_listener(answers: Answers, config: Config) -> Iterator[tuple[SettingPath, TomlValue]]:
    listener = config.listeners[0]
    clients = current_clients(config) if answers.allow is None else clients_of(answers.allow)
    usual = usual_listen_address(clients, config)
    listen = usual if answers.listen is None else listen_address(answers.listen, str(split_address(usual)[0]))
    if listen != listener.address:
        yield ("listeners", 0, "address"), listen
    elif answers.allow is None:
        return
    allow = fitting_allow(clients, listen)
    if {ip_network(network) for network in allow} != set(listener.allow):
        yield ("listeners", 0, "allow"), allow


def usual_listen_address(clients: Sequence[str], config: Config | None) -> str:
    """The address of the listener without an answer: the present one, if the clients can reach it."""
    if config is None:
        return endpoint(own_address_for(clients), DEFAULT_PORT)
    host, port = split_address(config.listeners[0].address)
    if host.is_loopback and clients:
        return endpoint(own_address_for(clients), port)
    return config.listeners[0].address


def current_clients(config: Config) -> tuple[str, ...]:
    """The networks of mail server and scanners at the first listener."""
    listener = config.listeners[0]
    own = str(split_address(listener.address)[0])
    texts = [network_text(network) for network in listener.allow if not network.is_loopback]
    return tuple(text for text in texts if text != own)


# ---- accounts ----


def make_plan(answers: Answers, existing: Existing, paths: SetupPaths) -> Plan:
    """The changes for complete answers. Raises ConfigError, UsageError, DirectoryError."""
    choice = provider_of_answers(answers, existing)
    text = config_text(answers, choice, existing, paths)
    config = parse_config(paths.config, text)
    names = (
        () if existing.config is None else tuple(_setting(path) for path in changed_settings(answers, choice, existing))
    )
    accounts = [account_of(mailbox, config, choice, existing) for mailbox in answers.mailboxes]
    if answers.table is not None:
        rows = read_accounts(config, answers.table, choice.name if choice else None, existing.accounts, verify=False)
        accounts += accounts_of_rows(rows, answers.table)
    changed = [stored for stored in accounts if existing.stored.get(stored.account.id) != stored]
    require_consistent(changed, existing)
    if not accounts and not existing.stored:
        raise UsageError(
            _("No mailbox is named."), hint=_("Use --mailbox ADDRESS or --table FILE, or [[mailboxes]] in the answers.")
        )
    return Plan(text, config, names, tuple(changed))


def _setting(path: SettingPath) -> str:
    return ".".join(str(part) for part in path if part != 0)


def require_consistent(changed: Sequence[StoredAccount], existing: Existing) -> None:
    """Raise DirectoryError if two accounts have the same address, FallbackError for an invalid fallback."""
    ids = {stored.account.id for stored in changed}
    others = [stored.account for stored in existing.stored.values() if stored.account.id not in ids]
    accounts = [*others, *(stored.account for stored in changed)]
    AccountDirectory(accounts)
    require_valid(accounts, ids)


def accounts_of_rows(rows: Sequence[Row], path: Path) -> list[StoredAccount]:
    """The accounts of a table. Raises UsageError with the first invalid row."""
    if wrong := next((row for row in rows if row.stored is None), None):
        raise UsageError(
            _("{path}, line {line}, {name}: {result}.").format(
                path=path, line=wrong.line, name=wrong.name, result=wrong.result
            ),
            hint=_("Correct the table. All its rows at once: senderproxy account import --dry-run FILE"),
        )
    return [row.stored for row in rows if row.stored is not None]


def account_of(
    mailbox: MailboxAnswer, config: Config, choice: ProviderChoice | None, existing: Existing
) -> StoredAccount:
    """The account of a mailbox: new, or the existing one with the changes of the answer. Raises UsageError."""
    before = existing.find(mailbox.address)
    own = AddressPattern(mailbox.address.local_part, mailbox.address.domain)
    domain = AddressPattern(None, mailbox.address.domain)
    provider = _provider_of_mailbox(mailbox, config, choice, before)
    if before is not None:
        account = before.account
        carries = tuple(pattern for pattern in account.carries if pattern != domain or mailbox.catch_all is not False)
        if mailbox.catch_all and domain not in carries:
            carries = (*carries, domain)
        changed = replace(
            account,
            provider=provider,
            login=mailbox.login or account.login,
            carries=carries,
            display_name=mailbox.display_name or account.display_name,
        )
        return StoredAccount(changed, mailbox.secret) if mailbox.secret else replace(before, account=changed)
    if mailbox.secret is None:
        raise UsageError(
            _("The password of {address} is missing.").format(address=mailbox.address),
            hint=_("Use password_file in the answers file, --password-file FILE or --password-stdin."),
        )
    login = mailbox.login or default_login(config.provider_table()[provider], mailbox.address)
    carries = (own, domain) if mailbox.catch_all else (own,)
    account = Account(mailbox.address.key, login, provider, mailbox.address, carries, mailbox.display_name)
    return StoredAccount(account, mailbox.secret)


def _provider_of_mailbox(
    mailbox: MailboxAnswer, config: Config, choice: ProviderChoice | None, before: StoredAccount | None
) -> str:
    if mailbox.provider is not None:
        return _named_provider(mailbox.provider, config)
    if choice is not None:
        return choice.name
    if before is not None:
        return before.account.provider
    raise UsageError(
        _("The provider of {address} is not named.").format(address=mailbox.address),
        hint=_("Use --provider NAME or provider in the answers file: ionos, gmx, smtp.hoster.example, ..."),
    )


def preset_of(config: Config, name: str) -> str:
    """The preset behind a provider of the configuration."""
    settings = config.providers.get(name)
    base = settings.base(name) if settings else name
    return base if base in PRESETS else "generic"
