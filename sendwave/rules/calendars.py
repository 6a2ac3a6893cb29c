"""Calendar periods in a named zone: `day Europe/Paris`, `week …`, `month …`, `quarter …`.

A week begins on Monday (ISO 8601), a quarter with January, April, July or October. The zone is mandatory, as units are:
midnight in Paris is not midnight in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from sendwave.rules.units import LocalTime, check_zone


class Period(StrEnum):
    """How long a calendar period is."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"


@dataclass(frozen=True, slots=True)
class Calendar:
    """Periods of one length in one zone (IANA name)."""

    period: Period
    zone: str

    def __str__(self) -> str:
        return f"{self.period} {self.zone}"

    @classmethod
    def parse(cls, value: Any) -> Calendar:
        """`month Europe/Paris`. Raises ValueError for another period, or without a zone."""
        if isinstance(value, cls):
            return value
        period, _, zone = str(value).strip().partition(" ")
        if period not in {one.value for one in Period}:
            raise ValueError(f"{str(value)!r} is no calendar: day, week, month or quarter, as in 'month Europe/Paris'")
        if not zone.strip():
            raise ValueError(f"a calendar needs its time zone: write for instance '{period} Europe/Paris'")
        check_zone(zone.strip())
        return cls(Period(period), zone.strip())

    def start_ts(self, instant_ts: int) -> int:
        """Epoch seconds at which the period that holds the instant began."""
        return self._midnight(self._first_day(instant_ts))

    def end_ts(self, instant_ts: int) -> int:
        """Epoch seconds at which the next period begins."""
        first = self._first_day(instant_ts)
        if self.period in (Period.DAY, Period.WEEK):
            return self._midnight(first + timedelta(days=1 if self.period is Period.DAY else 7))
        months = first.month + (1 if self.period is Period.MONTH else 3)
        return self._midnight(date(first.year + (months - 1) // 12, (months - 1) % 12 + 1, 1))

    def _first_day(self, instant_ts: int) -> date:
        day = datetime.fromtimestamp(instant_ts, UTC).astimezone(ZoneInfo(self.zone)).date()
        if self.period is Period.WEEK:
            return day - timedelta(days=day.weekday())
        if self.period is Period.MONTH:
            return day.replace(day=1)
        return day.replace(month=day.month - (day.month - 1) % 3, day=1) if self.period is Period.QUARTER else day

    def _midnight(self, day: date) -> int:
        return int(LocalTime(time(0), self.zone).on(day).timestamp())


InCalendar = Annotated[
    Calendar,
    BeforeValidator(Calendar.parse),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(day|week|month|quarter)\s+\S+$",
            "examples": ["month Europe/Paris", "week UTC"],
        }
    ),
]
