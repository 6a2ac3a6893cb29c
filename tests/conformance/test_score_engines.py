"""One statement, equal scores: DuckDB and PostgreSQL here, Spark by `make conformance-spark`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from score_acts import AS_OF, acts, people
from score_by_hand import Act, contacts, interactions, score
from score_grids import GRIDS
from score_world import ScoreWorld

from sendwave.engine import abroad, dialects
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import BadInput, Busy, NotFound
from sendwave.flow.policies import load_policies
from sendwave.rules.columns import INTERACTIONS
from sendwave.rules.grid import Grid
from sendwave.rules.score import whole_statement
from sendwave.store.database import Database

PEOPLE = people(60)
ACTS = acts(1500, 60)
SCHEMA = pa.schema([("contact", pa.string()), ("score", pa.float64())])
TABLES = """
CREATE TABLE contacts (contact text PRIMARY KEY, signed_up_ts bigint);
CREATE TABLE interactions (contact text, interaction_id text, kind text, ts bigint, value double precision,
    channel text, campaign text, message_id text, machine boolean, attributes text)
"""

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def expected() -> Mapping[str, dict[int, int]]:
    return {
        name: {who: score(grid, ACTS, who, since, AS_OF) for who, since in PEOPLE.items()}
        for name, grid in GRIDS.items()
    }


def fill(url: str, acts: list[Act], people: Mapping[int, int | None]) -> None:
    """The customer's database: their tables, keyed by the CRM's own ids."""
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(TABLES)
        for name, table in (("contacts", contacts(people)), ("interactions", interactions(acts))):
            columns = table.column_names
            with cursor.copy(f"COPY {name} ({', '.join(columns)}) FROM STDIN") as copy:
                for row in table.to_pylist():
                    copy.write_row([f"C{row[c]}" if c == "contact" else row[c] for c in columns])


@pytest.fixture
def customer(postgresql_url: str) -> str:
    return postgresql_url.replace("postgresql+psycopg://", "postgresql://")


def there(url: str, grid: Grid) -> dict[int, int]:
    found: dict[int, int] = {}
    for batch in abroad.fetch(url, whole_statement(grid, AS_OF, INTERACTIONS), SCHEMA):
        found |= {
            int(who[1:]): int(points) for who, points in zip(*(c.to_pylist() for c in batch.columns), strict=True)
        }
    return found


def here(grid: Grid) -> Iterator[dict[int, int]]:
    """Both ways DuckDB is given it: with parameters, and the text `sendwave score --sql duckdb` prints."""
    engine = DuckdbEngine(threads=2, memory_limit="500MB")
    with engine.session({}, {"interactions": interactions(ACTS), "contacts": contacts(PEOPLE)}) as session:
        rows = [session.read(whole_statement(grid, AS_OF, INTERACTIONS)).to_pylist()]
        text = dialects.score_sql(grid, "duckdb", AS_OF)
        rows.append(session.connection.sql(text).to_arrow_table().to_pylist())  # type: ignore[attr-defined]
    engine.close()
    yield from ({row["contact"]: row["score"] for row in found} for found in rows)


def test_both_engines_give_every_contact_the_score_worked_out_by_hand(
    customer: str, expected: Mapping[str, dict[int, int]]
) -> None:
    fill(customer, ACTS, PEOPLE)
    for name, grid in GRIDS.items():
        for found in (*here(grid), there(customer, grid)):
            assert found == expected[name], name
    assert all(len(set(expected[name].values())) > 5 for name in ("retail", "finance", "mixed"))  # it tells them apart


def test_a_workspace_has_the_scores_computed_there_and_brought_back(
    customer: str, sqlite_database: Database, engine: DuckdbEngine, lake: Lake, expected: Mapping[str, dict[int, int]]
) -> None:
    fill(customer, ACTS, {**PEOPLE, 61: None})
    world = ScoreWorld(sqlite_database, engine, lake, GRIDS["retail"], datetime.fromtimestamp(AS_OF, UTC))
    world.know(PEOPLE)
    world.land("ids", pa.table({"contact_id": [f"C{n}" for n in PEOPLE], "contact": list(PEOPLE)}))
    summary = world.score(elsewhere=customer)
    assert world.scores == expected["retail"]
    assert (summary.mode, summary.contacts, summary.changed) == ("postgresql", 60, 60)
    assert summary.warnings == ("1 contacts of the database are not known here: import them",)
    assert "unheard_of" in summary.unknown_kinds
    assert list(lake.root.glob("scores/brought*")) == []
    assert world.due("2026-03-03T04:00", elsewhere=customer) is not None


def test_what_the_database_says_reaches_people_in_one_line(customer: str) -> None:
    statement = whole_statement(GRIDS["retail"], AS_OF, INTERACTIONS)
    with pytest.raises(BadInput, match='refuses the statement: relation "interactions" does not exist'):
        list(abroad.fetch(customer, statement, SCHEMA))
    with pytest.raises(Busy, match="cannot be used right now"):
        list(abroad.fetch("postgresql://nobody@127.0.0.1:1/nowhere?connect_timeout=2", statement, SCHEMA))


def test_an_empty_base_comes_back_empty(customer: str) -> None:
    fill(customer, [], {})
    assert there(customer, GRIDS["finance"]) == {}


@pytest.mark.parametrize("dialect", dialects.PROVEN)
def test_every_dialect_is_written_and_says_what_stands_behind_it(dialect: str) -> None:
    grid = load_policies(None).score
    assert grid is not None
    text = dialects.score_sql(grid, dialect, AS_OF)
    assert text.startswith("WITH acts AS")
    assert ":param" not in text
    assert "$" not in text.replace("'$.", "")
    assert ("FILTER (WHERE" in text) == (dialect not in ("snowflake", "bigquery"))
    assert dialects.PROVEN[dialect]


def test_words_of_the_grid_cannot_leave_their_quotes() -> None:
    parts: dict[str, Any] = {"bands": [{"points": 3}], "when": {"place": ["l'entrée \\ %", "b"]}}
    grid = Grid.model_validate({"touchpoints": {"visit": parts}})
    assert "('b', 'l''entrée \\ %')" in dialects.score_sql(grid, "postgresql", AS_OF)
    assert "('b', 'l\\'entrée \\\\ %')" in dialects.score_sql(grid, "bigquery", AS_OF)


def test_a_database_nobody_wrote_for_is_not_found() -> None:
    with pytest.raises(NotFound, match="Did you mean 'postgresql'"):
        dialects.score_sql(GRIDS["retail"], "postgres", AS_OF)
