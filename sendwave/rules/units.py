"""Readable scalar types of the policy files. Units are mandatory: a bare number is refused.

`16h`, `7d`, `1h30m` are durations; `0.3%` is a share or a rate; `2 per 7d` is a frequency;
`08:00-20:00 local` is a daily window. Each parses from its text and prints back to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

from sendwave.errors import did_you_mean

_UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION: Final = re.compile(r"(?:[0-9]+ ?[wdhms] ?)+")
_PERCENT: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?\s?%")
_NUMBER: Final = re.compile(r"[0-9]*\.?[0-9]+")
_FREQUENCY: Final = re.compile(r"([0-9][0-9_]*)\s+per\s+(\S.*)")
_CLOCK: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_WINDOW: Final = re.compile(rf"({_CLOCK})\s*-\s*({_CLOCK})\s+(\S+)")
_DAILY: Final = re.compile(rf"({_CLOCK})\s+(\S+)")
_KEY: Final = re.compile(r"[a-z][a-z0-9_]*")


class Policy(BaseModel):
    """Base of every policy model: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def parse_duration(value: Any) -> timedelta:
    """`16h`, `7d`, `1h30m` as a timedelta. Raises ValueError for anything without a unit."""
    if isinstance(value, timedelta):
        return value
    text = str(value).strip()
    if not _DURATION.fullmatch(text):
        if text.isdigit():
            raise ValueError(f"a duration needs its unit: write {text}d, {text}h or {text}m")
        raise ValueError(f"{text!r} is no duration: write for instance 16h, 7d or 1h30m")
    try:
        return timedelta(seconds=sum(int(n) * _UNITS[u] for n, u in re.findall(r"([0-9]+) ?([wdhms])", text)))
    except OverflowError:
        raise ValueError("that is longer than sendwave can count; the longest useful window is years") from None


def format_duration(value: timedelta) -> str:
    """The shortest text that `parse_duration` reads back to the same value."""
    seconds, parts = int(value.total_seconds()), []
    for unit in "dhms":
        count, seconds = divmod(seconds, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def format_minute(when: datetime) -> str:
    """An instant in words, in UTC to the minute: `2026-03-01 09:30 UTC`."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def parse_percent(value: Any) -> Decimal:
    """`0.3%` as the fraction Decimal('0.003'). Raises ValueError without the % sign or above 100 %."""
    if isinstance(value, Decimal):
        return value
    text = str(value).strip()
    if not _PERCENT.fullmatch(text):
        if _NUMBER.fullmatch(text):
            raise ValueError(f"a share or rate needs its unit: {_percent_hint(text)}")
        raise ValueError(f"{text!r} is no share or rate: write for instance 50% or 0.3%")
    fraction = Decimal(text.rstrip("% ")) / 100
    if fraction > 1:
        raise ValueError("a share or rate cannot be above 100%")
    return fraction


def _percent_hint(text: str) -> str:
    """A bare 0.3 is 30 % to one reader and 0.3 % to another: show both."""
    whole = format_percent(Decimal(text))
    return f"write {text}% or {whole}, whichever is meant" if 0 < Decimal(text) <= 1 else f"write {text}%"


def format_percent(value: Decimal) -> str:
    """The fraction as a percentage, without trailing zeros."""
    text = format(value * 100, "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "%"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^([0-9]+[wdhms])+$", "examples": ["16h", "7d", "1h30m"]}),
]
Percent = Annotated[
    Decimal,
    BeforeValidator(parse_percent),
    PlainSerializer(format_percent, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s?%$", "examples": ["0.3%", "50%"]}),
]


@dataclass(frozen=True, slots=True)
class Frequency:
    """So many per rolling window: a pressure cap (`2 per 7d`) or a pace (`6000 per 1m`)."""

    count: int
    window: timedelta

    def __str__(self) -> str:
        return f"{self.count} per {format_duration(self.window)}"

    @property
    def per_second(self) -> float:
        """The average rate, in units per second."""
        return self.count / self.window.total_seconds()

    @classmethod
    def parse(cls, value: Any) -> Frequency:
        """`2 per 7d`. Raises ValueError for anything else, and for an empty window."""
        if isinstance(value, cls):
            return value
        match = _FREQUENCY.fullmatch(str(value).strip())
        if not match:
            if str(value).strip().isdigit():
                raise ValueError(f"a cap or pace needs its window: write for instance '{value} per 7d'")
            raise ValueError(f"{str(value)!r} is no frequency: write how many per how long, for instance '2 per 7d'")
        window = parse_duration(match[2])
        if not window:
            raise ValueError("the window of a frequency cannot be empty")
        return cls(int(match[1].replace("_", "")), window)


@dataclass(frozen=True, slots=True)
class LocalWindow:
    """A daily window, in the contact's own zone (`local`) or in a named one; end before start spans midnight."""

    start: time
    end: time
    zone: str

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M} {self.zone}"

    @classmethod
    def parse(cls, value: Any) -> LocalWindow:
        """`08:00-20:00 local` or `08:00-20:00 Europe/Paris`. Raises ValueError for a bad time or zone."""
        if isinstance(value, cls):
            return value
        match = _WINDOW.fullmatch(str(value).strip())
        if not match:
            raise ValueError(
                f"{str(value)!r} is no daily window: write '08:00-20:00 local' or '08:00-20:00 Europe/Paris' "
                "(midnight is 00:00)"
            )
        start, end = time.fromisoformat(match[1]), time.fromisoformat(match[2])
        if start == end:
            raise ValueError("the window is empty: its start is its end")
        if match[3] != "local":
            check_zone(match[3])
        return cls(start, end, match[3])


