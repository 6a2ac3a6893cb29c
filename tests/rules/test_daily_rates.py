from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules.cells import Book
from sendwave.rules.daily_figures import Telling, read
from sendwave.rules.daily_rates import DayRate, booked
from sendwave.rules.ledger import Ledger
from sendwave.rules.maturity import CURVES
from sendwave.rules.signals import SIGNALS
from sendwave.rules.throttle import Lanes

NOW = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)
DAY = date(2026, 3, 2)
LANES = Lanes.model_validate(
    {
        "providers": {
            "google": {"label": "Gmail", "domains": ["gmail.com"], "feedback_loop": False},
            "orange": {"label": "Orange", "domains": ["orange.fr", "wanadoo.fr"]},
        },
        "routes": {"relay": {"ips": ["192.0.2.1"]}},
    }
)


def ledger() -> Ledger:
    """4,000 messages to Gmail on the 2nd, as many on the 3rd, 2,000 to Orange on the 2nd with 3 complaints."""
    made = Ledger()
    for n in range(4):
        made.put(n, 1, "google", datetime(2026, 3, 2, 8 + n, tzinfo=UTC), (1_000, 0, 0))
        made.put(10 + n, 1, "google", datetime(2026, 3, 3, 8 + n, tzinfo=UTC), (1_000, 0, 0))
    made.put(20, 1, "orange", datetime(2026, 3, 2, 8, tzinfo=UTC), (2_000, 0, 0))
    made.count(20, "complaint", 3)
    return made


def counts(*told: DayRate) -> tuple[float, float]:
    """(messages, complaints) of the complaint rate."""
    sheet, mute = booked(ledger().sheet(NOW, {}), told, {"google"})
    book = Book(sheet, NOW, waves=[1], mute=mute)
    found = book.counts(SIGNALS["complaint"], CURVES["complaint"])
    return float(found[0].sum()), float(found[1].sum())


def test_mail_nobody_tells_of_is_in_neither_half_of_the_rate() -> None:
    assert counts() == (2_000, 3)


def test_a_day_that_is_told_enters_both_halves_and_the_other_day_stays_out() -> None:
    assert counts(DayRate("complaint", "google", DAY, 8 / 4_000)) == (6_000, 11)


def test_told_twice_or_by_two_sources_it_counts_once() -> None:
    one, other = DayRate("complaint", "google", DAY, 8 / 4_000), DayRate("complaint", "google", DAY, 6 / 4_000)
    assert counts(one, one, other) == (6_000, 11)


def test_a_daily_count_includes_the_complaints_told_by_message() -> None:
    assert counts(DayRate("complaint", "orange", DAY, 5 / 2_000)) == (2_000, 5)
    assert counts(DayRate("complaint", "orange", DAY, 2 / 2_000)) == (2_000, 3)


@given(st.floats(0, 1), st.lists(st.integers(1, 3_000), min_size=1, max_size=12))
def test_what_is_booked_adds_up_and_is_never_more_than_the_mail(rate: float, sizes: list[int]) -> None:
    made = Ledger()
    for n, size in enumerate(sizes):
        made.put(n, 1, "google", datetime(2026, 3, 2, tzinfo=UTC) + timedelta(minutes=97 * n), (size, 0, 0))
    sheet, _ = booked(made.sheet(NOW, {}), [DayRate("complaint", "google", DAY, rate)], {"google"})
    told = sheet.tallies["complaint"]
    assert told.sum() == round(sum(sizes) * rate)
    assert ((told >= 0) & (told == np.floor(told))).all()


# ── rows of files ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_row_is_read_as_its_author_meant_it() -> None:
    row = {"day": "02/03/2026", "provider": "Orange", "n": "1 204", "ip": "192.0.2.1", "sender": "News@Lune.example"}
    assert read(row, LANES, NOW.date()) == Telling(
        "import", "complaint", "orange", "lune.example", "relay", "192.0.2.1", DAY, 1_204, None
    )
    assert read({"day": "20260302", "provider": "gmail.com", "rate": "0,12 %"}, LANES, NOW.date()).rate == 0.0012
    assert (
        read({"day": "2026-03-02", "provider": "Gmail", "rate": "0.3", "unit": "percent"}, LANES, NOW.date()).rate
        == 0.003
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"day": "2026-03-05"}, "is still to come"),
        ({"day": "yesterday"}, "is no day: write 2026-03-02"),
        ({}, "no day"),
        ({"day": "1970-01-01"}, "before anybody sent"),
        ({"provider": "Orang"}, "Did you mean 'orange'"),
        ({"provider": ""}, "--set provider=google"),
        ({"n": "many"}, "is no count"),
        ({"n": "-3"}, "is no count"),
        ({"n": ""}, "a count or a rate"),
        ({"rate": "0.1%"}, "leave one out"),
        ({"n": "", "rate": "0.3"}, "--set unit=fraction or --set unit=percent"),
        ({"n": "", "rate": "140%"}, "between 0% and 100%"),
        ({"ip": "198.51.100.7"}, r"add `ips: \[198.51.100.7\]` to the route"),
        ({"ip": "300.1.1.1"}, "is no IP address"),
        ({"signal": "complant"}, "Did you mean 'complaint'"),
    ],
)
def test_a_row_nobody_can_use_says_what_to_do(row: dict[str, str], words: str) -> None:
    given_row = {"day": "2026-03-02", "provider": "orange", "n": "3", **row}
    if not row:
        given_row.pop("day")
    with pytest.raises(ValueError, match=words):
        read(given_row, LANES, NOW.date())
