"""The past played again: against a plain walk through each person's messages, and against the published case."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from bases import DAY, HOUR, newsletter
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules import pressure
from sendwave.rules.policy import CampaignType
from sendwave.rules.pressure import Counts, Per
from sendwave.rules.pressure_replay import Mailing, Sent, histogram, replay

TIERS = ("hot", "warm", "cold")


def sent_of(mailings: list[tuple[Mailing, list[int]]], *, households: int = 3) -> Sent:
    """Contacts by mailing; contact n is of household n % households and of tier n % 3."""
    ordered = sorted(mailings, key=lambda one: one[0].sent_ts)
    people = np.array([n for _, reached in ordered for n in reached], np.int64)
    ends = np.cumsum([len(reached) for _, reached in ordered]).astype(np.int64)
    return Sent([mailing for mailing, _ in ordered], ends, people, people % households, people % 3, TIERS)


def by_hand(sent: Sent, types: dict[str, CampaignType], start_ts: int) -> list[bool]:
    """One message after the other, each looking back at everything kept before it."""
    kept: list[bool] = []
    rows = [(m, n) for n, m in enumerate(np.repeat(np.arange(len(sent.mailings)), np.diff(sent.ends, prepend=0)))]
    for number, row in rows:
        mailing = sent.mailings[number]
        kind = types.get(mailing.type or "")
        if kind is None or kind.is_service or mailing.sent_ts <= start_ts:
            kept.append(True)
            continue
        tier = TIERS[sent.tier[row]]
        own = kind.tiers.get(tier)
        went = [(sent.mailings[m], r) for m, r in rows[:row] if kept[r]]
        goes = own is not None and not own.never
        for limit in pressure.limits(kind.tiers, kind.caps, tier):
            who = sent.group if limit.window.per is Per.GROUP else sent.contact
            hits = [
                1
                for m, r in went
                if who[r] == who[row]
                and m.sent_ts > limit.window.since_ts(mailing.sent_ts)
                and (limit.window.counts is not Counts.TYPE or m.type in (None, kind.type))
                and (limit.window.counts is not Counts.CHANNEL or m.channel in (None, kind.channel))
            ]
            goes = goes and len(hits) < limit.cap.count
        if own is not None and own.min_gap:
            same = [m.sent_ts for m, r in went if sent.contact[r] == sent.contact[row] and m.channel in (None, "email")]
            goes = goes and all(at <= mailing.sent_ts - own.min_gap.total_seconds() for at in same)
        kept.append(goes)
    return kept


mailings = st.lists(
    st.tuples(
        st.builds(
            Mailing,
            st.integers(0, 60).map(lambda n: n * 6 * HOUR),
            st.sampled_from(["newsletter", "brand", "service", None]),
            st.sampled_from(["email", "sms", None]),
        ),
        st.lists(st.integers(0, 8), unique=True, max_size=9),
    ),
    max_size=14,
)


@given(mailings, st.booleans(), st.sampled_from([None, "day UTC", "week Europe/Paris"]))
def test_a_replay_equals_asking_one_message_after_the_other(
    drawn: list[tuple[Mailing, list[int]]], grouped: bool, calendar: str | None
) -> None:
    caps: list[dict[str, Any]] = [{"max": "2 per 2d", "counts": "all", "calendar": calendar}, {"max": "1 per 6h"}]
    if grouped:
        caps = [{"max": "2 per 3d", "per": "group"}]  # alone: in one mailing, who goes depends on everything before
    tiers = {"hot": {"share": "100%", "cap": "3 per 7d"}, "warm": {"share": "100%", "min_gap": "2d"}, "cold": "never"}
    types = {"newsletter": newsletter(caps=caps, tiers=tiers)}
    sent = sent_of(drawn)
    assert replay(sent, types, 5 * DAY).tolist() == by_hand(sent, types, 5 * DAY)


@pytest.mark.parametrize(
    ("calendar", "left_out"), [(None, [3]), ("month Europe/Paris", [3, 5]), ("quarter Europe/Paris", [3, 4, 5])]
)
def test_the_published_case_played_again(calendar: str | None, left_out: list[int]) -> None:
    """The six dates of tests/rules/test_pressure.py, as history."""
    dates = [(5, 30), (6, 3), (6, 8), (6, 12), (6, 22), (6, 30)]
    at = [int(datetime(2025, month, day, 8, tzinfo=UTC).timestamp()) for month, day in dates]
    sent = sent_of([(Mailing(ts, "newsletter", "email"), [0]) for ts in at])
    kind = newsletter(caps=[{"max": "3 per 15d", "calendar": calendar}], tiers={"hot": {"share": "100%"}})
    kept = replay(sent, {"newsletter": kind}, 0)
    assert np.flatnonzero(~kept).tolist() == left_out
    assert histogram(sent, kept, 0, people=4)["0"] == 3
    assert histogram(sent, kept, 0, people=4)[str(6 - len(left_out))] == 1
