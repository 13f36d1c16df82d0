"""Account: a login at a provider and its addresses, without its password. PURE.

Not here: the record in the vault (accounts.record), the search for an account (routing.directory).
"""

from dataclasses import dataclass

from senderproxy.mail.address import Address, AddressPattern


@dataclass(frozen=True, slots=True)
class SentCopy:
    """Copies of the mail of an account in the Sent folder of its mailbox."""

    folder: str | None = None  # its name as people read it; None: the one that the server names
    authors: tuple[AddressPattern, ...] = ()  # whose mail is copied; none: all that the account carries

    def covers(self, author: Address) -> bool:
        """True if mail of this author is copied."""
        return not self.authors or any(pattern.matches(author) for pattern in self.authors)


@dataclass(frozen=True, slots=True)
class Account:
    """One mailbox at a provider. `id` is its name in commands and logs."""

    id: str
    login: str
    provider: str  # name of a provider in the configuration, or of a preset
    address: Address  # its own address, always permitted as the sender
    carries: tuple[AddressPattern, ...]  # all its addresses and @domains, its own first
    display_name: str | None = None
    messages_per_hour: int | None = None  # overrides the provider's
    connections: int | None = None  # overrides the provider's
    recipients_per_hour: int | None = None  # overrides the provider's
    fallback: str | None = None  # id of the account that sends while this one cannot
    fallback_rewrites: bool = False  # even if the reverse-path or From has to be replaced for that
    sent_copy: SentCopy | None = None  # None: no copies


def lists_address(account: Account, address: Address) -> bool:
    """True if the account has exactly this address, not only its @domain."""
    if address.key == account.address.key:
        return True
    return any(pattern.local_part is not None and pattern.matches(address) for pattern in account.carries)


class AccessToken:
    """A token for logins of an account, for a while. It is not shown by repr, and cannot be pickled."""

    __slots__ = ("__secret",)

    def __init__(self, secret: str) -> None:
        self.__secret = secret

    def reveal(self) -> str:
        """The token. Called only for the login of a session."""
        return self.__secret

    def __repr__(self) -> str:
        return "AccessToken(***)"

    def __reduce__(self) -> str:
        raise TypeError("an access token cannot be copied or pickled")


class Credential:
    """A login and its secret. The secret is not shown by repr, str or format, and cannot be pickled.

    The version identifies a session: that of a password changes with the password, that of a grant, whose access tokens
    change every hour, with the grant.
    """

    __slots__ = ("__secret", "application", "login", "version")

    def __init__(self, login: str, secret: str, version: str, application: str = "") -> None:
        self.login = login
        self.version = version  # reveals nothing about the secret
        self.application = application  # id of the OAuth application, whose tokens are the secret; empty: a password
        self.__secret = secret

    def reveal(self) -> str:
        """The secret. Called only for the login of a session."""
        return self.__secret

    def with_token(self, token: AccessToken) -> "Credential":
        """The credential for one login with this token; login and version stay."""
        return Credential(self.login, token.reveal(), self.version, self.application)

    def __repr__(self) -> str:
        return f"Credential(login={self.login!r}, secret=***)"

    def __reduce__(self) -> str:
        raise TypeError("a credential cannot be copied or pickled")
