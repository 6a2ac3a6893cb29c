from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules.throttle import (
    DEFERRAL_WAITS,
    Limit,
    Provider,
    Route,
    Spent,
    deferral_wait,
    interleave,
    is_open,
    lane_limit,
    largest_batch,
    next_day,
    opens_at,
    route_limit,
    take,
    take_all,
    unreachable_wait,
)
from sendwave.rules.units import LocalWindow

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@given(
    rate=st.floats(0.5, 200),
    burst=st.integers(0, 500),
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=60),
    waits=st.lists(st.floats(0, 20), min_size=60, max_size=60),
)
def test_no_window_sees_more_than_burst_plus_rate(
    rate: float, burst: int, sizes: list[int], waits: list[float]
) -> None:
    limit, spent, now, left = Limit(rate, burst), Spent(), NOON, []
    for size, wait in zip(sizes, waits, strict=False):
        now += timedelta(seconds=wait)
        taken = take(spent, limit, size, now)
        if taken is not None:
            spent = taken
            left.append((now, size))
    for n, (start, _) in enumerate(left):
        for m in range(n, len(left)):
            seconds = (left[m][0] - start).total_seconds()
            largest = max(size for _, size in left[n : m + 1])
            assert sum(size for _, size in left[n : m + 1]) <= max(burst, largest) + rate * seconds + 1e-3


@given(size=st.integers(1, 5000), burst=st.integers(0, 1000), rate=st.floats(0.1, 1000))
def test_any_batch_leaves_an_idle_pace(size: int, burst: int, rate: float) -> None:
    assert take(Spent(), Limit(rate, burst), size, NOON) is not None


def test_a_pace_is_reached_and_not_only_kept() -> None:
    limit, spent, sent, now = Limit(10.0, 20), Spent(), 0, NOON
    while now < NOON + timedelta(minutes=10):
        taken = take(spent, limit, 5, now)
        if taken is not None:
            spent, sent = taken, sent + 5
        else:
            now += timedelta(milliseconds=100)
    assert 6_000 - 5 <= sent <= 6_000 + 20


@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(0, 40)), max_size=60), st.lists(st.integers(1, 900), max_size=4)
)
def test_no_day_sees_more_than_its_ceiling(batches: list[tuple[int, int]], warm_up: list[int]) -> None:
    limit = Limit(per_day=1_000, warm_up=tuple(warm_up))
    spent, now = Spent(), NOON
    days: Counter[object] = Counter()
    for size, hours in batches:
        now += timedelta(hours=hours)
        taken = take(spent, limit, size, now)
        if taken is not None:
            spent = taken
            days[now.date()] += size
    for number, day in enumerate(sorted(days, key=str), start=1):
        assert days[day] <= (limit.ceiling(number) or 0)


def test_a_warm_up_counts_sending_days_not_calendar_days() -> None:
    limit = route_limit(Route(warm_up=(100, 200), per_day=1_000))
    spent = take(Spent(), limit, 100, NOON)
    assert spent is not None
    assert take(spent, limit, 1, NOON) is None
    later = NOON + timedelta(days=9)
    assert take(spent, limit, 201, later) is None
    second = take(spent, limit, 200, later)
    assert second is not None
    assert second.days == 2
    assert take(second, limit, 1_000, later + timedelta(days=1)) is not None


@pytest.mark.parametrize(
    ("limit", "most"),
    [(Limit(), 1000), (Limit(warm_up=(50,)), 50), (Limit(per_day=3000), 1000), (Limit(per_day=20, warm_up=(50,)), 20)],
)
def test_largest_batch_fits_into_the_day(limit: Limit, most: int) -> None:
    assert largest_batch(limit, Spent(), NOON, 1000) == most


def test_several_limits_are_all_or_nothing() -> None:
    limits = {"lane": Limit(1.0), "route": Limit(100.0, 1000)}
    spent = {"lane": Spent(), "route": Spent()}
    first = take_all(spent, limits, 10, NOON)
    assert first is not None
    assert take_all(first, limits, 10, NOON + timedelta(seconds=9)) is None
    assert take_all(first, limits, 10, NOON + timedelta(seconds=10)) is not None


