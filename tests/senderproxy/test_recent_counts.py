"""Counts of the last hour."""

from senderproxy.recent_counts import KEYS_LIMIT, RecentCount, RecentCounts


def test_only_the_last_hour_counts() -> None:
    count = RecentCount()
    count.add(3, 0.0)
    count.add(2, 1800.0)
    assert (count.total(3600.0), count.first_at(3600.0)) == (5, 0.0)
    assert (count.total(3601.0), count.first_at(3601.0)) == (2, 1800.0)
    assert (count.total(9000.0), count.first_at(9000.0)) == (0, 9000.0)


def test_memory_does_not_grow_with_the_number() -> None:
    count = RecentCount()
    for second in range(20_000):
        count.add(1, float(second))
    assert len(count._parts) <= 61
    assert 3540 <= count.total(19_999.0) <= 3660


def test_each_key_has_its_count_and_its_last_detail() -> None:
    counts = RecentCounts()
    counts.add(("a",), "first", 0.0)
    counts.add(("a",), "second", 1.0, 4)
    counts.add(("b",), "other", 3000.0)
    assert [(key, one.total(3500.0), one.detail) for key, one in counts.entries(3500.0)] == [
        (("a",), 5, "second"),
        (("b",), 1, "other"),
    ]
    assert [key for key, _count in counts.entries(4000.0)] == [("b",)]
    assert len(counts) == 1


def test_of_more_keys_than_the_limit_those_counted_longest_ago_are_dropped() -> None:
    counts = RecentCounts()
    for number in range(KEYS_LIMIT):
        counts.add((f"client{number}",), "", 0.0)
    counts.add(("client0",), "", 1.0)
    counts.add(("new",), "", 1.0)
    assert len(counts) == KEYS_LIMIT
    kept = [key for key, _count in counts.entries(1.0)]
    assert ("client0",) in kept
    assert ("client1",) not in kept
