"""The daemon's turns: what is due, by whom, and what a fault does to the next one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import bases
import pyarrow as pa
import pytest
from pydantic import ValidationError

from sendwave.crm.base import CrmSettings, Delivery, Outcome, Pushed
from sendwave.errors import Transient
from sendwave.flow.crm import Turns, turns
from sendwave.store import exchanges


@dataclass
class Ledger:
    """A CRM in memory: what it would deliver, what it was told, faults as told."""

    name: ClassVar[str] = "ledger"
    Settings: ClassVar[type[CrmSettings]] = CrmSettings
    changes_only: ClassVar[bool] = True
    folder: Path
    files: list[str] = field(default_factory=list)
    faults: list[Exception] = field(default_factory=list)
    told: list[list[str]] = field(default_factory=list)
    pulls: int = 0
    closed: int = 0

    def pull(self, cursor: str, *, now: datetime) -> Iterator[Delivery]:
        self.pulls += 1
        if self.faults:
            raise self.faults.pop(0)
        for number, text in enumerate(self.files):
            path = self.folder / f"contacts-{number}.csv"
            path.write_text(text)
            yield Delivery("contacts", (path,))
        self.files.clear()

    def settle(self, delivery: Delivery, outcome: Outcome, *, now: datetime) -> None: ...

    def push(self, rows: Iterable[pa.RecordBatch], *, now: datetime) -> Pushed:
        self.told.append(sorted(who for batch in rows for who in batch.column("contact_id").to_pylist()))
        return Pushed(len(self.told[-1]))

    def close(self) -> None:
        self.closed += 1


@dataclass
class Round:
    """Turns over one house, as the daemon takes them."""

    counter: Any
    ledger: Ledger
    settings: dict[str, Any]

    def turns(self) -> Turns:
        desk = self.counter.desk
        return Turns(desk.db, desk.engine, desk.lake, lambda _name: self.ledger, self.counter.home / "rejects")

    def after(self, **span: float) -> Round:
        self.counter.now += timedelta(**span)
        settings = CrmSettings.model_validate({"system": "ledger", **self.settings})
        self.turns().take(bases.policy(), {"main": settings}, self.counter.land, now=self.counter.now)
        return self

    def due(self, way: exchanges.Way) -> datetime | None:
        with self.counter.desk.db.read() as connection:
            return exchanges.get(connection, "main").due(way)


@pytest.fixture
def crm(counter: Any, tmp_path: Path) -> Round:
    return Round(counter, Ledger(tmp_path), {"pull_every": "15m", "push_scores": True})


def test_a_crm_is_read_every_so_often(crm: Round) -> None:
    crm.ledger.files = ["contact_id,email\nA,a@example.com\n"]
    crm.after(seconds=30)
    assert crm.counter.desk.rows("contacts", "contact_id") == ["A"]
    for _ in range(29):
        crm.after(seconds=30)
    assert crm.ledger.pulls == 1
    assert crm.after(seconds=30).ledger.pulls == 2
    assert crm.ledger.closed == 2


def test_without_the_settings_nothing_happens_by_itself(crm: Round) -> None:
    crm.settings = {}
    crm.after(days=1)
    assert (crm.ledger.pulls, crm.ledger.told) == (0, [])


def test_new_scores_are_handed_over_once(crm: Round) -> None:
    crm.ledger.files = ["contact_id,email\nA,a@example.com\nB,b@example.com\n"]
    assert crm.after(seconds=30).ledger.told == []  # nobody has a score yet
    crm.counter.score({"A": 10, "B": 20})
    crm.after(seconds=30).after(seconds=30)
    assert crm.ledger.told == [["A", "B"]]
    crm.counter.score({"A": 10, "B": 21})
    crm.after(seconds=30).after(seconds=30)
    assert crm.ledger.told == [["A", "B"], ["B"]]


def test_a_fault_puts_the_next_attempt_off(crm: Round) -> None:
    crm.after(seconds=0)
    crm.ledger.files = ["contact_id,email\nA,a@example.com\n"]
    crm.ledger.faults = [Transient("the org is busy"), Transient("the limit is used up", retry_after=3600)]
    now = crm.after(minutes=15).counter.now
    assert crm.due("pull") == now + turns.AGAIN
    now = crm.after(minutes=5).counter.now
    assert crm.due("pull") == now + timedelta(hours=1)
    assert crm.after(minutes=59).ledger.pulls == 3
    assert crm.after(minutes=1).counter.desk.rows("contacts", "contact_id") == ["A"]


def test_of_two_daemons_one_does_it_and_a_dead_one_is_replaced(crm: Round) -> None:
    now = crm.counter.now
    with crm.counter.desk.db.write() as connection:
        assert exchanges.claim(connection, "main", "pull", now=now, until=now + turns.IN_HAND)
        assert not exchanges.claim(connection, "main", "pull", now=now, until=now + turns.IN_HAND)
        assert exchanges.claim(connection, "main", "push", now=now, until=now + turns.IN_HAND)
    assert crm.after(minutes=119).ledger.pulls == 0
    assert crm.after(minutes=1).ledger.pulls == 1


def test_stopping_closes_what_is_open(crm: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    taking = crm.turns()

    def pull(*_: Any, **__: Any) -> None:
        taking.stop()
        assert crm.ledger.closed == 1
        raise Transient("stopped")

    monkeypatch.setattr(turns, "pull", pull)
    with pytest.raises(Transient, match="stopped"):
        taking.pull("main", timedelta(minutes=15), crm.counter.land, now=crm.counter.now)
    assert not taking._open


@pytest.mark.parametrize("every", ["1s", "8d", 5])
def test_how_often_is_bounded(every: object) -> None:
    with pytest.raises(ValidationError, match="pull_every"):
        CrmSettings.model_validate({"system": "files", "pull_every": every})
