"""Does the simulation bite? One guard of the daemon is taken away at a time, in memory; a few seeds must notice.

Each guard is missed in worlds and troubles where it matters: the draws of a seed are kept, apart from what its `World`
fields and `troubles` say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final
from unittest import mock

import numpy as np
from sqlalchemy import bindparam, select, update

from sendwave.cluster import Node
from sendwave.errors import Transient, Unknown
from sendwave.flow.dispatch import pacing, parcels, settling
from sendwave.flow.release import opening
from sendwave.rules import budgets, throttle
from sendwave.rules.policy import PolicySet
from sendwave.store import (
    batches,
    campaigns,
    files,
    handed,
    holds,
    journal,
    leases,
    policies,
    suppressions,
    tables,
    tallies,
    unknowns,
)
from sendwave.store.database import Connection
from simulation.ground import Ground
from simulation.history import STOPS, history, world
from simulation.trouble import IN_MIDDLE, KILLS
from simulation.world import Life

Broken = Callable[[], Any]
"""Makes a context in which one guard is gone."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard, how to take it away, and where it is missed."""

    broken: Broken
    worlds: Mapping[str, Any] = field(default_factory=dict)  # fields of `World`
    troubles: tuple[str, ...] = ()  # kinds; empty: as drawn
    stops: Mapping[str, int] = field(default_factory=lambda: STOPS)  # what people stop in hand, and how often


def _lost_go_again(conn: Connection, *, now: Any, holder: str | None = None, **rest: Any) -> Any:
    """Batches whose fate nobody knows are sent again."""
    moved = update(tables.batches).where(tables.batches.c.status == "handed", tables.batches.c.claimed_by != holder)
    if holder is None or rest.get("everybody"):
        moved = update(tables.batches).where(tables.batches.c.status == "handed")
    conn.execute(moved.values(status="ready", claimed_by=None, claimed_until=None))
    return _LOST(conn, now=now, holder=holder, **rest)


_LOST = batches.lost


def _handing(*statuses: str) -> Callable[..., bool]:
    """A hand-over from these statuses, whatever holds the batch, and whatever campaign, lane and holder are by now."""

    def hand(conn: Connection, batch: Any, dropped: Any, *, holder: str, now: Any) -> bool:
        row = update(tables.batches).where(tables.batches.c.id == batch.id, tables.batches.c.status.in_(statuses))
        told = batches.Exceptions(dropped=dropped).document()
        values = {"status": "handed", "handed_at": now, "dropped": len(dropped), **({"outcomes": told} if told else {})}
        return conn.execute(row.values(values)).rowcount == 1

    return hand


_hand_blindly: Final = _handing("claimed")
_hand_of_the_dead: Final = _handing("ready", "claimed")
"""By whoever once claimed it, also after another node took it back."""


def _hand_unless_held(conn: Connection, batch: Any, dropped: Any, *, holder: str, now: Any) -> bool:
    """Holds are asked, statuses are not."""
    of = batch.group
    if holds.blocks(conn, of.campaign_id, now=now, wave=of.wave, provider=of.provider, route=of.route):
        return False
    return _hand_blindly(conn, batch, dropped, holder=holder, now=now)


def _hand_held(*asked: Any, **told: Any) -> bool:
    """Statuses are asked, holds are not."""
    with mock.patch.object(holds, "blocks", return_value=[]):
        return _HAND(*asked, **told)


_HAND = batches.hand


def _unknown_is_unsent(conn: Connection, parcel: Any, result: Any, route: Any, **rest: Any) -> Any:
    """A call nobody answered counts as one that never happened."""
    return _RECORD(conn, parcel, Transient(str(result)) if isinstance(result, Unknown) else result, route, **rest)


_RECORD = settling._record


def _patched(owner: Any, name: str, new: Any) -> Broken:
    return lambda: mock.patch.object(owner, name, new)


@contextmanager
def _no_hold() -> Iterator[None]:
    """Holds are placed, and nobody asks."""
    with (
        mock.patch.object(holds, "blocking", return_value=[]),
        mock.patch.object(pacing, "blocking", return_value=[]),
    ):
        yield


@contextmanager
def _no_suppressions() -> Iterator[None]:
    """Neither who freezes people nor who hands them over: each keeps out whom the other misses."""
    with (
        mock.patch.object(suppressions, "table", lambda *asked: _TABLE(*asked).slice(0, 0)),
        mock.patch.object(suppressions, "among", return_value=[]),
    ):
        yield


_TABLE = suppressions.table


@contextmanager
def _no_fence() -> Iterator[None]:
    """Everybody has the right to freeze at once, and nobody's is checked at the commit."""

    def acquire(conn: Any, name: str, holder: str, *, now: Any, life: timedelta, **rest: Any) -> Any:
        leases_of = tables.leases
        conn.execute(leases_of.delete().where(leases_of.c.name == name))
        return _ACQUIRE(conn, name, holder, now=now, life=life, **rest)

    with mock.patch.object(leases, "acquire", acquire), mock.patch.object(leases, "fence", return_value=None):
        yield


