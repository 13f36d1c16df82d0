"""The answers that `senderproxy setup` needs, from its options or from questions at the terminal.

Guarantees: with `--yes`, or without a terminal, nothing is asked; a missing answer is a UsageError that names its
option.
"""

import argparse
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from senderproxy.cli.common import default_login, typed_address
from senderproxy.cli.errors import UsageError
from senderproxy.cli.terminal import is_interactive, is_yes
from senderproxy.mail.address import Address, AddressPattern
from senderproxy.routing.account import Account
from senderproxy.routing.presets import PRESETS
from senderproxy.routing.provider import SenderRule
from senderproxy.translation import _

DEFAULT_PORT: Final = 2525  # free on most machines, and needs no privilege
_DEFAULT_PROVIDER: Final = "ionos-de"
_LOOPBACK: Final = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True)
class SetupAnswers:
    """The first account, its provider's settings, the listener's address and its networks."""

    account: Account
    providers: Mapping[str, Mapping[str, str | int | bool | None]]
    listen: str
    allow: tuple[str, ...]


def preset_names() -> list[str]:
    """The presets that name a server."""
    return sorted(name for name, preset in PRESETS.items() if preset.smarthosts)


def collect_answers(chosen: argparse.Namespace) -> SetupAnswers:
    """Take the options, and ask for what they leave open. Raises UsageError."""
    provider, settings = _provider(chosen)
    mailbox = chosen.mailbox or _ask(chosen, _("Address of the first mailbox"), None, "--mailbox")
    address = typed_address(mailbox)
    preset = PRESETS.get(provider, PRESETS["generic"])
    carries = [AddressPattern(address.local_part, address.domain)]
    if _carries_domain(chosen, address, provider, preset.sender_rule):
        carries.append(AddressPattern(None, address.domain))
    login = chosen.login or default_login(preset, address)
    listen, allow = _listener(chosen)
    account = Account(address.key, login, provider, address, tuple(carries))
    return SetupAnswers(account, {provider: settings}, listen, allow)


def may_ask(chosen: argparse.Namespace) -> bool:
    """True if there is a terminal and `--yes` was not given."""
    return not chosen.yes and is_interactive()


def _provider(chosen: argparse.Namespace) -> tuple[str, dict[str, str | int | bool | None]]:
    presets = ", ".join(preset_names())
    if not chosen.provider and may_ask(chosen):
        print(_("Built-in providers: {names}. For any other, type a name of your choice.").format(names=presets))
    provider = chosen.provider or _ask(chosen, _("Provider"), _DEFAULT_PROVIDER, "--provider")
    host = chosen.host
    if provider not in preset_names() and host is None:
        if not may_ask(chosen):
            raise UsageError(
                _("There is no built-in provider {name}.").format(name=provider),
                hint=_("Use --provider NAME --host SERVER, or one of: {names}").format(names=presets),
            )
        host = _ask(chosen, _("Submission server of {name}").format(name=provider), None, "--host")
    # The configuration reads a relative path from its own folder, the operator types it from the current one.
    ca_file = str(Path(chosen.ca_file).absolute()) if chosen.ca_file else None
    return provider, {"host": host, "port": chosen.port, "security": chosen.security, "ca_file": ca_file}


def _carries_domain(chosen: argparse.Namespace, address: Address, provider: str, rule: SenderRule) -> bool:
    if chosen.catch_all is not None:
        return bool(chosen.catch_all)
    if rule is not SenderRule.DOMAIN or not may_ask(chosen):
        return False
    text = _("{provider} lets {address} send as every address of {domain}.")
    print(text.format(provider=provider, address=address, domain=address.domain))
    answer = input(_("Carry all of them?") + " [Y/n] ")
    return not answer.strip() or is_yes(answer)


def _listener(chosen: argparse.Namespace) -> tuple[str, tuple[str, ...]]:
    """The listener's address, and the networks that may connect: this machine, or one mail server as well."""
    if chosen.listen or chosen.allow or not may_ask(chosen):
        return chosen.listen or f"127.0.0.1:{DEFAULT_PORT}", tuple(chosen.allow or _LOOPBACK)
    while server := input(_("IP address of the mail server (empty: this machine): ")).strip():
        try:
            ip = ip_address(server)
        except ValueError:
            print(_("{text} is not an IP address.").format(text=server))
            continue
        own = _own_address_towards(server, socket.AF_INET if ip.version == 4 else socket.AF_INET6)
        host = _ask(chosen, _("Address of this machine to listen on"), own, "--listen")
        return f"[{host}]:{DEFAULT_PORT}" if ":" in host else f"{host}:{DEFAULT_PORT}", (*_LOOPBACK, server)
    return f"127.0.0.1:{DEFAULT_PORT}", _LOOPBACK


def _own_address_towards(server: str, family: socket.AddressFamily) -> str | None:
    """The address of this machine that the system would use. Connecting a UDP socket sends nothing."""
    with socket.socket(family, socket.SOCK_DGRAM) as connection:
        try:
            connection.connect((server, 25))
        except OSError:
            return None
        return str(connection.getsockname()[0])


def _ask(chosen: argparse.Namespace, question: str, default: str | None, option: str) -> str:
    if not may_ask(chosen):
        if default is None:
            raise UsageError(
                _("{question}: there is no answer.").format(question=question),
                hint=_("Use {option}.").format(option=option),
            )
        return default
    while True:
        answer = input(f"{question}{f' [{default}]' if default else ''}: ").strip() or default
        if answer:
            return answer
