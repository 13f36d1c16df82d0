"""Pages of the role `accounts`: adding a mailbox, a new password.

Guarantees: a password is in a form that is sent, in the request to the service, and nowhere else: it is in no page, log
line or address, and the process ends after the answer (web.server). A fault is logged without its text.
Not here: the login test and the vault (service.page_accounts). Removing mailboxes, OAuth and mailboxes without a login
test are left to the command line.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.responses import Response

from senderproxy import log_events
from senderproxy.control.client import NoAnswer
from senderproxy.control.protocol import Verb
from senderproxy.errors import SenderproxyError
from senderproxy.log import event
from senderproxy.translation import _
from senderproxy.web.site import Site, Visit, form_of, user_of

_FAILED: Final = 422  # the form was understood, and its login does not work (RFC 9110 section 15.5.21)
_FIELDS: Final = ("address", "provider", "login", "others", "name")
_log = logging.getLogger("senderproxy.web")

_Form = Mapping[str, str]
_Change = Callable[[_Form], Awaitable[Response]]
_Failed = Callable[[_Form, SenderproxyError], Awaitable[Response]]
ShowAccount = Callable[[Site, Visit, str, str], Awaitable[Response]]


async def add_form(site: Site, visit: Visit) -> Response:
    """The form of a new mailbox: its address first, then what the service proposes for it."""
    address = visit.field("address")
    try:
        proposed = await _proposed(site, address)
    except SenderproxyError as error:
        values = {"fields": {"address": address}, "problem": error}
        return site.page("add", visit=visit, status=_FAILED, values=_add_values(values))
    fields = {name: proposed.get(name, "") for name in ("address", "provider", "login")}
    values = {"fields": fields, "providers": proposed["providers"], "is_complete": bool(address)}
    return site.page("add", visit=visit, values=_add_values(values))


def add(show_account: ShowAccount) -> Callable[[Site, Visit], Awaitable[Response]]:
    """The view that adds a mailbox. `show_account`: the page of an account, with a sentence on what was done."""

    async def view(site: Site, visit: Visit) -> Response:
        async def failed(form: _Form, problem: SenderproxyError) -> Response:
            values = {
                "fields": {name: form.get(name, "") for name in _FIELDS},
                "providers": (await _proposed(site, ""))["providers"],
                "is_complete": True,
                "problem": problem,
            }
            return site.page("add", visit=visit, status=_FAILED, values=_add_values(values))

        async def change(form: _Form) -> Response:
            others = [line.strip() for line in form.get("others", "").splitlines() if line.strip()]
            fields = {name: form.get(name, "") for name in ("address", "provider", "login", "name", "password")}
            return await _save(site, visit, show_account, Verb.ACCOUNT_ADD, others=others, **fields)

        return await _with_password(site, visit, change, failed)

    return view


async def password_form(site: Site, visit: Visit) -> Response:
    """The form of a new password."""
    return await _password_page(site, visit)


def set_password(show_account: ShowAccount) -> Callable[[Site, Visit], Awaitable[Response]]:
    """The view that changes the password of an account. `show_account`: as for `add`."""

    async def view(site: Site, visit: Visit) -> Response:
        async def failed(_form: _Form, problem: SenderproxyError) -> Response:
            return await _password_page(site, visit, problem)

        async def change(form: _Form) -> Response:
            account = visit.request.path_params["account"]
            password = form.get("password", "")
            return await _save(site, visit, show_account, Verb.ACCOUNT_PASSWORD, account=account, password=password)

        return await _with_password(site, visit, change, failed)

    return view


async def _save(site: Site, visit: Visit, show_account: ShowAccount, verb: Verb, **fields: object) -> Response:
    """Let the service try and save the fields; the page of the account, with what was done."""
    answer = await site.service.ask(verb, by=user_of(visit), **fields)
    site.service.forget()
    return await show_account(site, visit, str(answer["account"]), " ".join(answer["words"]))


async def _with_password(site: Site, visit: Visit, change: _Change, failed: _Failed) -> Response:
    """The answer to a form with a password. The process ends when it is sent."""
    try:
        try:
            form = dict(await form_of(visit.request))
        except ValueError:
            return site.error(_("The form is incomplete."), status=400, visit=visit)
        return await _changed(site, visit, form, change, failed)
    finally:
        site.password_seen.set()


async def _changed(site: Site, visit: Visit, form: _Form, change: _Change, failed: _Failed) -> Response:
    try:
        return await change(form)
    except NoAnswer:
        problem = SenderproxyError(
            _("The service has not answered: whether the change was saved is not known."),
            hint=_("Look at the accounts, then try again."),
        )
        return await failed(form, problem)
    except SenderproxyError as error:
        return await failed(form, error)
    except Exception as fault:  # noqa: BLE001  its text may have the password
        event(_log, log_events.PAGE_FAILED, kind=type(fault).__name__)
        return site.error(_("Internal error; nothing is known about the change."), status=500, visit=visit)


async def _proposed(site: Site, address: str) -> dict[str, Any]:
    return await site.service.ask(Verb.ACCOUNT_PROPOSE, address=address)


async def _password_page(site: Site, visit: Visit, problem: SenderproxyError | None = None) -> Response:
    wanted = visit.request.path_params["account"]
    status = await site.service.status()
    found = next((entry for entry in status["accounts"] if entry["account"] == wanted), None)
    if found is None:
        return site.error(_("There is no account {account}.").format(account=wanted), status=404, visit=visit)
    values = {"account": found, "problem": problem}
    return site.page("password", visit=visit, status=200 if problem is None else _FAILED, values=values)


def _add_values(values: Mapping[str, Any]) -> dict[str, Any]:
    fields = dict.fromkeys(_FIELDS, "") | values["fields"]
    return {"providers": [], "is_complete": False, "problem": None, **values, "fields": fields}
