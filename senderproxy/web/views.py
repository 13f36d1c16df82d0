"""Pages of the state: overview, accounts, volume; the table of all addresses.

Not here: the queue and messages (web.queue_views), explanations (web.explain_views), logins (web.login_views),
mailboxes and passwords (web.account_views).
"""

from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from senderproxy.control.protocol import Role, Verb
from senderproxy.errors import SenderproxyError
from senderproxy.log_events import Severity
from senderproxy.monitoring.words import (
    allowance_in_words,
    draining_in_words,
    label,
    queue_in_words,
    refusal_in_words,
    running_in_words,
)
from senderproxy.translation import _
from senderproxy.web import account_views, explain_views, login_views, queue_views
from senderproxy.web.chart import chart_of_day, chart_of_month, layer_names
from senderproxy.web.site import Site, Visit

_STATIC: Final = Path(__file__).parent / "static"
_FILES: Final = {"page.css": "text/css", "icon.svg": "image/svg+xml"}
ACCOUNTS_SHOWN: Final = 500  # on one page
_TROUBLED: Final = 20  # accounts on the overview


def new_app(site: Site) -> Starlette:
    """The application with all its addresses."""

    async def not_found(_request: Request, _error: Exception) -> Response:
        return site.error(_("There is no such page."), status=404)

    async def not_allowed(_request: Request, _error: Exception) -> Response:
        return site.error(_("There is no such page."), status=405)

    def page(path: str, view: Any, *, needs: Role = Role.READ, post: bool = False) -> Route:  # noqa: ANN401
        return Route(path, site.guarded(view, needs=needs), methods=["POST"] if post else ["GET"])

    return Starlette(
        routes=[
            page("/", overview),
            page("/accounts", accounts),
            page("/mailboxes/add", account_views.add_form, needs=Role.ACCOUNTS),
            page("/mailboxes/add", account_views.add(_account), needs=Role.ACCOUNTS, post=True),
            page("/accounts/{account}/password", account_views.password_form, needs=Role.ACCOUNTS),
            page("/accounts/{account}/password", account_views.set_password(_account), needs=Role.ACCOUNTS, post=True),
            page("/accounts/{account}", account),
            page("/accounts/{account}/resume", resume, needs=Role.OPERATE, post=True),
            page("/drain/undo", undo_drain, needs=Role.OPERATE, post=True),
            page("/queue", queue_views.queue),
            page("/queue/change", queue_views.change, needs=Role.OPERATE, post=True),
            page("/search", queue_views.search),
            page("/messages/{id}", queue_views.message),
            page("/explain", explain_views.form),
            page("/explain", explain_views.answer, post=True),
            page("/volume", volume),
            *login_views.routes(site),
            Route("/static/{name}", static, methods=["GET"]),
        ],
        exception_handlers={404: site.in_language_error(not_found), 405: site.in_language_error(not_allowed)},
    )


async def overview(site: Site, visit: Visit) -> Response:
    """The conditions first, then the counts."""
    status = await site.service.status()
    troubled = [entry for entry in status["accounts"] if entry["state"] != "healthy"]
    try:
        day = chart_of_day(await site.service.counts(), site.clock.now(), None)
    except SenderproxyError:
        day = None  # the queue is not available, and a condition says so
    queue = status["queue"]
    return site.page(
        "overview",
        visit=visit,
        values={
            "status": status,
            "conditions": [_shown_condition(entry) for entry in status["conditions"]],
            "queue": queue,
            "draining": draining_in_words(status),
            "running": running_in_words(status),
            "queue_words": queue["problem"] or queue_in_words(queue),
            "troubled": troubled[:_TROUBLED],
            "refusals": [refusal_in_words(entry) for entry in status["refusals"] if entry["count"] > 1],
            "chart": day,
            "layers": layer_names(),
        },
    )


async def undo_drain(site: Site, _visit: Visit) -> Response:
    """Put the service back."""
    await site.service.ask(Verb.DRAIN, on=False)
    site.service.forget()
    return site.redirect("/")


async def accounts(site: Site, visit: Visit) -> Response:
    """All accounts: those that cannot send first."""
    status = await site.service.status()
    wanted = visit.field("q").lower()
    found = [
        entry
        for entry in status["accounts"]
        if not wanted or any(wanted in str(entry[name]).lower() for name in ("account", "address", "login", "provider"))
    ]
    found.sort(key=lambda entry: (entry["state"] == "healthy", entry["account"]))
    shown = [entry | {"left": allowance_in_words(entry)} for entry in found[:ACCOUNTS_SHOWN]]
    values = {"accounts": shown, "more": len(found) - len(shown), "wanted": wanted}
    return site.page("accounts", visit=visit, values=values)


async def account(site: Site, visit: Visit) -> Response:
    """One account."""
    wanted = visit.request.path_params["account"]
    return await _account(site, visit, wanted)


async def resume(site: Site, visit: Visit) -> Response:
    """Let an account log in again."""
    wanted = visit.request.path_params["account"]
    await site.service.ask(Verb.RESUME, account=wanted)
    site.service.forget()
    return await _account(site, visit, wanted, done=_("The account may log in again."))


async def _account(site: Site, visit: Visit, wanted: str, done: str = "") -> Response:
    status = await site.service.status()
    found = next((entry for entry in status["accounts"] if entry["account"] == wanted), None)
    if found is None:
        return site.error(_("There is no account {account}.").format(account=wanted), status=404, visit=visit)
    return site.page(
        "account",
        visit=visit,
        values={
            "account": found,
            "left": allowance_in_words(found),
            "done": done,
            "conditions": [
                _shown_condition(entry) for entry in status["conditions"] if wanted in entry["affected"]["names"]
            ],
        },
    )


async def volume(site: Site, visit: Visit) -> Response:
    """The recipients of the last day and of the last month."""
    counts, now = await site.service.counts(), site.clock.now()
    return site.page(
        "volume",
        visit=visit,
        values={
            "day": chart_of_day(counts, now, None),
            "month": chart_of_month(counts, now, None),
            "layers": layer_names(),
            "history_days": site.settings.history_days,
        },
    )


async def static(request: Request) -> Response:
    """One of our files; no other path leads to a file."""
    name = request.path_params["name"]
    if name not in _FILES:
        return Response(status_code=404)
    return FileResponse(_STATIC / name, media_type=_FILES[name], headers={"cache-control": "public, max-age=3600"})


def _shown_condition(entry: dict[str, Any]) -> dict[str, Any]:
    return entry | {"label": label(Severity[str(entry["severity"]).upper()])}
