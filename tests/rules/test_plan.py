"""The whole statement: its named safety properties over bases in which anything may lie, and the re-check."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pytest
from bases import DAY, HOUR, NOW_TS, arrow, newsletter, odd_base, person, policy, read, ready, send
from hypothesis import given, settings
from hypothesis import strategies as st

from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules import waves
from sendwave.rules.columns import PLAN
from sendwave.rules.plan import chain_statement, plan_statement, recheck_statement
from sendwave.rules.pressure import Counts

Rows = list[dict[str, Any]]
ENGINE = DuckdbEngine(threads=1, memory_limit="512MB")
EXPLORING = settings.default.max_examples > 1_000  # type: ignore[union-attr]  # conftest loaded a profile
SEEDS = st.integers(0, 2**32 - 1 if EXPLORING else 15)
few = settings() if EXPLORING else settings(max_examples=16)
fewer = settings() if EXPLORING else settings(max_examples=6)


@lru_cache(maxsize=16)
def lake(seed: int) -> dict[str, pa.Table]:
    return odd_base(seed)


def plan_anew(tables: dict[str, pa.Table]) -> Rows:
    return read(ENGINE, plan_statement(policy(), newsletter(), "spring", NOW_TS), tables)


@lru_cache(maxsize=16)
def planned(seed: int) -> Rows:
    return plan_anew(lake(seed))


def inside(rows: Rows) -> set[int]:
    return {row["contact"] for row in rows if row["excluded_by"] is None}


@given(SEEDS)
@few
def test_nobody_is_twice_in_a_plan(seed: int) -> None:
    tables = lake(seed)
    everybody = [row["contact"] for row in planned(seed)]
    assert sorted(everybody) == tables["contacts"].column("contact").to_pylist()


@given(SEEDS)
@few
def test_waves_partition_the_plan(seed: int) -> None:
    rows = [row for row in planned(seed) if row["excluded_by"] is None]
    assert sorted(row["rank"] for row in rows) == list(range(1, len(rows) + 1))
    sizes = Counter(row["wave"] for row in rows)
    assert tuple(sizes[n] for n in sorted(sizes)) == waves.sizes(newsletter().waves.ramp, len(rows))
    in_order = [row["wave"] for row in sorted(rows, key=lambda row: row["rank"])]
    assert in_order == sorted(in_order)


@given(SEEDS)
@few
def test_everybody_has_either_a_place_or_a_reason(seed: int) -> None:
    for row in planned(seed):
        assert (row["excluded_by"] is None) == (row["rank"] is not None) == (row["wave"] is not None)


@given(SEEDS)
@few
def test_no_suppressed_contact_is_planned(seed: int) -> None:
    tables = lake(seed)
    hit = {
        row["address_hash"]
        for row in tables["suppressions"].to_pylist()
        if row["channel"] in ("email", None) and row["scope"] in ("all", "marketing", None)
    }
    people = {row["contact"] for row in tables["contacts"].to_pylist() if row["email_hash"] in hit}
    assert not people & inside(planned(seed))


@given(SEEDS)
@few
def test_unknown_consent_is_never_eligible(seed: int) -> None:
    tables = lake(seed)
    granted = {
        row["contact"]
        for row in tables["consents"].to_pylist()
        if (row["channel"], row["purpose"], row["status"]) == ("email", "marketing", "granted")
    }
    assert inside(planned(seed)) <= granted


@given(SEEDS)
@few
def test_caps_are_never_exceeded_after_the_plan(seed: int) -> None:
    """Counted again, one by one, in plain Python."""
    tables = lake(seed)
    kind = newsletter()
    back = {(row["freeze"], row["contact"]) for row in tables["returns"].to_pylist()}
    live: dict[int, Rows] = {}
    for sent in tables["sends"].to_pylist():
        if sent["excluded_by"] is None and (sent["freeze"], sent["contact"]) not in back:
            live.setdefault(sent["contact"], []).append(sent)
    for row in planned(seed):
        if row["excluded_by"] is not None:
            continue
        mine, tier = live.get(row["contact"], []), kind.tiers[row["tier"]]
        for counts, cap in [(Counts.TYPE, tier.cap), *((cap.counts, cap.max) for cap in kind.caps)]:
            if cap is not None:
                since = NOW_TS - cap.window.total_seconds()
                hits = [s for s in mine if s["sent_ts"] > since and _counts(counts, s)]
                assert len(hits) + 1 <= cap.count
        if tier.min_gap:
            rested = NOW_TS - tier.min_gap.total_seconds()
            assert all(s["sent_ts"] <= rested for s in mine if s["channel"] in ("email", None))


def _counts(counts: Counts, sent: dict[str, Any]) -> bool:
    if counts is Counts.TYPE:
        return sent["type"] in ("newsletter", None)
    return counts is Counts.ALL or sent["channel"] in ("email", None)


@given(SEEDS)
@fewer
def test_a_plan_is_the_same_whenever_it_is_made_again(seed: int) -> None:
    tables = lake(seed)

    def shuffled(table: pa.Table) -> pa.Table:
        return table.take(pa.array(reversed(range(table.num_rows)), pa.int64()))

    again = plan_anew({name: shuffled(table) for name, table in tables.items()})
    assert sorted(planned(seed), key=_contact) == sorted(again, key=_contact)


def _contact(row: dict[str, Any]) -> int:
    found: int = row["contact"]
    return found


@given(SEEDS)
@fewer
def test_the_chain_of_one_contact_says_what_the_plan_says(seed: int) -> None:
    tables = lake(seed)
    told = ("contact", "excluded_by", "tier", "score", "provider")
    with ENGINE.session({}, tables) as session:
        for row in planned(seed)[seed % 20 :: 20]:
            alone = session.read(chain_statement(policy(), newsletter(), "spring", NOW_TS, row["contact"])).to_pylist()
            assert [{name: found[name] for name in told} for found in alone] == [{name: row[name] for name in told}]


@given(SEEDS)
@fewer
def test_a_re_check_of_unchanged_facts_takes_nobody_out(seed: int) -> None:
    tables = lake(seed)
    rows = planned(seed)
    with_plan = {**tables, "plan": pa.Table.from_pylist(rows, schema=_plan_schema())}
    ours = {(s["contact"]) for s in tables["sends"].to_pylist() if s["campaign"] == 8}
    with ENGINE.session({}, with_plan) as session:
        for wave in sorted({row["wave"] for row in rows if row["wave"]}):
            again = session.read(recheck_statement(newsletter(), "spring", 8, wave, NOW_TS)).to_pylist()
            assert {row["contact"] for row in again} == {row["contact"] for row in rows if row["wave"] == wave} - ours
            assert {row["excluded_by"] for row in again} == {None}
            assert all(row["address"] and row["address_hash"] for row in again)


def _plan_schema() -> pa.Schema:
    return pa.schema([(c.name, arrow(c.type)) for c in PLAN.c])


def plan_row(contact: int, rank: int, wave: int = 1, **changes: Any) -> dict[str, Any]:
    place = {"contact": contact, "contact_id": f"C-{contact}", "tier": "hot", "tier_rank": 1, "score": 60.0}
    return {**place, "provider": "gmail", "rank": rank, "wave": wave, **changes}


def rechecked(engine: DuckdbEngine, wave: int = 1, kind: Any = None, **rows: Any) -> Rows:
    kind = kind or newsletter(caps=[], tiers={"hot": {"share": "100%", "cap": "1 per 7d"}})
    statement = recheck_statement(kind, "spring", 7, wave, NOW_TS, attributes=["attr_first_name"])
    return read(engine, statement, ready(1, 2, 3, **rows))


PEOPLE = [person(n, attr_first_name=f"Léa {n}", timezone="Europe/Paris", language="fr") for n in (1, 2, 3)]


def test_the_re_check_gives_what_a_batch_needs(engine: DuckdbEngine) -> None:
    rows = rechecked(engine, contacts=PEOPLE, plan=[plan_row(2, 1), plan_row(3, 2, wave=2)])
    assert rows == [
        {
            "contact": 2,
            "contact_id": "C-2",
            "address": "p2@example.com",
            "address_hash": f"{2:032x}",
            "timezone": "Europe/Paris",
            "language": "fr",
            "tier": "hot",
            "provider": "gmail",
            "score": 60.0,
            "rank": 1,
            "excluded_by": None,
            "attr_first_name": "Léa 2",
        }
    ]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ({"suppressions": [{"address_hash": f"{1:032x}", "reason": "complaint"}]}, "suppressed_complaint"),
        ({"consents": []}, "no_consent"),
        ({"sends": [send(1, HOUR, campaign=9, freeze=4)]}, "cap_tier"),  # another campaign froze them meanwhile
        ({"sends": [send(1, 8 * DAY, campaign=9, freeze=4)]}, None),
        ({"contacts": PEOPLE[1:]}, "no_address"),  # gone from the base since the plan
        ({"scores": []}, None),  # the tier is the plan's decision
    ],
)
def test_the_re_check_asks_todays_facts(engine: DuckdbEngine, rows: dict[str, Any], reason: str | None) -> None:
    found = rechecked(engine, **{"contacts": PEOPLE, "plan": [plan_row(1, 1)], **rows})
    assert [row["excluded_by"] for row in found] == [reason]


@pytest.mark.parametrize(
    ("sends", "returns", "asked_again"),
    [
        ([send(1, HOUR, campaign=7, freeze=4)], [], False),
        ([send(1, HOUR, campaign=7, freeze=4)], [(4, 1, "recalled")], True),
        ([send(1, HOUR, campaign=7, freeze=4)], [(4, 1, "refused")], False),
        ([send(1, HOUR, campaign=7, freeze=4)], [(4, 1, "dropped")], False),
        (
            [send(1, HOUR, campaign=7, freeze=4, excluded_by="cap_tier")],
            [],
            False,
        ),  # taken out: final for this campaign
        ([send(1, HOUR, campaign=7, freeze=n) for n in (4, 5)], [(4, 1, "recalled")], False),  # released once more
        ([send(1, HOUR, campaign=7, freeze=n) for n in (4, 5)], [(4, 1, "recalled"), (5, 1, "recalled")], True),
    ],
)
def test_nobody_is_released_twice_but_the_recalled(
    engine: DuckdbEngine, sends: Rows, returns: list[tuple[int, int, str]], asked_again: bool
) -> None:
    given_back = [dict(zip(("freeze", "contact", "reason"), row, strict=True)) for row in returns]
    found = rechecked(engine, contacts=PEOPLE, plan=[plan_row(1, 1)], sends=sends, returns=given_back)
    assert [row["excluded_by"] for row in found] == ([None] if asked_again else [])


def test_people_leave_by_lane_shuffled_or_best_first(engine: DuckdbEngine) -> None:
    plan = [plan_row(n, n, provider="orange" if n % 3 == 0 else "gmail") for n in range(1, 61)]
    crowd = ready(*range(1, 61), plan=plan)
    orders = {}
    for within in ("shuffled", "best_first"):
        kind = newsletter(waves={"ramp": ["100%"], "within_wave": within})
        rows = read(engine, recheck_statement(kind, "spring", 7, 1, NOW_TS), crowd)
        assert [row["provider"] for row in rows] == ["gmail"] * 40 + ["orange"] * 20
        orders[within] = [row["rank"] for row in rows]
    assert orders["best_first"] == sorted(orders["best_first"][:40]) + sorted(orders["best_first"][40:])
    assert orders["shuffled"] != orders["best_first"]
    assert sorted(orders["shuffled"]) == sorted(orders["best_first"])
