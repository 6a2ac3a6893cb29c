"""Webhooks: what is told when, several events to a body, twice, late, in disorder, again when nobody took it."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Final

from sendwave.simulator.base import ACCEPTED, Act, Post, Provider
from sendwave.simulator.fates import chance
from sendwave.simulator.scenario import Scenario
from sendwave.simulator.truth import Truth

_DISORDER: Final = 1800.0  # seconds an event may be told after its turn
_AGAIN: Final = 600.0  # seconds within which it may be told twice
_DAY: Final = 86_400.0  # seconds after which a replay comes


@dataclass
class Parcel:
    """One webhook request on its way."""

    post: Post | None  # None: to be signed when it leaves
    acts: Sequence[Act]
    attempt: int = 0
    ours: bool = True  # False for a forgery or a replay: it tells nothing new


class Posting:
    """What waits to be told. Safe for several threads."""

    def __init__(self, provider: Provider, scenario: Scenario, truth: Truth, *, url: str) -> None:
        """`url` is where webhooks go: some providers sign it."""
        self._provider, self._hooks, self._seed = provider, scenario.webhooks, scenario.seed
        self._truth, self._url = truth, url
        self._queue: list[tuple[datetime, int, Act | Parcel]] = []
        self._order, self._lock = count(), threading.Lock()
        self._under_way = 0  # requests that left and were not answered yet
        self._began: datetime | None = None
        self.size = min(provider.bodies, self._hooks.batch or provider.bodies)

    @property
    def url(self) -> str:
        """Where webhooks go."""
        return self._url

    def lead_to(self, url: str) -> None:
        """Webhooks go there from now on."""
        self._url = url

    def mend(self, scenario: Scenario) -> None:
        """Another scenario from now on."""
        self._hooks, self._seed = scenario.webhooks, scenario.seed
        self.size = min(self._provider.bodies, self._hooks.batch or self._provider.bodies)

    def schedule(self, acts: Sequence[Act], now: datetime) -> None:
        """Tell these when their time comes, as the scenario has it."""
        with self._lock:
            self._began = self._began or now
            for act in acts:
                if self._provider.tell(act) is None or (act.kind == ACCEPTED and not self._hooks.accepted):
                    continue
                self._schedule(act)

    def _schedule(self, act: Act) -> None:
        hooks = self._hooks

        def drawn(share: float, about: str) -> bool:
            return chance(self._seed, about, act.id) < share

        if drawn(float(hooks.loss), "loss"):
            self._truth.lost([act])
            return
        wait = chance(self._seed, "wait", act.id) * _DISORDER if drawn(float(hooks.disorder), "disorder") else 0.0
        if drawn(float(hooks.late), "late"):
            wait += hooks.late_by.total_seconds()
        self._push(act.at + timedelta(seconds=wait), act)
        if drawn(float(hooks.duplicates), "twice"):
            self._push(act.at + timedelta(seconds=wait + chance(self._seed, "again", act.id) * _AGAIN), act)

    def due(self, now: datetime) -> list[Parcel]:
        """The requests that leave now; each must come back through `answered`."""
        with self._lock:
            if self._away(now):
                return []
            acts: list[Act] = []
            parcels: list[Parcel] = []
            while self._queue and self._queue[0][0] <= now:
                item = heapq.heappop(self._queue)[2]
                acts.append(item) if isinstance(item, Act) else parcels.append(item)
            parcels += [Parcel(None, acts[at : at + self.size]) for at in range(0, len(acts), self.size)]
            self._under_way += len(parcels)
        for parcel in parcels:
            if parcel.ours:  # signed anew at each try, as providers do
                told = [event for act in parcel.acts if (event := self._provider.tell(act)) is not None]
                parcel.post = self._provider.wrap(told, self._url, now)
        return parcels

    def answered(self, parcel: Parcel, status: int | None, now: datetime) -> None:
        """What came back: an HTTP status, None where no answer came."""
        try:
            self._note(parcel, status, now)
        finally:
            with self._lock:
                self._under_way -= 1

    def _note(self, parcel: Parcel, status: int | None, now: datetime) -> None:
        outcome = "no answer" if status is None else "stored" if 200 <= status < 300 else f"answered {status}"
        self._truth.count(self._truth.posts if parcel.ours else self._truth.foreign, outcome)
        if not parcel.ours:
            return
        if outcome == "stored":
            self._truth.heard(parcel.acts)
            self._follow(parcel, now)
            return
        kinds = frozenset(act.kind for act in parcel.acts)
        wait = self._wait(parcel.attempt)
        if wait is None or not self._provider.tries_again(status, kinds, parcel.attempt):
            self._truth.lost(parcel.acts)
            return
        with self._lock:
            self._push(now + timedelta(seconds=wait), Parcel(None, parcel.acts, parcel.attempt + 1))

    def waiting(self) -> int:
        """Events and requests whose time has not come, or that are under way."""
        with self._lock:
            return len(self._queue) + self._under_way

    def next(self) -> datetime | None:
        """When the next leaves; None when nothing waits."""
        with self._lock:
            return self._queue[0][0] if self._queue else None

    def hurry(self, now: datetime) -> int:
        """Everything that waits leaves at once. Returns how much that is."""
        with self._lock:
            self._queue = [(min(due, now), order, item) for due, order, item in self._queue]
            heapq.heapify(self._queue)
            return len(self._queue)

    def _wait(self, attempt: int) -> float | None:
        tries = self._provider.retries
        return tries[attempt] if attempt < len(tries) else None

    def _follow(self, parcel: Parcel, now: datetime) -> None:
        """Forged and replayed copies of what was taken."""
        assert parcel.post is not None  # it left
        about = parcel.acts[0].id
        with self._lock:
            if chance(self._seed, "forge", about) < float(self._hooks.forgeries):
                self._push(now, Parcel(self._provider.forged(parcel.post), parcel.acts, ours=False))
            if chance(self._seed, "replay", about) < float(self._hooks.replays):
                self._push(now + timedelta(seconds=_DAY), Parcel(parcel.post, parcel.acts, ours=False))

    def _away(self, now: datetime) -> bool:
        if self._began is None:
            return False
        passed = now - self._began
        return any(outage.after <= passed < outage.after + outage.lasts for outage in self._hooks.outages)

    def _push(self, due: datetime, item: Act | Parcel) -> None:
        heapq.heappush(self._queue, (due, next(self._order), item))
