"""Scores computed in the customer's own database, and brought back under our numbers of its contacts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sendwave.engine import abroad
from sendwave.engine.base import Written
from sendwave.engine.writing import writing
from sendwave.flow.score.people import Job, schema_of
from sendwave.rules.columns import (
    CONTACTS,
    INTERACTIONS,
    SCORES,
    BigInteger,
    Double,
    String,
    column,
    func,
    select,
    table,
)
from sendwave.rules.score import whole_statement

_BROUGHT: Final = pa.schema([("contact_id", pa.string()), ("score", pa.float64())])
_IDS: Final = table("ids", column("contact_id", String), column("contact", BigInteger))
_THERE: Final = table("brought", column("contact_id", String), column("score", Double))


def score(job: Job, url: str, ids: Sequence[Path]) -> tuple[Written, int]:
    """The scores as a new file of the lake, not yet registered, and how many contacts there are unknown here.

    Raises BadInput, Busy (the database), FullDisk.
    """
    statement = whole_statement(job.grid, job.as_of, INTERACTIONS, CONTACTS)
    with writing(job.lake.new("scores", "brought"), _BROUGHT) as there:
        there.write(abroad.fetch(url, statement, _BROUGHT))
        file = there.finish()
    try:
        ours = _THERE.join(_IDS, _IDS.c.contact_id == _THERE.c.contact_id)
        known: Any = select(_IDS.c.contact, _THERE.c.score).select_from(ours).order_by(_IDS.c.contact)
        with (
            writing(job.lake.new("scores", "scores"), schema_of(SCORES), job.constants) as here,
            job.engine.session({"brought": [file.path], "ids": ids}) as session,
        ):
            here.write(session.stream(known))
            scores = here.finish()
    finally:
        job.lake.discard(file)
    return scores, file.rows - scores.rows


def kinds(url: str) -> Counter[str]:
    """How many interactions of each kind there are over there. Raises BadInput, Busy."""
    asked: Any = select(INTERACTIONS.c.kind, func.count()).group_by(INTERACTIONS.c.kind)
    schema = pa.schema([("kind", pa.string()), ("acts", pa.int64())])
    found: Counter[str] = Counter()
    for batch in abroad.fetch(url, asked, schema):
        for kind, acts in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
            found[kind or ""] += acts
    return found
