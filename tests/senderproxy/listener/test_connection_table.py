"""Eviction and limits of connections, without sockets."""

import pytest

from senderproxy.listener.client_auth import Admission
from senderproxy.listener.connection_table import ConnectionLimits, ConnectionTable
from senderproxy.wire import replies

LIMITS = ConnectionLimits(total=6, per_client=3, reserved=2)


class Place:
    """One connection."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.in_transaction = False

    def __repr__(self) -> str:
        return f"<{self.number}>"


class Office:
    """A table with its evicted connections."""

    def __init__(self, limits: ConnectionLimits = LIMITS) -> None:
        self.evicted: list[int] = []
        self.table: ConnectionTable[Place] = ConnectionTable(limits, lambda place, _: self.evicted.append(place.number))
        self.places: list[Place] = []

    def add(self, client: str, *, known: bool = False, in_transaction: bool = False) -> object:
        """Add the next connection; the reply, or None where it was added."""
        place = Place(len(self.places))
        self.places.append(place)
        refusal = self.table.add(place, Admission(False, None, client, known))
        place.in_transaction = in_transaction
        return refusal


def test_without_a_limit_reached_nobody_makes_room() -> None:
    office = Office()
    assert [office.add(f"client {number}", known=number > 3) for number in range(6)] == [None] * 6
    assert office.evicted == []
    assert len(office.table) == 6


def test_the_connection_longest_outside_a_transaction_makes_room() -> None:
    office = Office(ConnectionLimits(total=4, per_client=4, reserved=0))
    for number in range(4):
        office.add(f"client {number}", in_transaction=number == 1)
    office.table.transaction_ended(office.places[0])
    assert [office.add("new"), office.add("new")] == [None, None]
    assert office.evicted == [2, 3]
    assert office.table.all() == [office.places[1], office.places[0], office.places[4], office.places[5]]


def test_a_newcomer_is_refused_where_all_others_are_in_a_transaction() -> None:
    office = Office(ConnectionLimits(total=2, per_client=2, reserved=0))
    office.add("a", in_transaction=True)
    office.add("b", in_transaction=True)
    assert office.add("c") is replies.TOO_MANY_CONNECTIONS
    assert office.evicted == []
    assert len(office.table) == 2


def test_a_client_at_its_own_limit_makes_room_for_itself_only() -> None:
    office = Office()
    office.add("other")
    for _ in range(3):
        office.add("many")
    assert office.add("many") is None
    assert office.evicted == [1]
    for place in office.places[2:]:
        place.in_transaction = True
    assert office.add("many") == replies.too_many_connections_from("many")


def test_clients_that_are_not_known_never_have_the_reserved_places() -> None:
    office = Office()
    for number in range(20):
        assert office.add(f"stranger {number}") is None
    assert len(office.table) == 4
    assert [office.add("server", known=True) for _ in range(2)] == [None, None]
    assert office.evicted == list(range(16))
    assert office.add("server", known=True) is None
    assert office.evicted == list(range(17)), "beyond the reserve, a stranger makes room for a known client"


def test_strangers_in_transactions_cannot_use_up_the_reserve() -> None:
    office = Office()
    replied = [office.add(f"stranger {number}", in_transaction=True) for number in range(6)]
    assert replied == [None] * 4 + [replies.TOO_MANY_CONNECTIONS] * 2
    assert office.add("server", known=True) is None


def test_an_idle_stranger_makes_room_before_an_idle_known_client() -> None:
    office = Office(ConnectionLimits(total=3, per_client=6, reserved=1))
    office.add("server", known=True)
    office.add("server", known=True)
    for number in range(3):
        assert office.add(f"stranger {number}") is None
    assert office.evicted == [2, 3]


def test_a_stranger_takes_its_share_from_idle_known_clients_but_not_the_reserve() -> None:
    office = Office(ConnectionLimits(total=6, per_client=6, reserved=2))
    for _ in range(6):
        office.add("server", known=True)
    replied = [office.add(f"stranger {number}", in_transaction=True) for number in range(5)]
    assert replied == [None] * 4 + [replies.TOO_MANY_CONNECTIONS]
    assert office.evicted == [0, 1, 2, 3]


def test_a_login_takes_a_connection_out_of_the_share_of_strangers() -> None:
    office = Office()
    for number in range(4):
        office.add(f"stranger {number}", in_transaction=True)
    office.table.mark_known(office.places[0])
    office.table.mark_known(office.places[0])
    assert office.add("new", in_transaction=True) is None
    assert office.add("newer") is replies.TOO_MANY_CONNECTIONS
    office.table.remove(office.places[0])
    assert office.add("newer") is replies.TOO_MANY_CONNECTIONS


@pytest.mark.parametrize("known", [True, False])
def test_a_removed_connection_leaves_no_trace(known: bool) -> None:
    office = Office(ConnectionLimits(total=2, per_client=1, reserved=0))
    for _ in range(5):
        assert office.add("client", known=known, in_transaction=True) is None
        office.table.remove(office.places[-1])
        office.table.remove(office.places[-1])
    assert len(office.table) == 0
    office.table.transaction_ended(office.places[-1])
    office.table.mark_known(office.places[-1])
    assert office.table.all() == []
    assert not office.table._of_client
