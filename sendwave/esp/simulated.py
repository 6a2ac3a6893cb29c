"""An ESP that exists only here: it takes batches, loses answers, says "too fast", and reports like the real ones do.

Its reports are JSON, `{"events": [{"id", "event", "at", "token", "recipient"}]}` with at most 1,000 events, `event` one
of `Kind` and `at` in epoch seconds. They come in through the same path as everybody's: polled, stored, acknowledged,
and given again until they are. With `state` a folder keeps what arrived, whatever happens to our process.
"""

from __future__ import annotations

import heapq
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, Field, field_validator

from sendwave.errors import BadInput, Transient, Unknown
from sendwave.esp.base import AdapterSettings, Capabilities, Feed, PerRecipient, RawReport, Receipt, Submission
from sendwave.esp.simulated_state import Acknowledged, Arrival, State
from sendwave.esp.simulated_world import Delay, Fate, Incident, Kind, Rates, World, scenarios
from sendwave.rules.events import Cause, Event, EventType, Permanence
from sendwave.rules.units import Duration, Percent, Policy, parse_duration, parse_percent

REPORT_SIZE: Final = 1_000
"""Most events in one report, as the real ones' webhooks do."""

_NONE: Final = parse_percent("0%")
_OUTAGE_RETRY: Final = 60.0  # seconds asked for while the ESP is away


@dataclass(frozen=True, slots=True)
class _Meaning:
    type: EventType
    permanence: Permanence = Permanence.UNKNOWN
    cause: Cause | None = None
    code: str | None = None
    machine: bool | None = None
    text: str = ""


_SOFT: Final = Permanence.SOFT
_MEANINGS: Final = {
    "hard_bounce": _Meaning(
        EventType.BOUNCE, Permanence.HARD, Cause.UNKNOWN_USER, "5.1.1", text="550 5.1.1 User unknown"
    ),
    "soft_bounce": _Meaning(EventType.BOUNCE, _SOFT, Cause.MAILBOX_FULL, "5.2.2", text="552 5.2.2 Mailbox full"),
    "blocked": _Meaning(
        EventType.BOUNCE, _SOFT, Cause.BLOCKED_REPUTATION, "5.7.1", text="550 5.7.1 Service refused for your reputation"
    ),
    "refused": _Meaning(
        EventType.REJECT, Permanence.HARD, Cause.SUPPRESSED, None, text="recipient is on the suppression list"
    ),
    "deferred": _Meaning(EventType.DEFERRED, _SOFT, Cause.THROTTLED, "4.7.0", text="421 4.7.0 Too many connections"),
    "delivered": _Meaning(EventType.DELIVERED),
    "open": _Meaning(EventType.OPEN, machine=False),
    "machine_open": _Meaning(EventType.OPEN, machine=True),
    "click": _Meaning(EventType.CLICK, machine=False),
    "machine_click": _Meaning(EventType.CLICK, machine=True),
    "unsubscribe": _Meaning(EventType.UNSUBSCRIBE),
    "complaint": _Meaning(EventType.COMPLAINT),
}
_WORDS: Final = [kind.name for kind in Kind]


class Busy(Policy):
    """HTTP 429: too fast."""

    share: Percent = _NONE
    retry_after: Duration = parse_duration("30s")


class Outage(Policy):
    """Nobody answers between two instants."""

    since: AwareDatetime
    until: AwareDatetime


Script = Literal[
    "accepted", "refused", "later", "unanswered", "hard_bounce", "soft_bounce", "blocked", "complaint", "unsubscribe"
]


class SimulatedSettings(AdapterSettings):
    """A route to the simulated ESP: a scenario, and what this route changes in it."""

    esp: Literal["simulated"]
    scenario: str = "healthy"
    seed: int = Field(1, ge=0)
    batch_size: int = Field(1_000, ge=1, le=100_000)
    everybody: Rates = Rates()
    rates: dict[str, Rates] = Field(default_factory=dict, description="By tier.")
    incidents: tuple[Incident, ...] = ()
    delays: dict[str, Delay] = Field(default_factory=dict, description="By kind of event.")
    duplicates: Percent = Field(_NONE, description="Share of events reported twice.")
    disorder: Percent = Field(_NONE, description="Share of events reported up to half an hour late.")
    loss: Percent = Field(_NONE, description="Share of events never reported.")
    busy: Busy = Busy()
    unanswered: Percent = Field(_NONE, description="Share of batches taken without an answer: a time-out.")
    outages: tuple[Outage, ...] = ()
    scripted: dict[str, Script] = Field(default_factory=dict, description="By address: what happens to it.")
    state: Path | None = Field(None, description="Folder that remembers what arrived, relative to the workspace.")

    @field_validator("scenario")
    @classmethod
    def _exists(cls, value: str) -> str:
        if value not in scenarios():
            raise ValueError(f"no scenario {value!r}; there are: {', '.join(scenarios())}")
        return value

    @field_validator("delays")
    @classmethod
    def _known_kinds(cls, value: dict[str, Delay]) -> dict[str, Delay]:
        if unknown := sorted(set(value) - set(_WORDS)):
            raise ValueError(f"no such kind of event: {', '.join(unknown)}; there are: {', '.join(_WORDS)}")
        return value


