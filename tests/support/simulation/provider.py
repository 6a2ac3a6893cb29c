"""An ESP that exists only here. It keeps what truly arrived, and looks at each hand-over with its own eyes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import ClassVar, Final

import sendable

from sendwave.errors import Held, Permanent, Transient, Unknown
from sendwave.esp.base import (
    AdapterSettings,
    Capabilities,
    Feed,
    PerRecipient,
    RawReport,
    Recall,
    Receipt,
    Submission,
)
from sendwave.rules import token
from sendwave.rules.events import CONTENT_TYPE, Cause, Event, EventType, Permanence, encode_events
from simulation.chance import Chance
from simulation.history import World

KEY_LIFE: Final = timedelta(hours=1)
RECALL_LIFE: Final = timedelta(minutes=20)

_FATES: Final = {  # tally -> (share, event without its instant)
    "hard_bounce": (0.03, (EventType.BOUNCE, Permanence.HARD, Cause.UNKNOWN_USER)),
    "soft_bounce": (0.03, (EventType.BOUNCE, Permanence.SOFT, Cause.MAILBOX_FULL)),
    "complaint": (0.02, (EventType.COMPLAINT, Permanence.UNKNOWN, None)),
    "unsubscribe": (0.04, (EventType.UNSUBSCRIBE, Permanence.UNKNOWN, None)),
    "open": (0.3, (EventType.OPEN, Permanence.UNKNOWN, None)),
    "click": (0.1, (EventType.CLICK, Permanence.UNKNOWN, None)),
    "delivered": (0.9, (EventType.DELIVERED, Permanence.UNKNOWN, None)),
}
_MOODS: Final[Mapping[str, Mapping[str, float]]] = {  # share of calls that end so
    "mute": {"silent": 0.3, "lost": 0.2},
    "kind": {},
    "picky": {"busy": 0.1, "held": 0.05},
    "flaky": {"busy": 0.1, "held": 0.03, "away": 0.05, "silent": 0.08, "lost": 0.05, "broken": 0.02, "wrong": 0.02},
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message that left."""

    campaign: int
    address: str
    batch: int
    token: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Told:
    """One report of one event."""

    due: datetime
    arrival: Arrival
    tally: str
    body: bytes


