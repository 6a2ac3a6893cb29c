from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules.cells import Handed, Sheet, gather
from sendwave.rules.ledger import Ledger

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LANES = ("orange", "gmail", "sfr")


@st.composite
def batches(draw: st.DrawFn) -> Handed:
    size = draw(st.integers(0, 500))
    told = draw(
        st.dictionaries(st.sampled_from(["delivered", "hard_bounce", "complaint"]), st.integers(0, 50), max_size=3)
    )
    numbers = [size, draw(st.integers(0, 20)), draw(st.integers(0, 20))]
    at = NOW - timedelta(seconds=draw(st.integers(-60, 900_000)))
    return Handed(draw(st.integers(1, 3)), draw(st.sampled_from(LANES)), at, *numbers, tallies=told)


def rows(sheet: Sheet) -> list[tuple[Any, ...]]:
    """A sheet's rows, whatever else it names."""
    columns = [sheet.stage, sheet.slot, sheet.minute, sheet.accepted, sheet.refused]
    names = sorted(name for name, column in sheet.tallies.items() if column.any())
    columns += [sheet.tallies[name] for name in names]
    told = zip(sheet.place.tolist(), sheet.lane.tolist(), *(column.tolist() for column in columns), strict=True)
    found = [(sheet.waves[place], sheet.lanes[lane], *rest) for place, lane, *rest in told]
    return [("names", *names), *sorted(found)]


def ledger_of(told: list[Handed]) -> Ledger:
    ledger = Ledger()
    for n, one in enumerate(told):
        ledger.put(n, one.wave, one.provider, one.handed_at, (one.accepted, one.refused, one.unknown))
        for tally, count in one.tallies.items():
            ledger.count(n, tally, count)
    return ledger


@given(st.lists(batches(), max_size=30), st.dictionaries(st.integers(1, 3), st.integers(0, 5_000)))
def test_a_ledger_gathers_what_gather_gathers(told: list[Handed], planned: dict[int, int]) -> None:
    assert rows(ledger_of(told).sheet(NOW, planned)) == rows(Sheet.of(gather(told, NOW, planned)))


@given(st.lists(batches(), min_size=1, max_size=12), st.data())
def test_saying_it_again_or_in_another_order_changes_nothing(told: list[Handed], data: st.DataObject) -> None:
    ledger = ledger_of(told)
    for n in data.draw(st.lists(st.integers(0, len(told) - 1))):
        one = told[n]
        ledger.put(n, one.wave, one.provider, one.handed_at, (one.accepted, one.refused, one.unknown))
        for tally, count in one.tallies.items():
            ledger.count(n, tally, count)
    assert rows(ledger.sheet(NOW, {})) == rows(ledger_of(told).sheet(NOW, {}))
    assert len(ledger) == len(told)


@given(st.lists(batches(), max_size=20))
def test_mail_somebody_answered_for_is_left_out(told: list[Handed]) -> None:
    since = {"orange": NOW - timedelta(hours=30)}
    kept = [
        one for one in told if one.provider != "orange" or int(one.handed_at.timestamp()) > since["orange"].timestamp()
    ]
    assert rows(ledger_of(told).sheet(NOW, {1: 900}, since=since)) == rows(Sheet.of(gather(kept, NOW, {1: 900})))


def test_lanes_of_the_plan_are_there_without_mail_and_an_unknown_tally_is_nothing() -> None:
    ledger = Ledger()
    ledger.count(7, "moonbeam", 3)
    assert len(ledger) == 0
    sheet = ledger.sheet(NOW, {}, lanes=LANES)
    assert (sheet.lanes, len(sheet.lane)) == (tuple(sorted(LANES)), 0)
