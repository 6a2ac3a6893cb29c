from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from bases import DAY, HOUR, NOW_TS, newsletter, person, policy, read, ready, score, send
from pydantic import ValidationError

from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules import pressure
from sendwave.rules.calendars import Calendar
from sendwave.rules.plan import plan_statement
from sendwave.rules.pressure import Cap, Counts, TierPressure

ALONE: dict[str, Any] = {"caps": [], "control": "0%"}


def excluded(engine: DuckdbEngine, sends: list[dict[str, Any]], now_ts: int = NOW_TS, **changes: Any) -> str | None:
    """Why contact 1, a hot one, is left out; None when they are in."""
    kind = newsletter(**{**ALONE, **changes})
    rows = read(engine, plan_statement(policy(), kind, "spring", now_ts), ready(1, sends=sends))
    found: str | None = rows[0]["excluded_by"]
    return found


def tier(**fields: Any) -> dict[str, Any]:
    return {"hot": {"share": "100%", **fields}}


@pytest.mark.parametrize(
    ("grouping", "expected"),
    [
        ({}, [(6, 12)]),
        ({"calendar": "month Europe/Paris"}, [(6, 12), (6, 30)]),
        ({"calendar": "quarter Europe/Paris"}, [(6, 12), (6, 22), (6, 30)]),
    ],
    ids=["rolling", "by month", "by quarter"],
)
def test_windows_agree_with_a_published_case(
    engine: DuckdbEngine, grouping: dict[str, str], expected: list[tuple[int, int]]
) -> None:
    """Adobe Campaign's own example (pressure rules, "setting the period"): at most 3 per 15 days, six dates."""
    dates = [(5, 30), (6, 3), (6, 8), (6, 12), (6, 22), (6, 30)]
    caps = [{"max": "3 per 15d", **grouping}]
    sent: list[dict[str, Any]] = []
    left_out = []
    for month, day in dates:
        at = int(datetime(2025, month, day, 8, tzinfo=UTC).timestamp())
        if excluded(engine, sent, now_ts=at, tiers=tier(), caps=caps) is None:
            sent.append(send(1, 0, sent_ts=at))
        else:
            left_out.append((month, day))
    assert left_out == expected


def test_a_window_is_hours_not_calendar_days(engine: DuckdbEngine) -> None:
    """Two messages an hour apart across midnight pass a calendar-day cap elsewhere."""
    one_past_midnight = int(datetime(2026, 3, 2, 0, 30, tzinfo=UTC).timestamp())
    late_yesterday = send(1, 0, sent_ts=one_past_midnight - HOUR)
    assert excluded(engine, [late_yesterday], one_past_midnight, tiers=tier(cap="1 per 1d")) == "cap_tier"


@pytest.mark.parametrize(
    ("ago", "reason"),
    [(0, "cap_tier"), (7 * DAY - 1, "cap_tier"), (7 * DAY, None), (7 * DAY + 1, None), (-HOUR, "cap_tier")],
)
def test_a_send_one_window_old_has_left_it(engine: DuckdbEngine, ago: int, reason: str | None) -> None:
    assert excluded(engine, [send(1, ago)], tiers=tier(cap="1 per 7d")) == reason


@pytest.mark.parametrize(("ago", "reason"), [(48 * HOUR - 1, "min_gap"), (48 * HOUR, None)])
def test_a_rest_ends_on_the_second(engine: DuckdbEngine, ago: int, reason: str | None) -> None:
    assert excluded(engine, [send(1, ago, type="brand")], tiers=tier(min_gap="48h")) == reason


@pytest.mark.parametrize(
    ("counts", "same_type", "other_type", "other_channel"),
    [
        (Counts.TYPE, True, False, False),
        (Counts.CHANNEL, True, True, False),
        (Counts.ALL, True, True, True),
    ],
)
def test_what_a_cap_counts(
    engine: DuckdbEngine, counts: Counts, same_type: bool, other_type: bool, other_channel: bool
) -> None:
    caps = [{"max": "1 per 7d", "counts": counts}]
    asked = (send(1, DAY), send(1, DAY, type="brand"), send(1, DAY, type="brand", channel="sms"))
    found = [excluded(engine, [sent], tiers=tier(), caps=caps) for sent in asked]
    assert found == [f"cap_{counts}_7d" if hit else None for hit in (same_type, other_type, other_channel)]


