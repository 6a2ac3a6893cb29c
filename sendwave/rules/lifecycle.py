"""What may follow what. One table per kind of row; the store applies it as a compare-and-set UPDATE.

hold = waits on a reason and lifts itself; pause = a person's stop; halt = a gate tripped, a person with the
approver role resumes; cancel = final.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

SEEDS: Final = "seeds"
"""The lane of our own addresses: a copy of every wave goes to them, and no figure or gate counts it."""


class Campaign(StrEnum):
    """Statuses of a campaign."""

    DRAFT = "draft"
    PLANNED = "planned"
    APPROVED = "approved"
    SENDING = "sending"
    PAUSED = "paused"
    HALTED = "halted"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Wave(StrEnum):
    """Statuses of a wave."""

    WAITING = "waiting"
    RELEASED = "released"
    SENDING = "sending"
    SOAKING = "soaking"
    CLEARED = "cleared"
    HELD = "held"
    HALTED = "halted"
    SKIPPED = "skipped"


class Batch(StrEnum):
    """Statuses of a batch. `handed` is committed durably before the ESP is called."""

    READY = "ready"
    CLAIMED = "claimed"
    HANDED = "handed"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    RECALLED = "recalled"


class Lane(StrEnum):
    """Statuses of a lane (campaign × mailbox provider)."""

    OPEN = "open"
    SUSPENDED = "suspended"


Transitions = Mapping[str, tuple[frozenset[str], str]]
"""event -> (statuses it may start from, status it leads to)."""


def _table(**rows: tuple[str, str]) -> Transitions:
    return {event: (frozenset(sources.split()), target) for event, (sources, target) in rows.items()}


CAMPAIGN: Final = _table(
    plan=("draft planned", "planned"),
    approve=("planned", "approved"),
    start=("approved", "sending"),
    pause=("approved sending", "paused"),
    halt=("sending paused", "halted"),
    resume=("paused halted", "sending"),
    rearm=("paused", "approved"),  # paused before it started: it waits for its start again
    keep_paused=("halted", "paused"),  # the halt is over, a person's pause still stands
    replan=("approved", "planned"),
    complete=("sending", "completed"),
    reopen=("completed", "sending"),  # a person has people written to again whose fate nobody knew
    cancel=("draft planned approved sending paused halted", "cancelled"),
)

WAVE: Final = _table(
    release=("waiting held halted", "released"),
    send=("released", "sending"),
    hold=("released sending soaking", "held"),
    let_go=("held", "sending"),
    halt=("waiting released sending soaking held", "halted"),
    resume=("halted held", "waiting"),
    soak=("released sending held", "soaking"),
    reopen=("soaking", "sending"),
    again=("released sending soaking cleared", "waiting"),  # an ESP gave people of it back
    clear=("soaking", "cleared"),
    skip=("waiting held halted", "skipped"),
)

BATCH: Final = _table(
    claim=("ready", "claimed"),
    unclaim=("claimed", "ready"),
    hand=("claimed", "handed"),
    accept=("handed unknown", "accepted"),
    refuse=("handed unknown", "refused"),
    lose=("handed", "unknown"),
    return_unsent=("handed", "ready"),
    recall=("ready claimed", "recalled"),
    undecide=("ready claimed", "unknown"),  # as recall, of people who may have the message: they were to go again
    call_back=("accepted", "recalled"),
    doubt=("accepted", "unknown"),  # called back: the answer never recorded, or an earlier call never answered
)

LANE: Final = _table(
    suspend=("open", "suspended"),
    reopen=("suspended", "open"),
)

TABLES: Final[Mapping[str, Transitions]] = {"campaign": CAMPAIGN, "wave": WAVE, "batch": BATCH, "lane": LANE}


def next_status(table: Transitions, status: str, event: str) -> str | None:
    """The status `event` leads to from `status`, or None when the table forbids it."""
    sources, target = table[event]
    return target if status in sources else None


def allowed(table: Transitions, status: str) -> tuple[str, ...]:
    """The events that may happen to a row of that status, in the table's order."""
    return tuple(event for event, (sources, _) in table.items() if status in sources)


STEERED: Final = ("plan", "approve", "pause", "resume", "cancel")
"""Events of a campaign that people bring about by the command of that name; the others follow from them."""

FINAL: Final = frozenset({Campaign.COMPLETED, Campaign.CANCELLED})
"""Campaign statuses in which nobody is left to be written to; only unknown people bring a completed one back."""

SETTLED: Final = frozenset({Batch.ACCEPTED, Batch.REFUSED, Batch.UNKNOWN, Batch.RECALLED})
"""Batch statuses in which nobody of the batch is about to be written to."""
