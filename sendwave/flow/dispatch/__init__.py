"""Dispatch: what may leave now, at what pace, handed to the ESP once, and what became of it.

    pace > claim > ask again > `handed` (committed durably) > the ESP > accepted | refused | unknown

A crash or a time-out after `handed` leaves `unknown`: nobody is written to twice to be on the safe side.

One stage in several files: `pacing` chooses and claims, `turns` shares out among threads, `parcels` opens a batch,
`settling` records the answer and `store_outage` holds it while the store is away; here they meet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import tenacity

from sendwave import faults
from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import HandOverError, NotAllowed, StaleTransition, Transient, Unknown
from sendwave.esp.adapter_pool import Lending
from sendwave.esp.base import EspAdapter, Receipt, Submission
from sendwave.flow.dispatch import follow_up, pacing, settling
from sendwave.flow.dispatch.follow_up import CallBack
from sendwave.flow.dispatch.pacing import Job, Pacer
from sendwave.flow.dispatch.parcels import Packer, Parcel
from sendwave.flow.dispatch.settling import Progress, Record
from sendwave.flow.dispatch.store_outage import AWAY, Keeper
from sendwave.flow.dispatch.turns import Turns
from sendwave.store import batches, handed, holds, nodes
from sendwave.store.database import Connection, Database
from sendwave.store.group_commit import Together

__all__ = ["AT_ONCE", "AT_ONCE_EACH", "Dispatcher", "Progress", "reconcile"]

AT_ONCE: Final = 16
"""Batches claimed per step, route and importance, at least."""

AT_ONCE_EACH: Final = 4
"""Where several threads hand over: so many for each, that they seldom wait for the last of a step."""

LEASE_LIFE: Final = timedelta(minutes=15)
"""A claimed batch whose holder is silent for that long goes back; a handed one becomes unknown."""

SWEEP: Final = timedelta(seconds=30)
"""Between two looks for what dead nodes left behind."""

_ONCE_MORE: Final = tenacity.Retrying(  # a kept connection that went stale; nothing was handed over, so it is safe
    retry=tenacity.retry_if_exception(lambda fault: isinstance(fault, Transient) and fault.retry_after is None),
    stop=tenacity.stop_after_attempt(2),
    reraise=True,
)


_Handed = tuple[bool, Progress]


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
        at_once: int = 0,
        unsubscribe: str | None = None,
    ) -> None:
        """`holder` names this node; `factory` makes a further adapter of a route where several threads want one.

        `time_zone` (IANA) is that of contacts who have none. With 0 threads the caller's does everything.
        `unsubscribe` is the URL with {token} of campaigns that name none of their own.
        """
        self._db, self._holder = db, holder
        self._pacer = Pacer(holder, time_zone, at_once or max(AT_ONCE, AT_ONCE_EACH * threads), unsubscribe)
        self._packer = Packer(db, engine, lake, token_key)
        self._routes = {
            route: Lending(adapter, threads, partial(factory, route) if factory is not None else None)
            for route, adapter in adapters.items()
        }
        self._together = Together(db)
        self._lives = follow_up.lives(adapters)
        self._back = CallBack(db, self._routes, holder)
        self._threads, self._pool = threads, ThreadPoolExecutor(threads, "dispatch") if threads else None
        self._stopping = threading.Event()
        self._keeper = Keeper(db, self._together, holder, self._stopping)
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
        self._keeper.give_back()
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
        except AWAY:
            self._keeper.failed()  # its commit may have come through all the same
            raise

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
        turns = Turns(claimed)
        try:
            if self._pool is None:
                return self._deliver_in_turn(turns, jobs, now)
            hands = min(self._threads, len(claimed))
            running = [self._pool.submit(self._deliver_in_turn, turns, jobs, now) for _ in range(hands)]
            return sum((done.result() for done in as_completed(running)), Progress())
        except BaseException:
            turns.end()  # the other hands finish the batch they have
            self._keeper.failed()
            with suppress(*AWAY):  # then the next step does it
                self._keeper.give_back()
            raise

    def _deliver_in_turn(self, turns: Turns, jobs: Mapping[int, Job], now: datetime) -> Progress:
        """What became of a batch is committed with the hand-over of this thread's next: one commit for each batch."""
        done, last = Progress(), None
        try:
            for batch in turns:
                parcel = self._packer.pack(batch, jobs[batch.group.campaign_id], now)
                leaves, told = self._begin(parcel, now, last)
                if last is not None:
                    faults.point("after_acknowledge")
                done, last = done + told, None
                if leaves:
                    faults.point("after_handed")
                    last = self._call(parcel, now)
        finally:
            if last is not None:
                done += self._keeper.record(last)
                faults.point("after_acknowledge")
        return done

    def _begin(self, parcel: Parcel, now: datetime, last: Record | None = None) -> _Handed:
        """Commit that the batch is handed over; see `_hand`."""
        try:
            return self._together.run(partial(self._hand, parcel=parcel, now=now, last=last))
        except AWAY:
            self._keeper.unsure(parcel.batch.id)
            raise

    def _call(self, parcel: Parcel, now: datetime) -> Record:
        """Hand it to the ESP; what records the answer comes back."""
        route = self._routes[parcel.batch.group.route]
        result = _called(route, parcel.submission)
        faults.point("after_call")
        if isinstance(result, Unknown) and (life := self._lives.get(parcel.batch.group.route)) is not None:
            return partial(self._keep_open, batch=parcel.batch, now=now, until=now + life)

        def record(conn: Connection) -> Progress:
            done = settling.settle(conn, parcel, result, route, by=self._holder, now=now)
            faults.point("before_acknowledge")
            return done

        return record

    def _keep_open(self, conn: Connection, *, batch: batches.Claimed, now: datetime, until: datetime) -> Progress:
        """No answer came, and its key lives on: it stays handed over until it is asked about."""
        handed.put_off(conn, batch.id, holder=self._holder, again=now + follow_up.ASK_EVERY, until=until)
        return Progress(batches=1)

    def _ask_again(self, now: datetime) -> Progress:
        """Repeat the calls nobody answered, under the keys they went with; only a receipt settles them."""
        done = Progress()
        if not self._lives:
            return done
        with self._db.read() as conn:
            due = handed.due(conn, holder=self._holder, now=now, limit=AT_ONCE)
        for one in due:
            if self._stopping.is_set():
                break
            done += self._repeat(one, now)
        return done

    def _repeat(self, one: handed.Open, now: datetime) -> Progress:
        """Unless somebody stopped it meanwhile: the calls before it may have taken long, and what its first call did
        not bring would leave now.
        """
        group = one.batch.group
        with self._db.read() as conn:
            job = self._pacer.jobs(conn, [group.campaign_id])[group.campaign_id]
            standing = holds.open_holds(conn, group.campaign_id)
            due = handed.is_due(conn, one.batch.id, holder=self._holder, now=now)
        if not due or not self._pacer.may_leave(group, job, standing, now):
            return Progress()
        parcel = self._packer.pack_again(one.batch, job, one.dropped, now)
        if parcel is None:
            return Progress()  # events will tell, or a person, once its key's life is over
        route = self._routes[group.route]
        result = _called(route, parcel.submission)
        with self._db.write() as conn:
            if isinstance(result, Receipt):
                return settling.settle(conn, parcel, result, route, by=self._holder, now=now)
            self._keep_open(conn, batch=one.batch, now=now, until=one.handed_at + self._lives[group.route])
            return Progress()

    def _hand(self, conn: Connection, *, parcel: Parcel, now: datetime, last: Record | None = None) -> _Handed:
        """Record what became of the batch before, then mark this one handed over; (whether it leaves, what was done).

        It leaves if nothing holds it, it is still ours, its campaign still sends and somebody is left in it.
        """
        done, batch = last(conn) if last is not None else Progress(), parcel.batch
        if self._stopping.is_set() or not batches.hand(conn, batch, parcel.dropped, holder=self._holder, now=now):
            batches.unclaim(conn, batch.id, holder=self._holder)
            return False, done + Progress(unsent=batch.size)
        if not parcel.indexes:
            batches.settle(conn, batch.id, "accept", batches.Exceptions(), now=now, handed=parcel.handed)
            return False, done + Progress(dropped=batch.size)
        return True, done


def _called(route: Lending, submission: Submission) -> Receipt | HandOverError:
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
    there whoever held something is dead, and the right to freeze and to score is free too.
    """
    with db.write() as conn:
        lives = follow_up.lives(adapters or {})
        open_ = handed.take_over(conn, lives, holder=holder, now=now, everybody=db.is_sqlite)
        back, lost = batches.lost(conn, now=now, holder=holder, everybody=db.is_sqlite, keep=open_)
        settling.tell_lost(conn, lost, by=holder, now=now)
        if db.is_sqlite:
            nodes.succeed(conn, now=now, alone=True)
    return {"claimed": len(back), "handed": len(lost)}