@pytest.mark.parametrize(
    ("provider", "route", "factor", "rate"),
    [
        (None, None, 1.0, None),
        ({"label": "x", "pace": "60 per 1m"}, None, 1.0, 1.0),
        ({"label": "x", "pace": "60 per 1m"}, {"pace": "600 per 1m"}, 0.5, 0.5),
        ({"label": "x"}, {"pace": "600 per 1m"}, 1.0, None),
        ({"label": "x"}, {"pace": "600 per 1m"}, 0.25, 2.5),
    ],
)
def test_lane_pace(
    provider: dict[str, str] | None, route: dict[str, str] | None, factor: float, rate: float | None
) -> None:
    found = lane_limit(
        Provider.model_validate(provider) if provider else None, Route.model_validate(route) if route else None, factor
    )
    assert found.rate == rate


WINDOWS = [
    ("08:00-20:00 local", "Europe/Paris", "2026-03-02T06:59", False),
    ("08:00-20:00 local", "Europe/Paris", "2026-03-02T07:00", True),
    ("08:00-20:00 local", "Europe/Paris", "2026-03-02T18:59", True),
    ("08:00-20:00 local", "Europe/Paris", "2026-03-02T19:00", False),
    ("08:00-20:00 local", "Asia/Tokyo", "2026-03-01T23:30", True),
    ("08:00-20:00 Europe/Paris", "Asia/Tokyo", "2026-03-01T23:30", False),
    ("22:00-06:00 local", "UTC", "2026-03-02T23:00", True),
    ("22:00-06:00 local", "UTC", "2026-03-02T05:59", True),
    ("22:00-06:00 local", "UTC", "2026-03-02T06:00", False),
    ("08:00-20:00 local", "Europe/Paris", "2026-03-29T06:00", True),  # the morning after clocks went forward
]


@pytest.mark.parametrize(("window", "zone", "instant", "expected"), WINDOWS)
def test_windows(window: str, zone: str, instant: str, expected: bool) -> None:
    assert is_open(LocalWindow.parse(window), zone, datetime.fromisoformat(instant).replace(tzinfo=UTC)) is expected


@given(
    minutes=st.integers(0, 525_600),
    window=st.sampled_from(["08:00-20:00 local", "22:00-06:00 local", "02:15-02:45 local", "00:00-00:01 local"]),
    zone=st.sampled_from(["Europe/Paris", "America/New_York", "Asia/Kathmandu", "Pacific/Auckland", "UTC"]),
)
def test_opens_at_is_the_next_open_instant(minutes: int, window: str, zone: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    parsed = LocalWindow.parse(window)
    opens = opens_at(parsed, zone, now)
    assert now <= opens <= now + timedelta(days=2, hours=1)
    assert (opens == now) == is_open(parsed, zone, now)


def test_no_window_is_always_open() -> None:
    assert is_open(None, "", NOON)
    assert opens_at(None, "", NOON) == NOON


def test_waits() -> None:
    assert [deferral_wait(n) for n in range(4)] == [*DEFERRAL_WAITS, None]
    seconds = [unreachable_wait(n, None).total_seconds() for n in range(1, 12)]
    assert seconds == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900]
    assert unreachable_wait(10**6, None) == timedelta(minutes=15)
    assert unreachable_wait(1, 3_600).total_seconds() == 3_600
    assert unreachable_wait(1, 10**12) == timedelta(days=1)
    assert next_day(NOON) == datetime(2026, 3, 3, tzinfo=UTC)


@given(st.lists(st.integers(0, 60), max_size=8))
def test_lanes_drain_evenly(lengths: list[int]) -> None:
    """At any point of the wave, each lane is as far as the others, to one batch."""
    order, total = interleave(lengths), sum(lengths)
    assert sorted(order) == [(lane, k) for lane, n in enumerate(lengths) for k in range(n)]
    done = [0] * len(lengths)
    for place, (lane, k) in enumerate(order, start=1):
        assert k == done[lane]
        done[lane] += 1
        for of_lane, n in enumerate(lengths):
            if n:
                assert abs(done[of_lane] - n * place / total) <= 1 + n * len(lengths) / total
