"""Times that other instances have counted under a key, beside this one's own. PURE.

Each instance writes its own times alone, in a row of its own (relay.learned_state), and keeps those of the others as
they wrote them last: nothing is counted twice, and no two instances write one row.

Guarantees: memory is bounded: TIMES_LIMIT times in all; of more, the keys written longest ago are dropped.
Not here: what is counted (listener.login_throttle, relay.loop_guard).
"""

from collections.abc import Sequence
from typing import Final

TIMES_LIMIT: Final = 200_000  # some 10 MB; the rows of all instances have about as many
_OF_ONE: Final = 1000  # of one key and instance


class CountsOfOthers:
    """The times of other instances, by key. `own`: the name of this one, another one after each start."""

    def __init__(self, own: str) -> None:
        self.own = own
        self._times: dict[str, dict[str, list[float]]] = {}  # by key and instance; the key written last is the last one
        self._count = 0

    def replace(self, key: str, instance: str, times: Sequence[float]) -> None:
        """Replace the times of one instance: monotonic seconds of this machine."""
        of_key = dict(self._times.get(key, {}))
        of_key[instance] = sorted(times)[-_OF_ONE:]
        self._drop(key)
        self._keep(key, of_key)
        while self._count > TIMES_LIMIT:
            self._drop(next(iter(self._times)))

    def since(self, key: str, time: float) -> list[float]:
        """The times after this one. What is older is dropped."""
        of_key = self._times.get(key)
        if of_key is None:
            return []
        if any(times[0] <= time for times in of_key.values()):
            self._keep(key, {instance: [one for one in times if one > time] for instance, times in of_key.items()})
        return [one for times in self._times.get(key, {}).values() for one in times]

    def forget_until(self, key: str, time: float) -> None:
        """Drop the times until this one."""
        self.since(key, time)

    def expire(self, time: float) -> None:
        """Drop all times until this one."""
        for key in list(self._times):
            self.since(key, time)

    def _keep(self, key: str, of_key: dict[str, list[float]]) -> None:
        left = {instance: times for instance, times in of_key.items() if times}
        if not left:
            self._drop(key)
            return
        self._count += sum(map(len, left.values())) - sum(map(len, self._times.get(key, {}).values()))
        self._times[key] = left

    def _drop(self, key: str) -> None:
        self._count -= sum(map(len, self._times.pop(key, {}).values()))
