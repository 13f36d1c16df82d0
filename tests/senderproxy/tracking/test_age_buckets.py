"""Ages and the buckets they fall into."""

from datetime import timedelta

import pytest

from senderproxy.tracking.age_buckets import AGE_BUCKETS, AGE_LIMITS, age_bucket


@pytest.mark.parametrize(
    ("minutes", "bucket"),
    [
        (-60, 0),
        (0, 0),
        (5, 0),
        (5.001, 1),
        (10, 1),
        (11, 2),
        (79, 4),
        (160, 5),
        (161, 6),
        (640, 7),
        (641, 8),
        (9999, 8),
    ],
)
def test_an_age_falls_into_the_bucket_below_its_limit(minutes: float, bucket: int) -> None:
    assert age_bucket(timedelta(minutes=minutes)) == bucket


def test_each_bucket_is_twice_as_wide_as_the_one_before() -> None:
    assert [age // timedelta(minutes=5) for age in AGE_LIMITS] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert age_bucket(timedelta.max) == AGE_BUCKETS - 1
