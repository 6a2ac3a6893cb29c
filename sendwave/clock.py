"""The only module that may ask for the time. Everything else is given `now`."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from sendwave.errors import BadInput

VARIABLE: Final = "SENDWAVE_CLOCK"
"""Environment variable of a rehearsal: `60x from 2026-03-02T09:00:00+00:00`; every process that has it agrees."""

_PACE: Final = re.compile(r"(\d+(?:\.\d+)?)x from (\S+)")


class Clock(Protocol):
    """Where `now` comes from: read once at the top of a command or tick, then passed down."""

    def now(self) -> datetime:
        """The instant, timezone-aware, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        ...


@dataclass(frozen=True)
class Pace:
    """Time that runs `speed` times as fast from an instant on: an hour in a minute, for rehearsals."""

    speed: float
    since: datetime

    def at(self, wall: datetime) -> datetime:
        """What the clock shows at that instant of the machine's own time."""
        return wall if wall <= self.since else self.since + (wall - self.since) * self.speed

    def __str__(self) -> str:
        return f"{self.speed:g}x from {self.since.isoformat()}"


def pace(written: str) -> Pace:
    """The pace in a text as `VARIABLE` has it. Raises BadInput."""
    found = _PACE.fullmatch(written.strip())
    try:
        since = datetime.fromisoformat(found[2]) if found else None
    except ValueError:
        since = None
    if found is None or since is None or since.tzinfo is None or not 0 < float(found[1]) <= 1e6:
        raise BadInput(f"{VARIABLE}={written!r}: write for instance `60x from 2026-03-02T09:00:00+00:00`, or unset it")
    return Pace(float(found[1]), since)


class SystemClock:
    """Wall-clock time of this machine, at the pace of `VARIABLE` where it is set. Raises BadInput for a wrong one."""

    def __init__(self, kept: Pace | None = None) -> None:
        told = os.environ.get(VARIABLE)
        self.pace = kept or (pace(told) if told else None)

    def now(self) -> datetime:
        return wall() if self.pace is None else self.pace.at(wall())

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds if self.pace is None else seconds / self.pace.speed)


def wall() -> datetime:
    """The machine's own time, whatever the pace: for timers of libraries, which know no other."""
    return datetime.now(UTC)


class VirtualClock:
    """Time that moves only when told to: the demo, simulations and tests live on it."""

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("a virtual clock starts at a timezone-aware instant")
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    def move_to(self, instant: datetime) -> None:
        """Jump forward to `instant`; an earlier one is ignored, time never steps back."""
        self._now = max(self._now, instant.astimezone(UTC))


def stopwatch() -> float:
    """Seconds on a monotonic clock, for durations only."""
    return time.monotonic()
