"""What a campaign waits for, in words, and until when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sendwave.rules.holds import Hold
from sendwave.rules.waiting import For, Lying, Soaking, for_batches, for_feedback, for_start, for_wave, foretold
from sendwave.rules.waves import WavePlan

SIX = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)  # 07:00 in Paris, 13:00 in Bangkok
PLAN = WavePlan.model_validate({"ramp": ["20%", "80%"], "soak": "4h", "soak_max": "24h", "window": "08:00-20:00 local"})
HOUR = timedelta(hours=1)


def lying(zone: str = "Europe/Paris", not_before: datetime = SIX, provider: str = "gmail") -> Lying:
    return Lying(1, provider, "main", zone, not_before)


def waits(*ready: Lying, standing: tuple[Hold, ...] = ()) -> tuple[For, datetime | None] | None:
    found = for_batches(PLAN, ready, standing, 7, zone="Europe/Paris", now=SIX)
    return None if found is None else (found.reason, found.until)


def test_batches_wait_for_whatever_ends_first() -> None:
    assert waits() is None
    assert waits(lying("")) == (For.WINDOW, SIX + HOUR), "people without a zone have the workspace's"
    assert waits(lying("America/New_York"), lying()) == (For.WINDOW, SIX + HOUR)
    assert waits(lying(), lying("Asia/Bangkok")) is None, "there it is 13:00: these leave"
    later = lying("Asia/Bangkok", not_before=SIX + HOUR / 4)
    assert waits(lying(), later) == (For.SECOND_TRY, SIX + HOUR / 4)


def test_a_hold_goes_before_hours_and_one_that_ends_before_one_that_does_not() -> None:
    away = Hold(1, "hold", "esp_unreachable", SIX, "daemon", route="main", until=SIX + HOUR / 6)
    person = Hold(2, "pause", "lunch", SIX, "ann", campaign_id=7, provider="gmail")
    assert waits(lying("Asia/Bangkok"), standing=(away,)) == (For.HOLD, SIX + HOUR / 6)
    assert waits(lying("Asia/Bangkok"), standing=(person,)) == (For.HOLD, None)
    assert waits(lying(), lying(provider="orange"), standing=(person,)) == (For.WINDOW, SIX + HOUR)
    held = for_wave((Hold(3, "hold", "early_alarm", SIX, "judge", campaign_id=7, wave=2),), 7, 2, SIX)
    assert held is not None
    assert held.words == "hold of wave 2: early_alarm"
    assert for_wave((), 7, 2, SIX) is None


@pytest.mark.parametrize(
    ("hours", "reason", "until"),
    [(0, For.SOAK, 4), (3.999, For.SOAK, 4), (4, For.VERDICT, 24), (30, For.VERDICT, 24)],
)
def test_a_wave_that_is_sent_waits_for_its_soak_then_for_an_answer(hours: float, reason: For, until: int) -> None:
    found = for_feedback(PLAN, Soaking(2, SIX), SIX + hours * HOUR)
    assert (found.reason, found.wave, found.until) == (reason, 2, SIX + until * HOUR)


def test_a_start_to_come_is_waited_for() -> None:
    found = for_start(SIX + HOUR, SIX)
    assert found is not None
    assert found.document() == {
        "for": "start",
        "wave": None,
        "until": "2026-03-02T07:00:00+00:00",
        "words": "its start",
    }
    assert for_start(SIX, SIX) is None
    assert for_start(None, SIX) is None


def test_what_is_ahead_is_said_before_it_begins() -> None:
    assert foretold(PLAN, 5) == (
        "5 waves, 4h of soak after each: the last one leaves 16h after the first, or later; "
        "mail leaves in the hours 08:00-20:00 local"
    )
    assert foretold(PLAN.model_copy(update={"window": None}), 1) == "1 wave, 4h of soak after each"
