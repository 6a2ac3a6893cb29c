from __future__ import annotations

from decimal import Decimal
from itertools import accumulate, pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules import plan, waves
from sendwave.rules.columns import BigInteger, column, func, select, table, true
from sendwave.rules.waves import WavePlan


@st.composite
def ramps(draw: st.DrawFn) -> tuple[Decimal, ...]:
    """Shares that add up to 1, in steps as fine as a hundredth of a percent."""
    cuts = sorted(draw(st.sets(st.integers(1, 9_999), max_size=8)))
    ends = [0, *cuts, 10_000]
    return tuple(Decimal(b - a) / 10_000 for a, b in pairwise(ends))


@given(ramps(), st.integers(0, 200_000_000))
def test_waves_partition_any_plan(ramp: tuple[Decimal, ...], total: int) -> None:
    sizes = waves.sizes(ramp, total)
    assert sum(sizes) == total
    assert all(size > 0 for size in sizes)
    assert len(sizes) <= len(ramp)


@given(ramps(), st.integers(1, 200_000_000))
def test_a_wave_is_its_share_to_within_one_person(ramp: tuple[Decimal, ...], total: int) -> None:
    if min(ramp) * total >= 2:  # no wave is so small that it may be dropped
        assert all(abs(size - share * total) < 1 for size, share in zip(waves.sizes(ramp, total), ramp, strict=True))


@pytest.mark.parametrize(
    ("ramp", "total", "sizes"),
    [
        (("0.02", "0.08", "0.2", "0.3", "0.4"), 1_000, (20, 80, 200, 300, 400)),
        (("0.02", "0.08", "0.2", "0.3", "0.4"), 127, (3, 10, 26, 38, 50)),
        (("0.02", "0.08", "0.2", "0.3", "0.4"), 3, (1, 1, 1)),
        (("0.02", "0.98"), 0, ()),
        (("0.02", "0.98"), 1, (1,)),
        (("1",), 5, (5,)),
    ],
)
def test_ends_are_rounded_up_and_empty_waves_dropped(ramp: tuple[str, ...], total: int, sizes: tuple[int, ...]) -> None:
    assert waves.sizes([Decimal(share) for share in ramp], total) == sizes


@pytest.mark.parametrize("total", [1, 2, 3, 7, 50, 99, 1_000, 9_973])
@pytest.mark.parametrize("ramp", [("0.02", "0.08", "0.2", "0.3", "0.4"), ("0.3333", "0.3333", "0.3334"), ("1",)])
def test_the_expression_cuts_like_the_arithmetic(engine: DuckdbEngine, ramp: tuple[str, ...], total: int) -> None:
    shares = [Decimal(share) for share in ramp]
    count = select(column("total", BigInteger)).select_from(table("size", column("total"))).subquery("count")
    ends = select(*(end.label(f"e{n}") for n, end in enumerate(waves.wave_ends(shares, count.c.total)))).subquery(
        "ends"
    )
    rank = table("people", column("rank", BigInteger)).c.rank
    number = waves.wave_number(rank, list(ends.c)).label("wave")
    tables = {"size": pa.table({"total": [total]}), "people": pa.table({"rank": range(1, total + 1)})}
    with engine.session({}, tables) as session:
        found = session.read(select(rank, number).order_by(rank)).column("wave").to_pylist()
    expected = [n for n, size in enumerate(waves.sizes(shares, total), 1) for _ in range(size)]
    assert found == expected


@pytest.mark.parametrize(
    ("limit", "share", "people"),
    [(0.001, 0.5, 69_400), (0.02, 0.92, 1_886), (0.001, 0.18, 192_778), (0.0, 0.5, None), (0.1, 0.0, None)],
)
def test_people_a_wave_needs_to_be_cleared(limit: float, share: float, people: int | None) -> None:
    assert waves.needed(limit, share) == people


@pytest.mark.parametrize(
    ("people", "limit", "share", "multiple"),
    [
        (100_000, 0.001, 1.0, 1.5),
        (30_000, 0.001, 1.0, 2.0),
        (5_000, 0.001, 0.5, 5.0),
        (500, 0.001, 1.0, None),
        (0, 0.1, 1, None),
    ],
)
def test_what_a_wave_can_tell(people: int, limit: float, share: float, multiple: float | None) -> None:
    assert waves.detectable(people, limit, share) == multiple