_ACQUIRE = leases.acquire


def _count_twice(*asked: Any) -> Any:
    """Who was counted is counted again with whoever comes next."""
    found = _MARK(*asked)
    return found._replace(changes=[one._replace(n=one.n + (one.was is not None)) for one in found.changes])


_MARK = tallies.mark


def _unwritten(conn: Connection, *, action: str, **told: Any) -> Any:
    """Moves of waves are not in the journal."""
    return None if action.startswith("wave.") else _WRITE(conn, action=action, **told)


_WRITE = journal.write


def _again(self: Any, batch: Any, job: Any, dropped: Any, now: Any) -> Any:
    """The parcel as it was, whoever asked to be left alone since."""
    return self._parcel(batch, job, parcels.payloads.decode(batch.payload), dropped, now)


def _newest(conn: Connection, _version: str) -> PolicySet:
    """The policies read last, not those a campaign was approved under."""
    of = tables.policies.c
    return PolicySet.model_validate(conn.execute(select(of.document).order_by(of.loaded_at.desc()).limit(1)).scalar())


def _unmarked(conn: Connection, batch_id: int, **_: Any) -> bool:
    """The ESP gave it back, and nothing is asked or written down any more."""
    handed.asked(conn, [batch_id])
    return True


@contextmanager
def _due_whatever() -> Iterator[None]:
    """Batches nobody answered for are asked about again, also of a campaign that was cancelled meanwhile."""
    of, told = tables.batches.c, bindparam("now")
    mine = (of.status == "handed", of.claimed_by == bindparam("holder"), of.not_before <= told, of.claimed_until > told)
    due = select(of.id, of.outcomes, of.handed_at).where(*mine).order_by(of.handed_at).limit(bindparam("most"))
    one = select(of.id).where(of.id == bindparam("batch"), *mine)
    with mock.patch.object(handed, "_DUE", due), mock.patch.object(handed, "_IS_DUE", one):
        yield


_OTHERS: Final = {"nodes": 2, "campaigns": 3}
_CROWD: Final = {"cap": 1, "campaigns": 4}

