from __future__ import annotations

import errno
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import bases
import pyarrow as pa
import pytest
from landed import Landed

from sendwave.engine.base import Written
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import BadInput, FullDisk, NotAllowed
from sendwave.flow.plan import is_stale
from sendwave.rules import waves as wave_rules
from sendwave.rules.plan import INPUTS
from sendwave.rules.policy import PolicySet
from sendwave.store import campaigns, files, policies
from sendwave.store.database import Database

POLICY = bases.policy(control="0%", caps=[])


@pytest.fixture
def lake_of(sqlite_database: Database, engine: DuckdbEngine, lake: Lake, now: datetime) -> Landed:
    return Landed(sqlite_database, engine, lake, now)


@pytest.fixture
def spring(lake_of: Landed) -> Landed:
    """Ten people, the last two of whom did not consent, and a campaign."""
    people = range(1, 11)
    lake_of.land(
        bases.base(
            contacts=[bases.person(n, provider="orange" if n % 2 else "gmail") for n in people],
            consents=[bases.consent(n) for n in people if n < 9],
            scores=[bases.score(n, 100 - n) for n in people],
        )
    )
    lake_of.campaign()
    return lake_of


def stored_files(landed: Landed) -> list[Path]:
    return sorted((landed.lake.root / "plan").glob("*")) if (landed.lake.root / "plan").exists() else []


def test_a_plan_is_counted_and_stored(spring: Landed) -> None:
    summary = spring.plan(POLICY)
    assert (summary.total, summary.planned, summary.excluded) == (10, 8, {"no_consent": 2})
    assert summary.tiers == {"hot": 8}
    assert summary.providers == {"orange": 4, "gmail": 4}
    found = spring.read()
    assert found.status == "planned"
    assert found.policy_version == summary.policy_version == POLICY.version
    with spring.db.read() as conn:
        waves, lanes = campaigns.waves(conn, found.id), campaigns.lanes(conn, found.id)
        assert campaigns.exclusions(conn, found.id) == {("no_consent", "hot"): 2}
        assert policies.pinned(conn, POLICY.version) == POLICY
        assert found.plan_pins == {name: [f.id for f in live] for name, live in files.live(conn, INPUTS).items()}
    assert [(w.number, w.planned, dict(w.tiers)) for w in waves] == [
        (1, 1, {"hot": 1}),
        (2, 3, {"hot": 3}),
        (3, 4, {"hot": 4}),
    ]
    assert sum(n for w in waves for n in w.providers.values()) == 8
    assert [(lane.provider, lane.status) for lane in lanes] == [("gmail", "open"), ("orange", "open")]


def test_the_file_holds_everybody_and_no_address(spring: Landed) -> None:
    spring.plan(POLICY)
    rows = spring.rows()
    assert sorted(row["contact_id"] for row in rows) == sorted(f"C-{n}" for n in range(1, 11))
    assert "@" not in json.dumps(rows)
    assert [row["contact"] for row in sorted(rows, key=lambda r: r["rank"] or 99)][:8] == list(range(1, 9))


def test_the_document_is_plain_json_and_adds_up(lake_of: Landed) -> None:
    lake_of.land(bases.odd_base(3, people=200))
    lake_of.campaign()
    document = json.loads(json.dumps(lake_of.plan(bases.policy()).document()))
    assert document["total"] == 200 == document["planned"] + sum(document["excluded"].values())
    assert sum(row["contacts"] for row in document["excluded_by_tier"]) == sum(document["excluded"].values())
    for key in ("tiers", "providers"):
        assert sum(document[key].values()) == document["planned"]
    sizes = wave_rules.sizes(bases.newsletter().waves.ramp, document["planned"])
    assert tuple(wave["planned"] for wave in document["waves"]) == sizes
    rows = lake_of.rows()
    assert Counter(r["excluded_by"] for r in rows if r["excluded_by"]) == document["excluded"]


def test_a_dry_run_says_the_same_and_stores_nothing(spring: Landed) -> None:
    dry = spring.plan(POLICY, dry_run=True)
    assert spring.read().status == "draft"
    assert stored_files(spring) == []
    with spring.db.read() as conn:
        assert campaigns.waves(conn, spring.read().id) == []
    real = spring.plan(POLICY).document()
    assert {**dry.document(), "dry_run": False} == real


def test_planning_again_replaces_the_plan_and_an_approval(spring: Landed) -> None:
    spring.plan(POLICY)
    first = spring.read().plan_file
    with spring.db.write() as conn:
        campaigns.transition(conn, spring.read().id, "approve", by="eve", now=spring.now, approved_at=spring.now)
    spring.land({"consents": bases.table("consents", [bases.consent(1)])})
    summary = spring.plan(POLICY, now=spring.now + timedelta(hours=1))
    assert summary.planned == 1
    found = spring.read()
    assert (found.status, found.approved_at) == ("planned", None)
    assert found.plan_file != first
    with spring.db.read() as conn:
        assert [file.id for file in files.live(conn, ["plan"])["plan"]] == [found.plan_file]


def test_a_campaign_being_sent_is_not_planned(spring: Landed) -> None:
    spring.plan(POLICY)
    with spring.db.write() as conn:
        for event in ("approve", "start"):
            campaigns.transition(conn, spring.read().id, event, by="eve", now=spring.now)
    with pytest.raises(NotAllowed, match="spring is sending"):
        spring.plan(POLICY)
    assert spring.plan(POLICY, dry_run=True).planned == 8


def test_an_unknown_type_is_named_with_the_nearest(lake_of: Landed) -> None:
    lake_of.land(bases.ready(1))
    lake_of.campaign(type="newsleter")
    with pytest.raises(BadInput, match="Did you mean 'newsletter'"):
        lake_of.plan(POLICY)


