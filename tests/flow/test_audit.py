from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import campaigns_made
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, update

from sendwave.engine.base import Engine, Written
from sendwave.engine.datasets import Lake
from sendwave.errors import NotAllowed, NotFound
from sendwave.flow import audit as auditing
from sendwave.flow.audit import COLUMNS, Audit, audit, show
from sendwave.rules.gates import Cell, Cohort, Decision, Mode, Rule, Verdict
from sendwave.rules.lifecycle import Batch
from sendwave.store import campaigns, files, holds, verdicts
from sendwave.store.database import Database
from sendwave.store.tables import batches, freezes, lanes, waves
from sendwave.store.tables import campaigns as campaign_rows

CAMPAIGN = "spring"


@dataclass
class Told:
    """A batch to write: its people, its status, its exceptions by index."""

    people: Sequence[int]
    status: str = Batch.ACCEPTED
    wave: int = 1
    provider: str = "gmail"
    outcomes: Mapping[str, Any] | None = None
    origins: Sequence[tuple[int, int]] | None = None
    excluded: Mapping[int, str] = field(default_factory=dict)  # people the re-check at release took out


@dataclass
class Ledger:
    """A campaign's plan, sends and batches, written as release and dispatch leave them."""

    db: Database
    engine: Engine
    lake: Lake
    now: datetime
    batch_id: int = 0

    def plan(self, rows: Sequence[tuple[int, int | None, str | None]], wave_count: int = 3) -> None:
        """(contact, wave, excluded_by) of everybody; odd contacts are Gmail's, even ones Orange's."""
        path = self.lake.new("plan", "1")
        kinds = {"contact": pa.int64(), "contact_id": pa.string(), "wave": pa.int32(), "excluded_by": pa.string()}
        columns: dict[str, list[Any]] = {
            "contact": [row[0] for row in rows],
            "contact_id": [f"c{row[0]}" for row in rows],
            "wave": [row[1] for row in rows],
            "excluded_by": [row[2] for row in rows],
        }
        table = pa.table({name: pa.array(values, kinds[name]) for name, values in columns.items()})
        table = table.append_column("provider", pa.array(["orange" if row[0] % 2 == 0 else "gmail" for row in rows]))
        pq.write_table(table.append_column("tier", pa.array(["hot"] * len(rows), pa.string())), path)
        self.lake.share(Written(path, len(rows), 1))
        per_wave = Counter(row[1] for row in rows)
        with self.db.write() as conn:
            campaigns_made.sending(
                conn,
                self.now,
                name=CAMPAIGN,
                waves=[per_wave[number] for number in range(1, wave_count + 1)],
                plan_path=self.lake.relative(path),
            )

    def freeze(self, told: Sequence[Told]) -> list[int]:
        """One release: a sends file and its batches. Returns the batches' ids."""
        with self.db.write() as conn:
            campaign = campaigns.get(conn, CAMPAIGN)
            freeze = conn.execute(
                insert(freezes)
                .values(campaign_id=campaign.id, wave=told[0].wave, contacts=1, frozen_at=self.now)
                .returning(freezes.c.id)
            ).scalar_one()
            ids = [self._batch(conn, campaign.id, freeze, one) for one in told]
            rows = [
                {"contact": contact, "campaign": campaign.id, "freeze": freeze, "batch": batch_id,
                 "position": position, "wave": one.wave, "excluded_by": None}
                for batch_id, one in zip(ids, told, strict=True)
                for position, contact in enumerate(one.people)
                if one.origins is None
            ] + [
                {"contact": contact, "campaign": campaign.id, "freeze": freeze, "batch": None,
                 "position": None, "wave": one.wave, "excluded_by": reason}
                for one in told
                for contact, reason in one.excluded.items()
            ]  # fmt: skip
            if rows:
                file_id = self._sends(conn, rows)
                conn.execute(update(freezes).where(freezes.c.id == freeze).values(file_id=file_id))
        return ids

    def _sends(self, conn: Any, rows: Sequence[Mapping[str, Any]]) -> int:
        kinds = {name: pa.int64() for name in ("contact", "campaign", "freeze", "batch")}
        kinds |= {"position": pa.int32(), "wave": pa.int32(), "excluded_by": pa.string()}
        path = self.lake.new("sends", "1")
        pq.write_table(pa.table({n: pa.array([row[n] for row in rows], kind) for n, kind in kinds.items()}), path)
        self.lake.share(Written(path, len(rows), 1))
        return files.register(
            conn, dataset="sends", path=self.lake.relative(path), rows=len(rows), size=1, now=self.now
        )

    def _batch(self, conn: Any, campaign_id: int, freeze: int, one: Told) -> int:
        self.batch_id += 1
        values: dict[str, Any] = {
            "id": self.batch_id, "campaign_id": campaign_id, "wave": one.wave, "freeze_id": freeze,
            "provider": one.provider, "route": "main", "position": self.batch_id, "size": len(one.people),
            "status": one.status,
        }  # fmt: skip
        if one.outcomes is not None:
            values["outcomes"] = dict(one.outcomes)
        if one.origins is not None:
            values["origins"] = [list(origin) for origin in one.origins]
        if one.status not in (Batch.READY, Batch.CLAIMED):
            values |= {"handed_at": self.now, "settled_at": self.now}
        conn.execute(insert(batches).values(**values))
        return self.batch_id

    def set(self, table: Any, where: Any, **values: Any) -> None:
        """Put rows into a status without the way there."""
        with self.db.write() as conn:
            conn.execute(update(table).where(where).values(**values))

    def audited(self) -> tuple[Audit, dict[str, tuple[str, str | None]]]:
        """The audit, and (state, reason) of everybody; nobody may come twice."""
        found = audit(self.db, self.engine, self.lake, CAMPAIGN)
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in found.rows()]
        people = {row["contact_id"]: (row["state"], row["reason"]) for row in rows}
        assert len(rows) == len(people) == found.total
        counted = Counter(people.values())
        assert found.sent == sum(n for (state, _), n in counted.items() if state == "sent")
        assert found.unknown == sum(n for (state, _), n in counted.items() if state == "unknown")
        assert found.not_sent == {reason: n for (state, reason), n in counted.items() if state == "not_sent"}
        assert found.total == found.sent + found.unknown + sum(found.not_sent.values())
        return found, people


