"""What a recorded campaign has told so far, in columns that grow: mail by minute, and what came back of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sendwave.rules.cells import Codes, Numbers, Sheet
from sendwave.rules.evidence import STAGES
from sendwave.rules.maturity import EDGES, Curve, Tempo, bin_at, bin_of, learnt
from sendwave.rules.signals import SIGNALS, Tally

TIMED: Final = 10
"""Ticks in which less than half of a signal is told: its delays can be read off the ticks its sums arrive in."""

LAG: Final = 3
"""Ticks for which events of mail nobody was told of wait for it: a ledger may be read after its feed."""

LATEST: Final = 1e10
"""Seconds since the start beyond which a time is a mistake: three hundred years."""

_DELIVERED: Final = Tally.DELIVERED.value


class Told:
    """Mail and events of one campaign. `clock`, `tick` and all times are seconds, since its start.

    A row is the mail of one wave, lane and minute. Entries without the fields they need are counted in `skipped`.
    """

    def __init__(self, planned: Mapping[int, int], tick: float, curves: Mapping[str, Curve]) -> None:
        self.clock, self.skipped, self.lanes = 0.0, 0, dict[str, int]()
        self._planned, self.tick, self._curves = planned, tick, curves
        self._numbers: dict[int, int] = {}  # wave -> its place in the columns
        self._rows: dict[tuple[int, str, int], int] = {}
        self._batches: dict[str, int] = {}
        self._stages: dict[tuple[int, int], int] = {}
        self._left: dict[int, int] = defaultdict(int)
        self._seen: set[tuple[str, str]] = set()
        self._columns: dict[str, NDArray[Any]] = {name: np.zeros(256) for name in ("place", "lane", "stage", "at", "n")}
        self._counts: dict[str, Numbers] = defaultdict(self._blank)
        self._timed: dict[str, Numbers] = defaultdict(self._blank)  # events whose delay is known
        self._delays: dict[str, Numbers] = defaultdict(lambda: np.zeros(len(EDGES) - 1))
        self._heard: dict[tuple[int, str], float] = {}  # when deliveries of a wave and lane were told last
        self._members: dict[tuple[int, str], list[int]] = defaultdict(list)

    def _blank(self) -> Numbers:
        return np.zeros(len(self._columns["n"]))

    def hear(self, tick: Mapping[str, Any], *, silent: bool) -> None:
        """Book one tick. Events count once per message and type, to the batch that sent it.

        While the feed is `silent` sums tell nothing about delays. Raises KeyError, TypeError or ValueError for a tick
        without a time.
        """
        self.clock = max(self.clock, seconds(tick["t"]))
        for told in sorted(self._listed(tick, "sent"), key=lambda one: _time(one, self.clock)):
            self._try(self._send, told)
        for told in self._listed(tick, "events"):
            self._try(self._event, told)
        for told in self._listed(tick, "events_agg"):
            self._try(self._sum, {**told, "timed": not silent})
        answered: dict[tuple[int, str], float] = defaultdict(float)
        for told in self._listed(tick, "delivered"):
            self._try(lambda one: answered.__setitem__(*_more(answered, one)), told)
        for key, n in answered.items():
            self._deliver(key, n)

    def last(self, wave: int) -> float:
        """When the newest mail of a wave left; now where none did."""
        place = self._numbers.get(wave, -1)
        chosen = self._column("at")[(self._column("place") == place) & (self._column("n") > 0)]
        return float(chosen.max()) if len(chosen) else self.clock

    def tempos(self) -> dict[str, Tempo]:
        """How fast each signal comes, by the ages of its events."""
        found = {}
        for name, timed in self._timed.items():
            bins = bin_of((self.clock - self._column("at")) / 60)
            ages = np.bincount(bins, timed[: len(self._rows)], len(EDGES) - 1).astype(np.float64)
            found[name] = learnt(self._curve(name), self._delays[name], ages)
        return found

    def sheet(self, start: datetime, armed: Mapping[str, float]) -> Sheet:
        """All mail in columns; of a lane in `armed` only what was sent later.

        Events of mail nobody told of are left out for `LAG` ticks, and for good where their lane had no mail at all.
        """
        known = np.bincount(self._lane_of_wave(), self._column("n"))[self._lane_of_wave()] > 0
        late = self.clock - self._column("at") >= LAG * self.tick
        kept = (self._column("n") > 0) | (known & late)
        for lane, since in armed.items():
            kept &= (self._column("lane") != self.lanes.get(lane, -1)) | (self._column("at") > since)
        columns = {name: self._column(name)[kept] for name in self._columns}
        tallies = {_tally(name): counts[: len(kept)][kept] for name, counts in self._counts.items()}
        return Sheet(
            lanes=tuple(self.lanes),
            waves=tuple(self._numbers),
            lane=_codes(columns["lane"]),
            place=_codes(columns["place"]),
            stage=_codes(columns["stage"]),
            slot=_codes(columns["at"] // self.tick),
            minute=start.timestamp() / 60 + columns["at"] / 60,
            accepted=columns["n"],
            refused=np.zeros(int(kept.sum())),
            tallies=tallies,
        )

    def _lane_of_wave(self) -> Codes:
        return _codes(self._column("place") * max(len(self.lanes), 1) + self._column("lane"))

    def _listed(self, tick: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
        found = tick.get(name) or ()
        for told in found if isinstance(found, list) else [found] if found else ():
            if isinstance(told, Mapping):
                yield told
            else:
                self.skipped += 1

    def _try(self, book: Any, told: Mapping[str, Any]) -> None:
        try:
            book(told)
        except (KeyError, TypeError, ValueError, OverflowError):
            self.skipped += 1

    def _column(self, name: str) -> NDArray[Any]:
        return self._columns[name][: len(self._rows)]

    def _curve(self, name: str) -> Curve:
        return self._curves.get(name) or self._curves[SIGNALS[name].curve]

    def _send(self, told: Mapping[str, Any]) -> None:
        wave, at, n = int(told["wave"]), seconds(told["t"]), count(told["n"])
        row = self._row(wave, str(told["lane"]), at)
        self._batches[_name(told, wave, at)] = row
        self._columns["n"][row] += n
        self._left[wave] += n

    def _event(self, told: Mapping[str, Any]) -> None:
        name, message, at, sent = str(told["type"]), told.get("msg"), told.get("t"), told.get("sent_t")
        key = (str(told["id"] if message is None else message), name)
        if name not in SIGNALS or key in self._seen:
            return
        known = self._batches.get(told.get("batch") or "")
        left = told.get("t", self.clock) if sent is None else sent
        row = self._batch(told, seconds(self.clock if left is None else left)) if known is None else known
        self._seen.add(key)
        self._counts[name][row] += 1
        if at is not None:
            since = float(self._columns["at"][row]) if sent is None else seconds(sent)
            self._time(name, row, (seconds(at) - since) / 60, 1)

    def _sum(self, told: Mapping[str, Any]) -> None:
        name, n = str(told["type"]), count(told["n"])
        if name not in SIGNALS:
            return
        row = self._batch(told, self.clock)
        self._counts[name][row] += n
        slow = float(self._curve(name).raw(np.array([TIMED * self.tick / 60]))[0]) < 0.5
        if slow and told["timed"]:
            delay = (self.clock - float(self._columns["at"][row]) - self.tick / 2) / 60
            self._time(name, row, max(delay, self.tick / 240), n)

    def _time(self, name: str, row: int, minutes: float, n: int) -> None:
        self._timed[name][row] += n
        self._delays[name][bin_at(minutes)] += n

    def _deliver(self, key: tuple[int, str], n: float) -> None:
        """Share new deliveries out among the mail that owed them: by what was due since the last ones came."""
        rows = np.array(self._members.get(key, []), dtype=np.int64)
        if not len(rows):
            return
        at, answered = self._columns["at"][rows], self._counts[_DELIVERED][rows]
        room = np.maximum(self._columns["n"][rows] - answered, 0.0)
        curve, before = self._curve(_DELIVERED), self._heard.get(key, -1.0)
        by_now, by_then = curve.raw((np.array([[self.clock], [before]]) - at) / 60)
        due = by_now - by_then
        wanted = np.maximum(due, 1e-6) * self._columns["n"][rows]
        given = np.minimum(wanted * (n / max(wanted.sum(), 1e-9)), room)
        rest = np.cumsum(room - given)
        given += np.diff(np.minimum(rest, n - given.sum()), prepend=0.0)  # what is left: the oldest first
        self._counts[_DELIVERED][rows] += given
        self._heard[key] = self.clock

    def _batch(self, told: Mapping[str, Any], at: float) -> int:
        """The row of an event's batch; of one nobody was told of, a row that has sent nothing yet."""
        wave = int(told.get("wave") or 1)
        name = _name(told, wave, at)
        if name not in self._batches:
            self._batches[name] = self._row(wave, str(told["lane"]), min(at, self.clock))
        return self._batches[name]

    def _row(self, wave: int, lane: str, at: float) -> int:
        key = (wave, lane, int(at // 60))
        if key not in self._rows:
            row = self._rows[key] = len(self._rows)
            if row == len(self._columns["n"]):
                for columns in (self._columns, self._counts, self._timed):
                    for name in columns:
                        columns[name] = np.concatenate([columns[name], np.zeros(row)])
            told = (self._numbers.setdefault(wave, len(self._numbers)), self.lanes.setdefault(lane, len(self.lanes)))
            stage = self._stages.setdefault((wave, key[2]), self._stage(wave))
            for name, value in zip(("place", "lane", "stage", "at"), (*told, stage, at), strict=True):
                self._columns[name][row] = value
            self._members[wave, lane].append(row)
        return self._rows[key]

    def _stage(self, wave: int) -> int:
        """The quarter of its wave that begins now."""
        people = self._planned.get(wave, 0)
        return min(STAGES - 1, STAGES * self._left[wave] // people) if people else 0


def seconds(told: Any) -> float:
    """A time since the campaign's start. Raises TypeError or ValueError for what is none."""
    found = float(told)
    if not abs(found) <= LATEST:
        raise ValueError(f"{told} is no time: seconds since the campaign's start")
    return found


def count(told: Any) -> int:
    """How many, none where it is less. Raises TypeError, ValueError or OverflowError for what is no number."""
    found = max(0, int(told))
    if found > LATEST:
        raise OverflowError(f"{told} is more mail than there is")
    return found


def _name(told: Mapping[str, Any], wave: int, at: float) -> str:
    return str(told.get("batch") or f"{wave}.{told['lane']}.{int(at // 60)}")


def _time(told: Mapping[str, Any], fallback: float) -> float:
    try:
        return seconds(told["t"])
    except (KeyError, TypeError, ValueError):
        return fallback


def _more(sums: Mapping[tuple[int, str], float], told: Mapping[str, Any]) -> tuple[tuple[int, str], float]:
    key = (int(told["wave"]), str(told["lane"]))
    return key, sums.get(key, 0.0) + count(told["n"])


def _codes(column: NDArray[Any]) -> Codes:
    return column.astype(np.int64)


def _tally(name: str) -> str:
    return SIGNALS[name].tallies[0].value
