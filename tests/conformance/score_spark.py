"""Spark gives the scores worked out by hand. Not part of `make test`: `make conformance-spark` installs Spark first.

Databricks is given the same text. A Java runtime (17 or later) has to be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from score_acts import AS_OF, acts, people
from score_by_hand import contacts, interactions, score
from score_grids import GRIDS

from sendwave.engine import dialects

PEOPLE = people(60)
ACTS = acts(1500, 60)


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A session of this machine alone, over the two tables as Parquet."""
    folder: Path = tmp_path_factory.mktemp("spark")
    options = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.sql.ansi.enabled": "true",
    }
    builder = SparkSession.builder.master("local[2]").appName("sendwave")
    for name, value in options.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    for name, table in (("contacts", contacts(PEOPLE)), ("interactions", interactions(ACTS))):
        pq.write_table(table, folder / f"{name}.parquet")
        session.read.parquet(str(folder / f"{name}.parquet")).createOrReplaceTempView(name)
    yield session
    session.stop()


@pytest.mark.parametrize("name", GRIDS)
def test_spark_gives_every_contact_the_score_worked_out_by_hand(spark: Any, name: str) -> None:
    grid = GRIDS[name]
    text = dialects.score_sql(grid, "spark", AS_OF).rstrip(";")
    found = {row["contact"]: row["score"] for row in spark.sql(text).collect()}
    assert found == {who: score(grid, ACTS, who, since, AS_OF) for who, since in PEOPLE.items()}