@dataclass(slots=True)
class _Batch:
    """An accepted batch whose events are still coming."""

    arrival: Arrival
    fate: Fate
    rows: NDArray[np.intp]  # rows of `fate` not acknowledged before this process started
    next: int = 0  # place in `rows`


@dataclass(slots=True)
class _Given:
    """A report on its way: what to note when it is acknowledged."""

    report: RawReport
    rows: list[tuple[int, list[int]]] = field(default_factory=list)


class Adapter:
    """The `simulated` ESP. Safe for several threads."""

    name: ClassVar[str] = "simulated"
    Settings: ClassVar[type[AdapterSettings]] = SimulatedSettings

    def __init__(self, settings: SimulatedSettings, *, home: Path, token_key: bytes) -> None:  # noqa: ARG002
        """Reads back what arrived before, if the settings name a `state` folder. The token key is not needed."""
        self._settings = settings
        self._world = World(
            scenario=settings.scenario,
            seed=settings.seed,
            everybody=settings.everybody,
            rates=settings.rates,
            incidents=settings.incidents,
            delays=settings.delays,
            duplicates=float(settings.duplicates),
            disorder=float(settings.disorder),
            loss=float(settings.loss),
        )
        self._lock = threading.Lock()
        self._attempts: dict[int, int] = {}
        self._queue: list[tuple[float, int, _Batch]] = []  # batches by the time of their next report
        self._given: dict[str, _Given] = {}
        self._batches = self._reports = 0
        self._state = State(home / settings.state) if settings.state is not None else None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            batch_size=self._settings.batch_size,
            per_recipient=True,
            feed=Feed.POLL,
            concurrent=True,  # and it must be: what an instance took, only that instance reports
            reports_delivery=True,
        )

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────
    def submit(self, submission: Submission) -> Receipt:
        """See EspAdapter: Transient for 429 and outages, Unknown for a batch taken without an answer."""
        self._maybe_away(submission)
        people = submission.recipients
        with self._lock:
            outcome = self._world.draw(
                submission.batch_id, people, submission.provider, submission.wave, submission.now
            )
            later, unanswered = self._scripted(people.addresses, outcome)
            refused = np.flatnonzero(outcome[Kind.refused]).tolist()
            outside = {*refused, *later}
            arrival = Arrival.of(submission, [i for i in range(len(people)) if i not in outside])
            outcome[:, later] = False
            if self._state is not None:
                self._state.arrived(arrival)
            else:
                self._await(arrival, self._world.fate(submission.batch_id, outcome, submission.now), None)
        if self._world.chance(submission.batch_id, 2) < self._settings.unanswered:
            raise Unknown("the simulated ESP took the batch and never answered")
        return Receipt(
            refused=[self._answer(submission, index, "refused") for index in refused],
            deferred=[self._answer(submission, index, "deferred") for index in later],
            unknown=unanswered,
        )

    def _maybe_away(self, submission: Submission) -> None:
        if any(outage.since <= submission.now < outage.until for outage in self._settings.outages):
            raise Transient("the simulated ESP is away (an outage of its settings)", _OUTAGE_RETRY)
        with self._lock:
            attempt = self._attempts[submission.batch_id] = self._attempts.get(submission.batch_id, 0) + 1
        if self._world.chance(submission.batch_id, 2 + attempt) < self._settings.busy.share:
            wait = self._settings.busy.retry_after.total_seconds()
            raise Transient(f"429 too many requests: come back in {wait:g} s", wait)

    def _scripted(self, addresses: Sequence[str], outcome: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
        """Put the settings' scripted addresses into the outcome; (positions for later, positions without answer)."""
        later: list[int] = []
        unanswered: list[int] = []
        if not self._settings.scripted:
            return later, unanswered
        for index, address in enumerate(addresses):
            if (script := self._settings.scripted.get(address)) is None:
                continue
            outcome[:, index] = False
            reached = script not in {"refused", "later", "hard_bounce", "soft_bounce", "blocked"}
            outcome[Kind.delivered, index] = reached
            if script in Kind.__members__:
                outcome[Kind[script], index] = True
            elif script != "accepted":
                (later if script == "later" else unanswered).append(index)
        return later, unanswered

    def _answer(self, submission: Submission, index: int, word: str) -> PerRecipient:
        meaning = _MEANINGS[word]
        return PerRecipient(
            index,
            Event(
                meaning.type,
                submission.now,
                meaning.permanence,
                meaning.cause,
                token=submission.recipients.tokens[index],
                recipient=submission.recipients.addresses[index],
                enhanced_code=meaning.code,
                description=meaning.text,
            ),
        )

    # ── reporting ────────────────────────────────────────────────────────────────────────────────────────────────
    def poll(self, now: datetime) -> Iterable[RawReport]:
        with self._lock:
            if self._state is not None:
                for arrival, done in self._state.fresh():
                    self._await(arrival, self._fate_of(arrival), done)
            waiting = [given.report for given in self._given.values()]
            waiting += [given.report for given in self._new_reports(now.timestamp())]
        return waiting

    def acknowledge(self, reports: Sequence[RawReport]) -> None:
        with self._lock:
            known = [self._given.pop(report.ref) for report in reports if report.ref in self._given]
            if self._state is not None and known:
                self._state.acknowledged([Acknowledged(batch, rows) for given in known for batch, rows in given.rows])

    def normalise(self, report: RawReport, received_at: datetime) -> Sequence[Event]:
        try:
            found = json.loads(report.body)["events"]
            return [_event(row, received_at) for row in found]
        except (ValueError, TypeError, KeyError, AttributeError) as wrong:
            raise BadInput(f"this is no report of the simulated ESP: {type(wrong).__name__}: {wrong}") from wrong

    def close(self) -> None:
        """Nothing is held open."""

    def _fate_of(self, arrival: Arrival) -> Fate:
        """The events of a batch read back from the state folder: drawn again, hence the same."""
        people = arrival.people
        outcome = self._world.draw(arrival.batch, people, arrival.provider, arrival.wave, arrival.at)
        self._scripted(people.addresses, outcome)
        taken = np.zeros(len(people), dtype=np.bool_)
        taken[arrival.accepted] = True
        outcome &= taken
        return self._world.fate(arrival.batch, outcome, arrival.at)

    def _await(self, arrival: Arrival, fate: Fate, done: frozenset[int] | None) -> None:
        rows = np.arange(len(fate))
        if done:
            rows = rows[~np.isin(rows, list(done))]
        if len(rows):
            self._batches += 1
            heapq.heappush(self._queue, (float(fate.due[rows[0]]), self._batches, _Batch(arrival, fate, rows)))

    def _new_reports(self, until: float) -> Iterator[_Given]:
        """Reports of what is due by `until`, several batches to a body."""
        rows: list[str] = []
        origins: list[tuple[int, list[int]]] = []
        while self._queue and self._queue[0][0] <= until:
            _, order, batch = heapq.heappop(self._queue)
            due = batch.fate.due[batch.rows[batch.next :]]
            count = min(int(np.searchsorted(due, until, side="right")), REPORT_SIZE - len(rows))
            chosen = batch.rows[batch.next : batch.next + count]
            rows += _rows(batch, chosen)
            origins.append((batch.arrival.batch, chosen.tolist()))
            batch.next += count
            if batch.next < len(batch.rows):
                heapq.heappush(self._queue, (float(batch.fate.due[batch.rows[batch.next]]), order, batch))
            if len(rows) >= REPORT_SIZE:
                yield self._give(rows, origins)
                rows, origins = [], []
        if rows:
            yield self._give(rows, origins)

    def _give(self, rows: list[str], origins: list[tuple[int, list[int]]]) -> _Given:
        self._reports += 1
        body = f'{{"events":[{",".join(rows)}]}}'.encode()
        given = _Given(RawReport(body, {"Content-Type": "application/json"}, ref=str(self._reports)), origins)
        self._given[given.report.ref] = given
        return given


def _rows(batch: _Batch, chosen: NDArray[np.intp]) -> list[str]:
    """Events as JSON text, put together here: four times faster than a dictionary for each."""
    people, fate, number = batch.arrival.people, batch.fate, batch.arrival.batch
    tokens, addresses = people.tokens, people.addresses
    return [
        f'{{"id":"{number}-{identity}","event":"{_WORDS[kind]}","at":{at:.3f},'
        f'"token":{quoted(tokens[position])},"recipient":{quoted(addresses[position])}}}'
        for kind, position, at, identity in zip(
            fate.kind[chosen].tolist(),
            fate.position[chosen].tolist(),
            fate.at[chosen].tolist(),
            fate.identity[chosen].tolist(),
            strict=True,
        )
    ]


_UNHEARD: Final = _Meaning(EventType.UNKNOWN)


def _event(row: dict[str, Any], received_at: datetime) -> Event:
    word = row.get("event")
    meaning = _MEANINGS.get(str(word), _UNHEARD)
    at = row.get("at")
    return Event(
        meaning.type,
        min(datetime.fromtimestamp(at, UTC), received_at) if isinstance(at, (int, float)) else received_at,
        meaning.permanence,
        meaning.cause,
        row.get("token"),
        row.get("recipient"),
        None,
        row.get("id"),
        meaning.machine,
        meaning.code,
        meaning.text or (f"a word the simulated ESP never had: {word}" if meaning is _UNHEARD else ""),
        row.get("url"),
    )
