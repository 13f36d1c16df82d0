"""The fallback of an account in `account`: its options, and its effect in words.

Not here: the validity of a fallback (routing.fallback), its use for a message (relay.fallback).
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from senderproxy.cli.account_names import account_id, names_of, unknown_account
from senderproxy.cli.errors import UsageError
from senderproxy.config.model import Config
from senderproxy.mail.address import AddressPattern
from senderproxy.routing.account import Account
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.fallback import Fallback, fallback_of, replaced_senders
from senderproxy.translation import _

_NAMED: Final = 3  # addresses in a sentence


def add_fallback_options(parser: argparse.ArgumentParser, *, removable: bool = False) -> None:
    """Options of the fallback; `removable`: also the one that ends it."""
    parser.add_argument(
        "--fallback", metavar="ID", help=_("account that sends its mail while it cannot; by id or mailbox address")
    )
    parser.add_argument(
        "--fallback-rewrites",
        action="store_true",
        help=_("use the fallback even if it has to replace the reverse-path or From"),
    )
    if removable:
        parser.add_argument("--no-fallback", action="store_true", help=_("its mail waits again while it cannot send"))


def with_fallback(account: Account, chosen: argparse.Namespace, accounts: Iterable[Account]) -> Account:
    """The account with the fallback that the options name. Raises UsageError."""
    removed = getattr(chosen, "no_fallback", False)
    if removed and (chosen.fallback or chosen.fallback_rewrites):
        raise UsageError(_("--fallback and --no-fallback exclude each other."))
    if removed:
        return replace(account, fallback=None, fallback_rewrites=False)
    if chosen.fallback:
        known = [one for one in accounts if one.id != account.id]
        fallback = account_id(chosen.fallback, names_of((*known, account)))
        if fallback is None:
            raise unknown_account(chosen.fallback, known)
        return replace(account, fallback=fallback, fallback_rewrites=chosen.fallback_rewrites)
    if chosen.fallback_rewrites and account.fallback is None:
        raise UsageError(
            _("Account {id} has no fallback.").format(id=account.id),
            hint=_("Name it: --fallback ID --fallback-rewrites"),
        )
    return replace(account, fallback_rewrites=account.fallback_rewrites or chosen.fallback_rewrites)


def fallback_in_words(account: Account) -> str | None:
    """The fallback as `account show` has it; None without one."""
    if account.fallback is None or not account.fallback_rewrites:
        return account.fallback
    return _("{account}, may replace the sender").format(account=account.fallback)


def fallback_notes(config: Config, account: Account, directory: AccountDirectory) -> list[str]:
    """Sentences on the effect of an account's fallback; none without one."""
    fallback = fallback_of(account, directory, config.provider_table())
    if fallback is None:
        return []
    text = _("While it cannot send, account {fallback} sends its mail.").format(fallback=fallback.account.id)
    return [text, *_notes_on_senders(account, fallback)]


def _notes_on_senders(account: Account, fallback: Fallback) -> list[str]:
    """A sentence on the addresses that the fallback's provider does not let it send as; none if it permits all."""
    patterns = list(replaced_senders(account, fallback))
    if not patterns:
        return []
    if fallback.rewrites:
        text = _("Mail of {addresses} then has the sender {own}, because {provider} does not permit the original one.")
    else:
        text = _(
            "Mail of {addresses} waits all the same, because {provider} does not permit this sender; with"
            " --fallback-rewrites it is sent as {own}."
        )
    return [text.format(addresses=some_of(patterns), own=fallback.account.address, provider=fallback.provider.name)]


def some_of(patterns: Sequence[AddressPattern]) -> str:
    """The first of these addresses and domains."""
    return ", ".join(map(str, patterns[:_NAMED])) + (", ..." if len(patterns) > _NAMED else "")
