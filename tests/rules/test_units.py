"""Readable scalars: what may be written, what is refused and in which words, and back to text without loss."""

from __future__ import annotations

from datetime import time, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules.units import (
    Frequency,
    LocalWindow,
    check_key,
    check_zone,
    format_duration,
    format_percent,
    parse_duration,
    parse_percent,
)

durations = st.integers(0, 100_000 * 86_400).map(lambda seconds: timedelta(seconds=seconds))
percents = st.decimals(0, 1, allow_nan=False, places=8)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16h", timedelta(hours=16)),
        ("7d", timedelta(days=7)),
        ("1h30m", timedelta(minutes=90)),
        ("1h 30m", timedelta(minutes=90)),
        ("2w", timedelta(days=14)),
        ("90s", timedelta(seconds=90)),
        ("0s", timedelta(0)),
    ],
)
def test_durations(text: str, value: timedelta) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (48, "a duration needs its unit: write 48d, 48h or 48m"),
        ("48", "a duration needs its unit: write 48d, 48h or 48m"),
        ("21:30", "'21:30' is no duration"),
        ("2 hours", "'2 hours' is no duration"),
        ("1 6h", "'1 6h' is no duration"),
        ("-2h", "'-2h' is no duration"),
        ("1.5h", "'1.5h' is no duration"),
        ("٣d", "'٣d' is no duration"),
        (True, "'True' is no duration"),
        ("", "'' is no duration"),
        ("9999999999d", "longer than sendwave can count"),
    ],
)
def test_what_is_no_duration(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_duration(value)


@given(durations)
def test_a_duration_comes_back_from_its_text(value: timedelta) -> None:
    assert parse_duration(format_duration(value)) == value


@pytest.mark.parametrize(
    ("text", "value"), [("0.3%", "0.003"), ("50 %", "0.5"), ("100%", "1"), ("0%", "0"), ("0.05%", "0.0005")]
)
def test_percents(text: str, value: str) -> None:
    assert parse_percent(text) == Decimal(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.3, r"needs its unit: write 0\.3% or 30%, whichever is meant"),
        ("0.05", r"needs its unit: write 0\.05% or 5%, whichever is meant"),
        (1, r"needs its unit: write 1% or 100%, whichever is meant"),
        (50, "needs its unit: write 50%"),
        ("150%", "cannot be above 100%"),
        ("-5%", "'-5%' is no share or rate"),
        ("half", "'half' is no share or rate"),
        ("1e-3%", "'1e-3%' is no share or rate"),
    ],
)
def test_what_is_no_percent(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_percent(value)


@given(percents)
def test_a_percent_comes_back_from_its_text(value: Decimal) -> None:
    assert parse_percent(format_percent(value)) == value


def test_percents_written_differently_are_one_value() -> None:
    assert {format_percent(parse_percent(text)) for text in ("50%", "50.0%", "50.00 %", "050%")} == {"50%"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 per 7d", Frequency(2, timedelta(days=7))),
        ("6_000 per 1m", Frequency(6000, timedelta(minutes=1))),
        ("0 per 7d", Frequency(0, timedelta(days=7))),
        ("1 per 1d 12h", Frequency(1, timedelta(hours=36))),
    ],
)
def test_frequencies(text: str, value: Frequency) -> None:
    assert Frequency.parse(text) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "needs its window: write for instance '3 per 7d'"),
        ("3", "needs its window: write for instance '3 per 7d'"),
        ("3/7d", "'3/7d' is no frequency"),
        ("3 per 7", "a duration needs its unit: write 7d, 7h or 7m"),
        ("3 per week", "'week' is no duration"),
        ("3 per 0d", "cannot be empty"),
        ("-1 per 7d", "'-1 per 7d' is no frequency"),
    ],
)
def test_what_is_no_frequency(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Frequency.parse(value)


@given(st.integers(0, 10**9), durations.filter(bool))
def test_a_frequency_comes_back_from_its_text(count: int, window: timedelta) -> None:
    assert Frequency.parse(str(Frequency(count, window))) == Frequency(count, window)


def test_the_rate_of_a_frequency_is_per_second() -> None:
    assert Frequency.parse("6000 per 1m").per_second == 100.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("08:00-20:00 local", LocalWindow(time(8), time(20), "local")),
        ("22:00-06:00 Europe/Paris", LocalWindow(time(22), time(6), "Europe/Paris")),
        ("08:00 - 20:00 UTC", LocalWindow(time(8), time(20), "UTC")),
    ],
)
def test_windows(text: str, value: LocalWindow) -> None:
    assert LocalWindow.parse(text) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("08:00-20:00", "is no daily window"),
        ("8-20 local", "is no daily window"),
        ("08:00-24:00 local", r"is no daily window.*midnight is 00:00"),
        ("29:00-30:00 local", "is no daily window"),
        ("08:00-08:00 local", "the window is empty"),
        ("08:00-20:00 Europe/Pari", r"unknown time zone 'Europe/Pari'\. Did you mean 'Europe/Paris'\?"),
        ("08:00-20:00 locale", "unknown time zone 'locale'"),
        (820, "is no daily window"),
    ],
)
def test_what_is_no_window(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalWindow.parse(value)


@given(st.times(), st.times(), st.sampled_from(["local", "UTC", "Europe/Paris", "America/Sao_Paulo"]))
def test_a_window_comes_back_from_its_text(start: time, end: time, zone: str) -> None:
    window = LocalWindow(start.replace(second=0, microsecond=0), end.replace(second=0, microsecond=0), zone)
    if window.start != window.end:
        assert LocalWindow.parse(str(window)) == window


@pytest.mark.parametrize("name", ["", "Europe", "../etc/passwd", "Mars/Olympus", "Paris", "UTC+1"])
def test_unknown_zones(name: str) -> None:
    with pytest.raises(ValueError, match="unknown time zone"):
        check_zone(name)


@pytest.mark.parametrize("key", ["a", "flash_sale", "t1"])
def test_keys(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "1a", "Flash", "flash-sale", "é", "a b", 3, None])
def test_what_is_no_key(key: object) -> None:
    with pytest.raises(ValueError, match="is no key"):
        check_key(key)
