"""The right to freeze people or to give their slots back, and the lake's files that come of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from sendwave.engine.base import Written
from sendwave.engine.datasets import Lake
from sendwave.store import files, freezes, leases
from sendwave.store.database import Connection, Database

LEASE_LIFE: Final = timedelta(minutes=5)
"""After the crash of a command that gave slots back, others wait that long.

A leader's ends with its term, and on SQLite a daemon's when the next one starts (store/nodes.succeed).
"""


@contextmanager
def lease_people(db: Database, now: datetime) -> Iterator[leases.Lease]:
    """The right to freeze people of the contact base, ours alone. Raises Busy."""
    holder = f"{leases.LED if db.is_fenced else 'release:'}{uuid.uuid4().hex}"
    with db.write() as conn:
        lease = leases.acquire(conn, freezes.LEASE, holder, now=now, life=LEASE_LIFE)
    try:
        yield lease
    finally:
        with db.write() as conn:
            leases.release(conn, lease, now=now)


def register(
    conn: Connection,
    lake: Lake,
    dataset: str,
    written: Written,
    *,
    now: datetime,
    part: str = "",
    details: Mapping[str, Any] | None = None,
) -> int:
    """List a written file in the store; returns its id."""
    path, size = lake.relative(written.path), written.bytes
    return files.register(
        conn, dataset=dataset, path=path, rows=written.rows, size=size, now=now, part=part, details=details
    )
