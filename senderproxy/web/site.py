"""Common parts of all pages: the session of the browser, the language, the templates.

Guarantees: a value in a page is escaped, and its control and direction characters are shown as text (`printable`); a
template marks nothing as safe. Without a session, or without the role, no page but the login is answered.
Not here: the pages (web.views), the check of hosts and origins (web.boundary).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from senderproxy import __version__
from senderproxy.clock import Clock
from senderproxy.control.protocol import Role
from senderproxy.errors import SenderproxyError
from senderproxy.mail.display import printable
from senderproxy.monitoring.words import state_in_words
from senderproxy.tracking.timeline import format_time
from senderproxy.translation import LANGUAGES, SOURCE, _, current_language, language, ngettext
from senderproxy.web.login_limits import LoginLimits
from senderproxy.web.service_client import ServiceClient
from senderproxy.web.settings import PageSettings
from senderproxy.web.store import PageSession, Store

_TEMPLATES: Final = Path(__file__).parent / "templates"
_RANKS: Final = {Role.READ: 0, Role.OPERATE: 1, Role.ACCOUNTS: 2}
FIELDS_LIMIT: Final = 250  # of a form; two hundred messages and the buttons
_FORM_OCTETS: Final = 64 * 1024  # octets of a form
_LANGUAGES: Final = 20  # entries of Accept-Language that are read


@dataclass(frozen=True, slots=True)
class Visit:
    """A request with its session."""

    request: Request
    session: PageSession

    @property
    def may_operate(self) -> bool:
        """True if changes are permitted."""
        return self.session.role is not Role.READ

    @property
    def may_change_accounts(self) -> bool:
        """True if mailboxes may be added, and their passwords changed."""
        return self.session.role is Role.ACCOUNTS

    def field(self, name: str, default: str = "") -> str:
        """A field of the query, without blanks at its ends."""
        return self.request.query_params.get(name, default)[:_FIELD].strip()


_FIELD: Final = 1000  # characters of a field of a query
View = Callable[["Site", Visit], Awaitable[Response]]


class Site:
    """The parts that all pages use."""

    def __init__(self, settings: PageSettings, service: ServiceClient, store: Store, clock: Clock) -> None:
        self.settings = settings
        self.service = service
        self.store = store
        self.clock = clock
        self.limits = LoginLimits.of_entries(store.take_failures(), clock.monotonic())
        self.password_seen = asyncio.Event()  # a form had the password of a mailbox: the process ends
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=harmless,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals |= {
            "_": _,
            "ngettext": ngettext,
            "link": self.link,
            "segment": in_path,
            "state_words": state_in_words,
            "time": _local_time,
            "hostname": settings.hostname,
            "version": __version__,
        }

    def link(self, path: str, **query: object) -> str:
        """The address of a page of ours, with its query."""
        given = {name: value for name, value in query.items() if value not in (None, "")}
        return f"{self.settings.prefix}{path}{'?' if given else ''}{urlencode(given)}"

    def page(
        self, name: str, *, visit: Visit | None = None, status: int = 200, values: Mapping[str, Any] | None = None
    ) -> Response:
        """A page from its template."""
        shown = {
            "visit": visit,
            "section": name,
            "lang": current_language(),
            "now": format_time(self.clock.now(), None),
            **(values or {}),
        }
        return HTMLResponse(self._templates.get_template(f"{name}.html").render(shown), status)

    def error(self, message: str, hint: str = "", *, status: int, visit: Visit | None = None) -> Response:
        """A page with an error and its fix."""
        return self.page("error", visit=visit, status=status, values={"message": message, "hint": hint})

    def redirect(self, path: str, **query: object) -> Response:
        """See another page of ours."""
        return RedirectResponse(self.link(path, **query), 303)

    def session(self, request: Request) -> PageSession | None:
        """The session of the browser, with the role that the service's configuration permits now."""
        token = request.cookies.get(self.settings.cookie)
        session = self.store.session(token, self.clock.now()) if token else None
        if session is None:
            return None
        permitted = next((role for role in Role if role.value == self.settings.role), Role.READ)
        role = min(session.role, permitted, key=_RANKS.__getitem__)
        return PageSession(session.user, role, session.until)

    def guarded(self, view: View, *, needs: Role = Role.READ) -> Callable[[Request], Awaitable[Response]]:
        """The view for starlette: with a session of that role only, errors as pages."""

        async def endpoint(request: Request) -> Response:
            session = self.session(request)
            if session is None:
                return self.redirect("/login")
            visit = Visit(request, session)
            if _RANKS[session.role] < _RANKS[needs]:
                text = _("This login may only read.") if not visit.may_operate else _("This login may not do this.")
                return self.error(text, status=403, visit=visit)
            try:
                return await view(self, visit)
            except SenderproxyError as error:
                return self.error(error.message, error.hint, status=503, visit=visit)

        return self.in_language(endpoint)

    def in_language(self, view: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The view in the language that the browser prefers."""

        async def endpoint(request: Request) -> Response:
            with language(preferred(request.headers.get("accept-language", ""))):
                return await view(request)

        return endpoint

    def in_language_error(
        self, view: Callable[[Request, Exception], Awaitable[Response]]
    ) -> Callable[[Request, Exception], Awaitable[Response]]:
        """As `in_language`, for the page of an error."""

        async def endpoint(request: Request, error: Exception) -> Response:
            with language(preferred(request.headers.get("accept-language", ""))):
                return await view(request, error)

        return endpoint


async def form_of(request: Request) -> list[tuple[str, str]]:
    """The fields of a form without files, in order. Raises ValueError for another body."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise ValueError("not a form")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _FORM_OCTETS:
            raise ValueError("the form is too long")
    return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS_LIMIT)


def user_of(visit: Visit) -> str:
    """The operator's name for histories and the log."""
    return f"{visit.session.user} (page)" if visit.session.user else "page"


def harmless(value: object) -> object:
    """A value of a template: text without characters that act on their surroundings. Line ends stay."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return value if value.isprintable() else "\n".join(printable(line) for line in value.split("\n"))
    return value


def preferred(accepted: str) -> str:
    """The language of ours that a browser prefers (RFC 9110 section 12.5.4)."""
    best, rank = SOURCE, 0.0
    for entry in accepted.split(",", _LANGUAGES)[:_LANGUAGES]:
        name, _mark, weight = entry.partition(";")
        code = name.strip().partition("-")[0].lower()
        try:
            quality = float(weight.partition("=")[2]) if weight else 1.0
        except ValueError:
            continue
        if code in LANGUAGES and rank < quality <= 1:
            best, rank = code, quality
    return best


def in_path(text: str) -> str:
    """The text as one segment of a path."""
    return quote(text, safe="")


def _local_time(moment: str | datetime | None) -> str:
    if moment is None:
        return ""
    return format_time(datetime.fromisoformat(moment) if isinstance(moment, str) else moment, None)
