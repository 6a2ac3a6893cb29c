"""A history lived: nodes on a virtual clock over one store, people who interfere, an ESP, and troubles."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sendable
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from sendwave.clock import VirtualClock
from sendwave.daemon import LED, Daemon
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput, SendwaveError
from sendwave.rules.policy import PolicySet
from sendwave.settings import Settings
from sendwave.store import leases, payloads, tables
from sendwave.store.database import Database
from sendwave.store.nodes import LEADER
from sendwave.workspace import Workspace
from simulation.chance import Chance
from simulation.ending import finish
from simulation.ground import NAMES, START, Ground, make_plan, policy_of
from simulation.history import PEOPLE, STAGES, STOPS, Step, World, weighed
from simulation.people import People
from simulation.provider import Adapter, Provider
from simulation.trouble import Killed, Store, Trouble, Troubles, injected, shared
from simulation.truth import Truth, fingerprint

RETENTION: Final = {"replaced_files": "1h", "reports": "1d"}
"""Far less than anybody should keep, so that the janitor finds something within the days of a history."""

HANG: Final = timedelta(minutes=20)
"""Longer than the lease of a claimed batch."""


@dataclass
class Node:
    """One daemon process. It dies, and another takes its place under another name."""

    name: str
    db: Store
    daemon: Daemon
    skew: timedelta = timedelta(0)
    silent_until: datetime | None = None  # until then its beats are lost on the way
    beaten_at: datetime | None = None  # by its own clock, the last time it reached the store

    def close(self) -> None:
        with contextlib.suppress(Killed):
            self.daemon.dispatcher.close()
        self.db.close()


@dataclass
class Life:
    """Everything of one history. `live` raises AssertionError when something that must hold does not."""

    ground: Ground
    world: World
    stops: Mapping[str, int] = field(default_factory=lambda: STOPS)
    trail: list[str] = field(default_factory=list)  # what happened, in words

    def __post_init__(self) -> None:
        self.chance = Chance(self.world.seed)
        self.home = self.ground.copy(self.world)
        self.url = f"sqlite:///{self.home / 's.db'}"
        self.lake = Lake(self.home / "lake")
        self.clock = VirtualClock(START)
        self.troubles = Troubles(self._meanwhile, self._person, self._stop, self._die)
        self.troubles.led, self.troubles.hang = self._led, self._hang
        self.observer = shared(Database(self.url))
        self.names = NAMES[: self.world.campaigns]
        self.truth = Truth(self.observer, self.ground.engine, self.lake, self.world)
        self.provider = Provider(self.world, self.chance, self.clock.now, self._look, self._interrupt)
        self.people = People(self)
        self.births: Counter[int] = Counter()
        self.nodes: dict[int, Node] = {}
        self.turns: list[tuple[int, str]] = []  # (node, stage) in the middle of a turn, innermost last
        self.edition = 0
        self.planned: set[str] = set()  # and approved, of a world that plans inside its history
        self.aim: tuple[str, int] | None = None  # lane and contact somebody has in mind
        self.n = 0  # of the step that is being lived

    def live(self, steps: Sequence[Step]) -> str:
        """Live through the steps, look at everything after each, then let it all come to its end.

        Returns a fingerprint of all that was written down: the same for the same seed, always.
        """
        with injected(self.troubles, self._wall):
            try:
                for step in steps:
                    self.take(step)
                    self.truth.between(self.provider)
                self.truth.accounted(self.provider, [self.chance.pick(self.names, "looked at on the way")])
                finish(self)
                return fingerprint(self.observer)
            finally:
                for node in self.nodes.values():
                    node.close()
                self.observer.close()
                shutil.rmtree(self.home, ignore_errors=True)

    # ── one step ──────────────────────────────────────────────────────────────────────────────────────────────────
    def take(self, step: Step) -> None:
        self.clock.sleep(step.after)
        self.n = step.n
        for number in sorted(self.nodes) if self.world.nodes > 1 else ():
            self.turn(number, ())
        self.troubles.arm(step.trouble)
        self.trail.append(f"{step.n:3} {self.clock.now():%d %H:%M:%S} {step.act} node {step.node} {step.trouble or ''}")
        if step.act == "tick":
            self.turn(step.node, self._stages(step.n))
        elif step.act in ("restart", "hang", "back", "ahead", "silent", "reload"):
            getattr(self, step.act)(step)
        elif step.act == "janitor":
            self.turn(step.node, ("janitor",))
        elif step.act == "intake":
            name = self.names[step.campaign]
            self.turn(step.node, ("intake",), lambda: self.people.act("intake", name, step))
        elif step.act != "wait":
            self._decide(step.act, step)

    def _decide(self, act: str, step: Step) -> None:
        self.troubles.calm, before = True, self.troubles.calm
        try:
            self.people.act(act, self.names[step.campaign], step)
        except SendwaveError as fault:  # a person is told why not, and nothing has changed
            self.trail.append(f"      told: {fault}"[:160])
        finally:
            self.troubles.calm = before

    def _stages(self, n: int) -> tuple[str, ...]:
        """The stages of a tick, in an order of its own: each has a timer of its own, so often only some are due."""
        order = sorted(STAGES, key=lambda stage: self.chance.unit("order", n, stage))
        return tuple(order[: self.chance.pick((1, 2, 5, 5), "stages", n)])

    def turn(self, number: int, stages: Sequence[str], act: Callable[[], None] | None = None) -> None:
        """Stages of a node, or `act`; it goes on after a fault, a kill ends it."""
        if any(number == busy and (self.world.nodes > 1 or act) for busy, _ in self.turns):
            return
        writing, self.troubles.writing = self.troubles.writing, 0
        try:
            self._beat(number)
            for stage in stages:
                self.turns.append((number, stage))
                try:
                    self._guarded(act or self._stage(number, stage))
                finally:
                    self.turns.pop()
            if self.world.planned_here and not self.turns:
                for name in self.names:
                    if name not in self.planned:
                        self._guarded(self._planning(number, name))
        except Killed:
            self.troubles.dying = False
            self.trail.append(f"      killed: node {number}")
            self.bury(number)
            if self.turns and self.turns[-1][0] == number:
                raise  # a thread that dies by a kill takes its process along
        finally:
            self.troubles.writing = writing
            if self.troubles.told:
                self.trail.append(f"      struck: {', '.join(self.troubles.told)}")
                self.truth.struck |= set(self.troubles.told)
                self.troubles.told.clear()

    def _stage(self, number: int, stage: str) -> Callable[[], None]:
        def act() -> None:
            node = self.node(number)
            if stage in LED and not node.daemon.node.leads:
                return
            mine = node.daemon.node
            before, mine._term = mine._term, threading.local()  # what is a thread of its own there is a call in ours
            try:
                with mine.term():
                    getattr(node.daemon, stage)(self.clock.now() + node.skew)
            finally:
                mine._term = before

        return act

    def _beat(self, number: int) -> None:
        """As a thread of its own does it, unless nothing of the node reaches the store."""
        node = self.nodes.get(number)
        if node is None or (node.silent_until is not None and self.clock.now() < node.silent_until):
            return
        if node.beaten_at == self._wall_of(node):  # said at this very instant
            return

        def act() -> None:
            node.daemon.node.beat()
            node.beaten_at = self._wall_of(node)

        self.turns.append((number, "beat"))
        try:
            self._guarded(act)
        finally:
            self.turns.pop()

    def _planning(self, number: int, name: str) -> Callable[[], None]:
        def act() -> None:
            self.turns.append((number, "plan"))
            try:
                make_plan(
                    self.node(number).db, self.ground.engine, self.lake, self.world, name=name, now=self.clock.now()
                )
                self.planned.add(name)
            finally:
                self.turns.pop()

        return act

    def _guarded(self, act: Callable[[], None]) -> None:
        """As the daemon does it: a stage that fails is told, the others and the next tick go on."""
        try:
            act()
        except (SendwaveError, OperationalError) as fault:
            self.trail.append(f"      told: {type(fault).__name__}: {fault}"[:160])

    # ── in the middle of a stage ──────────────────────────────────────────────────────────────────────────────────
    def _meanwhile(self) -> None:
        """Another node has a turn; where there is none, another thread of this one, with another stage."""
        number, stage = self.turns[-1] if self.turns else (0, "")
        if len(self.turns) > 1:
            return
        self.clock.sleep(1)
        if self.world.nodes > 1:
            self.turn(1 - number, self._stages(self.n + 1000))
        elif stage in STAGES:
            others = [other for other in STAGES if other != stage]
            with self.nodes[number].db.aside():
                self.turn(number, (self.chance.pick(others, "thread", self.n, self.troubles.others),))

    def _person(self) -> None:
        """Somebody decides something between two lines of ours."""
        act = weighed(self.chance, PEOPLE, "person", self.n, self.troubles.others)
        step = Step(self.n + 5000, act, 0, self.chance.below(self.world.campaigns, "whose", self.n), 0)
        self.trail.append(f"      person: {act} {self.names[step.campaign]} in the middle of {self.turns[-1:]}")
        self.clock.sleep(1)
        self._decide(act, step)

    def _stop(self) -> bool:
        """Somebody stops just what is in hand: its campaign, its lane, one of its people. False: nothing is."""
        of = tables.batches.c
        with self.observer.read() as conn:
            open_ = (of.status.in_(("claimed", "handed")), of.payload.is_not(None))  # or asked about once more later
            rows = conn.execute(select(of.campaign_id, of.provider, of.payload).where(*open_).order_by(of.id)).all()
        if rows:
            row = self.chance.pick(rows, "in hand", self.n)
            who = payloads.decode(row.payload)["contact"].to_pylist()
            self.aim = (row.provider, self.chance.pick(who, "in hand, who", self.n))
            act = weighed(self.chance, self.stops, "stop", self.n)
            self.trail.append(f"      stopped in hand: {act} {row.campaign_id}, {self.aim}")
            self.clock.sleep(1)
            self._decide(act, Step(self.n + 6000, act, 0, row.campaign_id - 1, 0))
            self.aim = None
            if self.world.nodes > 1 and self.chance.happens(0.5, "in hand, others", self.n):
                self._meanwhile()
        return bool(rows)

    def _die(self) -> None:
        if self.turns and self.turns[-1][0] in self.nodes:
            self.nodes[self.turns[-1][0]].db.die()

    def _interrupt(self) -> None:
        if self.troubles.due("kill_call"):
            self.troubles.kill()
        self.troubles.between()

    def _look(self, submission: Any) -> None:
        node = self.nodes[self.turns[-1][0]]
        alone = node.db.others_at_commit == self.troubles.others
        try:
            self.truth.handed(submission, self.clock.now(), skew=node.skew, holder=node.name if alone else None)
        except AssertionError as wrong:
            self.truth.wrong = self.truth.wrong or wrong  # dispatch takes it for a fault of the ESP's
            raise

    def _led(self, conn: Any, holder: str) -> None:
        leader = leases.current(conn, LEADER, datetime.min.replace(tzinfo=UTC))
        assert leader is None or leader.holder == holder, f"{holder} wrote as the leader, which {leader} is"

    # ── nodes ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def node(self, number: int) -> Node:
        """The node of that number, started when there is none."""
        if number not in self.nodes:
            self.births[number] += 1
            self.nodes[number] = self._born(number)
            try:
                self.nodes[number].daemon.start_up(self.clock.now())
                self.nodes[number].daemon.node.beat()
            except SendwaveError:  # it does not start without a store
                self.nodes.pop(number).close()
                raise
        return self.nodes[number]

    def _born(self, number: int) -> Node:
        name = f"node{number}.{self.births[number]}"
        db = Store(self.url, self.troubles, alone=self.world.nodes == 1)
        db.holder = name
        told = {"time_zone": "Europe/Paris", "retention": RETENTION}
        workspace = Workspace(self.home, Settings.model_validate(told))
        workspace.__dict__.update(
            db=db, lake=self.lake, engine=self.ground.engine, adapters={"main": Adapter(self.provider)},
            token_key=sendable.KEY, policy=policy_of(self.world),
        )  # fmt: skip
        daemon = Daemon(workspace, self.clock)
        daemon.holder = daemon.node.holder = daemon.dispatcher._holder = daemon.dispatcher._back.holder = name
        daemon.dispatcher._pacer.holder = name
        return Node(name, db, daemon)

    def bury(self, number: int) -> None:
        """The process is gone, and all it held open."""
        node = self.nodes.pop(number, None)
        if node is not None:
            node.db.die()
            node.close()

    def restart(self, step: Step) -> None:
        if step.node in self.nodes:
            node = self.nodes.pop(step.node)
            node.daemon.dispatcher.stop()
            node.close()
        self.turn(step.node, self._stages(step.n))

    def reload(self, step: Step) -> None:
        """The policy files were edited: well or badly, and the node looks at them."""
        self.edition += 1
        broken = self.chance.happens(0.3, "broken", step.n)

        def read() -> PolicySet:
            if broken:
                raise BadInput("caps.yaml:1:1: max: this is no number")
            return policy_of(self.world, self.edition)

        for node in self.nodes.values():
            node.daemon.workspace.__dict__.update(policy_stamp=lambda edition=self.edition: edition, read_policy=read)
        self.turn(step.node, ("policies",))

    def hang(self, step: Step) -> None:
        """In the middle of its turn a node stops for longer than its leases last; the other takes over; it goes on."""
        self.truth.struck.add("hang")
        before, self.troubles.meanwhile = self.troubles.meanwhile, self._hang
        armed, self.troubles.armed = self.troubles.armed, []
        self.troubles.arm(Trouble("meanwhile", self.chance.below(16, "hang", step.n)))
        try:
            self.turn(step.node, ("release", "dispatch", "feedback", "judge"))
        finally:
            self.troubles.meanwhile, self.troubles.armed = before, armed

    def _hang(self) -> None:
        """The node whose turn it is sleeps; another goes on meanwhile."""
        number = self.turns[-1][0]
        self.clock.sleep(HANG.total_seconds())
        for again in range(3 if self.world.nodes > 1 else 0):
            self.clock.sleep(40)
            self.turn(1 - number, self._stages(self.n + 2000 * (again + 1)))

    def back(self, step: Step) -> None:
        if step.node in self.nodes:
            apart = 30 if self.world.nodes == 1 else 3
            self.nodes[step.node].skew = -timedelta(seconds=self.chance.below(apart, "back", step.n))

    def ahead(self, step: Step) -> None:
        if step.node in self.nodes:
            apart = 120 if self.world.nodes == 1 else 3
            self.nodes[step.node].skew = timedelta(seconds=self.chance.below(apart, "ahead", step.n))

    def silent(self, step: Step) -> None:
        if step.node in self.nodes:
            long = self.chance.pick((20, 120, 1200), "silent", step.n)
            self.nodes[step.node].silent_until = self.clock.now() + timedelta(seconds=long)

    def _wall(self) -> datetime:
        """What the machine's own clock says, of the node whose turn it is."""
        node = self.nodes.get(self.turns[-1][0]) if self.turns else None
        return self.clock.now() if node is None else self._wall_of(node)

    def _wall_of(self, node: Node) -> datetime:
        return self.clock.now() + node.skew


def lived(ground: Ground, world: World, steps: Sequence[Step]) -> str | None:
    """Live a history; returns what did not hold and the story, None when all was well."""
    life = Life(ground, world)
    try:
        life.live(steps)
    except AssertionError as wrong:
        return f"{wrong}\n" + "\n".join(life.trail)
    return None