def test_a_message_of_unknown_type_or_channel_counts_against_every_cap(engine: DuckdbEngine) -> None:
    unknown = send(1, DAY, type=None, channel=None)
    for counts in Counts:
        found = excluded(engine, [unknown], tiers=tier(), caps=[{"max": "1 per 7d", "counts": counts}])
        assert found == f"cap_{counts}_7d"


@pytest.mark.parametrize(
    ("changes", "rows", "reason"),
    [
        ({"excluded_by": "suppressed_complaint"}, {}, None),  # release took them out: no slot
        ({"freeze": 5}, {"returns": [{"freeze": 5, "contact": 1, "reason": "refused"}]}, None),
        ({"freeze": 5}, {"returns": [{"freeze": 5, "contact": 1, "reason": "refused"}] * 2}, None),
        ({"freeze": 5}, {"returns": [{"freeze": 4, "contact": 1, "reason": "refused"}]}, "cap_tier"),
        ({"freeze": 5}, {"returns": [{"freeze": 5, "contact": 2, "reason": "refused"}]}, "cap_tier"),
    ],
)
def test_only_live_slots_count(
    engine: DuckdbEngine, changes: dict[str, Any], rows: dict[str, Any], reason: str | None
) -> None:
    kind = newsletter(**ALONE, tiers=tier(cap="1 per 7d"))
    tables = ready(1, sends=[send(1, DAY, **changes)], **rows)
    assert read(engine, plan_statement(policy(), kind, "spring", NOW_TS), tables)[0]["excluded_by"] == reason


def test_zero_no_cap_and_never_are_three_values(engine: DuckdbEngine) -> None:
    many = [send(1, HOUR)] * 50
    assert excluded(engine, [], tiers=tier(cap="0 per 7d")) == "cap_tier"
    assert excluded(engine, many, tiers=tier()) is None
    assert excluded(engine, [], tiers={"hot": "never", "warm": {"share": "100%"}}) == "tier_not_contacted"
    assert TierPressure.model_validate("never") == TierPressure(share="0%", never=True)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        TierPressure.model_validate("nevr")


def test_the_order_of_reasons_is_the_order_of_the_policy(engine: DuckdbEngine) -> None:
    caps = [{"max": "1 per 1d", "counts": "channel"}, {"max": "1 per 30d", "counts": "all"}]
    everything: dict[str, Any] = {"tiers": tier(cap="1 per 7d", min_gap="48h"), "caps": caps}
    assert excluded(engine, [send(1, HOUR)], **everything) == "cap_tier"
    assert excluded(engine, [send(1, HOUR, type="brand")], **everything) == "cap_channel_1d"
    assert excluded(engine, [send(1, 30 * HOUR, type="brand")], **everything) == "cap_all_30d"
    everything["caps"] = []
    assert excluded(engine, [send(1, 30 * HOUR, type="brand")], **everything) == "min_gap"


def test_of_two_caps_over_one_window_the_lower_binds_under_one_name(engine: DuckdbEngine) -> None:
    caps = [Cap.model_validate({"max": text}) for text in ("3 per 24h", "1 per 1d", "2 per 1d")]
    found = [reason.name for reason in pressure.reasons({}, caps, NOW_TS)]
    assert found == ["cap_channel_1d"]
    assert [str(limit.cap) for limit in pressure.limits({}, caps, "")] == ["1 per 1d"]


def test_a_service_message_is_never_capped(engine: DuckdbEngine) -> None:
    rows = read(
        engine,
        plan_statement(policy(), policy().types["service"], "receipt", NOW_TS),
        ready(1, consents=[], scores=[], sends=[send(1, 60)] * 50),
    )
    assert [(row["excluded_by"], row["wave"]) for row in rows] == [(None, 1)]


HOUSEHOLD: dict[str, Any] = {"tiers": tier(), "caps": [{"max": "1 per 7d", "per": "group"}]}


def household(engine: DuckdbEngine, sends: list[dict[str, Any]], **people: str | None) -> dict[str, str | None]:
    """Why each of these contacts (their number, their household) is left out; the lower number scores higher."""
    numbers = [int(name.removeprefix("c")) for name in people]
    contacts = [person(n, group_key=key) for n, key in zip(numbers, people.values(), strict=True)]
    scores = [score(n, 90.0 - n) for n in numbers]
    tables = ready(*numbers, contacts=contacts, scores=scores, sends=sends)
    kind = newsletter(**{**ALONE, **HOUSEHOLD})
    rows = read(engine, plan_statement(policy(), kind, "spring", NOW_TS), tables)
    return {f"c{row['contact']}": row["excluded_by"] for row in rows}


