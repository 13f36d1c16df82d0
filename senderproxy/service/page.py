"""The page's side of the service: a control socket for each role, the settings of the page, explanations.

Guarantees: a folder or socket that cannot be used is logged, and mail is not affected. The folder belongs to the group
of the page's process and has the set-group-ID bit, so that its sockets belong to that group, too: the service needs no
privilege for it, and the kernel, which hides other users (PrivateUsers=), still guards them by their mode.
Not here: the page itself (web), the verbs of each role (control.protocol).
inode(7), systemd.exec(5) PrivateUsers=.
"""

import base64
import binascii
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from senderproxy import log_events
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.clock import Clock
from senderproxy.config.model import Config
from senderproxy.control.protocol import Answer, Request, Role, Verb, language_of
from senderproxy.control.server import ControlError, ControlServer, Handler
from senderproxy.errors import SenderproxyError
from senderproxy.log import event
from senderproxy.mail.address import AddressError, parse_address
from senderproxy.mail.author import read_authors
from senderproxy.mail.envelope import Envelope
from senderproxy.mail.header import HeaderSection
from senderproxy.mail.submission import Client
from senderproxy.relay.attempt import MessageRelay
from senderproxy.relay.decide import Decision, MessageFacts, decide
from senderproxy.relay.explanation import explained, header_of_address, header_of_file, look_up, usual_reverse_path
from senderproxy.translation import _, language

if TYPE_CHECKING:
    from senderproxy.service.page_accounts import PageAccounts

HEADER_LIMIT: Final = 32_000  # octets of a header section; in base64 it is two thirds of a request

_log = logging.getLogger("senderproxy.service")
_ROLES: Final[Mapping[str, tuple[Role, ...]]] = {
    "off": (),
    "read": (Role.READ,),
    "operate": (Role.READ, Role.OPERATE),
    "accounts": (Role.READ, Role.OPERATE, Role.ACCOUNTS),
}


class ServicePage:
    """The sockets of the page, and the answers that only it asks for."""

    def __init__(
        self,
        config: Callable[[], Config],
        relay: MessageRelay,
        accounts: VaultAccounts,
        clock: Clock,
        new_accounts_part: Callable[[Handler], "PageAccounts"],
    ) -> None:
        """`config`: returns the configuration in force; `new_accounts_part`: called for the role accounts alone."""
        self._config = config
        self._relay = relay
        self._accounts = accounts
        self._clock = clock
        self._new_accounts_part = new_accounts_part
        self._accounts_part: PageAccounts | None = None
        self._servers: list[ControlServer] = []

    async def start(self, handlers: Mapping[Verb, Handler]) -> None:
        """Open the sockets of the roles that the configuration permits. A failure is logged."""
        web = self._config().web
        folder = Path(web.sockets)
        own: dict[Verb, Handler] = {Verb.EXPLAIN: self._answer_explain, Verb.PAGE: self._answer_page}
        if Role.ACCOUNTS in _ROLES[web.role]:
            self._accounts_part = self._new_accounts_part(handlers[Verb.RESUME])
            own |= self._accounts_part.handlers()
        for role in _ROLES[web.role]:
            server = ControlServer(folder / role.value, {**handlers, **own}, role=role, setting="web.sockets")
            try:
                await server.start()
            except ControlError as error:
                event(_log, log_events.PAGE_UNAVAILABLE, why=error.message, hint=error.hint)
                return
            self._servers.append(server)
        event(_log, log_events.PAGE_AVAILABLE, role=web.role, folder=folder)

    async def stop(self) -> None:
        """Close the sockets."""
        for server in self._servers:
            await server.stop()
        self._servers.clear()
        if self._accounts_part is not None:
            self._accounts_part.stop()

    async def _answer_page(self, _request: Request) -> Answer:
        return self.settings()

    def settings(self) -> Answer:
        """The settings of the page's process."""
        config = self._config()
        web = config.web
        return {
            "hostname": config.identity.hostname,
            "role": web.role,
            "url": web.url,
            "hosts": list(web.hosts),
            "certificate": web.certificate,
            "key": web.key,
            "history_days": config.spool.history_days,
            "keep_subjects": config.spool.keep_subjects,
        }

    async def _answer_explain(self, request: Request) -> Answer:
        """The decision about a message, as fields in words; the message is an author's address or a header section."""
        with language(language_of(request)):
            header = self._header(request)
            listener = self._config().listeners[0]
            client = Client(
                host="127.0.0.1",
                name="explain",
                protocol="ESMTP",
                forced_sender=listener.sender,
                lenient=listener.lenient,
            )
            envelope = Envelope(usual_reverse_path(read_authors(header)), ())
            keys = self._accounts.signing_keys()
            facts = MessageFacts(header, envelope, client, "explain", self._clock.now(), keys=keys)
            directory, rules = self._accounts.directory(), self._relay.rules
            decision = decide(facts, directory, rules)
            authors, lookups = look_up(facts, directory, rules)
            return {
                "goes_out": isinstance(decision, Decision),
                "account": decision.route.account.id if isinstance(decision, Decision) else None,
                "listener": listener.name,
                "fields": [list(field) for field in explained(authors, lookups, decision)],
            }

    def _header(self, request: Request) -> HeaderSection:
        """The header section in question. Raises SenderproxyError."""
        if (encoded := request.get("header")) is None:
            try:
                return header_of_address(parse_address(str(request.get("address")).strip()), self._clock.now())
            except AddressError as error:
                raise SenderproxyError(
                    _("Invalid address: {error}.").format(error=error), hint=_("Write it like anna@firma.example.")
                ) from error
        try:
            content = base64.b64decode(str(encoded), validate=True)
        except (binascii.Error, ValueError) as error:
            raise SenderproxyError(_("The header of the message cannot be read.")) from error
        if len(content) > HEADER_LIMIT:
            raise SenderproxyError(
                _("The header of the message is longer than {limit} octets.").format(limit=HEADER_LIMIT)
            )
        return header_of_file(content)
