"""Eight forms that other tools publish, on the same footing as our rule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np

from gates.campaign import Rule
from gates.worlds import LIMITS
from sendwave.rules import bounds


class Published:
    """A published form over all lanes and each lane by itself: a count of events against all that was sent.

    It suspends a lane, halts when all lanes together are over or half of the mail is suspended, and opens a wave an
    hour after the one before was sent.
    """

    def __init__(self, hello: dict[str, Any], *, form: Callable[[int, int, float], bool], window: int = 0) -> None:
        self.form, self.window, self.waves = form, window, len(hello["campaign"]["waves"])
        self.recent: list[tuple[dict[str, int], dict[tuple[str, str], int]]] = []
        self.seen: set[tuple[str, str]] = set()
        self.sums: dict[str, int] = defaultdict(int)
        self.found: dict[tuple[str, str], int] = defaultdict(int)
        self.wave, self.done_at, self.armed = 0, 0.0, 0.0
        plans = [wave["planned"] for wave in hello["campaign"]["waves"]]
        people = {lane: sum(plan[lane] for plan in plans) for lane in hello["lanes"]}
        self.lanes = {lane: (n / sum(people.values()), hello["lanes"][lane]["fbl"]) for lane, n in people.items()}

    def look(self, tick: dict[str, Any]) -> list[dict[str, Any]]:
        sent: dict[str, int] = defaultdict(int)
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for row in tick["sent"]:
            sent[row["lane"]] += row["n"]
        for row in tick["events_agg"]:
            counts[row["type"], row["lane"]] += row["n"]
        for row in tick["events"]:
            if (row["msg"], row["type"]) not in self.seen and row["sent_t"] >= self.armed:
                self.seen.add((row["msg"], row["type"]))
                counts[row["type"], row["lane"]] += 1
        self._add(sent, counts, 1)
        if self.window:
            self.recent.append((sent, counts))
            while len(self.recent) > 1 and sum(self.sums.values()) - sum(self.recent[0][0].values()) >= self.window:
                self._add(*self.recent.pop(0), -1)
        return self._act(tick, {lane for lane, status in tick["state"]["lanes"].items() if status == "active"})

    def overrule(self, told: dict[str, Any]) -> None:
        """Only what is sent later counts, as far as a form of sums can say."""
        self.armed = told["t"]
        self.sums.clear()
        self.found.clear()
        self.recent.clear()

    def _add(self, sent: dict[str, int], counts: dict[tuple[str, str], int], sign: int) -> None:
        for lane, n in sent.items():
            self.sums[lane] += sign * n
        for key, n in counts.items():
            self.found[key] += sign * n

    def _over(self, lanes: set[str]) -> bool:
        for signal, limit in LIMITS.items():
            told = [lane for lane in lanes if self.lanes[lane][1] or signal != "complaint"]
            seen, sent = sum(self.found[signal, lane] for lane in told), sum(self.sums[lane] for lane in told)
            if self.form(seen, sent, limit):
                return True
        return False

    def _act(self, tick: dict[str, Any], open_lanes: set[str]) -> list[dict[str, Any]]:
        bad = {lane for lane in open_lanes if self._over({lane})}
        shut = sum(self.lanes[lane][0] for lane in bad | (set(self.lanes) - open_lanes))
        if self._over(open_lanes - bad) or (bad and shut >= 0.5):
            return [{"do": "halt_campaign"}]
        state, actions = tick["state"], [{"do": "suspend_lane", "lane": lane} for lane in bad]
        if state["wave_done"] and self.wave != state["wave"]:
            self.wave, self.done_at = state["wave"], tick["t"]
        if state["wave_done"] and tick["t"] - self.done_at >= 3_600 and state["wave"] < self.waves:
            actions.append({"do": "release_wave", "wave": state["wave"] + 1})
        return actions


def _rate(seen: int, sent: int, limit: float, *, least: int, events: int = 1, times: float = 1.0) -> bool:
    return sent >= least and seen >= events and seen > times * limit * sent


def _wilson(seen: int, sent: int, limit: float) -> bool:
    if sent <= 0 or seen <= 0:
        return False
    p, z2 = min(seen / sent, 1.0), 2.326**2
    low = (p + z2 / (2 * sent) - 2.326 * np.sqrt(p * (1 - p) / sent + z2 / (4 * sent * sent))) / (1 + z2 / sent)
    return bool(low > limit)


def _exact(seen: int, sent: int, limit: float) -> bool:
    return seen > 0 and seen > limit * sent and bounds.at_least(seen, max(sent, seen), limit) <= 0.001


FORMS: Final[dict[str, Callable[[dict[str, Any]], Rule]]] = {
    "rate, from 100": partial(Published, form=partial(_rate, least=100)),
    "rate, from 1,000": partial(Published, form=partial(_rate, least=1_000)),
    "rate, from 10,000": partial(Published, form=partial(_rate, least=10_000)),
    "rate, from 100 and 10 events": partial(Published, form=partial(_rate, least=100, events=10)),
    "rate x 1.5, from 1,000": partial(Published, form=partial(_rate, least=1_000, events=10, times=1.5)),
    "rate of the last 5,000": partial(Published, form=partial(_rate, least=500), window=5_000),
    "Wilson 99 %, peeked": partial(Published, form=_wilson),
    "exact 99.9 %, peeked": partial(Published, form=_exact),
}