@dataclass
class Provider:
    """The ESP itself: one, whatever nodes call it."""

    world: World
    chance: Chance
    now: Callable[[], datetime]  # true time, whatever a node's clock says
    look: Callable[[Submission], None]  # what must hold at a hand-over
    interrupt: Callable[[], None]  # a chance for troubles
    arrivals: list[Arrival] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    receipts: dict[str, tuple[datetime, Receipt]] = field(default_factory=dict)  # by idempotency key
    waiting: dict[str, Told] = field(default_factory=dict)  # reports nobody acknowledged
    told: dict[tuple[int, str], set[str]] = field(
        default_factory=lambda: defaultdict(set)
    )  # (batch, tally) -> addresses
    heard: set[tuple[int, str]] = field(default_factory=set)  # campaign, address: the daemon was told that it came
    bounced: set[tuple[int, str]] = field(default_factory=set)  # as above, hard: by policy they cost nothing
    deferred: set[tuple[int, str]] = field(default_factory=set)
    open_batches: dict[str, list[Arrival]] = field(default_factory=dict)  # by ref, still to be called back
    given_back: list[Arrival] = field(default_factory=list)

    def take(self, submission: Submission) -> Receipt:
        """A call of `submit`."""
        self.look(submission)
        key = submission.key
        self.calls[key] += 1
        mood = self._mood(key)
        if mood == "away":
            raise Transient("connection refused")
        if mood == "busy":
            raise Transient("429", retry_after=30.0 if self.chance.happens(0.5, "retry", key) else None)
        if mood == "held":
            raise Held("sending is paused", reason="provider_paused")
        if mood == "wrong":
            raise Permanent("the request is wrong")
        if mood == "lost":
            raise Unknown("the connection broke while the request was sent")
        receipt = self._accept(submission)
        if mood == "silent":
            raise Unknown("no answer in time")
        if mood == "broken":
            raise RuntimeError("the adapter has a defect")
        return receipt

    def _mood(self, key: str) -> str:
        draw = self.chance.unit("mood", key, self.calls[key])
        for mood, share in _MOODS[self.world.mood].items():
            draw -= share
            if draw < 0:
                return mood
        return "kind"

    def _accept(self, submission: Submission) -> Receipt:
        now = self.now()
        known = self.receipts.get(submission.key)
        if self.world.idempotent and known is not None and now - known[0] <= KEY_LIFE:
            return known[1]
        refused, deferred, taken = [], [], []
        people = zip(submission.recipients.addresses, submission.recipients.tokens, strict=True)
        for index, (address, signed) in enumerate(people):
            if self.chance.happens(0.04, "refused", address):
                refused.append(PerRecipient(index, Event(EventType.REJECT, now, Permanence.HARD)))
            elif self._defers(submission.campaign_id, address):
                deferred.append(PerRecipient(index, Event(EventType.DEFERRED, now, Permanence.SOFT, Cause.THROTTLED)))
            else:
                taken.append(Arrival(submission.campaign_id, address, submission.batch_id, signed, now))
        receipt = Receipt(refused=refused, deferred=deferred)
        if self.world.recall:
            receipt = replace(receipt, ref=submission.key, recall_until=now + RECALL_LIFE)
            self.open_batches[submission.key] = taken
        self.arrivals += taken
        for arrival in taken:
            self._report(arrival)
        self.receipts[submission.key] = (now, receipt)
        return receipt

    def _defers(self, campaign: int, address: str) -> bool:
        if (campaign, address) in self.deferred or not self.chance.happens(0.06, "deferred", campaign, address):
            return False
        self.deferred.add((campaign, address))
        return True

    def _report(self, arrival: Arrival) -> None:
        """What will be told of it, when, and how often: nothing while it can still be given back."""
        sent = arrival.at + RECALL_LIFE if self.world.recall else arrival.at
        for tally, (share, _) in _FATES.items():
            what = (tally, arrival.campaign, arrival.address)
            if not self.chance.happens(min(1.0, share * (6 if self.world.bad and "bounce" in tally else 1)), *what):
                continue
            if self.chance.happens(0.02, "never told", *what):
                continue
            at = sent + timedelta(seconds=1 + 7200 * self.chance.unit("at", *what) ** 3)
            event = replace(_event(tally, at), token=arrival.token, recipient=arrival.address, event_id=repr(what))
            times = 3 if self.chance.happens(0.1, "twice", *what) else 1
            for copy in range(times):
                late = self.chance.pick((0, 0, 0, 60, 3600, 30 * 3600), "late", copy, *what)
                ref = f"{arrival.batch}-{tally}-{arrival.address}-{copy}"
                self.waiting[ref] = Told(at + timedelta(seconds=late), arrival, tally, encode_events([event]))

    def reports(self) -> Iterable[RawReport]:
        """What waits to be fetched, in an order nobody can count on."""
        now = self.now()
        due = [ref for ref, told in self.waiting.items() if told.due <= now]
        for ref in sorted(due, key=lambda ref: self.chance.unit("order", ref)):
            yield RawReport(self.waiting[ref].body, {"content-type": CONTENT_TYPE}, ref)

    def forget(self, ref: str) -> None:
        """It is safe over there: from now on it counts."""
        if told := self.waiting.pop(ref, None):
            batch, _ = token.verify(sendable.KEY, told.arrival.token) or (-1, -1)
            self.told[batch, told.tally].add(told.arrival.address)
            who = (told.arrival.campaign, told.arrival.address)
            if who not in self.deferred or told.tally != "soft_bounce":  # a mail put off has bounced softly too
                self.heard.add(who)
            if told.tally == "hard_bounce":
                self.bounced.add(who)

    def note(self, signed: str, tally: str, address: str) -> None:
        """Somebody told us ourselves, by the link of their mail."""
        batch, _ = token.verify(sendable.KEY, signed) or (-1, -1)
        self.told[batch, tally].add(address)

    def call_back(self, refs: Sequence[str]) -> list[bool]:
        """Whether nobody of each batch will be written to any more."""
        found = []
        for ref in refs:
            taken = self.open_batches.get(ref)
            at = self.receipts[ref][0] if ref in self.receipts else None
            ok = taken is not None and at is not None and self.now() <= at + RECALL_LIFE
            found.append(ok)
            if ok and taken:
                self.given_back += taken
                self.open_batches[ref] = []
                gone = set(taken)
                self.arrivals = [one for one in self.arrivals if one not in gone]
                self.waiting = {name: told for name, told in self.waiting.items() if told.arrival not in gone}
        return found


def _event(tally: str, at: datetime) -> Event:
    kind, permanence, cause = _FATES[tally][1]
    return Event(kind, at.replace(microsecond=0), permanence, cause)


@dataclass
class Adapter:
    """One node's way to the ESP."""

    provider: Provider
    name: ClassVar[str] = "simulation"
    Settings: ClassVar[type[AdapterSettings]] = AdapterSettings

    @property
    def capabilities(self) -> Capabilities:
        world = self.provider.world
        return Capabilities(
            batch_size=5,
            idempotency=KEY_LIFE if world.idempotent else None,
            recall=Recall.SCHEDULED if world.recall else Recall.NONE,
            feed=Feed.POLL,
        )

    def submit(self, submission: Submission) -> Receipt:
        self.provider.interrupt()
        receipt = self.provider.take(submission)
        self.provider.interrupt()
        return receipt

    def recall(self, refs: Sequence[str], now: datetime) -> Sequence[bool]:
        return self.provider.call_back(refs)

    def poll(self, now: datetime) -> Iterable[RawReport]:
        return list(self.provider.reports())

    def acknowledge(self, reports: Sequence[RawReport]) -> None:
        for report in reports:
            self.provider.forget(report.ref)

    def normalise(self, report: RawReport, received_at: datetime) -> Sequence[Event]:
        return ()

    def close(self) -> None:
        return None