@pytest.fixture
def ledger(sqlite_database: Database, engine: Engine, lake: Lake, now: datetime) -> Ledger:
    return Ledger(sqlite_database, engine, lake, now)


EVERYBODY = [
    (1, 1, None),
    (2, 1, None),
    (3, 1, None),
    (4, 1, None),
    (5, 2, None),
    (6, 3, None),
    (7, None, "no_consent"),
]


def test_a_plan_nobody_was_released_of_waits(ledger: Ledger) -> None:
    ledger.plan(EVERYBODY)
    found, people = ledger.audited()
    assert found.document() == {
        "total": 7, "sent": 0, "unknown": 0, "not_sent": {"no_consent": 1, "waiting": 6},
    }  # fmt: skip
    assert people["c7"] == ("not_sent", "no_consent")


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        (Batch.READY, "not_sent", "ready"),
        (Batch.CLAIMED, "not_sent", "ready"),
        (Batch.HANDED, "unknown", "being handed over"),
        (Batch.ACCEPTED, "sent", None),
        (Batch.UNKNOWN, "unknown", None),
        (Batch.REFUSED, "not_sent", "refused"),
        (Batch.RECALLED, "not_sent", "recalled"),
    ],
)
def test_a_batch_s_people_share_its_status(ledger: Ledger, status: str, state: str, reason: str | None) -> None:
    ledger.plan(EVERYBODY)
    ledger.set(waves, waves.c.number == 1, status="sending")
    ledger.freeze([Told([1, 2, 3, 4], status)])
    _, people = ledger.audited()
    assert {people[f"c{contact}"] for contact in (1, 2, 3, 4)} == {(state, reason)}
    assert people["c5"] == ("not_sent", "waiting")


def test_exceptions_stand_beside_their_batch(database: Database, engine: Engine, lake: Lake, now: datetime) -> None:
    ledger = Ledger(database, engine, lake, now)
    ledger.plan(EVERYBODY)
    outcomes = {"refused": [[0, "5.1.1", "no such user ann"]], "unknown": [1], "dropped": [[2, "suppressed"]]}
    ledger.freeze([Told([1, 2, 3, 4], outcomes=outcomes)])
    _, people = ledger.audited()
    assert [people[f"c{contact}"] for contact in (1, 2, 3, 4)] == [
        ("not_sent", "refused:5.1.1"),
        ("unknown", None),
        ("not_sent", "dropped:suppressed"),
        ("sent", None),
    ]


def test_people_the_re_check_at_release_took_out_have_its_reason(ledger: Ledger) -> None:
    ledger.plan(EVERYBODY)
    ledger.freeze([Told([1, 2], excluded={3: "cap_type", 4: "suppressed"})])
    _, people = ledger.audited()
    assert people["c3"] == ("not_sent", "cap_type")
    assert people["c4"] == ("not_sent", "suppressed")


