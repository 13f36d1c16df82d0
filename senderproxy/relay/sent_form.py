"""The form in which a message left: noted at the attempt, kept in the payload of a job, made again for the copy.

Guarantees: a header section is kept octet by octet, in a few hundred octets beside the received one. A body is made
again from the received one by the same content changes, and compared with a digest of the one that left. A damaged
payload raises ValueError.
Not here: the jobs (relay.sent_copies), the work on a body (relay.content_changes).
"""

import json
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from senderproxy.footer.add_footer import AddFooter
from senderproxy.footer.footer import Footer
from senderproxy.mail.address import Address, AddressError, parse_address
from senderproxy.mail.message import Message
from senderproxy.mail.outcome import Delivered, SentForm
from senderproxy.relay.ports import JOB_PAYLOAD_LIMIT, Outcomes
from senderproxy.rewriting.content_change import ContentChange
from senderproxy.rewriting.transfer_encoding import Reencode

FindFooter = Callable[[Address], Footer | None]

_VERSION: Final = b"\x01"
_DICTIONARY: Final = 32 * 1024  # octets; deflate looks no further back
_HEADER_LIMIT: Final = 4 * 2**20  # octets of a header section; the largest that a listener may accept has 1 MiB


@dataclass(frozen=True, slots=True)
class BodyRecipe:
    """The content changes that make the body, and the digest of the result (SHA-256)."""

    changes: Sequence[ContentChange]
    digest: str


# ---- at the attempt ----


async def with_form(sending: Awaitable[Outcomes], message: Message) -> Outcomes:
    """The outcomes of a transaction, with the header section that was sent at each recipient that has the message."""
    outcomes, form = await sending, SentForm(message.header.raw)
    return {
        path: replace(outcome, sent=form) if isinstance(outcome, Delivered) else outcome
        for path, outcome in outcomes.items()
    }


def with_body(outcomes: Outcomes, recipe: str, before: bytes) -> Outcomes:
    """The outcomes of `with_form` for a message whose body was changed. `before`: its header section until then."""
    forms = {outcome.sent for outcome in outcomes.values() if isinstance(outcome, Delivered) and outcome.sent}
    changed = {form: replace(form, body=recipe, before=before) for form in forms}
    return {
        path: replace(outcome, sent=changed[outcome.sent])
        if isinstance(outcome, Delivered) and outcome.sent is not None
        else outcome
        for path, outcome in outcomes.items()
    }


def body_recipe(changes: Sequence[ContentChange], digest: str) -> str:
    """The changes that were made, as JSON."""
    return json.dumps({"changes": [_entry(change) for change in changes], "digest": digest})


def _entry(change: ContentChange) -> dict[str, Any]:
    match change:
        case AddFooter(footer, name, address, is_automatic):
            return {"footer": [footer.text, footer.html], "name": name, "address": address, "automatic": is_automatic}
        case Reencode(seven_bit, spares_signed):
            return {"seven_bit": seven_bit, "spares_signed": spares_signed}
        case _:
            raise TypeError(f"{type(change).__name__} has no entry")


# ---- the payload ----


def write_form(form: SentForm, received: bytes) -> bytes | None:
    """The form as the payload of a job; None if it is too large. `received`: the header section as it was received.

    A large footer is left out: the configuration has it.
    """
    payload = _packed(form, received)
    if len(payload) > JOB_PAYLOAD_LIMIT and form.body:
        recipe = json.loads(form.body)
        for change in recipe["changes"]:
            if "footer" in change:
                change["footer"] = None
        payload = _packed(replace(form, body=json.dumps(recipe)), received)
    return payload if len(payload) <= JOB_PAYLOAD_LIMIT else None


def _packed(form: SentForm, received: bytes) -> bytes:
    packer = zlib.compressobj(zdict=received[-_DICTIONARY:]) if received else zlib.compressobj()
    octets = b"%d %d\n" % (len(form.body), len(form.before)) + form.body.encode("ascii") + form.before + form.header
    return _VERSION + packer.compress(octets) + packer.flush()


def read_form(payload: bytes, received: bytes) -> SentForm:
    """The form of a payload. Raises ValueError."""
    if not payload.startswith(_VERSION):
        raise ValueError("a form of another version")
    try:
        unpacker = zlib.decompressobj(zdict=received[-_DICTIONARY:]) if received else zlib.decompressobj()
        octets = unpacker.decompress(payload[len(_VERSION) :], _HEADER_LIMIT)
    except zlib.error as error:
        raise ValueError(f"a damaged form ({error})") from error
    lengths, separator, rest = octets.partition(b"\n")
    if not separator or not unpacker.eof:
        raise ValueError("an incomplete form")
    body, before = map(int, lengths.split())
    end = body + before
    return SentForm(rest[end:], rest[:body].decode("ascii"), rest[body:end])


def read_recipe(text: str, find_footer: FindFooter) -> BodyRecipe:
    """The changes of a recipe. `find_footer`: the configured footer of an author. Raises ValueError."""
    try:
        entry = json.loads(text)
        changes = [_change(one, find_footer) for one in entry["changes"]]
        return BodyRecipe([change for change in changes if change is not None], str(entry["digest"]))
    except (KeyError, TypeError, AddressError) as error:
        raise ValueError(f"a damaged recipe of a body ({error})") from error


def _change(entry: dict[str, Any], find_footer: FindFooter) -> ContentChange | None:
    if "footer" not in entry:
        return Reencode(seven_bit=bool(entry["seven_bit"]), spares_signed=bool(entry["spares_signed"]))
    address = str(entry["address"])
    if entry["footer"] is None:
        footer = find_footer(parse_address(address))
    else:
        text, html = entry["footer"]
        footer = Footer((), str(text), str(html))
    return None if footer is None else AddFooter(footer, str(entry["name"]), address, bool(entry["automatic"]))
