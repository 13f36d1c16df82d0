"""A limit of connections at once at the simulator, with 421 for each one above it."""

from senderproxy.simulator.faults import FaultAction, FaultPoint, FaultScript, FaultStage, ReplyWith
from senderproxy.simulator.provider_replies import server_reply
from senderproxy.simulator.server import Simulator

_REFUSAL = ReplyWith(server_reply(421, "4.7.0 too many connections from 192.0.2.7"), then_drop=True)


class ConnectionLimit(FaultScript):
    """Refuses a connection while so many others are open. `simulator` is set before the first one."""

    simulator: Simulator

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.refused: set[int] = set()  # numbers of sessions
        self.most = 0  # open at once

    def next_action(self, point: FaultPoint) -> FaultAction | None:
        if point.stage is not FaultStage.BANNER:
            return None
        others = sum(
            session.ended is None
            for session in self.simulator.sessions
            if session.number != point.session and session.number not in self.refused
        )
        if others >= self.limit:
            self.refused.add(point.session)
            return _REFUSAL
        self.most = max(self.most, others + 1)
        return None