@given(
    ramps(),
    st.lists(st.integers(0, 40_000), min_size=1, max_size=6),
    st.sampled_from(["0.005", "0.03", "0.25", "0.9"]),
)
def test_pilots_partition_the_plan_and_never_move_a_tier(
    ramp: tuple[Decimal, ...], tiers: list[int], pilot: str
) -> None:
    share = Decimal(pilot)
    sizes = waves.sizes(ramp, sum(tiers), tiers=tiers, pilot=share)
    assert sum(sizes) == sum(tiers)
    assert all(sizes)
    ends = set(accumulate(sizes))
    for start, head in waves.heads(tiers, share):
        assert {start, head} <= ends
        assert not any(start < end < head for end in ends)
        assert head - start >= waves.PILOT_LEAST


@given(ramps(), st.lists(st.integers(0, 40_000), min_size=1, max_size=6), st.sampled_from([None, "0.03"]))
def test_by_tier_no_wave_holds_two_tiers(ramp: tuple[Decimal, ...], tiers: list[int], pilot: str | None) -> None:
    share = None if pilot is None else Decimal(pilot)
    sizes = waves.sizes(ramp, sum(tiers), tiers=tiers, pilot=share, by_tier=True)
    assert (sum(sizes), all(sizes)) == (sum(tiers), True)
    assert {*accumulate(tiers)} - {0} <= {*accumulate(sizes)}
    ends = {*accumulate(waves.sizes(ramp, sum(tiers), tiers=tiers, pilot=share))}
    assert {*accumulate(sizes)} == ends | ({*accumulate(tiers)} - {0}), "beside these, the ramp's own"


def test_the_head_of_each_colder_tier_goes_alone() -> None:
    ramp = [Decimal(share) for share in ("0.02", "0.28", "0.7")]
    sizes = waves.sizes(ramp, 100_000, tiers=(20_000, 30_000, 300, 49_700), pilot=Decimal("0.03"))
    assert waves.heads((20_000, 30_000, 300, 49_700), Decimal("0.03")) == [(20_000, 20_900), (50_300, 51_791)]
    assert sizes == (2_000, 18_000, 900, 9_100, 20_300, 1_491, 48_209)


@given(
    ramps(),
    st.lists(st.sampled_from([0, 1, 150, 399, 400, 1_003]), min_size=1, max_size=5),
    st.sampled_from([None, "0.03", "0.5"]),
    st.booleans(),
)
@settings(max_examples=60)
def test_pilots_and_tiers_are_cut_by_the_expression_as_by_the_arithmetic(
    ramp: tuple[Decimal, ...], tiers: list[int], pilot: str | None, by_tier: bool
) -> None:
    people = table("people", column("rank", BigInteger), column("tier_rank", BigInteger))
    share = None if pilot is None else Decimal(pilot)
    kind = WavePlan.model_validate({"ramp": ramp, "pilot": share, "by_tier": by_tier})
    one, ends, cuts = plan._ramp(kind, select(people.c.tier_rank).subquery("within"), len(tiers))
    number = waves.wave_number(people.c.rank, ends, cuts).label("wave")
    rows = [place for place, size in enumerate(tiers, 1) for _ in range(size)]
    told = pa.table({"rank": pa.array(range(1, len(rows) + 1), pa.int64()), "tier_rank": pa.array(rows, pa.int64())})
    statement = select(number, func.count().label("n")).select_from(people.join(one, true())).group_by(number)
    with DuckdbEngine(threads=1).session({}, {"people": told}) as session:
        found = {row["wave"]: row["n"] for row in session.read(statement).to_pylist()}
    expected = waves.sizes(ramp, len(rows), tiers=tiers, pilot=share, by_tier=by_tier)
    assert tuple(found[n] for n in sorted(found)) == expected


def test_a_pilot_is_a_part_of_its_tier() -> None:
    for wrong in ("0%", "100%"):
        with pytest.raises(ValidationError, match="a pilot is a part of its tier"):
            WavePlan.model_validate({"ramp": ["100%"], "pilot": wrong})
