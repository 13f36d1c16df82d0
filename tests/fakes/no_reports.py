"""Cancellation of messages without reports, for QueueAdmin."""

from collections.abc import Mapping

from senderproxy.mail.address import ForwardPath
from senderproxy.relay.dsn_queueing import StatesWithReports
from senderproxy.relay.ports import Claim
from senderproxy.tracking.record import RecipientState


async def no_reports(_claim: Claim, states: Mapping[ForwardPath, RecipientState]) -> StatesWithReports:
    return StatesWithReports(states, [])
