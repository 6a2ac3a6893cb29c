"""Freezes: one re-check of a wave's people under the lease. Their `sends` file reserves the pressure slots.

Ids are given out before the work that needs them (file rows and tokens name their batch), in a transaction of its own,
and never twice: a crash in between leaves a gap, not a second owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, func, insert, select, update

from sendwave.store import upsert
from sendwave.store.tables import batches, files, freezes, meta

LEASE: Final = "contacts"
"""Name of the lease under which people of the contact base are frozen or given back."""

_USED: Final = {"freeze_ids": select(func.max(freezes.c.id)), "batch_ids": select(func.max(batches.c.id))}
_KEY: Final = meta.c.key == bindparam("counter")
_VALUE: Final = select(meta.c.value).where(_KEY)
_GIVEN: Final = _VALUE.with_for_update()
_GIVE: Final = update(meta).where(_KEY).values(value=bindparam("new_value"))
_DETAILS: Final = (
    select(files.c.details)
    .join_from(freezes, files, freezes.c.file_id == files.c.id)
    .where(freezes.c.id == bindparam("freeze"))
)
_FILES: Final = (
    select(freezes.c.file_id)
    .where(freezes.c.campaign_id == bindparam("campaign"), freezes.c.file_id.is_not(None))
    .order_by(freezes.c.id)
)
_NEW: Final = insert(freezes)

_BOUNCES: Final = "bounces_returned"


def reserve(conn: Connection, *, freeze_ids: int = 0, batch_ids: int = 0) -> tuple[int, int]:
    """The first of that many new freeze ids and the first of that many new batch ids, each range consecutive.

    0 where none is asked for.
    """
    return _reserve(conn, "freeze_ids", freeze_ids), _reserve(conn, "batch_ids", batch_ids)


def _reserve(conn: Connection, counter: str, count: int) -> int:
    if not count:
        return 0
    given = conn.execute(_GIVEN, {"counter": counter}).scalar()
    if given is None:
        conn.execute(upsert.first(conn.dialect.name, meta), {"key": counter, "value": "0"})
        given = conn.execute(_GIVEN, {"counter": counter}).scalar_one()
    used = conn.execute(_USED[counter]).scalar_one() or 0
    first = max(int(given), used) + 1
    conn.execute(_GIVE, {"counter": counter, "new_value": str(first + count - 1)})
    return first


def add(
    conn: Connection,
    freeze_id: int,
    *,
    campaign_id: int,
    wave: int,
    file_id: int | None,
    contacts: int,
    dropped: Mapping[str, int],
    now: datetime,
) -> None:
    """Record a freeze under its reserved id. `dropped` counts the people the re-check took out, by reason."""
    conn.execute(
        _NEW,
        {
            "id": freeze_id,
            "campaign_id": campaign_id,
            "wave": wave,
            "file_id": file_id,
            "contacts": contacts,
            "dropped": dict(dropped),
            "frozen_at": now,
        },
    )


def bounces_read(conn: Connection) -> int:
    """The newest file of events whose hard bounces gave their slots back; 0 before the first."""
    found = conn.execute(_VALUE, {"counter": _BOUNCES}).scalar()
    return int(found or 0)


def bounces_done(conn: Connection, file_id: int) -> None:
    """Remember it, in the transaction that registers the slots."""
    conn.execute(upsert.latest(conn.dialect.name, meta, ("key",), ("value",)), {"key": _BOUNCES, "value": str(file_id)})


def consents(conn: Connection, freeze_id: int) -> list[int]:
    """The ids of the consent files that answered when the people of a freeze were asked about."""
    found: list[int] = conn.execute(_DETAILS, {"freeze": freeze_id}).scalar_one()["consents"]
    return found


def dropped(conn: Connection, campaign_id: int) -> dict[int, dict[str, int]]:
    """People taken out by the re-check at release: wave -> reason -> people."""
    found: dict[int, dict[str, int]] = {}
    for wave, reasons in conn.execute(
        select(freezes.c.wave, freezes.c.dropped).where(freezes.c.campaign_id == campaign_id)
    ):
        of_wave = found.setdefault(wave, {})
        for reason, people in reasons.items():
            of_wave[reason] = of_wave.get(reason, 0) + people
    return found


def file_ids(conn: Connection, campaign_id: int) -> list[int]:
    """The campaign's own `sends` files, oldest first, compacted or not."""
    return list(conn.execute(_FILES, {"campaign": campaign_id}).scalars())
