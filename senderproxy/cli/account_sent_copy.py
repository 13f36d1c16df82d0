"""Copies in the Sent folder in `account`: the options, the consent to a mailbox for several senders, the login check.

Guarantees: copies of several senders' mail are switched on only if a person has agreed twice, or by an option of its
own. Where they would be double or impossible, they are refused.
Not here: which messages get a copy (relay.sent_copies), the copies (sent_copy).
"""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.cli.access_tokens import CommandTokens
from senderproxy.cli.account_fallback import some_of
from senderproxy.cli.common import typed_pattern
from senderproxy.cli.errors import UsageError
from senderproxy.cli.exit_codes import EX_FAILED, EX_OK, EX_UNAVAILABLE
from senderproxy.cli.terminal import confirm, is_interactive
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.mail.address import AddressPattern
from senderproxy.relay.ports import NoToken
from senderproxy.routing.account import AccessToken, Account, Credential, SentCopy
from senderproxy.routing.provider import Provider
from senderproxy.translation import _, translated

_OF_ALL: Final = "--sent-copy-of-all"
_ANYWAY: Final = "--sent-copy-anyway"


def add_sent_copy_options(parser: argparse.ArgumentParser, *, removable: bool = False) -> None:
    """Options of the copies; `removable`: also the one that ends them."""
    parser.add_argument(
        "--sent-copy", action="store_true", help=_("store a copy of its sent mail in the Sent folder of its mailbox")
    )
    parser.add_argument(
        "--sent-copy-folder", metavar="NAME", help=_("that folder (default: the one that the server names)")
    )
    parser.add_argument(
        "--sent-copy-for",
        action="append",
        default=[],
        metavar="ADDRESS",
        help=_("only mail of this author; may be repeated (default: of all that the account carries)"),
    )
    parser.add_argument(
        _OF_ALL,
        action="store_true",
        help=_("do not ask whether the mail of several senders may be collected in one mailbox"),
    )
    parser.add_argument(
        _ANYWAY, action="store_true", help=_("even if the provider stores copies by itself: each would be there twice")
    )
    if removable:
        parser.add_argument("--no-sent-copy", action="store_true", help=_("store no copies any more"))


def with_sent_copy(config: Config, account: Account, chosen: argparse.Namespace) -> Account:
    """The account with the copies that the options name. Raises UsageError."""
    named = bool(chosen.sent_copy_folder or chosen.sent_copy_for or chosen.sent_copy_of_all or chosen.sent_copy_anyway)
    if getattr(chosen, "no_sent_copy", False):
        if chosen.sent_copy or named:
            raise UsageError(_("--sent-copy and --no-sent-copy exclude each other."))
        return replace(account, sent_copy=None)
    if not chosen.sent_copy and not named:
        return account
    if not chosen.sent_copy and account.sent_copy is None:
        raise UsageError(_("Account {id} has no copies.").format(id=account.id), hint=_("Switch them on: --sent-copy"))
    before = account.sent_copy or SentCopy()
    _require_possible(config, account, chosen)
    authors = tuple(dict.fromkeys(typed_pattern(text) for text in chosen.sent_copy_for))
    _require_carried(config, account, authors)
    if not authors and not chosen.sent_copy_of_all:
        authors = before.authors
    return replace(account, sent_copy=SentCopy(chosen.sent_copy_folder or before.folder, authors))


def agrees(before: Account | None, account: Account, chosen: argparse.Namespace) -> bool:
    """True if the copies may be as they will be. Asks twice if a mailbox would get those of more senders than before.

    Raises UsageError without a terminal.
    """
    senders = _others(account)
    if not senders or chosen.sent_copy_of_all or (before is not None and set(senders) <= set(_others(before))):
        return True
    facts = {"id": account.id, "senders": some_of(senders), "address": account.address}
    if not is_interactive():
        raise UsageError(
            _("Copies of the mail of {senders} would be in the mailbox of {address}.").format_map(facts),
            hint=_("Name whose mail is copied: --sent-copy-for ADDRESS. If all of it is meant: {option}").format(
                option=_OF_ALL
            ),
        )
    first = _("Account {id} also sends the mail of {senders}. Store copies of it in the mailbox of {address}?")
    second = _("Everybody with access to the mailbox of {address} can then read that mail. Store the copies there?")
    return confirm(first.format_map(facts)) and confirm(second.format_map(facts))


def _others(account: Account) -> Sequence[AddressPattern]:
    """The senders other than the mailbox itself whose mail is copied."""
    if account.sent_copy is None:
        return ()
    own = AddressPattern(account.address.local_part, account.address.domain)
    return [pattern for pattern in account.sent_copy.authors or account.carries if pattern != own]


