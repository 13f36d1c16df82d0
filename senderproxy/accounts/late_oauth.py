"""OAuth in the service: the modules of its applications and tokens, loaded when the vault has the first of them.

Guarantees: without an application and without an account that uses one, nothing of OAuth is loaded. Else it is loaded
where the vault is read, before its accounts are in force: before the service is ready, later on a thread. It is loaded
whole; a token imports nothing. An upgrade before it raises ProgramReplaced, and the accounts of before stay in force.
Not here: applications (accounts.usable_application), tokens (accounts.access_tokens).
"""

from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from senderproxy.accounts.oauth_application import StoredApplication, UsableApplication
from senderproxy.clock import Clock
from senderproxy.http_client.client import HttpClient
from senderproxy.late_import import late_import
from senderproxy.mail.reply import reply
from senderproxy.relay.ports import AccessTokens, NoToken
from senderproxy.relay.shared_ports import SharedGrants
from senderproxy.routing.account import AccessToken, Account

if TYPE_CHECKING:
    from senderproxy.accounts.access_tokens import VaultTokens
    from senderproxy.accounts.shared_refresh_tokens import SharedRefreshTokens
    from senderproxy.accounts.vault_accounts import VaultAccounts

NO_ACCOUNT: Final = NoToken(reply(451, "4.3.0", "The account does not exist any more"), needs_person=False)


@lru_cache(maxsize=1)
def _modules() -> tuple[ModuleType, ModuleType]:
    with late_import():
        from senderproxy.accounts import access_tokens, usable_application
    return access_tokens, usable_application


def load() -> None:
    """Load the modules. May take 0.1 s. Raises ProgramReplaced."""
    _modules()


def usable(stored: StoredApplication) -> UsableApplication:
    """See accounts.usable_application. Raises ProgramReplaced too."""
    found: UsableApplication = _modules()[1].usable(stored)
    return found


class LateTokens(AccessTokens):
    """accounts.access_tokens.VaultTokens, made when the vault has an application, or an account that uses one."""

    def __init__(self, accounts: "VaultAccounts", http: HttpClient, clock: Clock, vault: Path) -> None:
        """See VaultTokens."""
        self._accounts = accounts
        self._http = http
        self._clock = clock
        self._vault = vault
        self._made: VaultTokens | None = None

    @property
    def _tokens(self) -> "VaultTokens | None":
        if self._made is None and (self._accounts.applications() or tuple(self._accounts.grants())):
            self._made = self._make()  # its modules are loaded
        return self._made

    def _make(self) -> "VaultTokens":
        made: VaultTokens = _modules()[0].VaultTokens(self._accounts, self._http, self._clock, self._vault)
        return made

    # ---- relay.ports.AccessTokens ----

    async def token(self, account: Account) -> AccessToken | NoToken:
        """See relay.ports.AccessTokens."""
        tokens = self._tokens
        return NO_ACCOUNT if tokens is None else await tokens.token(account)

    def refused(self, account: Account, token: AccessToken) -> bool:
        """See relay.ports.AccessTokens."""
        tokens = self._tokens
        return tokens is not None and tokens.refused(account, token)

    # ---- for the service: see VaultTokens ----

    def resume(self, account_id: str) -> None:
        """Forget the last refusal of this account's server."""
        if (tokens := self._tokens) is not None:
            tokens.resume(account_id)

    def share(self, new: "type[SharedRefreshTokens]") -> None:
        """Other instances use the accounts too. Loads the modules. Raises ProgramReplaced."""
        self._made = self._make()
        self._made.share(new)

    def use_database(self, store: SharedGrants) -> None:
        """The database with the refresh tokens is open."""
        assert self._made is not None
        self._made.use_database(store)

    def follow_keys(self) -> None:
        """Seal the stored refresh tokens with the vault's newest key."""
        if (tokens := self._tokens) is not None:
            tokens.follow_keys()

    async def close(self, grace: float) -> None:
        """Wait for the requests in progress, for so many seconds."""
        if self._made is not None:
            await self._made.close(grace)
