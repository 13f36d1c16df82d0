"""Access tokens for a command with a login of its own: from the running service, else from the vault.

Guarantees: a refresh token is used by one process at a time: by the service if it runs, else by the command, which
locks the grant file.
Not here: tokens over the vault (accounts.access_tokens), the service's answer (app).
"""

from pathlib import Path
from typing import Final

from senderproxy.accounts.access_tokens import VaultTokens
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.clock import SystemClock
from senderproxy.config.model import Config
from senderproxy.control.client import NotRunning, ask
from senderproxy.control.protocol import Verb, new_request
from senderproxy.errors import SenderproxyError
from senderproxy.http_client.client import HttpClient
from senderproxy.mail.reply import reply
from senderproxy.relay.ports import AccessTokens, NoToken
from senderproxy.routing.account import AccessToken, Account
from senderproxy.tracking.serialize import read_reply

_SECONDS: Final = 70.0  # for the service's answer: it reads the vault, and a token takes a minute at most
_REFUSED_SECONDS: Final = 10.0  # for the service's answer about a refused token, which waits for nothing


class CommandTokens(AccessTokens):
    """relay.ports.AccessTokens for one command."""

    def __init__(self, config: Config, accounts: VaultAccounts) -> None:
        self._socket = Path(config.service.control_socket)
        self._vault = Path(config.vault.files)
        self._accounts = accounts
        self._own: VaultTokens | None = None
        self._http: HttpClient | None = None

    async def token(self, account: Account) -> AccessToken | NoToken:
        """See relay.ports.AccessTokens."""
        request = new_request(Verb.TOKEN, account=account.id)
        try:
            answer = ask(self._socket, request, seconds=_SECONDS)  # a command has nothing else to do meanwhile
        except NotRunning:
            return await self._own_tokens().token(account)
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

    def _own_tokens(self) -> VaultTokens:
        if self._own is None:
            clock = SystemClock()
            self._http = HttpClient(clock)
            self._own = VaultTokens(self._accounts, self._http, clock, self._vault)
        return self._own
