"""Where the simulated adapter is tested: its own settings script what happens to each address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from sendwave import esp
from sendwave.esp.base import EspAdapter
from sendwave.esp.simulated_state import arrivals

ADDRESSES = {
    "accepted": ["anne@orange.example", "bruno@gmail.example"],
    "refused": ["gone@orange.example"],
    "deferred": ["later@orange.example"],
    "unknown": ["silent@orange.example"],
}
SCRIPT = {
    "anne@orange.example": "hard_bounce",
    "gone@orange.example": "refused",
    "later@orange.example": "later",
    "silent@orange.example": "unanswered",
}


class World:
    """One adapter, and what truly happened."""

    addresses = ADDRESSES

    def __init__(self, home: Path, token_key: bytes) -> None:
        self._state = home / "state"
        settings = {"esp": "simulated", "scripted": SCRIPT, "state": "state"}
        self.adapter: EspAdapter = esp.make(settings, route="test", home=home, token_key=token_key)

    def written_to(self) -> list[str]:
        return [a.people.addresses[p] for a in arrivals(self._state) for p in a.accepted]

    def let_reports_come(self, tokens: list[str], now: datetime) -> datetime:
        return now + timedelta(days=90)


@contextmanager
def world(home: Path, token_key: bytes) -> Iterator[World]:
    made = World(home, token_key)
    yield made
    made.adapter.close()


@contextmanager
def away(home: Path, token_key: bytes, now: datetime) -> Iterator[EspAdapter]:
    """An adapter whose ESP cannot be reached."""
    outage = {"since": now - timedelta(hours=1), "until": now + timedelta(hours=1)}
    yield esp.make({"esp": "simulated", "outages": [outage]}, route="test", home=home, token_key=token_key)
