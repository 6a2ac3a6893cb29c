"""A history lived: nodes on a virtual clock over one store, people who interfere, an ESP, and troubles."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import campaigns_made
import sendable
from sqlalchemy.exc import OperationalError

from sendwave.clock import VirtualClock
from sendwave.daemon import Daemon
from sendwave.engine.datasets import Lake
from sendwave.errors import SendwaveError
from sendwave.flow import steer
from sendwave.rules.lifecycle import FINAL
from sendwave.settings import Settings
from sendwave.store import campaigns, holds, suppressions
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database
from sendwave.store.suppressions import Suppression
from sendwave.workspace import Workspace
from simulation.chance import Chance
from simulation.ground import NAMES, START, Ground, make_plan, policy_of
from simulation.history import STAGES, Step, World
from simulation.provider import Adapter, Provider
from simulation.trouble import Killed, Store, Trouble, Troubles, injected
from simulation.truth import Truth

HANG: Final = timedelta(minutes=20)
"""Longer than the lease of a claimed batch."""


@dataclass
class Node:
    """One daemon process. It dies, and another takes its place under another name."""

    name: str
    db: Store
    daemon: Daemon
    skew: timedelta = timedelta(0)

    def close(self) -> None:
        with contextlib.suppress(Killed):
            self.daemon.dispatcher.close()
        self.db.close()


@dataclass
class Life:
    """Everything of one history. `live` raises AssertionError when something that must hold does not."""

    ground: Ground
    world: World
    trail: list[str] = field(default_factory=list)  # what happened, in words

    def __post_init__(self) -> None:
        self.chance = Chance(self.world.seed)
        self.home = self.ground.copy(self.world)
        self.url = f"sqlite:///{self.home / 's.db'}"
        self.lake = Lake(self.home / "lake")
        self.clock = VirtualClock(START)
        self.troubles = Troubles()
        self.observer = Database(self.url)
        self.truth = Truth(self.observer, self.ground.engine, self.lake, self.world)
        self.provider = Provider(self.world, self.chance, self.clock.now, self._look, self._interrupt)
        self.births: Counter[int] = Counter()
        self.nodes: dict[int, Node] = {}
        self.turns: list[int] = []  # nodes in the middle of a turn, innermost last
        self.edition = 0

    def live(self, steps: tuple[Step, ...], *, finish: bool = True) -> None:
        """Live through the steps, look at everything after each, then let it all come to its end."""
        with injected(self.troubles):
            try:
                for step in steps:
                    self.take(step)
                    self.truth.between(self.provider, self.clock.now())
                self.truth.accounted(self.provider, NAMES[: self.world.campaigns])
                if finish:
                    self.finish()
            finally:
                for node in self.nodes.values():
                    node.close()
                self.observer.close()

    # ── one step ──────────────────────────────────────────────────────────────────────────────────────────────────
    def take(self, step: Step) -> None:
        self.clock.sleep(step.after)
        self.trail.append(f"{step.n:3} {self.clock.now():%d %H:%M:%S} {step.act} node {step.node} {step.trouble or ''}")
        if step.act == "tick":
            self.turn(step.node, step.n, step.trouble)
        elif step.act == "wait":
            return
        elif step.act in ("restart", "hang", "back"):
            getattr(self, step.act)(step)
        else:
            name = NAMES[step.campaign]
            with contextlib.suppress(SendwaveError):  # a person is told why not, and nothing has changed
                getattr(self, step.act)(name, step)

    def turn(self, number: int, n: int, trouble: Trouble | None) -> None:
        """One round of a node's stages, in an order of its own; it goes on after a fault, a kill ends it."""
        if number in self.turns:
            return
        stages = sorted(STAGES, key=lambda stage: self.chance.unit("order", n, stage))
        self.turns.append(number)
        try:
            with self.troubles.turn(trouble):
                self.troubles.elsewhere = lambda: self._elsewhere(number, n)
                for stage in stages:
                    self._stage(number, stage)
                if self.world.planned_here:
                    for name in NAMES[: self.world.campaigns]:
                        self._guarded(lambda name=name: self._plan(number, name))
                if self.troubles.struck:
                    self.trail.append(f"      struck: {trouble}")
        except Killed:
            self.trail.append(f"      killed: {trouble}")
            self.bury(number)
        finally:
            self.turns.pop()

    def _stage(self, number: int, stage: str) -> None:
        def act() -> None:
            node = self.node(number)
            getattr(node.daemon, stage)(self.clock.now() + node.skew)

        self._guarded(act)

    def _plan(self, number: int, name: str) -> None:
        make_plan(self.node(number).db, self.ground.engine, self.lake, self.world, name=name, now=self.clock.now())

    def _guarded(self, act: Callable[[], None]) -> None:
        """As the daemon does it: a stage that fails is told, the others and the next tick go on."""
        try:
            act()
        except (SendwaveError, OperationalError) as fault:
            self.trail.append(f"      told: {type(fault).__name__}: {fault}"[:160])

    def _elsewhere(self, number: int, n: int) -> None:
        if self.world.nodes > 1 and len(self.turns) == 1:
            self.clock.sleep(1)
            self.turn(1 - number, n + 1000, None)

    def _interrupt(self, when: str) -> bool:
        if self.troubles.due("kill_call"):
            self.nodes[self.turns[-1]].db.die()
            raise Killed
        if self.troubles.due("other_node"):
            self._elsewhere(self.turns[-1], 2000)
        return when == "after"

    # ── nodes ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def node(self, number: int) -> Node:
        """The node of that number, started when there is none."""
        if number not in self.nodes:
            self.births[number] += 1
            self.nodes[number] = self._born(number)
            self.nodes[number].daemon.start_up(self.clock.now())
        return self.nodes[number]

    def _born(self, number: int) -> Node:
        name = f"node{number}.{self.births[number]}"
        db = Store(self.url, self.troubles, alone=self.world.nodes == 1)
        workspace = Workspace(self.home, Settings.model_validate({"time_zone": "Europe/Paris"}))
        workspace.__dict__.update(
            db=db, lake=self.lake, engine=self.ground.engine, adapters={"main": Adapter(self.provider)},
            token_key=sendable.KEY, policy=policy_of(self.world),
        )  # fmt: skip
        daemon = Daemon(workspace, self.clock)
        daemon.holder = daemon.dispatcher._holder = name
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
        self.turn(step.node, step.n, step.trouble)

    def hang(self, step: Step) -> None:
        """In the middle of its turn a node stops for longer than its leases last; the other takes over; it goes on."""
        if self.world.nodes == 1:
            self.clock.sleep(HANG.total_seconds())
            return

        def late() -> None:
            self.clock.sleep(HANG.total_seconds())
            for again in range(3):
                self.clock.sleep(40)
                self.turn(1 - step.node, step.n + 3000 + again, None)

        point = self.chance.below(6, "hang", step.n)
        self.troubles.elsewhere = late
        stages = sorted(STAGES, key=lambda stage: self.chance.unit("order", step.n, stage))
        self.turns.append(step.node)
        try:
            with self.troubles.turn(Trouble("other_node", point)):
                self.troubles.elsewhere = late
                for stage in stages:
                    self._stage(step.node, stage)
        finally:
            self.turns.pop()

    def back(self, step: Step) -> None:
        if step.node in self.nodes and self.world.nodes == 1:
            self.nodes[step.node].skew = -timedelta(seconds=self.chance.below(30, "back", step.n))

    # ── people ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _campaign(self, name: str) -> Campaign:
        with self.observer.read() as conn:
            return campaigns.get(conn, name)

    def pause(self, name: str, _step: Step) -> None:
        steer.pause(self.observer, name, by="ann", now=self.clock.now())

    def resume(self, name: str, _step: Step) -> None:
        steer.resume(self.observer, name, reason="looked into it", by="eve", now=self.clock.now())

    def resume_lane(self, name: str, step: Step) -> None:
        provider = self.chance.pick(sendable.PROVIDERS, "lane", step.n)
        steer.resume(self.observer, name, provider=provider, reason="looked into it", by="eve", now=self.clock.now())

    def release_wave(self, name: str, _step: Step) -> None:
        steer.release_wave(self.observer, name, reason="I know better", by="eve", now=self.clock.now())

    def shorten(self, name: str, step: Step) -> None:
        wave = 1 + self.chance.below(len(self.world.ramp), "shorten", step.n)
        steer.shorten(self.observer, name, wave, by="ann", now=self.clock.now())

    def cancel(self, name: str, _step: Step) -> None:
        steer.cancel(self.observer, name, by="ann", now=self.clock.now())

    def halt(self, name: str, _step: Step) -> None:
        with self.observer.write() as conn:
            campaigns_made.halt(conn, campaigns.get(conn, name), self.clock.now())

    def suspend(self, name: str, step: Step) -> None:
        with self.observer.write() as conn:
            provider = self.chance.pick(sendable.PROVIDERS, "lane", step.n)
            campaigns_made.suspend(conn, campaigns.get(conn, name), provider, self.clock.now())

    def suppress(self, _name: str, step: Step) -> None:
        contact = 1 + self.chance.below(self.world.people, "contact", step.n)
        row = Suppression(sendable.address_hash(contact), "email", "all", "unsubscribe", self.clock.now())
        with self.observer.write() as conn:
            suppressions.add(conn, [row], source="a letter", now=self.clock.now())

    def withdraw(self, _name: str, step: Step) -> None:
        contact = 1 + self.chance.below(self.world.people, "contact", step.n)
        sendable.consent(self.observer, self.lake, [contact], "withdrawn", self.clock.now())
        self.truth.withdrawn.setdefault(sendable.address(contact), self.clock.now())

    def hold_route(self, _name: str, _step: Step) -> None:
        until = self.clock.now() + timedelta(minutes=10)
        with self.observer.write() as conn:
            holds.place(
                conn, kind="hold", reason="maintenance", by="ann", now=self.clock.now(), route="main", until=until
            )

    def reload(self, _name: str, _step: Step) -> None:
        self.edition += 1
        for node in self.nodes.values():
            node.daemon._policy = policy_of(self.world, self.edition)

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────
    def finish(self) -> None:
        """No trouble any more: people resume what stopped, every report comes, everybody is accounted for."""
        self.trail.append("    finish")
        for node in self.nodes.values():
            node.skew = timedelta(0)
        for round_ in range(400):
            for name in NAMES[: self.world.campaigns]:
                self._go_on(name)
            for number in range(self.world.nodes):
                self.turn(number, 10_000 + round_, None)
            if self._over():
                break
            self.clock.sleep(45 if round_ < 40 else 1800)
        assert self._over(), "it never ends"
        self.clock.sleep(timedelta(days=3).total_seconds())
        node = self.node(0)
        for _ in range(3):
            node.daemon.feedback(self.clock.now())
            self.clock.sleep(1200)
            self.turn(0, 20_000, None)
        self.truth.accounted(self.provider, NAMES[: self.world.campaigns], over=True)
        self.truth.counted(self.provider)

    def _go_on(self, name: str) -> None:
        found = self._campaign(name)
        now: dict[str, Any] = {"by": "eve", "now": self.clock.now()}
        if found.status in ("paused", "halted"):
            with contextlib.suppress(SendwaveError):
                steer.resume(self.observer, name, reason="goes on", **now)
        with self.observer.read() as conn:
            lanes = [lane.provider for lane in campaigns.lanes(conn, found.id) if lane.status == "suspended"]
            held = any(wave.status == "held" for wave in campaigns.waves(conn, found.id))
        for provider in lanes:
            with contextlib.suppress(SendwaveError):
                steer.resume(self.observer, name, provider=provider, reason="goes on", **now)
        if held:
            with contextlib.suppress(SendwaveError):
                steer.release_wave(self.observer, name, reason="goes on", **now)

    def _over(self) -> bool:
        with self.observer.read() as conn:
            return all(one.status in FINAL for one in campaigns.listing(conn))

    def _look(self, submission: Any) -> None:
        self.truth.handed(submission, self.clock.now())


def lived(ground: Ground, world: World, steps: tuple[Step, ...]) -> str | None:
    """Live a history; returns what did not hold and the story, None when all was well."""
    life = Life(ground, world)
    try:
        life.live(steps)
    except AssertionError as wrong:
        return f"{wrong}\n" + "\n".join(life.trail)
    return None
