"""conclude: what the outcomes of one attempt mean for the client who waits for its answer.

Promises: 2xx only where every recipient was taken; never a 4xx or 5xx where one was (the client would send again to
all, or tell the author that nothing went). A mixed outcome was broken off before DATA, so nobody has the message: the
answer names those who stood in the way.
RFC 5321 section 4.2.5.
"""

from collections.abc import Mapping
from dataclasses import replace

from senderproxy.mail.address import ForwardPath
from senderproxy.mail.outcome import Deferred, Delivered, Failed, Outcome
from senderproxy.mail.reply import EnhancedStatus, Reply, reply

_NAMED = 5  # recipients named in one reply; a reply is read in a queue viewer


class TakenByHalf(AssertionError):
    """The courier delivered to some and not to all, which it promises not to do."""


def conclude(outcomes: Mapping[ForwardPath, Outcome], submission_id: str) -> Reply:
    """One reply for the whole transaction.

    All taken: 250 with the upstream's own words and our id. All refused or all deferred alike: the upstream's code
    with the last line of its reply. Else: 550 where one was refused for good, 451 where none was, naming the
    recipients that were not taken, each with the upstream's words.
    """
    delivered = [outcome.reply for outcome in outcomes.values() if isinstance(outcome, Delivered)]
    if delivered and len(delivered) == len(outcomes):
        return reply(250, "2.0.0", f"{delivered[0].text} (senderproxy {submission_id})")
    if delivered:
        raise TakenByHalf
    failed = {path: outcome.reply for path, outcome in outcomes.items() if isinstance(outcome, Failed)}
    deferred = {path: outcome.reply for path, outcome in outcomes.items() if isinstance(outcome, Deferred)}
    in_the_way = failed or deferred
    first = next(iter(in_the_way.values())).with_default_status(0, 0)
    if len(in_the_way) == len(outcomes) and len(set(in_the_way.values())) == 1:
        return replace(first, lines=(first.text,))
    return _broken_off(550 if failed else 451, first.status, in_the_way)


def _broken_off(code: int, status: EnhancedStatus | None, in_the_way: Mapping[ForwardPath, Reply]) -> Reply:
    named = [f"{path}: {answer.code} {answer.text}" for path, answer in list(in_the_way.items())[:_NAMED]]
    if len(in_the_way) > _NAMED:
        named.append(f"and {len(in_the_way) - _NAMED} more recipients were not taken")
    advice = "send it again without them" if code >= 500 else "it can be tried again later"
    return Reply(code, status, (*named, f"The message was sent to nobody; {advice}."))
