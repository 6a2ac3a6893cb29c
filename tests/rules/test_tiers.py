from __future__ import annotations

import math

import pyarrow as pa
import pytest
from bases import policy, read
from sqlalchemy import Double, String

from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules import tiers
from sendwave.rules.columns import column, select, table

TABLE = table("scored", column("n"), column("score", Double), column("given", String))


@pytest.mark.parametrize(
    ("score", "given", "key", "rank"),
    [
        (100.0, None, "hot", 1),
        (50.0, None, "hot", 1),  # a cut-off belongs to the tier it opens
        (49.999, None, "warm", 2),
        (5.0, None, "cool", 3),
        (-3.0, None, "cold", 4),
        (-math.inf, None, "cold", 4),
        (None, None, None, None),
        (math.nan, None, None, None),  # sorts above every number, but is none
        (math.inf, None, None, None),
        (1.0, "hot", "hot", 1),  # the tier somebody was given wins over the cut-offs
        (None, "warm", "warm", 2),
        (99.0, "tepid", "tepid", None),
    ],
)
def test_the_tier_of_a_score(
    engine: DuckdbEngine, score: float | None, given: str | None, key: str | None, rank: int | None
) -> None:
    cuts = policy().tiers
    expression = tiers.tier_key(cuts, TABLE.c.score, TABLE.c.given)
    asked = select(expression.label("key"), tiers.tier_rank(cuts, expression).label("rank")).select_from(TABLE)
    rows = pa.table({"n": [1], "score": pa.array([score], pa.float64()), "given": pa.array([given], pa.string())})
    assert read(engine, asked, {"scored": rows}) == [{"key": key, "rank": rank}]
