from __future__ import annotations

import csv
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_world import SLICES, Slice, World, columns, opened_before

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import BadInput, NotAllowed, NotFound
from sendwave.flow import intake
from sendwave.flow import report as flow
from sendwave.flow.report import Breakdown, Named
from sendwave.rules.audience import Who
from sendwave.rules.layout import Layout
from sendwave.rules.report_policy import Habit, Worth
from sendwave.store import files
from sendwave.store.database import Database

SMALL = tuple(
    Slice(one.tier, one.people // 20, one.score, one.share, 0.2, 0.1, opens=one.opens, bounces=0.05) for one in SLICES
)
DAY = 86_400


class Desk:
    """A world and questions to it."""

    def __init__(self, db: Database, engine: DuckdbEngine, lake: Lake, now: datetime) -> None:
        self.world = World(db, lake, now)
        self.db, self.engine, self.lake, self.now = db, engine, lake, now

    def ask(self, *names: str, by: str = "tier", **told: Any) -> dict[str, Any]:
        breakdown = Breakdown(by, told.pop("width", 10.0), tuple(told.pop("bands", ())))
        policy = told.pop("policy", self.world.policy)
        made = flow.report(self.db, self.engine, self.lake, policy, names, now=self.now, breakdown=breakdown, **told)
        return made.document()

    def rows(self, dataset: str) -> list[dict[str, Any]]:
        with self.db.read() as conn:
            listed = files.live(conn, [dataset])[dataset]
        return [row for file in listed for row in pq.read_table(self.lake.root / file.path).to_pylist()]

    def land(self, kind: str, path: Path, **told: Any) -> Any:
        return intake.import_files(
            self.db, self.engine, self.lake, kind, [path], lanes=self.world.policy.lanes, now=self.now, by="ann", **told
        )


@pytest.fixture
def desk(sqlite_database: Database, engine: DuckdbEngine, lake: Lake, now: datetime) -> Desk:
    return Desk(sqlite_database, engine, lake, now)


def by(rows: list[dict[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in rows}


def direct(desk: Desk, keep: Any) -> dict[str, Fraction | int]:
    """Lift of those people of the plan, counted by hand: everybody assigned, sales within the week."""
    spent: dict[int, Fraction] = {}
    sent = int((desk.now - timedelta(days=10)).timestamp())
    for row in desk.rows("interactions"):
        if row["kind"] == "purchase" and sent <= row["ts"] < sent + 7 * DAY:
            spent[row["contact"]] = spent.get(row["contact"], Fraction()) + Fraction(str(row["value"]))
    sides: dict[str, list[int]] = {"given": [], "control": []}
    for row in desk.rows("plan"):
        reason = row["excluded_by"]
        side = "given" if reason is None else "control" if reason in {"control_group", "not_in_share"} else None
        if side and keep(row):
            sides[side].append(row["contact"])
    rate = {side: Fraction(sum(one in spent for one in people), len(people)) for side, people in sides.items()}
    money = {side: sum((spent.get(one, Fraction()) for one in people), Fraction()) for side, people in sides.items()}
    return {
        "people": len(sides["given"]),
        "control_people": len(sides["control"]),
        "converted": float(rate["given"]) - float(rate["control"]),
        "revenue": float(money["given"] / len(sides["given"])) - float(money["control"] / len(sides["control"])),
    }  # type: ignore[dict-item]


def test_lifts_are_those_of_a_direct_count(database: Database, engine: DuckdbEngine, lake: Lake, now: datetime) -> None:
    desk = Desk(database, engine, lake, now)
    desk.world.campaign(slices=SMALL)
    for tier, row in by(desk.ask("spring")["tiers"], "tier").items():
        found, told = direct(desk, lambda one, t=tier: one["tier"] == t), row["lift"]["mailing"]
        assert told["converted"]["difference"] == found["converted"]
        assert told["revenue"]["difference"] == found["revenue"]
        assert (told["revenue"]["people"], told["revenue"]["control_people"]) == (
            found["people"],
            found["control_people"],
        )


def test_figures_are_those_of_the_bitmaps(desk: Desk) -> None:
    desk.world.campaign(slices=SMALL)
    document = desk.ask("spring")
    sends = {(row["batch"], row["position"]): row["tier"] for row in desk.rows("sends")}
    from sendwave.store import tallies

    counted: dict[tuple[str, str], set[tuple[int, int]]] = {}
    with desk.db.read() as conn:
        for batch, tally in tallies.by_batch(conn, 1):
            for position in tallies.positions(conn, batch, tally):
                counted.setdefault((sends[batch, position], tally), set()).add((batch, position))
    names = {"opened": "open", "clicked": "click", "unsubscribed": "unsubscribe", "hard_bounced": "hard_bounce"}
    for row in document["tiers"]:
        assert row["accepted"] == sum(tier == row["tier"] for tier in sends.values())
        for name, tally in names.items():
            assert row[name] == len(counted.get((row["tier"], tally), ())), (row["tier"], name)
        machine, human = (counted.get((row["tier"], tally), set()) for tally in ("machine_open", "open"))
        assert row["machine_opened"] == len(machine - human)
        rate = row["rates"]["opened"]
        assert rate["low"] <= rate["value"] == row["opened"] / row["accepted"] <= rate["high"]


@pytest.mark.parametrize("name", ["provider", "city", "score_band", "language"])
def test_groups_share_out_the_same_people(desk: Desk, name: str) -> None:
    desk.world.campaign(slices=SMALL)
    document = desk.ask("spring", by=name)
    assert len(document["groups"]) > 1
    for figure in ("planned", "accepted", "opened", "converted"):
        assert sum(row[figure] for row in document["groups"]) == document["total"][figure]
    assert sum(row["revenue"] for row in document["groups"]) == pytest.approx(document["total"]["revenue"])
    people = sum(row["lift"]["mailing"]["revenue"]["people"] for row in document["groups"])
    assert people == document["total"]["lift"]["mailing"]["revenue"]["people"]


def test_few_groups_are_listed_and_the_others_go_together(desk: Desk) -> None:
    desk.world.campaign(slices=SMALL)
    document = desk.ask("spring", by="city", top=3)
    assert [row["group"] for row in document["groups"]][-1] == "…"
    assert sum(row["accepted"] for row in document["groups"]) == document["total"]["accepted"]


def test_asked_twice_it_says_the_same(desk: Desk) -> None:
    desk.world.campaign(slices=SMALL)
    assert desk.ask("spring") == desk.ask("spring")


def test_campaigns_are_pooled_stratum_by_stratum(desk: Desk) -> None:
    desk.world.campaign(slices=SMALL)
    desk.world.seed = 2
    desk.world.campaign("summer", slices=SMALL, days_ago=30, control=0.5)
    one, two, both = (
        by(desk.ask(*names)["tiers"], "tier")["hot"] for names in (["spring"], ["summer"], ["spring", "summer"])
    )
    assert both["accepted"] == one["accepted"] + two["accepted"]
    parts = [row["lift"]["mailing"]["converted"] for row in (one, two)]
    weighted = sum(part["difference"] * part["people"] for part in parts) / sum(part["people"] for part in parts)
    assert both["lift"]["mailing"]["converted"]["difference"] == pytest.approx(weighted)


def test_waves_that_never_left_take_their_like_out_of_the_comparison(desk: Desk) -> None:
    desk.world.campaign(slices=SMALL, sent_waves=2)
    document = desk.ask("spring")
    rows = by(document["tiers"], "tier")
    assert rows["hot"]["lift"]["mailing"]["revenue"]["control_people"] > 0
    assert rows["warm"]["planned"] > 0 == rows["warm"]["accepted"]
    assert rows["warm"]["lift"] == {}
    assert "unsent_waves" in [note["code"] for note in document["notes"]]
    says = {verdict["tier"]: verdict["says"] for verdict in document["cutoff"]["verdicts"]}
    assert says["warm"] == "not_sent"


def sale(desk: Desk, contact: int, value: float, hours: float, **told: Any) -> dict[str, Any]:
    at = int((desk.now - timedelta(days=10) + timedelta(hours=hours)).timestamp())
    return {"contact": contact, "kind": "purchase", "ts": at, "value": value, **told}


def quiet(desk: Desk) -> list[int]:
    """Contacts of the plan's hot tier, in a world where nobody buys by himself; those left out at random come last."""
    desk.world.campaign(slices=(Slice("hot", 400, 60, buys=0.0, lift=0.0),))
    rows = desk.rows("plan")
    mailed = [row["contact"] for row in rows if row["excluded_by"] is None]
    return [*mailed, *(row["contact"] for row in rows if row["excluded_by"] == "control_group")]


def test_sales_out_of_their_time_or_currency_are_told_apart(desk: Desk) -> None:
    mailed = quiet(desk)
    desk.world.interactions(
        [
            sale(desk, mailed[0], 100.0, 1),
            sale(desk, mailed[0], 20.0, 30),
            sale(desk, mailed[1], 55.0, -1),  # before the send
            sale(desk, mailed[2], 70.0, 169),  # after the window
            sale(desk, mailed[3], 90.0, 2, attributes='{"currency": "USD"}'),
            sale(desk, mailed[4], -30.0, 3),  # a return
            sale(desk, mailed[5], float("nan"), 4),
            sale(desk, mailed[-1], 40.0, 5),
        ]
    )
    document = desk.ask("spring")
    row = by(document["tiers"], "tier")["hot"]
    assert row["converted"] == 3  # one twice, one in dollars, one of unknown value
    assert row["revenue"] == 120.0
    assert row["lift"]["mailing"]["revenue"]["control"] == 40.0 / row["lift"]["mailing"]["revenue"]["control_people"]
    notes = {note["code"]: note["count"] for note in document["notes"] if "count" in note}
    assert notes["foreign_sales"] == 1
    assert notes["returned"] == 1
    subtract = desk.world.policy.model_copy(update={"report": Worth(returns="subtract")})  # type: ignore[arg-type]
    assert desk.ask("spring", policy=subtract)["tiers"][0]["revenue"] == 90.0


def test_sales_before_somebodys_own_message_are_not_its_doing(desk: Desk) -> None:
    """A second batch left a day later: what its people bought in between counts for the comparison alone."""
    from sqlalchemy import update

    from sendwave.store import tables

    mailed = quiet(desk)
    rows = {row["contact"]: row["batch"] for row in desk.rows("sends")}
    late = next(one for one in mailed if one in rows and rows[one] != rows[mailed[0]])
    with desk.db.write() as conn:
        moved = update(tables.batches).where(tables.batches.c.id == rows[late])
        conn.execute(moved.values(handed_at=desk.now - timedelta(days=9)))
    desk.world.interactions([sale(desk, late, 10.0, 5), sale(desk, mailed[0], 10.0, 5)])
    document = desk.ask("spring")
    assert document["tiers"][0]["converted"] == 1
    assert {note["code"]: note.get("count") for note in document["notes"]}["early"] == 1
    given = document["tiers"][0]["lift"]["mailing"]["converted"]
    assert given["given"] == 2 / given["people"]


def test_an_open_window_is_no_last_word(desk: Desk) -> None:
    desk.world.campaign(slices=SMALL, days_ago=3)
    assert "window_open" in [note["code"] for note in desk.ask("spring")["notes"]]
    early = desk.ask("spring", until=desk.now - timedelta(days=2))
    assert 0 < early["total"]["converted"] < desk.ask("spring")["total"]["converted"]


def test_a_control_group_of_one_is_said_to_be_one(desk: Desk) -> None:
    desk.world.campaign(slices=(Slice("hot", 300, 60, buys=0.5),), control=0.004)
    document = desk.ask("spring")
    lift = document["tiers"][0]["lift"].get("mailing")
    note = next(note for note in document["notes"] if note["code"] in {"tiny_control", "no_control"})
    assert note.get("count", 0) == (lift["converted"]["control_people"] if lift else 0) < 5
    assert lift is None or lift["revenue"]["low"] is None


def test_tiers_renamed_between_campaigns_stand_apart_until_told(desk: Desk) -> None:
    desk.world.campaign(slices=SMALL)
    desk.world.seed = 2
    old = tuple(Slice("lukewarm", *list(_values(one))[1:]) if one.tier == "warm" else one for one in SMALL)
    desk.world.campaign("summer", slices=old, days_ago=30)
    apart = desk.ask("spring", "summer")
    assert {"warm", "lukewarm"} <= set(by(apart["tiers"], "tier"))
    assert [note["tiers"] for note in apart["notes"] if note["code"] == "unknown_tiers"] == [["lukewarm"]]
    told = desk.ask("spring", "summer", same={"lukewarm": "warm"})
    rows, before = by(told["tiers"], "tier"), by(apart["tiers"], "tier")
    assert rows["warm"]["accepted"] == before["warm"]["accepted"] + before["lukewarm"]["accepted"]
    assert "unknown_tiers" not in [note["code"] for note in told["notes"]]


def _values(one: Slice) -> Any:
    return (getattr(one, name) for name in one.__dataclass_fields__)


def test_the_score_beside_the_habit(desk: Desk) -> None:
    """Ten people counted by hand: who is kept, gained, lost, and left out by the draw alone."""
    slices = (Slice("hot", 6, 60, buys=0.0), Slice("cold", 4, 5, 0.0, buys=0.0))
    desk.world.campaign(slices=slices, control=0.3)
    plan = {row["contact"]: row["excluded_by"] for row in desk.rows("plan")}
    habit = [1, 2, 3, 7, 8]
    opened_before(desk.world, habit, 100)
    opened_before(desk.world, [4, 9], 500)  # too long ago
    met = desk.ask("spring", habit=Habit.parse("email_open within 365d"))["baseline"]
    mailed = {contact for contact, reason in plan.items() if reason is None}
    drawn = {contact for contact, reason in plan.items() if reason == "control_group"}
    assert met["kept"] == len(mailed & set(habit))
    assert met["gained"] == len(mailed - set(habit))
    assert met["lost"] == len(set(habit) - mailed - drawn) == 2
    assert met["left_at_random"] == len(drawn & set(habit))
    assert met["by_the_habit"] == len(habit)
    assert by(met["tiers"], "tier")["cold"]["lost"]["by"] == {"tier_not_contacted": 2}


@pytest.mark.parametrize("text", ["clicked within 365d", "score over 40"])
def test_the_score_beside_a_named_audience(desk: Desk, text: str) -> None:
    """By hand: clicks count up to the plan, not since; scores are today's. Both rules hold for 1, 2, 3, 7 and 8."""
    slices = (Slice("hot", 6, 60, buys=0.0), Slice("cold", 4, 5, 0.0, buys=0.0))
    desk.world.campaign(slices=slices, control=0.3)
    plan = {row["contact"]: row["excluded_by"] for row in desk.rows("plan")}
    members = [1, 2, 3, 7, 8]
    for contacts, days in ((members, 100), ([4, 9], 1)):
        at = int((desk.now - timedelta(days=days)).timestamp())
        desk.world.interactions([{"contact": one, "kind": "email_click", "ts": at} for one in contacts])
    every = range(1, 11)
    scores = {"contact": np.array(every), "score": [50.0 if n in members else 5.0 for n in every]}
    with desk.db.write() as conn:
        files.retire(conn, [file.id for file in files.live(conn, ["scores"])["scores"]], desk.now)
    desk.world.file("scores", columns("scores", 10, **scores))
    met = desk.ask("spring", habit=Named("engaged", Who.parse(text)))["baseline"]
    mailed = {contact for contact, reason in plan.items() if reason is None}
    drawn = {contact for contact, reason in plan.items() if reason == "control_group"}
    assert met["rule"] == "audience engaged"
    assert (met["kept"], met["gained"]) == (len(mailed & set(members)), len(mailed - set(members)))
    assert met["lost"] == len(set(members) - mailed - drawn)
    assert met["by_the_habit"] == len(members)


def test_the_draw_is_checked(desk: Desk) -> None:
    desk.world.campaign(slices=SMALL)
    document = desk.ask("spring")
    assert {(one["of"], one["kind"]) for one in document["draws"]} >= {
        ("spring, warm", "share"),
        ("spring, hot", "control"),
    }
    assert all(one["fair"] for one in document["draws"])
    assert all(one["balanced"] for one in document["balance"])
    assert {one["attribute"] for one in document["balance"]} == {"provider", "language", "city"}


def test_a_control_group_that_lost_people_is_found_out(desk: Desk) -> None:
    desk.world.campaign(slices=(Slice("hot", 3_000, 60),), control=0.02)
    assert [one["fair"] for one in desk.ask("spring")["draws"]] == [False]  # the policy promised 10 %


def test_our_own_addresses_are_in_no_figure(desk: Desk) -> None:
    desk.world.campaign(slices=(Slice("hot", 400, 60),))
    before = desk.ask("spring")["tiers"][0]["planned"]
    rows = desk.rows("contacts")
    with desk.db.write() as conn:
        files.retire(conn, [file.id for file in files.live(conn, ["contacts"])["contacts"]], desk.now)
    own = {row["contact"] for row in desk.rows("plan") if row["excluded_by"] is None and row["contact"] <= 10}
    for row in rows:
        row["seed"] = row["contact"] in own
    desk.world.file("contacts", pa.Table.from_pylist(rows))
    assert desk.ask("spring")["tiers"][0]["planned"] == before - len(own)


PUBLIC = (
    "recency", "history_segment", "history", "mens", "womens", "zip_code", "newbie", "channel", "segment", "visit",
    "conversion", "spend",
)  # fmt: skip


def experiment(path: Path, people: int = 64_000, seed: int = 5) -> dict[str, np.ndarray[Any, Any]]:
    """A public e-mail experiment's shape: months since the last purchase, three arms, visit, conversion, spend."""
    draw = np.random.default_rng(seed)
    recency, arm = draw.integers(1, 13, people), draw.integers(0, 3, people)
    visit = draw.random(people) < 0.14 + 0.06 * (arm > 0) - 0.006 * recency
    bought = visit & (draw.random(people) < 0.08)
    spend = np.where(bought, np.round(np.exp(4.3 + 0.8 * draw.standard_normal(people)), 2), 0.0)
    names = np.array(["No E-Mail", "Mens E-Mail", "Womens E-Mail"])[arm]
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("customer", "recency", "segment", "visit", "conversion", "spend"))
        writer.writerows(
            (f"K{n}", recency[n], names[n], int(visit[n]), int(bought[n]), f"{spend[n]:.2f}") for n in range(people)
        )
    public, french = path.with_suffix(".public.csv"), path.with_suffix(".french.csv")
    with public.open("w", encoding="utf-8", newline="") as out:  # as published: nothing names a customer
        writer = csv.writer(out)
        writer.writerow(PUBLIC)
        for n in range(people):
            before = (recency[n], "2) $100 - $200", "142.44", n % 2, 1 - n % 2, "Surburban", n % 3 // 2, "Phone")
            writer.writerow((*before, names[n], int(visit[n]), int(bought[n]), f"{spend[n]:g}"))
    with french.open("w", encoding="windows-1252", newline="") as out:  # as a French Excel saves it
        writer = csv.writer(out, delimiter=";", quoting=csv.QUOTE_ALL)
        writer.writerow(("Client", "Récence", "Groupe", "Visite", "Achat", "Montant"))
        for n in range(people):
            spent = f"{spend[n]:.2f}".replace(".", ",")
            words = ("oui" if visit[n] else "non", "oui" if bought[n] else "non")
            writer.writerow((f"K{n}", recency[n], names[n].replace("No E-Mail", "Témoin"), *words, spent))
    return {"recency": recency, "arm": names, "visited": visit, "converted": bought, "spend": spend}


MAPPED = {"customer": "contact_id", "segment": "arm", "visit": "visited", "conversion": "converted", "spend": "revenue"}


def test_an_outside_experiment_to_the_last_digit(desk: Desk, tmp_path: Path) -> None:
    data = experiment(tmp_path / "mens.csv")
    unnamed = {column: field for column, field in MAPPED.items() if column != "customer"}
    desk.land("experiments", tmp_path / "mens.public.csv", mapping=unnamed, constants={"experiment": "mens"})
    document = desk.ask("mens", by="recency")
    assert [row["group"] for row in document["groups"]] == [str(month) for month in range(1, 13)]
    for row in [*document["groups"], document["total"]]:
        inside = np.ones(64_000, bool) if "group" not in row else data["recency"] == int(row["group"])
        control = inside & (data["arm"] == "No E-Mail")
        for arm in ("Mens E-Mail", "Womens E-Mail"):
            given = inside & (data["arm"] == arm)
            lift = row["lift"][arm]
            for measure in ("visited", "converted"):
                assert lift[measure]["difference"] == data[measure][given].mean() - data[measure][control].mean()
            cents = np.rint(data["spend"] * 100).astype(int)
            exact = [float(Fraction(int(cents[side].sum()), 100 * int(side.sum()))) for side in (given, control)]
            assert lift["revenue"]["difference"] == exact[0] - exact[1]
            assert lift["revenue"]["difference"] == pytest.approx(
                data["spend"][given].mean() - data["spend"][control].mean(), rel=1e-12
            )
    assert document["total"]["planned"] == int((data["arm"] != "No E-Mail").sum())
    assert document["total"]["opened"] is None


def test_bands_of_a_number(desk: Desk, tmp_path: Path) -> None:
    data = experiment(tmp_path / "mens.csv", people=3_000)
    desk.land("experiments", tmp_path / "mens.csv", mapping=MAPPED, constants={"experiment": "mens"})
    rows = by(desk.ask("mens", by="recency", bands=(2, 4, 8))["groups"], "group")
    assert {name: row["label"] for name, row in rows.items()} == {"2": "2 – < 4", "4": "4 – < 8", "8": "≥ 8", "": ""}
    mailed = data["arm"] != "No E-Mail"
    assert {name: row["planned"] for name, row in rows.items()} == {
        "2": int((mailed & (data["recency"] >= 2) & (data["recency"] < 4)).sum()),
        "4": int((mailed & (data["recency"] >= 4) & (data["recency"] < 8)).sum()),
        "8": int((mailed & (data["recency"] >= 8)).sum()),
        "": int((mailed & (data["recency"] < 2)).sum()),
    }


def test_the_file_of_a_french_excel_says_the_same(desk: Desk, tmp_path: Path) -> None:
    experiment(tmp_path / "mens.csv", people=3_000)
    desk.land("experiments", tmp_path / "mens.csv", mapping=MAPPED, constants={"experiment": "mens"})
    french = tmp_path / "mens.french.csv"
    layout = Layout(encoding="windows-1252")
    desk.land("experiments", french, constants={"experiment": "hommes"}, layout=layout)
    ours, theirs = desk.ask("mens", by="recency"), desk.ask("hommes", by="recence")
    assert (theirs["groups"], theirs["total"], theirs["cutoff"]) == (ours["groups"], ours["total"], ours["cutoff"])


def test_arms_that_were_not_drawn_at_random_are_found_out(desk: Desk, tmp_path: Path) -> None:
    """Recency on both sides: alike in the public file; where the control group is of the lapsed alone, it is not."""
    data = experiment(tmp_path / "mens.csv", people=3_000)
    desk.land("experiments", tmp_path / "mens.csv", mapping=MAPPED, constants={"experiment": "mens"})
    found = desk.ask("mens")["balance"]
    assert {one["attribute"] for one in found} == {"recency"}
    assert all(one["balanced"] for one in found)
    one, mailed = found[0], data["arm"] != "No E-Mail"
    assert one["given"] == (data["recency"][mailed] == int(one["value"])).mean()
    rows = [f"K{n},{12 if n % 4 == 0 else n % 12 + 1},{'control' if n % 4 == 0 else 'mail'}" for n in range(400)]
    (tmp_path / "odd.csv").write_text("\n".join(["id,recency,arm", *rows]), encoding="utf-8")
    desk.land("experiments", tmp_path / "odd.csv", constants={"experiment": "odd"})
    assert [one["balanced"] for one in desk.ask("odd")["balance"] if one["value"] == "12"] == [False]


def test_bad_rows_of_an_experiment(desk: Desk, tmp_path: Path) -> None:
    lines = [
        "customer,segment,visit,conversion,spend,sent,bought",
        "a,Mens E-Mail,1,1,20.00,2026-01-02,2026-01-03",
        "b,No E-Mail,1,0,,2026-01-02,",
        "c,Mens E-Mail,yes,no,,2026-01-02,",
        "d,Mens E-Mail,0,0,-5.00,2026-01-02,",  # below zero
        "e,Mens E-Mail,0,0,abc,2026-01-02,",
        "f,,0,0,,2026-01-02,",
        "g,Mens E-Mail,0,0,,2026-01-02,",
        "g,No E-Mail,0,0,,2026-01-02,",  # in two arms
        "h,Mens E-Mail,1,1,9.00,2026-01-02,2026-01-01",  # bought before the send
        "i,Mens E-Mail,perhaps,0,,2026-01-02,",
        *(f"x{n},No E-Mail,0,0,,2026-01-02," for n in range(30)),
    ]
    path = tmp_path / "mens.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    mapped = {**MAPPED, "sent": "sent_at", "bought": "converted_at"}
    told = {"mapping": mapped, "constants": {"experiment": "mens"}}
    done = desk.land("experiments", path, **told)
    assert done.rejects == {
        "two_arms": 2, "negative_revenue": 1, "revenue_not_a_number": 1, "missing_arm": 1, "ambiguous_outcome": 1
    }  # fmt: skip
    assert done.notes == {"converted_before_the_send": 1}
    assert desk.land("experiments", path, **told).counts == {"new": 0, "updated": 0, "unchanged": 34}
    row = desk.ask("mens")["total"]
    assert (row["planned"], row["converted"], row["revenue"]) == (3, 1, 20.0)


def test_an_experiment_without_a_known_control_asks_which(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "ab.csv"
    path.write_text("experiment,customer,arm,conversion\nab,1,A,1\nab,2,B,0\n", encoding="utf-8")
    desk.land("experiments", path, mapping={"customer": "contact_id"})
    with pytest.raises(BadInput, match="Say which arm got nothing: --control ARM, one of 'A', 'B'"):
        desk.ask("ab")
    assert desk.ask("ab", control="B")["total"]["lift"]["A"]["converted"]["difference"] == 1.0
    with pytest.raises(NotFound, match="has no arm 'C'"):
        desk.ask("ab", control="C")


def test_wrong_questions_get_clear_answers(desk: Desk) -> None:
    desk.world.campaign(slices=(Slice("hot", 50, 60),))
    with pytest.raises(NotFound, match=r"no campaign or experiment 'sprong'. Did you mean 'spring'"):
        desk.ask("sprong")
    with pytest.raises(NotFound, match=r"contacts have no attribute 'citi'. Did you mean 'city'"):
        desk.ask("spring", by="citi")
    with pytest.raises(NotFound, match="no attribute 'email'"):
        desk.ask("spring", by="email")
    with pytest.raises(BadInput, match="lies in the future"):
        desk.ask("spring", until=desk.now + timedelta(days=1))
    with pytest.raises(BadInput, match="spring would count twice"):
        desk.ask("spring", "spring")


def test_a_campaign_without_plan_has_nothing_to_report(desk: Desk) -> None:
    import campaigns_made

    from sendwave.store import campaigns

    with desk.db.write() as conn:
        campaigns.create(conn, campaigns_made.described("draft"), "email", by="ann", now=desk.now)
    with pytest.raises(NotAllowed, match="has no plan yet"):
        desk.ask("draft")


def test_channels_have_their_own_cut_off(desk: Desk) -> None:
    """A text message that costs five times what it brings is found out, the e-mail beside it is not blamed."""
    worth = Worth.model_validate({"costs": {"sms": "5 EUR", "email": "0.001 EUR"}})
    policy = desk.world.policy.model_copy(update={"report": worth})
    desk.world.campaign(slices=(Slice("hot", 20_000, 60, buys=0.02, lift=0.03, spread=0.3),), control=0.3)
    desk.world.seed = 2
    made = desk.world.campaign(
        "texts", slices=(Slice("hot", 20_000, 60, buys=0.02, lift=0.0, spread=0.3),), control=0.3
    )
    from sqlalchemy import update

    from sendwave.store import tables

    with desk.db.write() as conn:
        conn.execute(update(tables.campaigns).where(tables.campaigns.c.id == made.id).values(channel="sms"))
    cutoffs = desk.ask("spring", "texts", policy=policy)["cutoffs"]
    assert cutoffs["email"]["tier"] == "hot"
    assert cutoffs["sms"]["tier"] is None
    assert cutoffs["sms"]["verdicts"][0]["says"] == "costs"


def test_a_text_message_costs_as_often_as_it_has_parts(desk: Desk) -> None:
    """Every third text takes three parts, the others one: 4.5 cents each; also after accepted ones became fewer."""
    from sqlalchemy import update

    from sendwave.store import tables

    made = desk.world.campaign("texts", slices=(Slice("hot", 900, 60),), control=0.0)
    with desk.db.write() as conn:
        conn.execute(update(tables.campaigns).where(tables.campaigns.c.id == made.id).values(channel="sms"))
        [file] = files.live(conn, ["sends"])["sends"]
    rows = pq.read_table(desk.lake.root / file.path)
    sizes = pa.array([3 if n % 3 == 0 else 1 for n in range(rows.num_rows)], pa.int32())
    pq.write_table(rows.drop_columns(["parts"]).append_column("parts", sizes), desk.lake.root / file.path)
    total = desk.ask("texts")["total"]
    assert total["accepted"] == 900
    assert total["cost"] == pytest.approx(0.045 * (300 * 3 + 600))


def test_contacts_of_two_snapshots_make_no_double(desk: Desk) -> None:
    """A report reads the snapshot of today; who has gone since is in no attribute's group but the unknown one."""
    desk.world.campaign(slices=(Slice("hot", 100, 60),))
    with desk.db.write() as conn:
        files.retire(conn, [file.id for file in files.live(conn, ["contacts"])["contacts"]], desk.now)
    left = columns("contacts", 60, contact=np.arange(1, 61), attr_city=["Paris"] * 60)
    desk.world.file("contacts", left)
    document = desk.ask("spring", by="city")
    assert [row["group"] for row in document["groups"]] == ["Paris", ""]
    assert sum(row["planned"] for row in document["groups"]) == document["total"]["planned"]
