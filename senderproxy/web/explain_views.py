"""Page that explains the choice of the account for an address or a message.

Guarantees: of a message only the header section reaches the service, and nothing of it is stored.
Not here: the decision (relay.decide), its words (relay.explanation), the form with the file (web.upload).
"""

import base64
from typing import Any

from starlette.responses import Response

from senderproxy.control.protocol import Answer, Verb
from senderproxy.errors import SenderproxyError
from senderproxy.translation import _
from senderproxy.web.site import Site, Visit
from senderproxy.web.upload import FormReader, InvalidForm


async def form(site: Site, visit: Visit) -> Response:
    """The form; with an address in the query, its answer, too."""
    address = visit.field("address")
    return await _page(site, visit, address=address) if address else _shown(site, visit)


async def answer(site: Site, visit: Visit) -> Response:
    """The answer about the message or the address in the form."""
    try:
        reader = FormReader(visit.request.headers.get("content-type", ""))
        await reader.read(visit.request.stream())
    except InvalidForm:
        return site.error(_("The form is incomplete."), status=400, visit=visit)
    if reader.has_file:
        header = base64.b64encode(reader.header).decode("ascii")
        return await _page(site, visit, header=header)
    address = reader.fields.get("address", "").strip()
    if not address:
        return _shown(site, visit, problem=_("Name an address or a message."), status=400)
    return await _page(site, visit, address=address)


async def _page(site: Site, visit: Visit, *, address: str = "", header: str = "") -> Response:
    asked = {"header": header} if header else {"address": address}
    try:
        found = await site.service.ask(Verb.EXPLAIN, **asked)
    except SenderproxyError as error:
        return _shown(site, visit, problem=error.message, hint=error.hint, address=address, status=400)
    return _shown(site, visit, found=found, address=address)


def _shown(site: Site, visit: Visit, *, found: Answer | None = None, status: int = 200, **values: Any) -> Response:  # noqa: ANN401
    shown = {"found": found, "address": "", "problem": "", "hint": ""} | values
    return site.page("explain", visit=visit, status=status, values=shown)