def _require_possible(config: Config, account: Account, chosen: argparse.Namespace) -> None:
    provider = config.provider_table().get(account.provider)
    if provider is None:  # `account edit` of an account whose provider is not configured; a condition says so
        return
    if provider.stores_sent and not chosen.sent_copy_anyway:
        text = _("{provider} stores a copy of each sent message in the Sent folder by itself.")
        raise UsageError(
            text.format(provider=provider.name),
            hint=_("Leave it to the provider. To store a second copy nevertheless: {option}").format(option=_ANYWAY),
        )
    if provider.imap is None:
        raise UsageError(
            _("The IMAP server of {provider} is not known.").format(provider=provider.name),
            hint=_("Name it: imap_host under [providers.{provider}]").format(provider=provider.name),
        )


def _require_carried(config: Config, account: Account, authors: Sequence[AddressPattern]) -> None:
    if config.routing.default_account == account.id:  # it sends for any address
        return
    for author in authors:
        if not any(_contains(pattern, author) for pattern in account.carries):
            raise UsageError(
                _("Account {id} does not carry {address}.").format(id=account.id, address=author),
                hint=_("It carries: {addresses}").format(addresses=some_of(account.carries)),
            )


def _contains(carried: AddressPattern, author: AddressPattern) -> bool:
    return carried == author or (carried.local_part is None and carried.domain == author.domain)


# ---- output ----


def sent_copy_in_words(account: Account) -> str | None:
    """The copies as `account show` has them; None without."""
    copies = account.sent_copy
    if copies is None:
        return None
    parts = [
        _("folder {name}").format(name=copies.folder) if copies.folder else _("on"),
        *([_("mail of {senders}").format(senders=", ".join(map(str, copies.authors)))] if copies.authors else []),
    ]
    return ", ".join(parts)


def sent_copy_notes(before: Account | None, account: Account) -> list[str]:
    """A sentence on a change of the copies."""
    if before is not None and before.sent_copy == account.sent_copy:
        return []
    if account.sent_copy is None:
        return [_("No copies of its mail are stored any more.")] if before is not None else []
    text = _("Copies of its mail are stored in its mailbox; to find the folder: senderproxy account verify {id}")
    return [text.format(id=account.id)]


# ---- the login check ----


@dataclass(frozen=True, slots=True)
class FolderCheck:
    """The result of a login by IMAP: exit code, result and fix; the folder, if it was found."""

    code: int
    words: str
    hint: str = ""
    folder: str | None = None


def check_folder(config: Config, accounts: VaultAccounts, account: Account) -> FolderCheck | None:
    """Log in by IMAP and look for the folder of an account's copies; None without copies. Nothing is changed."""
    copies = account.sent_copy
    if copies is None:
        return None
    provider = config.provider_table().get(account.provider)
    if provider is None or provider.imap is None:
        text = _("no copies: the IMAP server of {provider} is not known").format(provider=account.provider)
        hint = _("Name it: imap_host under [providers.{provider}]").format(provider=account.provider)
        return FolderCheck(EX_FAILED, text, hint)
    credential = accounts.credential(account)
    if credential is None:
        return FolderCheck(EX_FAILED, _("the account was removed meanwhile"))
    if credential.application:
        found = asyncio.run(_token(config, accounts, account))
        if isinstance(found, NoToken):
            return FolderCheck(EX_UNAVAILABLE, _("no copies: {reply}").format(reply=found.reply.text), found.hint)
        credential = credential.with_token(found)
    return _find_folder(provider, credential, copies)


def _find_folder(provider: Provider, credential: Credential, copies: SentCopy) -> FolderCheck:
    from senderproxy.sent_copy.imap import ImapFolders
    from senderproxy.sent_copy.ports import FoundFolder, Refused

    assert provider.imap is not None
    result = ImapFolders(SystemClock().monotonic).find_folder(provider.imap, credential, copies.folder)
    if isinstance(result, FoundFolder):
        text = (
            _("copies in the folder {name}") if result.exists else _("copies in the folder {name}, which will be new")
        )
        return FolderCheck(EX_OK, text.format(name=result.folder), folder=result.folder)
    code = EX_FAILED if isinstance(result, Refused) else EX_UNAVAILABLE
    words = _("no copies: {reply}").format(reply=translated(result.words))
    return FolderCheck(code, words, translated(result.hint))


async def _token(config: Config, accounts: VaultAccounts, account: Account) -> AccessToken | NoToken:
    tokens = CommandTokens(config, accounts)
    try:
        return await tokens.token(account)
    finally:
        await tokens.close()