@pytest.mark.parametrize(
    ("status", "outcomes", "expected"),
    [
        (Batch.READY, None, ("not_sent", "ready")),
        (Batch.ACCEPTED, None, ("sent", None)),
        (Batch.UNKNOWN, None, ("unknown", None)),
        (Batch.HANDED, None, ("unknown", "being handed over")),
        (Batch.ACCEPTED, {"refused": [[0, "4.7.1", "greylisted for good"]]}, ("not_sent", "refused:4.7.1")),
    ],
)
def test_people_deferred_into_a_follow_up_have_its_fate(
    ledger: Ledger, status: str, outcomes: Mapping[str, Any] | None, expected: tuple[str, str | None]
) -> None:
    ledger.plan(EVERYBODY)
    ledger.set(waves, waves.c.number == 1, status="sending")
    [first] = ledger.freeze([Told([1, 2, 3, 4], outcomes={"moved": [2]})])
    ledger.freeze([Told([3], status, outcomes=outcomes, origins=[(first, 2)])])
    _, people = ledger.audited()
    assert people["c3"] == expected
    assert people["c4"] == ("sent", None)


def test_the_newest_freeze_of_a_person_is_their_truth(ledger: Ledger) -> None:
    ledger.plan(EVERYBODY)
    ledger.freeze([Told([1, 2], Batch.RECALLED), Told([3, 4])])
    ledger.freeze([Told([1], Batch.ACCEPTED, excluded={2: "cap_type"})])
    found, people = ledger.audited()
    assert people["c1"] == ("sent", None)
    assert people["c2"] == ("not_sent", "cap_type")
    assert found.sent == 3


@pytest.mark.parametrize(
    ("campaign", "wave", "lane", "batch", "reason"),
    [
        ("sending", "sending", "suspended", Batch.READY, "lane_suspended"),
        ("sending", "cleared", "suspended", Batch.READY, "lane_suspended"),
        ("completed", "cleared", "suspended", Batch.RECALLED, "lane_suspended"),
        ("sending", "halted", "open", Batch.RECALLED, "halted"),
        ("sending", "skipped", "open", Batch.RECALLED, "shortened"),
        ("sending", "waiting", "open", Batch.RECALLED, "waiting"),
        ("sending", "waiting", "suspended", Batch.RECALLED, "waiting"),
        ("paused", "sending", "open", Batch.READY, "paused"),
        ("halted", "halted", "open", Batch.READY, "halted"),
        ("cancelled", "halted", "open", Batch.RECALLED, "cancelled"),
        ("cancelled", "skipped", "open", None, "cancelled"),
        ("paused", "waiting", "open", None, "paused"),
        ("halted", "waiting", "open", None, "halted"),
        ("sending", "waiting", "suspended", None, "waiting"),
        ("completed", "skipped", "open", None, "shortened"),
    ],
)
def test_who_was_not_handed_over_is_told_what_stands_in_the_way(  # noqa: PLR0917  # one row of the table
    ledger: Ledger, campaign: str, wave: str, lane: str, batch: str | None, reason: str
) -> None:
    ledger.plan([(1, 1, None)], wave_count=1)
    if batch is not None:
        ledger.freeze([Told([1], batch)])
    ledger.set(campaign_rows, campaign_rows.c.name == CAMPAIGN, status=campaign)
    ledger.set(waves, waves.c.number == 1, status=wave)
    ledger.set(lanes, lanes.c.provider == "gmail", status=lane)
    _, people = ledger.audited()
    assert people == {"c1": ("not_sent", reason)}


def test_a_shortened_campaign_says_so_even_when_it_was_cancelled_later(ledger: Ledger) -> None:
    ledger.plan([(1, 1, None), (2, 2, None), (3, 3, None)])
    ledger.set(campaign_rows, campaign_rows.c.name == CAMPAIGN, last_wave=2, status="cancelled")
    ledger.set(waves, waves.c.number > 0, status="skipped")
    found, _ = ledger.audited()
    assert found.not_sent == {"cancelled": 2, "shortened": 1}


def test_a_row_says_since_when(ledger: Ledger, now: datetime) -> None:
    ledger.plan(EVERYBODY)
    ledger.freeze([Told([1, 2, 3, 4])])
    rows = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in ledger.audited()[0].rows()}
    assert rows["c1"] == {
        "contact_id": "c1", "state": "sent", "reason": None, "wave": 1, "provider": "gmail", "tier": "hot",
        "at": now.isoformat(),
    }  # fmt: skip
    assert rows["c7"]["at"] == now.isoformat()
    assert rows["c6"]["at"] is None


