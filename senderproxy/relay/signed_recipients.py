"""Recipients that are addresses signed by us: SRS addresses are undone, answers to automatic mail are stopped. PURE.

Guarantees: only addresses of our domains are looked at; a forged or expired SRS address is refused, never relayed.
Not here: the signatures (rewriting.srs), the account that sends a bounce on (relay.decide).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from senderproxy.mail.address import ForwardPath
from senderproxy.mail.reply import reply
from senderproxy.rewriting.srs import InvalidSrs, SigningKeys, is_own_sub_address, is_srs, undo_srs
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.route import Refusal


def undo_recipients(
    recipients: Sequence[ForwardPath], directory: AccountDirectory, keys: SigningKeys | None, now: datetime
) -> Mapping[ForwardPath, ForwardPath] | Refusal:
    """The recipients that are SRS addresses of ours, each with the address for which it stands."""
    undone: dict[ForwardPath, ForwardPath] = {}
    for path in recipients:
        if not is_srs(path) or not directory.has_domain(path.domain):
            continue
        if keys is None:
            return Refusal(
                reply(451, "4.3.5", f"{path} is an SRS address, and this server has no key for it."),
                "make the key: senderproxy vault make-srs-key",
            )
        original = undo_srs(path, keys, now)
        if isinstance(original, InvalidSrs):
            return Refusal(reply(550, "5.1.1", f"{path} is an SRS address, and {original.value}."))
        undone[path] = original
    return undone


def refuse_answer(
    recipients: Sequence[ForwardPath], directory: AccountDirectory, keys: SigningKeys, now: datetime
) -> Refusal | None:
    """The refusal of an automatic message to a reverse-path that we made for automatic mail: the two would go on."""
    for path in recipients:
        if directory.has_domain(path.domain) and is_own_sub_address(path, keys, now):
            return Refusal(reply(554, "5.4.6", f"Mail loop: {path} is the reverse-path of an automatic message."))
    return None
