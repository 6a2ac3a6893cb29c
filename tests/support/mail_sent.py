"""Batches that were handed over, for tests of what comes back: rows of the store, and their people in the lake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, insert, update

from sendwave.engine.base import Written
from sendwave.engine.datasets import Lake
from sendwave.esp.base import RawReport
from sendwave.rules.addresses import fingerprint
from sendwave.rules.columns import SENDS, BigInteger, Integer
from sendwave.rules.events import CONTENT_TYPE, Event, EventType, decode_events, encode_events
from sendwave.rules.token import sign
from sendwave.store import files, freezes, tables
from sendwave.store.campaigns import Campaign

KEY = b"k" * 32
ROUTE = "main"


def address(batch: int, position: int) -> str:
    """The address of one of the made-up people."""
    return f"person-{batch}-{position}@gmail.com"


def handed(
    conn: Connection,
    campaign: Campaign,
    now: datetime,
    *,
    wave: int = 1,
    provider: str = "gmail",
    people: int = 100,
    lake: Lake | None = None,
    status: str = "accepted",
    **columns: Any,
) -> int:
    """One settled batch; with a lake its people are in a `sends` file. Returns its id."""
    freeze_id, batch_id = freezes.reserve(conn, freeze_ids=1, batch_ids=1)
    file_id = None
    if lake is not None:
        file_id = people_of(conn, lake, campaign, {batch_id: people}, freeze=freeze_id, now=now)
    freezes.add(
        conn, freeze_id, campaign_id=campaign.id, wave=wave, file_id=file_id, contacts=people, dropped={}, now=now
    )
    row = {
        "id": batch_id,
        "campaign_id": campaign.id,
        "wave": wave,
        "freeze_id": freeze_id,
        "provider": provider,
        "route": ROUTE,
        "zone": "",
        "position": 0,
        "size": people,
        "status": status,
        "accepted": people if status == "accepted" else 0,
        "unknown": people if status == "unknown" else 0,
    }
    if status not in {"ready", "claimed"}:
        row |= {"handed_at": now, "settled_at": now}
    conn.execute(insert(tables.batches).values({**row, **columns}))
    return batch_id


def people_of(
    conn: Connection, lake: Lake, campaign: Campaign, sizes: Mapping[int, int], *, freeze: int, now: datetime
) -> int:
    """A registered `sends` file with the people of these batches; returns its id."""
    rows = [
        {
            "contact": batch * 1_000_000 + position,
            "campaign": campaign.id,
            "type": campaign.type,
            "channel": "email",
            "sent_ts": int(now.timestamp()),
            "freeze": freeze,
            "batch": batch,
            "position": position,
            "address_hash": fingerprint(address(batch, position)),
        }
        for batch, size in sizes.items()
        for position in range(size)
    ]
    path = lake.new("sends", f"wave-{freeze}")
    kinds = {BigInteger: pa.int64(), Integer: pa.int32()}
    schema = pa.schema([(c.name, kinds.get(type(c.type), pa.string())) for c in SENDS.c])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    lake.share(Written(path, len(rows), 1))
    name, part = lake.relative(path), str(campaign.id)
    return files.register(conn, dataset="sends", path=name, rows=len(rows), size=1, now=now, part=part)


def wave_status(conn: Connection, campaign: Campaign, wave: int, status: str, **columns: Any) -> None:
    """Put a wave into a status, without its story."""
    table = tables.waves
    chosen = (table.c.campaign_id == campaign.id) & (table.c.number == wave)
    conn.execute(update(table).where(chosen).values(status=status, **columns))


def event(kind: str, at: datetime, batch: int | None, position: int = 0, **fields: Any) -> Event:
    """An event about one of them, with our token where a batch is named."""
    signed = None if batch is None else sign(KEY, batch, position)
    return Event(EventType(kind), at, **{"token": signed, **fields})


def report(*events: Event) -> RawReport:
    """A report as dispatch writes one."""
    return RawReport(encode_events(events), {"content-type": CONTENT_TYPE})


class Echo:
    """An adapter whose reports are events in our own words; anything else makes it raise."""

    name = "echo"

    def __init__(self, waiting: Iterable[RawReport] = ()) -> None:
        self.waiting = list(waiting)
        self.acknowledged: list[RawReport] = []

    def poll(self, now: datetime) -> Iterable[RawReport]:
        return [report for report in self.waiting if report not in self.acknowledged]

    def acknowledge(self, reports: Iterable[RawReport]) -> None:
        self.acknowledged += reports

    def normalise(self, report: RawReport, received_at: datetime) -> list[Event]:
        if report.body == b"boom":
            raise ZeroDivisionError("boom")
        return decode_events(report.body)


def minutes(count: float) -> timedelta:
    """So many minutes."""
    return timedelta(minutes=count)