def test_a_household_shares_its_slots(engine: DuckdbEngine) -> None:
    """Of one household the best goes, in one plan; a household one member of which had its message waits whole."""
    found = household(engine, [send(5, DAY)], c1="lune", c2="lune", c3=None, c4="", c5="sol", c6="sol")
    full = "cap_group_channel_7d"
    assert found == {"c1": None, "c2": full, "c3": None, "c4": None, "c5": full, "c6": full}


def test_a_household_is_never_mistaken_for_a_contact(engine: DuckdbEngine) -> None:
    """A household named `4` and the contact 4, who is in none, share nothing."""
    assert household(engine, [send(4, DAY)], c1="4", c4=None) == {"c1": None, "c4": "cap_group_channel_7d"}


def test_whoever_is_left_out_takes_no_slot_of_their_household(engine: DuckdbEngine) -> None:
    kind = newsletter(**{**ALONE, **HOUSEHOLD, "control": "100%"})
    contacts = [person(n, group_key="lune") for n in (1, 2)]
    rows = read(engine, plan_statement(policy(), kind, "spring", NOW_TS), ready(1, 2, contacts=contacts))
    assert {row["excluded_by"] for row in rows} == {"control_group"}


@pytest.mark.parametrize(
    ("further", "reason"),
    [
        ({"max": "1 per 7d", "counts": "all"}, "cap_tier_all_7d"),
        ({"max": "2 per 7d", "counts": "all"}, None),
        ({"max": "1 per 7d", "counts": "type"}, None),
        ({"max": "1 per 1h", "counts": "all", "calendar": "month UTC"}, "cap_tier_all_1h_month"),
        ({"max": "1 per 1d", "counts": "all", "calendar": "day UTC"}, "cap_tier_all_1d_day"),
        ({"max": "1 per 1d", "counts": "all"}, None),
    ],
)
def test_a_tier_may_have_caps_over_channels(engine: DuckdbEngine, further: dict[str, Any], reason: str | None) -> None:
    """2026-03-02: the message of 1 March, 08:00, is out of a day that rolls and inside of the day by calendar."""
    sent = [send(1, DAY + HOUR, type="brand", channel="sms")]
    assert excluded(engine, sent, tiers=tier(caps=[further])) == reason
    cool = {"hot": {"share": "100%"}, "warm": {"share": "100%", "caps": [further]}}
    assert excluded(engine, sent, tiers=cool) is None, "another tier's cap"


@pytest.mark.parametrize(
    ("text", "instant", "start", "end"),
    [
        ("day Europe/Paris", "2026-03-29T12:00+02:00", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00"),
        ("day America/Santiago", "2026-09-06T12:00-03:00", "2026-09-06T01:00-03:00", "2026-09-07T00:00-03:00"),
        ("week UTC", "2026-03-01T23:59+00:00", "2026-02-23T00:00+00:00", "2026-03-02T00:00+00:00"),
        ("month Asia/Tokyo", "2026-02-28T15:00+00:00", "2026-03-01T00:00+09:00", "2026-04-01T00:00+09:00"),
        ("month UTC", "2024-02-29T08:00+00:00", "2024-02-01T00:00+00:00", "2024-03-01T00:00+00:00"),
        ("quarter Europe/Paris", "2025-12-31T23:00+00:00", "2026-01-01T00:00+01:00", "2026-04-01T00:00+02:00"),
        ("quarter UTC", "2025-12-31T23:00+00:00", "2025-10-01T00:00+00:00", "2026-01-01T00:00+00:00"),
    ],
)
def test_calendar_periods(text: str, instant: str, start: str, end: str) -> None:
    calendar = Calendar.parse(text)
    at, first, last = (int(datetime.fromisoformat(one).timestamp()) for one in (instant, start, end))
    assert (calendar.start_ts(at), calendar.end_ts(at)) == (first, last)
    assert (calendar.start_ts(first), calendar.start_ts(first - 1) < first) == (first, True)


@pytest.mark.parametrize("text", ["month", "fortnight UTC", "month Europe/Pariss", ""])
def test_a_calendar_needs_a_period_and_a_zone(text: str) -> None:
    with pytest.raises(ValidationError):
        Cap.model_validate({"max": "3 per 15d", "calendar": text})