def test_another_campaign_s_people_are_not_ours(ledger: Ledger, now: datetime) -> None:
    ledger.plan(EVERYBODY)
    with ledger.db.write() as conn:
        other = campaigns_made.sending(conn, now, name="other")
        conn.execute(
            insert(freezes).values(
                campaign_id=other.id, wave=1, contacts=1, frozen_at=now, file_id=campaigns.get(conn, CAMPAIGN).plan_file
            )
        )
    found, _ = ledger.audited()
    assert found.not_sent == {"no_consent": 1, "waiting": 6}


def test_without_a_plan_there_is_nobody_to_account_for(ledger: Ledger, now: datetime) -> None:
    with ledger.db.write() as conn:
        campaigns.create(conn, campaigns_made.described(), "email", by="ann", now=now)
    with pytest.raises(NotAllowed, match="no plan yet"):
        audit(ledger.db, ledger.engine, ledger.lake, CAMPAIGN)
    with pytest.raises(NotFound):
        audit(ledger.db, ledger.engine, ledger.lake, "sprng")


# ── everybody exactly once, whatever happened ─────────────────────────────────────────────────────────────────────────

PEOPLE = 12
FATES = st.sampled_from(["accepted", "refused", "unknown", "dropped", "moved"])


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[int, int | None, str | None]], list[list[Told]]]:
    """A plan, then freezes of whoever is free, with any statuses, exceptions, follow-ups and recalls."""
    plan: list[tuple[int, int | None, str | None]] = []
    for contact in range(1, PEOPLE + 1):
        wave = draw(st.sampled_from([None, 1, 2, 3]))
        plan.append((contact, wave, "no_consent" if wave is None else None))
    free = [contact for contact, wave, _ in plan if wave is not None]
    told: list[list[Told]] = []
    next_id = 1
    for _ in range(draw(st.integers(0, 3))):
        if not free:
            break
        people = draw(st.lists(st.sampled_from(free), unique=True, min_size=1))
        taken_out = draw(st.sets(st.sampled_from(people), max_size=2))
        inside = [contact for contact in people if contact not in taken_out]
        status = draw(st.sampled_from(list(Batch)))
        fates = {i: draw(FATES) for i in draw(st.sets(st.sampled_from(range(len(inside) or 1)))) if i < len(inside)}
        outcomes: dict[str, list[Any]] = {"refused": [], "unknown": [], "dropped": [], "moved": []}
        if status in (Batch.ACCEPTED, Batch.REFUSED, Batch.UNKNOWN):
            for index, fate in fates.items():
                if fate in ("refused", "dropped"):
                    outcomes[fate].append([index, "5.1.1", "no"] if fate == "refused" else [index, "suppressed"])
                elif fate != "accepted":
                    outcomes[fate].append(index)
        batch = Told(inside, status, outcomes=outcomes, excluded=dict.fromkeys(taken_out, "cap_type"))
        told.append([batch])
        moved = outcomes["moved"]
        if moved:
            follow = Told(
                [inside[i] for i in moved], draw(st.sampled_from(list(Batch))), origins=[(next_id, i) for i in moved]
            )
            told.append([follow])
        next_id += 2 if moved else 1
        free = [
            contact for contact in free if contact not in people or (status == Batch.RECALLED and contact in inside)
        ]
    return plan, told


def expected(told: Sequence[Sequence[Told]]) -> dict[int, str]:
    """The plain word for each frozen person, the slow way: walk the story forward, the last word stands."""
    fate: dict[int, str] = {}
    for [batch] in told:
        found = batch.outcomes or {}
        fate.update({contact: str(batch.status) for contact in batch.people})
        for index, *_ in found.get("refused", []):
            fate[batch.people[index]] = "refused"
        for index, *_ in found.get("dropped", []):
            fate[batch.people[index]] = "dropped"
        for index in found.get("unknown", []):
            fate[batch.people[index]] = "unknown"
        fate.update(dict.fromkeys(batch.excluded, "excluded"))
    return fate


STATE = {"accepted": "sent", "unknown": "unknown", "handed": "unknown"}


