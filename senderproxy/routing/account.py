"""An account: a login at a provider and the addresses it carries. There is no secret in it.

Not here: reading it from the vault (accounts.record), finding it (routing.directory).
"""

from dataclasses import dataclass

from senderproxy.mail.address import Address, AddressPattern


@dataclass(frozen=True, slots=True)
class Account:
    """One mailbox at a provider. `id` is what people call it in commands and logs."""

    id: str
    login: str
    provider: str  # a provider's name in the configuration, or a preset's
    address: Address  # its own address: what it may always send as
    carries: tuple[AddressPattern, ...]  # every address and @domain it carries, its own first
    display_name: str | None = None
    messages_per_hour: int | None = None  # overrides the provider's
    connections: int | None = None  # overrides the provider's


def lists_address(account: Account, address: Address) -> bool:
    """The address is one of those named one by one, and not only covered by an @domain."""
    if address.key == account.address.key:
        return True
    return any(pattern.local_part is not None and pattern.matches(address) for pattern in account.carries)


class Credential:
    """A login and its secret. It has no face: not in repr, str, format, comparison or pickle."""

    __slots__ = ("__secret", "login", "version")

    def __init__(self, login: str, secret: str, version: str) -> None:
        self.login = login
        self.version = version  # changes whenever the secret does; tells nothing about it
        self.__secret = secret

    def reveal(self) -> str:
        """The secret itself. Called where a session logs in, and nowhere else."""
        return self.__secret

    def __repr__(self) -> str:
        return f"Credential(login={self.login!r}, secret=***)"

    def __reduce__(self) -> str:
        raise TypeError("a credential is not copied or pickled")
