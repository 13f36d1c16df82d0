"""Pages of the login: users with passwords, links that are good once, the end of a session.

Guarantees: no page without a session, on loopback neither. A password is tried once at a time and never logged, nor is
the name of an unknown user, which may be a password in the wrong field. A link is taken by the button on its page, not
by opening it: programs that look at links in mails do not use it up.
Not here: hashes (web.passwords), limits (web.login_limits), links and sessions (web.store).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from senderproxy import log_events
from senderproxy.control.protocol import Role
from senderproxy.errors import SenderproxyError
from senderproxy.log import event
from senderproxy.translation import _
from senderproxy.web.passwords import verify_password
from senderproxy.web.site import Site, form_of
from senderproxy.web.store import LINK_USER, SESSION_SECONDS

_log = logging.getLogger("senderproxy.web")
_Endpoint = Callable[[Request], Awaitable[Response]]


def routes(site: Site) -> list[Route]:
    """The addresses of the login."""
    login = _Login(site)

    def page(path: str, view: _Endpoint, method: str) -> Route:
        return Route(path, site.in_language(login.with_errors(view)), methods=[method])

    return [
        page("/login", login.form, "GET"),
        page("/login", login.with_password, "POST"),
        page("/login/link/{token}", login.link_form, "GET"),
        page("/login/link", login.with_link, "POST"),
        page("/logout", login.end, "POST"),
    ]


class _Login:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._one_at_a_time = asyncio.Lock()

    def with_errors(self, view: _Endpoint) -> _Endpoint:
        """The view with a page for an error."""

        async def endpoint(request: Request) -> Response:
            try:
                return await view(request)
            except SenderproxyError as error:
                return self._site.error(error.message, error.hint, status=503)
            except ValueError:
                return self._site.error(_("The form is incomplete."), status=400)

        return endpoint

    async def form(self, request: Request) -> Response:
        """The login; a browser with a session sees the overview."""
        return self._site.redirect("/") if self._site.session(request) else self._page()

    async def with_password(self, request: Request) -> Response:
        """Begin a session with a password."""
        site = self._site
        form = dict(await form_of(request))
        name, password = form.get("user", "").strip(), form.get("password", "")
        async with self._one_at_a_time:
            if (wait := site.limits.wait(name, site.clock.monotonic())) > 0:
                text = _("Too many failed logins. Wait {minutes} minutes, or use a link: sudo senderproxy web link")
                return self._page(problem=text.format(minutes=int(wait // 60) + 1), status=429)
            user = site.store.users().get(name)
            stored = user.password if user is not None else None
            matches = await site.service.on_thread(lambda: verify_password(password, stored))
            if user is None or not matches:
                site.limits.add_failure(name, site.clock.monotonic())
                event(_log, log_events.PAGE_LOGIN_FAILED, known=user is not None, way="password")
                return self._page(problem=_("User or password is wrong."), status=403)
        return self._begin(user.name, user.role, "password")

    async def link_form(self, request: Request) -> Response:
        """The button that takes a link."""
        token = request.path_params["token"]
        if not self._site.store.has_link(token, self._site.clock.now()):
            return self._used_up()
        return self._site.page("link", values={"token": token})

    async def with_link(self, request: Request) -> Response:
        """Begin a session with a link."""
        token = dict(await form_of(request)).get("token", "")
        role = self._site.store.take_link(token, self._site.clock.now())
        if role is None:
            event(_log, log_events.PAGE_LOGIN_FAILED, known=False, way="link")
            return self._used_up()
        return self._begin(LINK_USER, role, "link")

    async def end(self, request: Request) -> Response:
        """End the session."""
        if token := request.cookies.get(self._site.settings.cookie):
            self._site.store.end_session(token)
        answer = self._site.redirect("/login")
        answer.delete_cookie(
            self._site.settings.cookie,
            path="/",
            secure=self._site.settings.is_encrypted,
            httponly=True,
            samesite="strict",
        )
        return answer

    def _begin(self, user: str, role: Role, way: str) -> Response:
        token = self._site.store.new_session(user, role, self._site.clock.now())
        event(_log, log_events.PAGE_LOGIN, user=user or None, role=role.value, way=way)
        answer = self._site.redirect("/")
        answer.set_cookie(
            self._site.settings.cookie,
            token,
            max_age=SESSION_SECONDS,
            path="/",
            secure=self._site.settings.is_encrypted,
            httponly=True,
            samesite="strict",
        )
        return answer

    def _page(self, *, problem: str = "", status: int = 200) -> Response:
        return self._site.page("login", status=status, values={"problem": problem})

    def _used_up(self) -> Response:
        return self._page(problem=_("This link is used up or older than ten minutes."), status=403)