@settings(
    max_examples=settings().max_examples // 12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=histories(), data=st.data())
def test_everybody_of_the_plan_is_in_the_audit_exactly_once_whatever_happened(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, now: datetime, history: Any, data: st.DataObject
) -> None:
    plan, told = history
    home = tmp_path_factory.mktemp("story")
    (home / "lake").mkdir()
    (home / "s.db").write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite:///{home / 's.db'}")
    try:
        from sendwave.engine.duckdb import DuckdbEngine

        ledger = Ledger(database, DuckdbEngine(threads=1), Lake(home / "lake"), now)
        ledger.plan(plan)
        for freeze in told:
            ledger.freeze(freeze)
        status = data.draw(st.sampled_from(["approved", "sending", "paused", "halted", "completed", "cancelled"]))
        ledger.set(campaign_rows, campaign_rows.c.name == CAMPAIGN, status=status)
        for number in (1, 2, 3):
            wave = data.draw(
                st.sampled_from(["waiting", "released", "sending", "soaking", "cleared", "halted", "skipped"])
            )
            ledger.set(waves, waves.c.number == number, status=wave)
        found, people = ledger.audited()
    finally:
        database.close()
    fates = expected(told)
    assert found.total == PEOPLE
    for contact, wave, excluded_by in plan:
        state, reason = people[f"c{contact}"]
        assert state == STATE.get(fates.get(contact, ""), "not_sent")
        assert (reason is None) == (state == "sent" or fates.get(contact) == "unknown")
        if excluded_by is not None:
            assert (wave, reason) == (None, excluded_by)


# ── campaign show ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_show_tells_the_latest_verdicts_and_whether_a_person_has_answered_for_them(
    ledger: Ledger, now: datetime
) -> None:
    ledger.plan(EVERYBODY)
    cells = [Cell("hard_bounce", 1, provider, (Cohort(now, 4000, 90),)) for provider in ("", "gmail")]
    numbers = {"events": 90, "exposure": 3600.0, "maturity": 0.9, "rate": 0.025, "low": 0.021, "high": 0.031}
    with ledger.db.write() as conn:
        campaign = campaigns.get(conn, CAMPAIGN)
        for cell in cells:
            verdict = Verdict(
                cell=cell, decision=Decision.HALT, mode=Mode.ENFORCE, rule=Rule.EXACT_BOUND, **numbers,
                hold_limit=0.01, halt_limit=0.02, sentence="too many",
            )  # fmt: skip
            verdicts.upsert(conn, campaign.id, [verdict], now)
    ledger.set(lanes, lanes.c.provider == "gmail", judged_from=now + timedelta(hours=1))
    whole, gmail = show(ledger.db, CAMPAIGN)["signals"]
    assert {key: whole[key] for key in ("signal", "wave", "provider", "limit", "verdict", "overruled", "rate")} == {
        "signal": "hard_bounce", "wave": 1, "provider": "", "limit": 0.02, "verdict": "halt", "overruled": False,
        "rate": 0.025,
    }  # fmt: skip
    assert (gmail["provider"], gmail["overruled"], gmail["exposure"]) == ("gmail", True, 3600.0)
    ledger.set(lanes, lanes.c.provider == "orange", judged_from=now + timedelta(hours=2))
    assert [signal["overruled"] for signal in show(ledger.db, CAMPAIGN)["signals"]] == [True, True]


def test_show_tells_where_a_campaign_stands(ledger: Ledger, now: datetime) -> None:
    ledger.plan(EVERYBODY)
    outcomes = {"refused": [[0, "5.1.1", "no"]]}
    ledger.freeze([Told([1, 2, 3, 4], outcomes=outcomes)])
    ledger.set(batches, batches.c.id == 1, accepted=3, refused=1)
    with ledger.db.write() as conn:
        campaign = campaigns.get(conn, CAMPAIGN)
        holds.place(
            conn, kind="halt", reason="block", campaign_id=campaign.id, provider="orange", by="daemon", now=now,
            until=now + timedelta(hours=1),
        )  # fmt: skip
    document = show(ledger.db, CAMPAIGN)
    assert json.loads(json.dumps(document)) == document
    assert {key: document[key] for key in ("id", "name", "type", "status", "planned", "excluded")} == {
        "id": CAMPAIGN, "name": CAMPAIGN, "type": "newsletter", "status": "sending", "planned": 6,
        "excluded": {"no_consent": 7, "suppressed": 1},
    }  # fmt: skip
    assert document["waves"][0] == {
        "number": 1, "status": "waiting", "planned": 4, "pilot": None,
        "released": 4, "accepted": 3, "refused": 1, "unknown": 0, "not_sent": 0,
    }  # fmt: skip
    assert document["waves"][1]["not_sent"] == 1
    assert document["lanes"] == [{"provider": "gmail", "status": "open"}, {"provider": "orange", "status": "open"}]
    [hold] = document["holds"]
    assert (hold["reason"], hold["scope"], hold["since"], hold["by"]) == (
        "block",
        "lane orange",
        now.isoformat(),
        "daemon",
    )
    assert document["signals"] == []
    assert auditing.COLUMNS[0] == "contact_id"
