"""Mailboxes and passwords that the page sends: try the login, then save under the vault's lock.

Guarantees: nothing is saved before the provider has accepted the login, and it is saved under the lock, on the newest
content of the vault: a change of the command line meanwhile stays. If that changed the login or the provider, the login
is tried again. A password is in no answer, log line or exception text. One change at a time.
Not here: the socket and its role (service.page, control.protocol), the form (web.account_views), consents of OAuth and
accounts without a login test, which are the command line's.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Final, TypeVar

from senderproxy import log_events
from senderproxy.accounts.editor import AccountEditor
from senderproxy.accounts.errors import AccountsError, InvalidAccount, VaultInUse
from senderproxy.accounts.new_account import (
    Description,
    added_in_words,
    default_login,
    new_account,
    new_password_in_words,
    provider_notes,
    require_unused,
    unknown_provider,
)
from senderproxy.accounts.record import StoredAccount, has_controls
from senderproxy.accounts.unsaved import unsaved
from senderproxy.accounts.vault_accounts import VaultAccounts
from senderproxy.accounts.vault_place import files_of
from senderproxy.config.model import Config
from senderproxy.control.protocol import Answer, Request, Verb, language_of
from senderproxy.control.server import Handler
from senderproxy.delivery.login_check import (
    LoginOk,
    LoginRefused,
    LoginUnchecked,
    check_login,
    describe,
    login_hint,
    short_timeouts,
)
from senderproxy.delivery.opening import SessionOpener
from senderproxy.delivery.session import SessionTimeouts
from senderproxy.dns_client.client import DnsClient
from senderproxy.dns_client.errors import LookupFailed
from senderproxy.errors import SenderproxyError
from senderproxy.log import event
from senderproxy.mail.address import Address, AddressError, AddressPattern, parse_address, parse_pattern
from senderproxy.routing.account import Account, Credential
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.provider import Provider
from senderproxy.routing.provider_names import preset_named, preset_of_mail_servers, preset_of_server
from senderproxy.translation import _, language
from senderproxy.worker_threads import WorkerThreads, WorkerThreadsError

FIELD_LIMIT: Final = 1000  # characters of a field; the page's form has the same
OTHERS_LIMIT: Final = 100  # further addresses of one account
_TRIAL_SECONDS: Final = 45.0  # for a login test; the page waits for 120
_SAVE_SECONDS: Final = 20.0  # for the disk; deriving a key takes up to some seconds of them
_LOOKUP_SECONDS: Final = 8.0  # for MX records; without them the operator names the provider
_PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds until the vault is tried again while another program writes it
_TRIALS: Final = 2  # logins of one change: again after a change of the login meanwhile
_SHORTEST_HIDDEN: Final = 4  # characters; a shorter password would be found in usual words

_log = logging.getLogger("senderproxy.service")
_T = TypeVar("_T")


class LoginNotWorking(SenderproxyError):
    """The login was refused or could not be tried; nothing was saved."""


class _ChangedMeanwhile(Exception):
    """The account is not the one whose login was tried."""


@dataclass(frozen=True, slots=True)
class _Password:
    text: str = field(repr=False)

    def hidden_in(self, text: str) -> str:
        """The text without the password, which a server may have repeated."""
        return text.replace(self.text, "***") if len(self.text) >= _SHORTEST_HIDDEN else text


class PageAccounts:
    """The answers to the verbs of the role `accounts`."""

    def __init__(
        self,
        config: Callable[[], Config],
        accounts: VaultAccounts,
        opener: Callable[[SessionTimeouts], SessionOpener],
        resume: Handler,
        new_dns_client: Callable[[], DnsClient] = DnsClient,
    ) -> None:
        """`config`: returns the configuration in force; `opener`: one with these timeouts; `resume`: of Verb.RESUME."""
        self._config = config
        self._accounts = accounts
        self._opener = opener
        self._resume = resume
        self._new_dns_client = new_dns_client
        self._writer = WorkerThreads("vault-writer", queue_limit=4)
        self._resolver = WorkerThreads("page-dns", 2, queue_limit=8)
        self._trials = count(1)
        self._is_busy = False

    def handlers(self) -> Mapping[Verb, Handler]:
        """The handlers of the verbs."""
        return {
            Verb.ACCOUNT_PROPOSE: self._answer_propose,
            Verb.ACCOUNT_ADD: self._answer_add,
            Verb.ACCOUNT_PASSWORD: self._answer_password,
        }

    def stop(self) -> None:
        """End the threads."""
        self._writer.stop()
        self._resolver.stop()

    # ---- the verbs ----

    async def _answer_propose(self, request: Request) -> Answer:
        """The probable provider and login of an address, and all providers; without an address these alone."""
        with language(language_of(request)):
            table = self._config().provider_table()
            if not _text(request, "address"):
                return {"address": "", "provider": "", "login": "", "providers": sorted(table)}
            address = _address(_text(request, "address"))
            name = await self._proposed(address)
            provider = table.get(name)
            require_unused(
                Account(address.key, "", "", address, (AddressPattern(address.local_part, address.domain),)),
                self._accounts.directory(),
                hint=_existing_hint(),
            )
            return {
                "address": str(address),
                "provider": name if provider is not None else "",
                "login": default_login(provider, address) if provider is not None else "",
                "providers": sorted(table),
            }

    async def _answer_add(self, request: Request) -> Answer:
        with language(language_of(request)), self._alone():
            password = _password(request)
            account, provider = await self._described(request)
            require_unused(account, self._accounts.directory(), hint=_existing_hint())
            await self._require_login(account, provider, password)
            carried = await self._save(lambda editor: _add(editor, account, password))
            await self._accounts_in_force(account, "added", request)
            words = [added_in_words(account), *provider_notes(account, provider, carried)]
            return {"account": account.id, "words": words}

    async def _answer_password(self, request: Request) -> Answer:
        with language(language_of(request)), self._alone():
            password = _password(request)
            account = self._known(_text(request, "account"))
            for _trial in range(_TRIALS):
                await self._require_login(account, self._provider(account.provider), password)
                try:
                    await self._save(partial(_set_password, tried=account, password=password))
                except _ChangedMeanwhile:
                    await self._accounts.wait_until_read(_SAVE_SECONDS)
                    account = self._known(account.id)
                    continue
                await self._accounts_in_force(account, "password", request)
                return {"account": account.id, "words": [new_password_in_words(account.id)]}
            raise SenderproxyError(
                _("The account was changed by another program meanwhile; nothing was saved."), hint=_("Try again.")
            )

    # ---- the account ----

    async def _described(self, request: Request) -> tuple[Account, Provider]:
        """The account of a request. Raises InvalidAccount."""
        address = _address(_text(request, "address"))
        others = request.get("others")
        if not isinstance(others, list) or len(others) > OTHERS_LIMIT:
            raise InvalidAccount(_("At most {limit} further addresses.").format(limit=OTHERS_LIMIT))
        patterns = [_pattern(str(text)[:FIELD_LIMIT]) for text in others]
        login, name = _text(request, "login"), _text(request, "name")
        if has_controls(login) or has_controls(name):
            raise InvalidAccount(_("A field has a control character."))
        provider = await self._named_provider(_text(request, "provider"), address)
        description = Description(address, provider, "", login, patterns, name or None)
        return new_account(description, self._config().provider_table())

    async def _named_provider(self, typed: str, address: Address) -> str:
        """The provider of a typed name or server; left out: the probable one. Raises InvalidAccount."""
        table = self._config().provider_table()
        if typed in table:
            return typed
        if not typed:
            if name := await self._proposed(address):
                return name
            raise InvalidAccount(
                _("The provider of {address} is unknown.").format(address=address), hint=_("Choose it in the list.")
            )
        found = (
            preset_named(typed, address.domain) or preset_of_server(typed) or preset_of_mail_servers((typed.lower(),))
        )
        if found is None or found not in table:
            raise unknown_provider(typed, table)
        return found

    async def _proposed(self, address: Address) -> str:
        """The probable provider: of other mailboxes of the domain, by the domain, by its MX records; empty: unknown."""
        listed = self._accounts.directory().accounts
        if (same := next((one.provider for one in listed if one.address.domain == address.domain), None)) is not None:
            return same
        if preset := preset_of_mail_servers((address.domain,)):
            return preset
        try:
            async with asyncio.timeout(_LOOKUP_SECONDS):
                servers = await self._resolver.do(lambda: self._new_dns_client().mail_servers(address.domain))
        except (LookupFailed, WorkerThreadsError, TimeoutError):
            return ""
        return preset_of_mail_servers(servers) or ""

    def _known(self, account_id: str) -> Account:
        account = self._accounts.directory().by_id(account_id)
        if account is None:
            raise InvalidAccount(_("There is no account {account}.").format(account=account_id))
        if self._accounts.grant(account_id) is not None:
            raise InvalidAccount(
                _("Account {id} logs in with OAuth.").format(id=account_id),
                hint=_("On the server: sudo senderproxy account consent {id}").format(id=account_id),
            )
        return account

    def _provider(self, name: str) -> Provider:
        table = self._config().provider_table()
        provider = table.get(name)
        if provider is None:
            raise unknown_provider(name, table)
        return provider

    # ---- login test and save ----

    async def _require_login(self, account: Account, provider: Provider, password: _Password) -> None:
        """Raise LoginNotWorking unless the provider accepts the login. One AUTH, through the gate of its server."""
        credential = Credential(account.login, password.text, version=f"untried-{next(self._trials)}")
        opener = self._opener(short_timeouts())
        try:
            async with asyncio.timeout(_TRIAL_SECONDS):
                result = await check_login(opener, account, provider, credential)
        except TimeoutError:
            raise LoginNotWorking(
                _("Nothing was changed: the provider's server did not answer in time."), hint=_("Try again later.")
            ) from None
        if not isinstance(result, LoginOk):
            text = _("Nothing was changed: {reason}").format(reason=describe(result))
            raise LoginNotWorking(password.hidden_in(text), hint=password.hidden_in(_fix(result, account)))

    async def _save(self, change: Callable[[AccountEditor], _T]) -> _T:
        """Change the vault on a thread, and save it. Raises AccountsError; then nothing has changed."""
        if self._accounts.source is None:
            raise AccountsError(_("This service cannot write the vault."))
        place, unlock = self._accounts.source

        def save() -> _T:
            with AccountEditor.open(place, unlock) as editor:
                result = change(editor)
                editor.save()
                return result

        for pause in (*_PAUSES, None):
            try:
                async with asyncio.timeout(_SAVE_SECONDS):
                    return await self._writer.do(copy_context().run, save)
            except TimeoutError:
                raise AccountsError(
                    _("The disk of the server does not respond: whether the change was saved is not known."),
                    hint=_("Look at the account, and try again."),
                ) from None
            except WorkerThreadsError:
                raise _busy() from None
            except AccountsError as error:
                if pause is None or not isinstance(error, VaultInUse):
                    raise unsaved(error, files_of(place)) from None
                await asyncio.sleep(pause)
        raise AssertionError("the last pause is None")

    async def _accounts_in_force(self, account: Account, change: str, request: Request) -> None:
        """Use the change at once: the account may log in again."""
        event(_log, log_events.PAGE_ACCOUNT_CHANGED, account=account.id, change=change, user=_text(request, "by"))
        with suppress(SenderproxyError):  # the vault cannot be read at the moment: it is a condition, and was saved
            await self._resume({"account": account.id})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._is_busy:
            raise _busy()
        self._is_busy = True
        try:
            yield
        finally:
            self._is_busy = False


def _add(editor: AccountEditor, account: Account, password: _Password) -> list[AddressPattern]:
    """Put a new account; return what all accounts carry."""
    listed = [entry.account for entry in editor.all()]
    require_unused(account, AccountDirectory(listed), hint=_existing_hint())
    editor.put(StoredAccount(account, password.text))
    return [pattern for one in (*listed, account) for pattern in one.carries]


def _set_password(editor: AccountEditor, *, tried: Account, password: _Password) -> None:
    """Put the password of an account whose login was tried. Raises _ChangedMeanwhile if that was another login."""
    found = editor.find(tried.id)
    if (found.account.login, found.account.provider) != (tried.login, tried.provider) or found.grant is not None:
        raise _ChangedMeanwhile
    editor.put(replace(found, secret=password.text))


def _password(request: Request) -> _Password:
    """The password of a request, which the request has no more. Raises InvalidAccount."""
    text = request.pop("password", None)
    if not isinstance(text, str) or not text or len(text) > FIELD_LIMIT:
        raise InvalidAccount(_("The password is missing."))
    if has_controls(text):
        raise InvalidAccount(_("The password has a control character, which no login can carry."))
    return _Password(text)


def _text(request: Request, name: str) -> str:
    value = request.get(name)
    return value[:FIELD_LIMIT].strip() if isinstance(value, str) else ""


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except AddressError as error:
        raise InvalidAccount(
            _("Invalid address: {error}.").format(error=error), hint=_("Write it like anna@firma.example.")
        ) from error


def _pattern(text: str) -> AddressPattern:
    try:
        return parse_pattern(text)
    except AddressError as error:
        raise InvalidAccount(_("Invalid address or @domain: {error}.").format(error=error)) from error


def _fix(result: LoginRefused | LoginUnchecked, account: Account) -> str:
    """The fix of the cause, unless it is a command for an account in the vault."""
    fix = login_hint(result, account)
    return _("Correct the password or the user name, then try again.") if "senderproxy account" in fix else fix


def _existing_hint() -> str:
    return _("To change its password, open it under Accounts.")


def _busy() -> SenderproxyError:
    return SenderproxyError(
        _("Another mailbox is being changed at the moment; nothing was saved."), hint=_("Try again in a minute.")
    )
