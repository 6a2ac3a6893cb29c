from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules.holds import Hold, blocking, covers

WORK: dict[str, Any] = {"campaign_id": 1, "wave": 2, "provider": "orange", "route": "main"}


def hold(now: datetime, **scope: Any) -> Hold:
    return Hold(1, "hold", "reason", now, "ann", **scope)


@pytest.mark.parametrize(
    ("scope", "stops"),
    [
        ({}, True),
        ({"campaign_id": 1}, True),
        ({"campaign_id": 2}, False),
        ({"campaign_id": 1, "wave": 2}, True),
        ({"campaign_id": 1, "wave": 3}, False),
        ({"campaign_id": 1, "provider": "orange"}, True),
        ({"campaign_id": 1, "provider": "gmail"}, False),
        ({"provider": "orange"}, True),
        ({"route": "main"}, True),
        ({"route": "spare"}, False),
        ({"campaign_id": 1, "wave": 2, "provider": "orange", "route": "main"}, True),
        ({"campaign_id": 1, "wave": 2, "provider": "gmail", "route": "main"}, False),
    ],
)
def test_a_hold_covers_the_work_inside_its_scope(now: datetime, scope: dict[str, Any], *, stops: bool) -> None:
    assert covers(hold(now, **scope), now=now, **WORK) is stops


def test_a_lane_s_hold_does_not_stop_the_campaign_as_a_whole(now: datetime) -> None:
    assert not covers(hold(now, campaign_id=1, provider="orange"), campaign_id=1, now=now)
    assert covers(hold(now, campaign_id=1), campaign_id=1, now=now)


def test_a_hold_with_an_end_stops_until_that_instant_and_not_at_it(now: datetime) -> None:
    ending = hold(now, until=now + timedelta(minutes=1))
    assert covers(ending, now=now, **WORK)
    assert covers(ending, now=now + timedelta(seconds=59), **WORK)
    assert not covers(ending, now=now + timedelta(minutes=1), **WORK)


@given(
    scopes=st.lists(
        st.fixed_dictionaries({}, optional={"campaign_id": st.sampled_from([1, 2]), "wave": st.sampled_from([2, 3])})
    )
)
def test_work_runs_exactly_when_no_hold_of_the_set_covers_it(scopes: list[dict[str, int]]) -> None:
    now = datetime.fromisoformat("2026-03-02T09:00:00+00:00")
    holds = [hold(now, **scope) for scope in scopes]
    stopped = blocking(holds, now=now, **WORK)
    assert bool(stopped) == any(covers(one, now=now, **WORK) for one in holds)
    remaining = [one for one in holds if one not in stopped]
    assert not blocking(remaining, now=now, **WORK)


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        ({}, "everything"),
        ({"campaign_id": 1}, "campaign"),
        ({"campaign_id": 1, "wave": 3}, "wave 3"),
        ({"campaign_id": 1, "wave": 3, "provider": "orange"}, "wave 3, lane orange"),
        ({"route": "main"}, "route main"),
    ],
)
def test_a_scope_reads_in_words(now: datetime, scope: dict[str, Any], words: str) -> None:
    assert hold(now, **scope).scope == words
