"""What people do while campaigns run: decide, ask to be left alone, import files."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import campaigns_made
import sendable

from sendwave.flow import feedback, intake, settle, steer
from sendwave.store import campaigns, holds, suppressions
from sendwave.store.suppressions import Suppression
from simulation.ground import policy_of
from simulation.history import Step

if TYPE_CHECKING:
    from simulation.world import Life


class People:
    """One method an act, by its name in `history.PEOPLE`. Each may raise SendwaveError: then nothing has changed."""

    def __init__(self, life: Life) -> None:
        self.life, self.chance, self.db = life, life.chance, life.observer

    def act(self, act: str, name: str, step: Step) -> None:
        getattr(self, act)(name, step)

    def _by(self, who: str) -> dict[str, Any]:
        return {"by": who, "now": self.life.clock.now()}

    def pause(self, name: str, _step: Step) -> None:
        steer.pause(self.db, name, **self._by("ann"))

    def resume(self, name: str, _step: Step) -> None:
        steer.resume(self.db, name, reason="looked into it", **self._by("eve"))

    def resume_lane(self, name: str, step: Step) -> None:
        provider = self._lane(step)
        steer.resume(self.db, name, provider=provider, reason="looked into it", **self._by("eve"))

    def release_wave(self, name: str, _step: Step) -> None:
        steer.release_wave(self.db, name, reason="I know better", **self._by("eve"))

    def shorten(self, name: str, step: Step) -> None:
        wave = 1 + self.chance.below(len(self.life.world.ramp), "shorten", step.n)
        steer.shorten(self.db, name, wave, **self._by("ann"))
        self.life.truth.cut.add(name)

    def cancel(self, name: str, _step: Step) -> None:
        steer.cancel(self.db, name, **self._by("ann"))
        self.life.truth.cut.add(name)

    def halt(self, name: str, _step: Step) -> None:
        with self.db.write() as conn:
            campaigns_made.halt(conn, campaigns.get(conn, name), self.life.clock.now())

    def suspend(self, name: str, step: Step) -> None:
        with self.db.write() as conn:
            provider = self._lane(step)
            campaigns_made.suspend(conn, campaigns.get(conn, name), provider, self.life.clock.now())

    def suppress(self, _name: str, step: Step) -> None:
        contact = self._somebody(step)
        row = Suppression(sendable.address_hash(contact), "email", "all", "unsubscribe", self.life.clock.now())
        with self.db.write() as conn:
            suppressions.add(conn, [row], source="a letter", now=self.life.clock.now())
        self.life.truth.stop(sendable.address(contact), self.life.clock.now())

    def one_click(self, _name: str, step: Step) -> None:
        """The link of a mail that arrived; it is of the campaign's purpose, and every campaign here has the same."""
        got = self.life.provider.arrivals
        if got:
            mail = got[self.chance.below(len(got), "mail", step.n)]
            house, now = self.life, self.life.clock.now()
            person = feedback.whose(self.db, sendable.KEY, mail.token)
            everything = self.chance.happens(0.3, "everything", step.n)
            feedback.unsubscribe(self.db, house.ground.engine, house.lake, person, everything=everything, now=now)
            house.truth.stop(mail.address, now)
            house.provider.note(mail.token, "unsubscribe", mail.address)

    def withdraw(self, _name: str, step: Step) -> None:
        contact = self._somebody(step)
        sendable.consent(self.db, self.life.lake, [contact], "withdrawn", self.life.clock.now())
        self.life.truth.stop(sendable.address(contact), self.life.clock.now())

    def intake(self, _name: str, step: Step) -> None:
        """Consents or suppressions from a file, through a node's way to the store: it may die half-way."""
        contact, now = self._somebody(step), self.life.clock.now()
        kind = self.chance.pick(("consents", "suppressions"), "file", step.n)
        at = f"{now:%Y-%m-%dT%H:%M:%SZ}"
        path = self.life.home / f"{kind}-{step.n}.csv"
        told = {
            "consents": f"contact_id,channel,purpose,status,recorded_at\nC{contact},email,marketing,withdrawn,{at}\n",
            "suppressions": f"email,reason\n{sendable.address(contact)},unsubscribe\n",
        }
        path.write_text(told[kind])
        house = self.life
        done = intake.import_files(
            house.node(step.node).db, house.ground.engine, house.lake, kind, [path],
            lanes=policy_of(house.world).lanes, now=now, by="ann", strict=True,
        )  # fmt: skip
        assert done.landed == 1, f"the file of one row landed {done.landed}"
        house.truth.stop(sendable.address(contact), house.clock.now())

    def hold_route(self, _name: str, _step: Step) -> None:
        until = self.life.clock.now() + timedelta(minutes=10)
        with self.db.write() as conn:
            holds.place(conn, kind="hold", reason="maintenance", route="main", until=until, **self._by("ann"))

    def pause_route(self, _name: str, _step: Step) -> None:
        steer.pause_route(self.db, "main", reason="they asked us to", **self._by("ann"))

    def free_route(self, _name: str, _step: Step) -> None:
        steer.free_route(self.db, "main", **self._by("ann"))

    def set_limit(self, name: str, step: Step) -> None:
        level = {"halt": "9%"} if self.chance.happens(0.7, "limit", step.n) else {"reset": True}
        steer.set_limit(self.db, name, "hard_bounce", reason="an old list", **level, **self._by("eve"))

    def ramp(self, name: str, _step: Step) -> None:
        """Its waves are cut anew, beside whatever the nodes do."""
        house = self.life
        steer.resume_by_ramp(
            self.db, house.ground.engine, house.lake, name, reason="the rest by small steps", **self._by("eve")
        )

    def settle(self, name: str, step: Step) -> None:
        """Write again to those nobody knows the fate of, which may write to them twice; or leave them."""
        resend = self.chance.happens(0.6, "resend", step.n)
        with self.db.read() as conn:
            number = campaigns.get(conn, name).id
        silent = {row[1] for row in settle.people(self.db, name) if row[-1] == "silent"}
        done = settle.decide(self.db, name, resend=resend, reason="looked into it", **self._by("eve"))
        if done.resent:
            self.life.truth.resent.update((number, address) for address in silent)

    def _lane(self, step: Step) -> str:
        return self.life.aim[0] if self.life.aim else self.chance.pick(sendable.PROVIDERS, "lane", step.n)

    def _somebody(self, step: Step) -> int:
        return self.life.aim[1] if self.life.aim else 1 + self.chance.below(self.life.world.people, "contact", step.n)
