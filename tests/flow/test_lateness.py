from __future__ import annotations

import numpy as np

from sendwave.flow.feedback.lateness import lateness
from sendwave.rules.arrivals import WORDS, Arrivals
from sendwave.rules.maturity import bin_of
from sendwave.store.delays import Lateness
from sendwave.store.tallies import Target

COMPLAINT = WORDS.index("complaint")  # type: ignore[arg-type]  # a StrEnum


def target(batch: int, provider: str) -> Target:
    return Target(batch, 7, 2, provider, "main", 100, None, "email", "newsletter", None, None)


def arrivals(batch: list[int], at: list[int]) -> Arrivals:
    size = len(batch)
    told = {name: np.zeros(size, dtype=np.int64) for name in Arrivals.__dataclass_fields__}
    told |= {"batch": np.array(batch, np.int64), "at": np.array(at, np.int64), "tally": np.full(size, COMPLAINT)}
    return Arrivals(**told)


def test_events_are_counted_by_lane_and_by_how_late_they_came() -> None:
    new = arrivals([1, 1, 2, 3], [1_060, 1_090, 4_600, 9_000])
    handed = np.array([1_000, 1_000, 1_000, 0], dtype=np.int64)  # of batch 3 nobody knows when it left
    found = lateness(new, handed, {1: target(1, "orange"), 2: target(2, "sfr"), 3: target(3, "sfr")})
    early, later, hour = bin_of(np.array([1.0, 1.5, 60.0])).tolist()
    assert found[Lateness(7, 2, "sfr", "complaint", hour)] == 1
    assert sum(found.values()) == 3
    assert {late.bin for late in found if late.provider == "orange"} == {early, later}


def test_nothing_known_nothing_counted() -> None:
    assert lateness(arrivals([1], [10]), np.zeros(1, dtype=np.int64), {1: target(1, "orange")}) == {}
