"""conclude: what the outcomes of one attempt mean for the client who waits for its answer.

Promises: 2xx only where every recipient was taken; never a 4xx where one was: the client would send again to all. A
mixed outcome was broken off before DATA, so nobody has the message: the answer names those who stood in the way. Only
where a message went in parts, for it had too many recipients, can some have it and others not: then the answer is a 5xx
that says who was not reached, because the author must hear of it and nothing may be sent twice.
RFC 5321 section 4.2.5.
"""

from collections.abc import Mapping
from dataclasses import replace

from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import EnhancedStatus, Reply, reply

_NAMED = 5  # recipients named in one reply; a reply is read in a queue viewer
_NAMED_OF_PARTS = 90  # where nothing else tells the author who was not reached; a reply may have a hundred lines


def conclude(outcomes: Mapping[ForwardPath, Outcome], submission_id: str) -> Reply:
    """One reply for the whole transaction.

    All taken: 250 with the upstream's own words and our id. All refused or all deferred alike: the upstream's code
    with the last line of its reply. Else: 550 where one was refused for good, 451 where none was, naming the
    recipients that were not taken, each with the upstream's words. Some taken: 554, naming those who were not.
    """
    delivered = [outcome.reply for outcome in outcomes.values() if isinstance(outcome, Delivered)]
    if delivered and len(delivered) == len(outcomes):
        return reply(250, "2.0.0", f"{delivered[0].text} (senderproxy {submission_id})")
    if delivered:
        return _partly(outcomes, len(delivered))
    failed = {path: outcome.reply for path, outcome in outcomes.items() if isinstance(outcome, Failed)}
    deferred = {path: outcome.reply for path, outcome in outcomes.items() if isinstance(outcome, Deferred)}
    in_the_way = failed or deferred
    first = next(iter(in_the_way.values())).with_default_status(0, 0)
    if len(in_the_way) == len(outcomes) and len(set(in_the_way.values())) == 1:
        return replace(first, lines=(first.text,))
    return _broken_off(550 if failed else 451, first.status, in_the_way)


def _partly(outcomes: Mapping[ForwardPath, Outcome], delivered: int) -> Reply:
    missed = {path: outcome.reply for path, outcome in outcomes.items() if isinstance(outcome, Failed | Deferred)}
    return Reply(
        554,
        EnhancedStatus(5, 0, 0),
        (
            *_named(missed, _NAMED_OF_PARTS),
            f"The message was sent to {delivered} of {len(outcomes)} recipients; send it again to the others only.",
        ),
    )


def _broken_off(code: int, status: EnhancedStatus | None, in_the_way: Mapping[ForwardPath, Reply]) -> Reply:
    advice = "send it again without them" if code >= 500 else "it can be tried again later"
    return Reply(code, status, (*_named(in_the_way), f"The message was sent to nobody; {advice}."))


def _named(in_the_way: Mapping[ForwardPath, Reply], most: int = _NAMED) -> list[str]:
    named = [f"{path}: {answer.code} {answer.text}" for path, answer in list(in_the_way.items())[:most]]
    if len(in_the_way) > most:
        named.append(f"and {len(in_the_way) - most} more recipients were not taken")
    return named
