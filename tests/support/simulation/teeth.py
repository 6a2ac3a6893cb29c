"""Does the simulation bite? One guard of the daemon is taken away at a time, in memory; a few seeds must notice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final
from unittest import mock

from sqlalchemy import update

from sendwave.flow.dispatch import Dispatcher, parcels, settling
from sendwave.flow.release import opening
from sendwave.rules import throttle
from sendwave.store import batches, files, handed, holds, leases, suppressions, tables, tallies
from sendwave.store.database import Connection
from simulation.ground import Ground
from simulation.history import history, world
from simulation.world import Life

Broken = Callable[[], Any]
"""Makes a context in which one guard is gone."""


def _lost_go_again(conn: Connection, *, now: Any, holder: str | None = None, **rest: Any) -> Any:
    """Batches whose fate nobody knows are sent again."""
    moved = update(tables.batches).where(tables.batches.c.status == "handed", tables.batches.c.claimed_by != holder)
    if holder is None or rest.get("everybody"):
        moved = update(tables.batches).where(tables.batches.c.status == "handed")
    conn.execute(moved.values(status="ready", claimed_by=None, claimed_until=None))
    return _LOST(conn, now=now, holder=holder, **rest)


_LOST = batches.lost


def _hand_blindly(conn: Connection, batch_id: int, dropped: Any, *, holder: str, now: Any) -> bool:
    """Handed over whatever its campaign's status, its lane and its holder are by now."""
    row = update(tables.batches).where(tables.batches.c.id == batch_id, tables.batches.c.status == "claimed")
    told = batches.Exceptions(dropped=dropped).document()
    return conn.execute(
        row.values(status="handed", handed_at=now, dropped=len(dropped), **({"outcomes": told} if told else {}))
    ).rowcount == 1  # fmt: skip


def _unknown_is_unsent(conn: Connection, parcel: Any, result: Any, route: Any, **rest: Any) -> Any:
    """A call nobody answered counts as one that never happened."""
    from sendwave.errors import Transient, Unknown

    return _RECORD(conn, parcel, Transient(str(result)) if isinstance(result, Unknown) else result, route, **rest)


_RECORD = settling._record


def _late_hand(self: Any, conn: Connection, *, parcel: Any, now: Any, last: Any = None) -> Any:
    """Neither holds nor statuses are asked once a batch is claimed."""
    with mock.patch.object(holds, "blocks", return_value=[]), mock.patch.object(batches, "hand", _hand_blindly):
        return _HAND(self, conn, parcel=parcel, now=now, last=last)


_HAND = Dispatcher._hand


def _patched(owner: Any, name: str, new: Any) -> Broken:
    return lambda: mock.patch.object(owner, name, new)


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


def _count_twice(conn: Any, marks: Any, sizes: Any) -> Any:
    """Counters go up by every report, also by one that was counted."""
    found = _MARK(conn, marks, sizes)
    table = tables.tallies
    for batch in {int(one) for one in marks.batch}:
        conn.execute(update(table).where(table.c.batch_id == batch).values(n=table.c.n + 1))
    return found


_MARK = tallies.mark


BROKEN: Final[Mapping[str, Broken]] = {
    "holds are not asked at hand-over, nor the status": _patched(Dispatcher, "_hand", _late_hand),
    "no hold ever stops anything": _patched(holds, "blocking", lambda *_a, **_k: []),
    "hand-over looks at no status": _patched(batches, "hand", _hand_blindly),
    "lost batches go again": _patched(batches, "lost", _lost_go_again),
    "a call nobody answered counts as unsent": _patched(settling, "_record", _unknown_is_unsent),
    "nobody is asked again before hand-over": _patched(parcels.Packer, "_ask_again", lambda *_a, **_k: {}),
    "release knows no suppressions": _patched(
        suppressions, "table", lambda conn, channel, _old=suppressions.table: _old(conn, channel).slice(0, 0)
    ),
    "freezing needs no lease": _no_fence,
    "pressure forgets who was frozen": _patched(
        opening._Release, "_ask_again", lambda self, *a, _old=opening._Release._ask_again: _forgetting(self, a, _old)
    ),
    "no window": _patched(throttle, "is_open", lambda *_a, **_k: True),
    "no pace": _patched(throttle, "take_all", lambda spent, *_a: dict(spent)),
    "counters count every report": _patched(tallies, "mark", _count_twice),
    "what was called back is not marked": _patched(handed, "call_back", lambda *_a, **_k: True),
    "two nodes may have one batch": _patched(
        batches, "claim", lambda conn, ids, *, holder, until: _stolen(conn, ids, holder, until)
    ),
    "returned slots are forgotten": _patched(batches, "recall", lambda conn, ids, *, now: len(list(ids))),
}  # fmt: skip


def _forgetting(self: Any, asked: tuple[Any, ...], old: Callable[..., Any]) -> Any:
    """Freezing asks again about consent and suppressions, but sees none of the mail frozen meanwhile."""
    live = files.live

    def without(conn: Any, datasets: Any, *rest: Any) -> Any:
        return {name: [] if name == "sends" else found for name, found in live(conn, datasets, *rest).items()}

    with mock.patch.object(files, "live", without):
        return old(self, *asked)


def _stolen(conn: Connection, ids: Any, holder: str, until: Any) -> Any:
    """Claims whatever it was told, also what somebody else has in hand."""
    of = tables.batches.c
    rows = update(tables.batches).where(of.id.in_(list(ids)), of.status.in_(("ready", "claimed", "handed")))
    conn.execute(rows.values(status="claimed", claimed_by=holder, claimed_until=until))
    return batches.claimed(conn, of.id.in_(list(ids)))


def caught(ground: Ground, name: str, seeds: Iterable[int]) -> tuple[int, int, str] | None:
    """(seed, which one it was, what it said) of the first seed that notices; None when none of them does."""
    for n, seed in enumerate(seeds, start=1):
        life = Life(ground, world(seed))
        try:
            with BROKEN[name]():
                life.live(history(seed))
        except Exception as wrong:  # noqa: BLE001  # an invariant, or the daemon's own
            return seed, n, f"{type(wrong).__name__}: {str(wrong).splitlines()[0][:110]}"
    return None
