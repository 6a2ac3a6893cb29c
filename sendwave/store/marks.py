"""What became of everybody of a campaign, whole: its released batches and the bitmaps of their tallies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from sendwave.rules.lifecycle import SEEDS
from sendwave.store.tables import batches, tallies


@dataclass(frozen=True, slots=True)
class Released:
    """A batch people were released in; follow-ups are not, their people are outcomes of these."""

    batch_id: int
    wave: int
    provider: str
    status: str
    size: int
    handed_at: datetime | None


def released(conn: Connection, campaign_id: int) -> list[Released]:
    """The batches tokens, tallies and `sends` rows of a campaign name, by id; copies for ourselves left out."""
    of = batches.c
    columns = (of.id, of.wave, of.provider, of.status, of.size, of.handed_at)
    statement = (
        select(*columns)
        .where(of.campaign_id == campaign_id, of.origins.is_(None), of.provider != SEEDS)
        .order_by(of.id)
    )
    return [Released(*row) for row in conn.execute(statement)]


def bitmaps(conn: Connection, campaign_id: int) -> Iterator[tuple[int, str, bytes]]:
    """(batch id, tally, bits): bit = position of a recipient the tally counts."""
    statement = (
        select(tallies.c.batch_id, tallies.c.tally, tallies.c.bits)
        .join(batches, batches.c.id == tallies.c.batch_id)
        .where(batches.c.campaign_id == campaign_id)
    )
    for row in conn.execute(statement):
        yield row[0], row[1], bytes(row[2])
