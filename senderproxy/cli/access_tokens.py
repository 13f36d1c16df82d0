"""Access tokens for a command with a login of its own: from the running service, else from the vault.

Guarantees: a refresh token is used by one process at a time: by the service if it runs, else by the command, which
locks the grant file, or joins the instances of the spool's database while it runs.
Not here: tokens over the vault (accounts.access_tokens), the service's answer (app).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from senderproxy.accounts.access_tokens import VaultTokens
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.config.values import SQLITE_ENGINE
from senderproxy.control.client import NotRunning, ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.errors import SenderproxyError
from senderproxy.http_client.client import HttpClient
from senderproxy.mail.reply import reply
from senderproxy.relay.ports import AccessTokens, NoToken
from senderproxy.routing.account import AccessToken, Account
from senderproxy.tracking.serialize import read_reply

if TYPE_CHECKING:
    from senderproxy.spool.postgresql.store import PostgresqlSpool

_SECONDS: Final = 70.0  # for the service's answer: it reads the vault, and a token takes a minute at most
_REFUSED_SECONDS: Final = 10.0  # for the service's answer about a refused token, which waits for nothing


class CommandTokens(AccessTokens):
    """relay.ports.AccessTokens for one command."""

    def __init__(self, config: Config, accounts: VaultAccounts) -> None:
        self._socket = Path(config.service.control_socket)
        self._vault = Path(config.vault.files)
        self._accounts = accounts
        self._settings = config.spool
        self._spool: PostgresqlSpool | None = None
        self._own: VaultTokens | None = None
        self._http: HttpClient | None = None

    async def token(self, account: Account) -> AccessToken | NoToken:
        """See relay.ports.AccessTokens."""
        request = new_request(Verb.TOKEN, account=account.id)
        try:
            answer = ask(self._socket, request, seconds=_SECONDS)  # a command has nothing else to do meanwhile
        except NotRunning:
            try:
                own = await self._own_tokens()
            except SenderproxyError as error:  # of the database
                return NoToken(reply(451, "4.3.0", error.message), needs_person=False, hint=error.hint)
            return await own.token(account)
        except SenderproxyError as error:
            return NoToken(reply(451, "4.3.0", error.message), needs_person=False, hint=error.hint)
        if isinstance(token := answer.get("token"), str):
            return AccessToken(token)
        return NoToken(read_reply(answer["reply"]), bool(answer["needs_person"]), str(answer["hint"]))

    def refused(self, account: Account, token: AccessToken) -> bool:
        """See relay.ports.AccessTokens. A token of the service is forgotten there, too."""
        if self._own is not None:
            return self._own.refused(account, token)
        request = new_request(Verb.TOKEN_REFUSED, account=account.id, token=token.reveal())
        try:
            return bool(ask(self._socket, request, seconds=_REFUSED_SECONDS)["again"])
        except (SenderproxyError, KeyError):  # the service has ended meanwhile, or is of an earlier version
            return False

    async def close(self) -> None:
        """Release the grant file."""
        if self._own is not None and self._http is not None:
            await self._own.close(_SECONDS)
            self._http.close()
        if self._spool is not None:
            await self._spool.close()

    async def _own_tokens(self) -> VaultTokens:
        """Raises SpoolError."""
        if self._own is None:
            clock = SystemClock()
            http = HttpClient(clock)
            own = VaultTokens(self._accounts, http, clock, self._vault)
            if self._settings.engine != SQLITE_ENGINE:
                from senderproxy.accounts.shared_refresh_tokens import SharedRefreshTokens
                from senderproxy.service.postgresql import open_postgresql

                self._spool = await open_postgresql(self._settings, clock)
                own.share(SharedRefreshTokens)
                own.use_database(self._spool.grants)
            self._own, self._http = own, http
        return self._own
