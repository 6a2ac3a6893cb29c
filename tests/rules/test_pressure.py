from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from bases import DAY, HOUR, NOW_TS, newsletter, policy, read, ready, send
from pydantic import ValidationError

from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules import pressure
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


def test_rolling_windows_agree_with_a_published_case(engine: DuckdbEngine) -> None:
    """Adobe Campaign's own example: at most 3 per 15 days; of these six dates only 12 June is left out."""
    dates = [(5, 30), (6, 3), (6, 8), (6, 12), (6, 22), (6, 30)]
    sent: list[dict[str, Any]] = []
    left_out = []
    for month, day in dates:
        at = int(datetime(2025, month, day, 8, tzinfo=UTC).timestamp())
        if excluded(engine, sent, now_ts=at, tiers=tier(cap="3 per 15d")) is None:
            sent.append(send(1, 0, sent_ts=at))
        else:
            left_out.append((month, day))
    assert left_out == [(6, 12)]


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