BROKEN: Final[Mapping[str, Guard]] = {
    "holds are not asked at hand-over, nor the status": Guard(
        _patched(batches, "hand", _hand_blindly), troubles=("stopped_in_hand",)
    ),
    "hand-over looks at no hold": Guard(
        _patched(batches, "hand", _hand_held), troubles=("stopped_in_hand",), stops={"hold_route": 1}
    ),
    "no hold ever stops anything": Guard(
        _no_hold, {"mood": "picky"}, ("stopped_in_hand",), {"hold_route": 1}
    ),
    "hand-over looks at no status": Guard(
        _patched(batches, "hand", _hand_unless_held), troubles=("stopped_in_hand",), stops={"cancel": 1}
    ),
    "who lost their lease hands over": Guard(_patched(batches, "hand", _hand_of_the_dead), _OTHERS, IN_MIDDLE),
    "two nodes may have one batch": Guard(
        _patched(batches, "claim", lambda conn, ids, *, holder, until: _stolen(conn, ids, holder, until)),
        _OTHERS, IN_MIDDLE,
    ),
    "a leader that slept goes on writing": Guard(_patched(Node, "_check", lambda *_a: None), _OTHERS, IN_MIDDLE),
    "lost batches go again": Guard(_patched(batches, "lost", _lost_go_again), {"idempotent": False}, KILLS),
    "a call nobody answered counts as unsent": Guard(
        _patched(settling, "_record", _unknown_is_unsent), {"mood": "mute", "idempotent": False}
    ),
    "nobody is asked again before hand-over": Guard(
        _patched(parcels.Packer, "_ask_again", lambda *_a, **_k: {}), troubles=("stopped_in_hand", "person")
    ),
    "calls are repeated to whoever left meanwhile": Guard(
        _patched(parcels.Packer, "pack_again", _again),
        {"mood": "mute", "idempotent": True, "campaigns": 4},
        ("stopped_in_hand",),
        {"suppress": 1},
    ),
    "calls are repeated whatever stopped them": Guard(
        _patched(pacing.Pacer, "may_leave", lambda *_a: True),  # hand-over asks about holds itself
        {"mood": "mute", "idempotent": True, "window": False},
        ("stopped_in_hand",),
        {"pause": 1, "hold_route": 1},
    ),
    "calls are repeated of what ended since": Guard(
        _due_whatever,
        {"mood": "mute", "idempotent": True},
        ("stopped_in_hand",),
        {"cancel": 1, "suspend": 1},
    ),
    "nobody knows of suppressions": Guard(_no_suppressions),
    "neither freezing nor ticks need a lease": Guard(_no_fence, {**_OTHERS, **_CROWD}, ("meanwhile",)),
    "pressure forgets who was frozen": Guard(
        _patched(
            opening._Release,
            "_ask_again",
            lambda self, *a, _old=opening._Release._ask_again, **k: _forgetting(self, partial(_old, self, *a, **k)),
        ),
        _CROWD,
    ),
    "no window": Guard(_patched(throttle, "is_open", lambda *_a, **_k: True), {"window": True}),
    "no pace": Guard(_patched(throttle, "take_all", lambda spent, *_a: dict(spent)), {"pace": True, "campaigns": 4}),
    "no ceiling a day": Guard(
        _patched(throttle.Limit, "ceiling", lambda *_a: None),
        {"per_day": True, "campaigns": 6, "cap": 0, "window": False},
    ),
    "a lane has no pace": Guard(
        _patched(throttle, "lane_limit", lambda *_a: throttle.Limit()), {"lane_pace": True, "campaigns": 4}
    ),
    "no warm-up": Guard(
        _patched(throttle.Limit, "ceiling", lambda self, _day: self.per_day),
        {"warm_up": True, "campaigns": 6, "cap": 0, "window": False, "money": 0},
    ),
    "the money never ends": Guard(
        _patched(budgets, "affordable", lambda cost, *_a: np.ones(len(cost), bool)),
        {"money": 5, "campaigns": 4, "cap": 0},
    ),
    "running campaigns follow an edited policy": Guard(
        _patched(policies, "pinned", _newest), {"cap": 1, "campaigns": 4, "window": True, "money": 5}
    ),
    "counters count every report": Guard(_patched(tallies, "mark", _count_twice)),
    "what was called back is not marked": Guard(
        _patched(handed, "call_back", _unmarked), {"recall": True}, ("stopped_in_hand", "person")
    ),
    "who came back from the ESP never goes again": Guard(
        _patched(campaigns, "wait_again", lambda *_a, **_k: None),
        {"recall": True, "mood": "kind", "bad": False, "cap": 0},
        ("stopped_in_hand",),
        {"suspend": 1},
    ),
    "returned slots are forgotten": Guard(
        _patched(batches, "recall", lambda conn, ids, *, now: len(list(ids))), {"ramp": ("100%",)}, ("stopped_in_hand",)
    ),
    "moves of waves are not in the journal": Guard(_patched(journal, "write", _unwritten)),
    "the audit knows no exceptions": Guard(_patched(batches, "outcomes", lambda *_a: [])),
    "events settle nobody": Guard(
        _patched(unknowns, "seen", lambda _conn, asked: {one.id: [] for one in asked}),
        {"mood": "mute", "idempotent": False},
    ),
    "silence settles everybody": Guard(
        _patched(unknowns, "seen", lambda _conn, asked: {one.id: list(one.unknown) for one in asked}),
        {"mood": "mute", "idempotent": False, "campaigns": 4},
    ),
    "a resend takes the seen along": Guard(
        _patched(unknowns, "resend", lambda conn, one, _seen=(), _old=unknowns.resend: _old(conn, one)),
        {"mood": "mute", "idempotent": False, "campaigns": 4},
    ),
    "who goes again surely had nothing": Guard(
        _patched(unknowns, "Draft", lambda *a, _old=unknowns.Draft, **more: _old(*a, **{**more, "doubted": False})),
        {"mood": "mute", "idempotent": False, "campaigns": 4},
    ),
}  # fmt: skip


def _forgetting(_self: Any, old: Callable[[], Any]) -> Any:
    """Freezing asks again about consent and suppressions, but sees none of the mail frozen meanwhile."""
    live = files.live

    def without(conn: Any, datasets: Any, *rest: Any) -> Any:
        return {name: [] if name == "sends" else found for name, found in live(conn, datasets, *rest).items()}

    with mock.patch.object(files, "live", without):
        return old()


def _stolen(conn: Connection, ids: Any, holder: str, until: Any) -> Any:
    """Claims whatever it was told, also what somebody else has in hand."""
    of = tables.batches.c
    rows = update(tables.batches).where(of.id.in_(list(ids)), of.status.in_(("ready", "claimed", "handed")))
    conn.execute(rows.values(status="claimed", claimed_by=holder, claimed_until=until))
    return batches.claimed(conn, ids)


def caught(ground: Ground, name: str, seeds: Iterable[int]) -> tuple[int, int, str] | None:
    """(seed, which one it was, what it said) of the first seed whose truth notices; None when none of them does."""
    guard = BROKEN[name]
    for n, seed in enumerate(seeds, start=1):
        told = replace(world(seed), **{"campaigns": 2, "planned_here": False, **guard.worlds})
        life = Life(ground, told, guard.stops)
        try:
            with guard.broken():
                life.live(history(seed, told, guard.troubles))
        except AssertionError as wrong:
            return seed, n, str(wrong).splitlines()[0][:110]
    return None
