"""A new account, as an operator describes it on the command line or on the page.

Guarantees: an account that `new_account` returns is at a provider that exists, and carries its own address first.
Not here: the login test (delivery.login_check), the vault (accounts.editor).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from senderproxy.accounts.errors import InvalidAccount
from senderproxy.mail.address import Address, AddressPattern
from senderproxy.routing.account import Account
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.provider import LoginForm, Provider, SenderRule
from senderproxy.translation import _


@dataclass(frozen=True, slots=True)
class Description:
    """Choices of the operator. `id`, `login`: empty for the usual ones."""

    address: Address
    provider: str
    id: str = ""
    login: str = ""
    others: Sequence[AddressPattern] = ()
    display_name: str | None = None


def new_account(description: Description, providers: Mapping[str, Provider]) -> tuple[Account, Provider]:
    """The account and its provider. Raises InvalidAccount if there is no such provider."""
    name, address = description.provider, description.address
    provider = providers.get(name)
    if provider is None:
        raise unknown_provider(name, providers)
    carries = tuple(dict.fromkeys((AddressPattern(address.local_part, address.domain), *description.others)))
    login = description.login or default_login(provider, address)
    id_ = description.id or address.key
    return Account(id_, login, name, address, carries, description.display_name), provider


def default_login(provider: Provider, address: Address) -> str:
    """The user name that the provider usually gives a mailbox."""
    return address.local_part if provider.login_form is LoginForm.LOCAL_PART else str(address)


def unknown_provider(name: str, providers: Iterable[str]) -> InvalidAccount:
    """The error for a name that is no provider's, with the nearest ones."""
    table = sorted(providers)
    if near := get_close_matches(name, table, 3):
        known = _("Did you mean {names}?").format(names=", ".join(near))
    else:
        known = _("Use one of: {names}.").format(names=", ".join(table))
    other = _("For any other, add [providers.{name}] with its host to the configuration.").format(name=name)
    return InvalidAccount(_("There is no provider {name}.").format(name=name), hint=f"{known} {other}")


def require_unused(account: Account, directory: AccountDirectory, *, hint: str) -> None:
    """Raise InvalidAccount if the id is taken, DirectoryError if another account carries one of the addresses.

    `hint`: the way to change the existing account.
    """
    if directory.by_id(account.id) is not None:
        raise InvalidAccount(_("Account {id} exists already.").format(id=account.id), hint=hint)
    AccountDirectory((*directory.accounts, account))


def added_in_words(account: Account) -> str:
    """The sentence after an account was added."""
    carried = ", ".join(str(pattern) for pattern in account.carries)
    return _("Added account {id}. It carries {addresses}.").format(id=account.id, addresses=carried)


def new_password_in_words(account_id: str) -> str:
    """The sentence after a password was changed."""
    return _("Changed the password of account {id}.").format(id=account_id)


def provider_notes(account: Account, provider: Provider, carried: Iterable[AddressPattern]) -> list[str]:
    """Consequences of the provider's rule that the operator may not know. `carried`: by all accounts."""
    own = account.address.domain
    if provider.sender_rule is SenderRule.DOMAIN and AddressPattern(None, own) not in carried:
        text = _(
            "{provider} lets it send as every address of {domain}. To use that:"
            " senderproxy account edit {id} --catch-all {domain}"
        )
        return [text.format(provider=provider.name, domain=own, id=account.id)]
    foreign = [str(p) for p in account.carries if p.domain != own]
    if provider.sender_rule is not SenderRule.ANY and foreign:
        text = _("{provider} accepts senders of {domain} only: it will probably refuse {addresses}.")
        return [text.format(provider=provider.name, domain=own, addresses=", ".join(foreign))]
    return []
