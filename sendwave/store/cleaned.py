"""Which files of the lake the clean log has taken in, under which recipe."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final, NamedTuple

from sqlalchemy import Connection, select

from sendwave.store.tables import meta
from sendwave.store.upsert import upsert

_KEY: Final = "clean_log"


class TakenIn(NamedTuple):
    """The recipe of the clean log, and the ids of the files it was made of."""

    recipe: str = ""
    sources: frozenset[int] = frozenset()


def taken_in(conn: Connection) -> TakenIn:
    """What the clean log is made of; nothing before the first cleaning."""
    text = conn.execute(select(meta.c.value).where(meta.c.key == _KEY)).scalar_one_or_none()
    if text is None:
        return TakenIn()
    told = json.loads(text)
    return TakenIn(told["recipe"], frozenset(told["sources"]))


def take_in(conn: Connection, recipe: str, sources: Iterable[int]) -> None:
    """From this transaction on, the clean log is made of these."""
    value = json.dumps({"recipe": recipe, "sources": sorted(sources)})
    first = upsert(conn, meta).values(key=_KEY, value=value)
    conn.execute(first.on_conflict_do_update(index_elements=["key"], set_={"value": value}))
