"""The account of a typed name: its id, or the address or login of its mailbox. PURE.

Guarantees: an id comes before an address. An alias names no account: a command for `info@` would change the mailbox
behind it, which its user may not expect.
Not here: the accounts (accounts.vault_accounts, the running service).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from senderproxy.cli.errors import UsageError
from senderproxy.mail.address import AddressError, parse_address
from senderproxy.routing.account import Account, lists_address
from senderproxy.translation import _


@dataclass(frozen=True, slots=True)
class AccountName:
    """The names of one account."""

    id: str
    address: str
    login: str


def names_of(accounts: Iterable[Account]) -> list[AccountName]:
    """The names of these accounts."""
    return [AccountName(account.id, account.address.key, account.login) for account in accounts]


def account_id(typed: str, names: Iterable[AccountName]) -> str | None:
    """The id of the account that is meant; None if there is none. Raises UsageError if several are."""
    known = {name.id: name for name in names}
    if typed in known:
        return typed
    key = _key(typed)
    found = [name.id for name in known.values() if key == _key(name.address) or typed == name.login]
    if len(found) > 1:
        raise UsageError(
            _("{name} may be several accounts: {ids}.").format(name=typed, ids=", ".join(sorted(found))),
            hint=_("Use the id of one of them."),
        )
    return found[0] if found else None


def unknown_account(typed: str, accounts: Iterable[Account] = ()) -> UsageError:
    """The error for a name that is no account's. Its hint names the account that carries the address."""
    hint = _("List the accounts: senderproxy account list")
    try:
        address = parse_address(typed)
    except AddressError:
        address = None
    carrier = next((one.id for one in accounts if address is not None and lists_address(one, address)), None)
    if carrier is not None:
        hint = _("Account {id} carries this address: senderproxy account show {id}").format(id=carrier)
    return UsageError(_("There is no account {id}.").format(id=typed), hint=hint)


def _key(text: str) -> str:
    try:
        return parse_address(text).key
    except AddressError:
        return text
