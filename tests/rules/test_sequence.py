from __future__ import annotations

import math
from hashlib import md5
from typing import Any

from bases import base, consent, newsletter, person, policy, read, score

from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules.plan import plan_statement

OPEN: dict[str, Any] = {"caps": [], "control": "0%", "tiers": {"hot": {"share": "100%"}, "warm": {"share": "100%"}}}


def ranked(engine: DuckdbEngine, scores: list[dict[str, Any]], campaign: str = "spring") -> list[int]:
    people = [row["contact"] for row in scores]
    tables = base(contacts=[person(n) for n in people], consents=[consent(n) for n in people], scores=scores)
    rows = read(engine, plan_statement(policy(), newsletter(**OPEN), campaign, 0), tables)
    assert sorted(row["rank"] for row in rows) == list(range(1, len(people) + 1))
    return [row["contact"] for row in sorted(rows, key=lambda row: row["rank"])]


def test_the_most_engaged_come_first(engine: DuckdbEngine) -> None:
    given = [score(1, 20), score(2, 99), score(3, 50), score(4, 49.9), score(5, 51)]
    assert ranked(engine, given) == [2, 5, 3, 4, 1]


def test_the_tier_comes_before_the_score(engine: DuckdbEngine) -> None:
    assert ranked(engine, [score(1, 99, "warm"), score(2, 1, "hot"), score(3, 2, "hot")]) == [3, 2, 1]


def test_people_with_a_tier_but_no_score_close_their_tier(engine: DuckdbEngine) -> None:
    given = [score(1, None, "hot"), score(2, math.nan, "hot"), score(3, 1, "hot"), score(4, 30)]
    order = ranked(engine, given)
    assert (order[0], set(order[1:3]), order[3]) == (3, {1, 2}, 4)


def test_equals_are_ordered_by_the_campaigns_draw_not_by_their_number(engine: DuckdbEngine) -> None:
    equals = [score(n, 60) for n in range(1, 101)]

    def tie(campaign: str, n: int) -> str:
        return md5(f"{campaign}|C-{n}".encode(), usedforsecurity=False).hexdigest()[16:24]

    for campaign in ("spring", "summer"):
        assert ranked(engine, equals, campaign) == sorted(range(1, 101), key=lambda n: tie(campaign, n))
    assert ranked(engine, equals, "spring") != ranked(engine, equals, "summer")


def test_service_messages_go_to_the_unscored_last(engine: DuckdbEngine) -> None:
    tables = base(contacts=[person(n) for n in (1, 2, 3)], scores=[score(2, 3), score(3, 80)])
    rows = read(engine, plan_statement(policy(), policy().types["service"], "receipt", 0), tables)
    assert {row["contact"]: row["rank"] for row in rows} == {3: 1, 2: 2, 1: 3}