def test_without_contacts_nothing_is_planned(lake_of: Landed) -> None:
    lake_of.campaign()
    with pytest.raises(BadInput, match="import contacts"):
        lake_of.plan(POLICY)
    assert lake_of.read().status == "draft"


def test_nobody_in_the_plan_is_a_warning(lake_of: Landed) -> None:
    lake_of.land(bases.ready(1, consents=[]))
    lake_of.campaign()
    summary = lake_of.plan(POLICY)
    assert (summary.planned, summary.waves) == (0, ())
    assert summary.warnings == ("nobody is in the plan",)


def test_waves_too_small_for_a_gate_are_a_warning(spring: Landed) -> None:
    [warning] = spring.plan(POLICY).warnings
    assert warning.startswith(
        "waves 1, 2 and 3 cannot carry a hard bounce gate: of 1 to 4 people who could show it, not even ten times"
    )


def test_the_head_of_a_colder_tier_is_a_pilot(lake_of: Landed) -> None:
    cold = {"cold": {"share": "100%"}}
    kind = {"tiers": {"hot": {"share": "100%"}, **cold}, "waves": {"ramp": ["100%"], "pilot": "3%"}}
    lake_of.land(
        bases.base(
            contacts=[bases.person(n) for n in range(1, 1_001)],
            consents=[bases.consent(n) for n in range(1, 1_001)],
            scores=[
                bases.score(n, 90 if n <= 400 else 10, tier="hot" if n <= 400 else "cold") for n in range(1, 1_001)
            ],
        )
    )
    lake_of.campaign()
    summary = lake_of.plan(bases.policy(control="0%", caps=[], **kind))
    assert [(w.planned, w.pilot, dict(w.tiers)) for w in summary.waves] == [
        (400, "", {"hot": 400}),
        (200, "cold", {"cold": 200}),
        (400, "", {"cold": 400}),
    ]
    assert [w["pilot"] for w in summary.document()["waves"]] == [None, "cold", None]
    with lake_of.db.read() as conn:
        assert [w.pilot for w in campaigns.waves(conn, lake_of.read().id)] == ["", "cold", ""]


def test_doubles_in_the_lake_are_refused_whole(spring: Landed) -> None:
    twice = [bases.score(1, 90), bases.score(1, 10)]
    spring.land({"scores": bases.table("scores", twice)})
    with pytest.raises(BadInput, match="twice"):
        spring.plan(POLICY)
    assert (spring.read().status, stored_files(spring)) == ("draft", [])


@dataclass(frozen=True)
class _FullDisk:
    """An engine whose disk is full at the moment of writing."""

    engine: DuckdbEngine

    @contextmanager
    def session(self, files: Mapping[str, Sequence[Path]], tables: Mapping[str, pa.Table] | None = None) -> Any:
        with self.engine.session(files, tables) as session:

            class Full:
                read, stream = session.read, session.stream

                def write(self, statement: Any, destination: Path) -> Written:
                    session.write(statement, destination).path.unlink()
                    raise FullDisk("the disk that holds the lake is full") from OSError(errno.ENOSPC, "full")

            yield Full()


def test_a_full_disk_leaves_the_campaign_as_it_was(spring: Landed) -> None:
    spring.plan(POLICY)
    before, rows = spring.read(), spring.rows()
    spring.engine = _FullDisk(spring.engine)  # type: ignore[assignment]
    with pytest.raises(FullDisk):
        spring.plan(POLICY)
    assert spring.read() == before
    assert spring.rows() == rows
    assert len(stored_files(spring)) == 1


def test_a_plan_that_cannot_be_stored_leaves_no_file(spring: Landed, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise NotAllowed("somebody was faster")

    monkeypatch.setattr(campaigns, "store_plan", refuse)
    with pytest.raises(NotAllowed, match="faster"):
        spring.plan(POLICY)
    assert stored_files(spring) == []
    with spring.db.read() as conn:
        assert files.live(conn, ["plan"])["plan"] == []


def stale(landed: Landed, policy: PolicySet = POLICY) -> list[str]:
    with landed.db.read() as conn:
        return is_stale(conn, landed.read(), policy)


def test_a_plan_is_stale_once_what_it_was_made_from_changed(spring: Landed) -> None:
    spring.plan(POLICY)
    assert stale(spring) == []
    spring.land({"sends": bases.table("sends", [bases.send(1, 60)])})  # release counts them anyway
    assert stale(spring) == []
    spring.land({"contacts": bases.table("contacts", [bases.person(1)])})
    spring.land({"scores": bases.table("scores", [bases.score(1)])})
    assert [sentence.split(":")[0] for sentence in stale(spring, bases.policy())] == [
        "the policies changed",
        "the contacts changed",
        "the scores changed",
    ]


def test_suppressions_and_pressure_are_live(spring: Landed) -> None:
    spring.suppress(bases.table("suppressions", [{"address_hash": f"{1:032x}", "reason": "complaint"}]))
    spring.land({"sends": bases.table("sends", [bases.send(2, 60)] * 3)})
    assert spring.plan(POLICY).excluded == {"no_consent": 2, "suppressed_complaint": 1, "cap_tier": 1}


@pytest.mark.postgresql
def test_the_same_on_postgresql(postgresql_database: Database, engine: DuckdbEngine, lake: Lake, now: datetime) -> None:
    landed = Landed(postgresql_database, engine, lake, now)
    landed.land(bases.ready(1, 2, 3))
    landed.campaign()
    landed.plan(POLICY)
    assert stale(landed) == []
    assert landed.plan(POLICY).planned == 3
