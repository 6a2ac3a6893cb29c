"""Dispatch: what may leave now, at what pace, handed to the ESP once, and what became of it.

    pace > claim > ask again > `handed` (committed durably) > the ESP > accepted | refused | unknown

A crash or a time-out after `handed` leaves `unknown`: nobody is written to twice to be on the safe side.

One stage in four files: `pacing` chooses and claims, `parcels` opens a batch, `settling` records the answer; here
they meet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import tenacity

from sendwave import faults
from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import HandOverError, NotAllowed, StaleTransition, Transient, Unknown
from sendwave.esp.base import EspAdapter, Receipt, Submission
from sendwave.esp.lending import Lending
from sendwave.flow.dispatch import afterwards, pacing, settling
from sendwave.flow.dispatch.afterwards import CallBack
from sendwave.flow.dispatch.pacing import Job, Pacer
from sendwave.flow.dispatch.parcels import Packer, Parcel
from sendwave.flow.dispatch.settling import Progress
from sendwave.store import batches, freezes, handed, holds, leases
from sendwave.store.database import Connection, Database

__all__ = ["AT_ONCE", "Dispatcher", "Progress", "reconcile"]

AT_ONCE: Final = 16
"""Batches claimed per step, route and importance: what a clean stop waits for at most."""

LEASE_LIFE: Final = timedelta(minutes=15)
"""A claimed batch whose holder is silent for that long goes back; a handed one becomes unknown."""

SWEEP: Final = timedelta(seconds=30)
"""Between two looks for what dead nodes left behind."""

_ONCE_MORE: Final = tenacity.Retrying(  # a kept connection that went stale; nothing was handed over, so it is safe
    retry=tenacity.retry_if_exception(lambda fault: isinstance(fault, Transient) and fault.retry_after is None),
    stop=tenacity.stop_after_attempt(2),
    reraise=True,
)


class Dispatcher:
    """The pacer and the hands of one node. Use it from one thread; `threads` of its own hand batches over."""

    def __init__(  # noqa: PLR0917  # the six things a node is made of
        self,
        db: Database,
        engine: Engine,
        lake: Lake,
        adapters: Mapping[str, EspAdapter],
        token_key: bytes,
        holder: str,
        *,
        threads: int = 0,
        factory: Callable[[str], EspAdapter] | None = None,
        time_zone: str = "UTC",
        at_once: int = AT_ONCE,
        unsubscribe: str | None = None,
    ) -> None:
        """`holder` names this node; `factory` makes a further adapter of a route where several threads want one.

        `time_zone` (IANA) is that of contacts who have none. With 0 threads the caller's does everything.
        `unsubscribe` is the URL with {token} of campaigns that name none of their own.
        """
        self._db, self._holder = db, holder
        self._pacer = Pacer(holder, time_zone, at_once, unsubscribe)
        self._packer = Packer(db, engine, lake, token_key)
        self._routes = {
            route: Lending(adapter, threads, partial(factory, route) if factory is not None else None)
            for route, adapter in adapters.items()
        }
        self._lives = afterwards.lives(adapters)
        self._back = CallBack(db, self._routes, holder)
        self._pool = ThreadPoolExecutor(threads, "dispatch") if threads else None
        self._stopping = threading.Event()
        self._swept: datetime | None = None

    def stop(self) -> None:
        """From any thread: finish the batches in hand, give back those only claimed."""
        self._stopping.set()

    def close(self) -> None:
        """Stop, wait for the batches in hand, close the adapters made here."""
        self.stop()
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        for route in self._routes.values():
            route.close()

    def step(self, now: datetime) -> Progress:
        """Hand over what may leave at this instant, some batches per route; waves that are through start to soak."""
        self._sweep(now)
        self._back.run(now)
        done = self._ask_again(now)
        with self._db.read() as conn:
            waiting = [group for group in batches.groups(conn, now) if group.route in self._routes]
        if waiting and not self._stopping.is_set():
            claimed, jobs = self._claim(waiting, now)
            faults.point("after_claim")
            done += self._deliver_all(claimed, jobs, now)
        self._soak(now)
        return done

    def _claim(
        self, waiting: Sequence[batches.Group], now: datetime
    ) -> tuple[Sequence[batches.Claimed], Mapping[int, Job]]:
        try:
            with self._db.write() as conn:
                jobs = self._pacer.jobs(conn, {group.campaign_id for group in waiting})
                probing = [route for route, lent in self._routes.items() if lent.failures]
                return self._pacer.claim(conn, waiting, jobs, now, now + LEASE_LIFE, probing=probing), jobs
        except StaleTransition:
            return (), {}  # a wave was stopped meanwhile: the next step looks afresh

    def _sweep(self, now: datetime) -> None:
        if self._swept is None or now - self._swept >= SWEEP:
            self._swept = now
            with self._db.write() as conn:
                holds.expire(conn, now)
                handed.take_over(conn, self._lives, holder=self._holder, now=now)
                settling.tell_lost(conn, batches.lost(conn, now=now)[1], by=self._holder, now=now)

    def _soak(self, now: datetime) -> None:
        with self._db.read() as conn:
            found = pacing.through(conn)
        if found:
            with suppress(NotAllowed), self._db.write() as conn:  # another node, or a halt, was first
                pacing.soak(conn, by=self._holder, now=now)

    def _deliver_all(self, claimed: Sequence[batches.Claimed], jobs: Mapping[int, Job], now: datetime) -> Progress:
        """Each to its end, on the pool where there is one; when the store fails, what is only claimed goes back."""
        deliver = partial(self._deliver, jobs=jobs, now=now)
        each = self._pool.map(deliver, claimed) if self._pool is not None else map(deliver, claimed)
        try:
            return sum(each, Progress())
        except BaseException:
            with self._db.write() as conn:
                for batch in claimed:
                    batches.unclaim(conn, batch.id, holder=self._holder)
            raise

    def _deliver(self, batch: batches.Claimed, *, jobs: Mapping[int, Job], now: datetime) -> Progress:
        parcel = self._packer.pack(batch, jobs[batch.group.campaign_id], now)
        with self._db.write() as conn:
            if self._stopping.is_set() or not self._hand(conn, parcel, now):
                batches.unclaim(conn, batch.id, holder=self._holder)
                return Progress(unsent=batch.size)
            if not parcel.indexes:
                batches.settle(conn, batch.id, "accept", batches.Exceptions(), now=now)
                return Progress(dropped=batch.size)
        faults.point("after_handed")
        route = self._routes[batch.group.route]
        result = _call(route, parcel.submission)
        faults.point("after_call")
        if isinstance(result, Unknown) and (life := self._lives.get(batch.group.route)) is not None:
            return self._keep_open(batch, now, until=now + life)
        with self._db.write() as conn:
            done = settling.settle(conn, parcel, result, route, by=self._holder, now=now)
            faults.point("before_acknowledge")
        faults.point("after_acknowledge")
        return done

    def _keep_open(self, batch: batches.Claimed, now: datetime, until: datetime) -> Progress:
        """No answer came, and its key lives on: it stays handed over until it is asked about."""
        with self._db.write() as conn:
            handed.put_off(conn, batch.id, holder=self._holder, again=now + afterwards.ASK_EVERY, until=until)
        return Progress(batches=1)

    def _ask_again(self, now: datetime) -> Progress:
        """Repeat the calls nobody answered, under the keys they went with; only a receipt settles them."""
        done = Progress()
        if not self._lives or self._stopping.is_set():
            return done
        with self._db.read() as conn:
            due = handed.due(conn, holder=self._holder, now=now, limit=AT_ONCE)
            asked = [one for one in due if afterwards.may_ask(conn, one, now)]
            jobs = self._pacer.jobs(conn, {one.batch.group.campaign_id for one in asked})
        for one in asked:
            parcel = self._packer.pack_again(one.batch, jobs[one.batch.group.campaign_id], one.dropped, now)
            route = self._routes[one.batch.group.route]
            result = _call(route, parcel.submission)
            if isinstance(result, Receipt):
                with self._db.write() as conn:
                    done += settling.settle(conn, parcel, result, route, by=self._holder, now=now)
            else:
                self._keep_open(one.batch, now, until=one.handed_at + self._lives[one.batch.group.route])
        return done

    def _hand(self, conn: Connection, parcel: Parcel, now: datetime) -> bool:
        """Mark it handed over, if nothing holds it, it is still ours and its campaign still sends."""
        group = parcel.batch.group
        if holds.blocks(conn, group.campaign_id, now=now, wave=group.wave, provider=group.provider, route=group.route):
            return False
        return batches.hand(conn, parcel.batch.id, parcel.dropped, holder=self._holder, now=now)


def _call(route: Lending, submission: Submission) -> Receipt | HandOverError:
    try:
        return _ONCE_MORE(route.submit, submission)
    except HandOverError as fault:
        return fault
    except Exception as fault:  # noqa: BLE001  # an adapter's own fault: nobody can tell what left
        return Unknown(f"the adapter failed: {type(fault).__name__}: {fault}")


def reconcile(
    db: Database, holder: str, now: datetime, adapters: Mapping[str, EspAdapter] | None = None
) -> dict[str, int]:
    """Put right what a crash left, before the first step of this node: {status it was found in: batches}.

    Claimed batches go back, handed ones become unknown: this holder's, and those whose lease ended; unless the ESP of
    their route (`adapters`) knows their key still and can be asked. A SQLite workspace has one daemon at a time, so
    there whoever held something is dead, and the right to freeze is free too.
    """
    with db.write() as conn:
        lives = afterwards.lives(adapters or {})
        open_ = handed.take_over(conn, lives, holder=holder, now=now, everybody=db.is_sqlite)
        back, lost = batches.lost(conn, now=now, holder=holder, everybody=db.is_sqlite, keep=open_)
        settling.tell_lost(conn, lost, by=holder, now=now)
        freezing = leases.current(conn, freezes.LEASE, now)
        if db.is_sqlite and freezing is not None:
            leases.release(conn, freezing, now=now)
    return {"claimed": len(back), "handed": len(lost)}
