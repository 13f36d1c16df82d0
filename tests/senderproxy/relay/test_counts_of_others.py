"""Times of other instances, on given times."""

from senderproxy.relay.counts_of_others import TIMES_LIMIT, CountsOfOthers


def test_each_instance_replaces_its_own_times_alone() -> None:
    others = CountsOfOthers("me")
    others.replace("pair", "one", [3.0, 1.0])
    others.replace("pair", "two", [2.0])
    others.replace("pair", "one", [3.0, 4.0])
    assert sorted(others.since("pair", 0.0)) == [2.0, 3.0, 4.0]
    others.replace("pair", "one", [])
    assert others.since("pair", 0.0) == [2.0]
    assert others.since("other", 0.0) == []


def test_old_times_are_dropped() -> None:
    others = CountsOfOthers("me")
    others.replace("pair", "one", [1.0, 5.0])
    others.replace("pair", "two", [2.0])
    others.replace("old", "two", [2.0])
    others.expire(2.0)
    assert others._times == {"pair": {"one": [5.0]}}
    assert others._count == 1


def test_memory_is_bounded_and_the_oldest_keys_go_first() -> None:
    others = CountsOfOthers("me")
    for number in range(3 * TIMES_LIMIT // 1000):
        others.replace(f"pair{number}", "one", [float(time) for time in range(1200)])
        assert others._count == sum(len(times) for of_key in others._times.values() for times in of_key.values())
    assert others._count == TIMES_LIMIT
    assert others.since("pair0", -1.0) == []
    assert len(others.since(f"pair{number}", -1.0)) == 1000
