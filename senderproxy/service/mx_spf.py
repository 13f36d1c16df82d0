"""SPF of mail from this machine: the refusal to start with a wrong record, and the facts for conditions.

Guarantees: a definite wrong record of a sender domain refuses the start and a reload; a name server that is away does
not: the mail of those domains waits until their record was seen to name the public address. Bounded in time.
Not here: the gate that each message passes (delivery.mx.spf_gate), the evaluation (domain_records.spf_address).
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from senderproxy.delivery.mx.spf_gate import SpfGate
from senderproxy.domain_records.spf_address import AddressVerdict, SpfResult
from senderproxy.errors import SenderproxyError
from senderproxy.routing.account import Account
from senderproxy.translation import _

WAIT: Final = 15.0  # seconds for all look-ups of a start; a name server that replies needs one
_NAMED: Final = 5  # domains that a message names


def sender_domains(accounts: Iterable[Account]) -> tuple[str, ...]:
    """The domains of all addresses that the accounts carry, each once."""
    return tuple(dict.fromkeys(pattern.domain for account in accounts for pattern in account.carries))


async def require_spf(gate: SpfGate, domains: Sequence[str], seconds: float = WAIT) -> None:
    """Look at the SPF records of these domains. Raises SenderproxyError if one certainly does not name us."""
    looks = {asyncio.create_task(gate.verdict(domain)): domain for domain in domains}
    if not looks:
        return
    try:
        done, _running = await asyncio.wait(looks, timeout=seconds)
    finally:
        for task in looks:
            task.cancel()
    wrong = {looks[task]: task.result() for task in done if task.result().is_wrong}
    if wrong:
        raise _refusal(wrong)


def _refusal(wrong: dict[str, AddressVerdict]) -> SenderproxyError:
    domain, verdict = next(iter(wrong.items()))
    if verdict.result is SpfResult.INVALID:
        text = _('The SPF record of {domain} is invalid ({why}), so no mail may leave by via = "mx".')
    else:
        text = _('The SPF record of {domain} does not name {address}, so no mail may leave by via = "mx".')
    message = text.format(domain=domain, address=verdict.address, why=verdict.why)
    if len(wrong) > 1:
        more = [name for name in wrong if name != domain]
        names = ", ".join(more[:_NAMED]) + (", …" if len(more) > _NAMED else "")
        message = _("{message} The same holds for {names}.").format(message=message, names=names)
    kind = "ip6" if ":" in verdict.address else "ip4"
    hint = _("add {term} to the record, or send by an account or smarthost; docs/mx.md")
    return SenderproxyError(message, hint=hint.format(term=f"{kind}:{verdict.address}"))
