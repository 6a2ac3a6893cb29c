"""Freezing: a wave's people become batches in the store's form and, row by row, the lasting `sends` file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from sendwave import faults
from sendwave.engine.base import Written
from sendwave.engine.datasets import Lake
from sendwave.engine.writing import writing
from sendwave.store import batches, freezes, payloads
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database


@dataclass(frozen=True, slots=True)
class Freeze:
    """What one wave becomes, before it is committed."""

    id: int
    drafts: Sequence[batches.Draft]
    dropped: Mapping[str, int]
    people: int
    written: Written | None  # None when there was nobody to ask about


@dataclass(frozen=True, slots=True)
class Wave:
    """The wave of a campaign that is frozen, and how."""

    campaign: Campaign
    number: int
    local: bool  # whether its window is in each person's own time zone
    batch_size: int  # people per batch at most


def freeze(db: Database, lake: Lake, wave: Wave, people: pa.Table, *, now: datetime) -> Freeze:
    """Batches and `sends` rows of these people, in their order inside each lane: of the store only ids are taken.

    `people` has the columns of `rules.plan.recheck_statement`; whoever has `excluded_by` gets a row and no batch.
    Raises FullDisk.
    """
    goes = pc.is_null(people["excluded_by"])
    kept, out = payloads.arrange(people.filter(goes), local=wave.local), people.filter(pc.invert(goes))
    cuts = payloads.cut(kept, wave.batch_size)
    with db.write() as conn:
        freeze_id, first_id = freezes.reserve(conn, freeze_ids=1, batch_ids=len(cuts))
    campaign = wave.campaign
    told: dict[str, int | str] = {"campaign": campaign.id, "type": campaign.type, "channel": campaign.channel}
    told |= {"wave": wave.number, "freeze": freeze_id, "sent_ts": int(now.timestamp())}
    place = lake.new("sends", f"{campaign.name}-{wave.number}")
    with ThreadPoolExecutor(2) as threads:  # both compress, which needs no lock of Python's
        file = threads.submit(_write, lake, place, payloads.sends(kept, out, cuts, first_id), told)
        parts = list(threads.map(payloads.encode, payloads.parts(kept, cuts)))
        written = file.result()
    faults.point("release_file_written")
    drafts = [
        batches.Draft(
            *(first_id + cut.place, campaign.id, wave.number, freeze_id, cut.provider, campaign.settings.route),
            *(cut.zone, cut.place, cut.stop - cut.start, part),
        )
        for cut, part in zip(cuts, parts, strict=True)
    ]
    dropped = {one["values"]: one["counts"] for one in pc.value_counts(out["excluded_by"]).to_pylist()}
    return Freeze(freeze_id, drafts, dropped, kept.num_rows, written)


def _write(lake: Lake, place: Path, rows: pa.Table, told: Mapping[str, int | str]) -> Written | None:
    """The wave's file; `told` are the columns with one value throughout. None when there was nobody to ask about."""
    if not rows.num_rows:
        return None
    with writing(place, payloads.SENT, {name: pa.scalar(value) for name, value in told.items()}) as file:
        file.write([rows])
        written = file.finish()
    lake.share(written)
    return written
