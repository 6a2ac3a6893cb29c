"""The only module that may ask for the time. Everything else is given `now`."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where `now` comes from: read once at the top of a command or tick, then passed down."""

    def now(self) -> datetime:
        """The instant, timezone-aware, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        ...


class SystemClock:
    """Wall-clock time of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


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