@dataclass(frozen=True, slots=True)
class LocalTime:
    """A time of day in a named zone, at which something happens once a day."""

    at: time
    zone: str

    def __str__(self) -> str:
        return f"{self.at:%H:%M} {self.zone}"

    @classmethod
    def parse(cls, value: Any) -> LocalTime:
        """`04:00 Europe/Paris`. Raises ValueError for a bad time or zone."""
        if isinstance(value, cls):
            return value
        match = _DAILY.fullmatch(str(value).strip())
        if not match:
            raise ValueError(f"{str(value)!r} is no daily time: write for instance '04:00 Europe/Paris'")
        check_zone(match[2])
        return cls(time.fromisoformat(match[1]), match[2])

    def on(self, day: date) -> datetime:
        """The instant (UTC) of that local date. One the clocks skip moves to the next minute there is; of one they
        show twice, the first counts.
        """
        zone, wall = ZoneInfo(self.zone), datetime.combine(day, self.at)
        while True:
            instant = wall.replace(tzinfo=zone).astimezone(UTC)  # fold=0: the first of two
            if instant.astimezone(zone).replace(tzinfo=None) == wall:
                return instant
            wall += timedelta(minutes=1)

    def latest(self, now: datetime) -> date:
        """The local date whose time came last."""
        today = now.astimezone(ZoneInfo(self.zone)).date()
        return today if self.on(today) <= now else today - timedelta(days=1)


def check_zone(name: str) -> ZoneInfo:
    """The IANA zone of that name. Raises ValueError when there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        hint = did_you_mean(name, available_timezones()) or " Use an IANA name such as Europe/Paris."
        raise ValueError(f"unknown time zone {name!r}.{hint}") from None


def check_key(value: Any) -> str:
    """A name used as a key. Raises ValueError for other than lower-case letters, digits and _, a letter first."""
    if not isinstance(value, str) or not _KEY.fullmatch(value):
        raise ValueError(f"{str(value)!r} is no key: lower-case letters, digits and _, a letter first")
    return value


PerWindow = Annotated[
    Frequency,
    BeforeValidator(Frequency.parse),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9][0-9_]*\s+per\s+([0-9]+[wdhms])+$", "examples": ["2 per 7d"]}),
]
DailyTime = Annotated[
    LocalTime,
    BeforeValidator(LocalTime.parse),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["04:00 Europe/Paris", "03:30 UTC"]}),
]
DailyWindow = Annotated[
    LocalWindow,
    BeforeValidator(LocalWindow.parse),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["08:00-20:00 local", "08:00-20:00 Europe/Paris"]}),
]
Key = Annotated[
    str,
    BeforeValidator(check_key),
    WithJsonSchema({"type": "string", "pattern": r"^[a-z][a-z0-9_]*$", "examples": ["newsletter", "very_hot"]}),
]
