"""The clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaimon.base.clock import Clock, to_micros, utc_now

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_the_clock_is_in_utc_and_now() -> None:
    clock: Clock = utc_now
    before = datetime.now(UTC)
    now = clock()
    assert now.utcoffset() == timedelta(0)
    assert before <= now <= datetime.now(UTC)


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_microseconds_are_exact_over_all_time(micros: int) -> None:
    assert to_micros(EPOCH + timedelta(microseconds=micros)) == micros


@given(st.integers(0, 4_000_000_000_000_000), st.integers(-14 * 60, 14 * 60))
def test_the_zone_a_moment_is_told_in_does_not_change_it(micros: int, minutes: int) -> None:
    moment = EPOCH + timedelta(microseconds=micros)
    assert to_micros(moment.astimezone(timezone(timedelta(minutes=minutes)))) == micros


@pytest.mark.parametrize(
    ("moment", "micros"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
        (datetime(2026, 3, 1, 12, 0, 0, 123_457, tzinfo=UTC), 1_772_366_400_123_457),
    ],
)
def test_known_moments(moment: datetime, micros: int) -> None:
    assert to_micros(moment) == micros
