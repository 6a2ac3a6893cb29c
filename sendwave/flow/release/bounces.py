"""Give the slots of messages that bounced hard back: nobody was reached, so nobody was under pressure.

A campaign type says otherwise with `bounced: keep`. Events are read file by file, each once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput, NotFound
from sendwave.flow.release.leasing import register
from sendwave.rules.pressure import Bounced, bounced_of, bounced_statement
from sendwave.store import campaigns, files, freezes, leases, policies
from sendwave.store.database import Connection, Database
from sendwave.store.files import LakeFile

WAIT: Final = timedelta(minutes=10)
"""Bounces are given back together: a file for each of them would drown the lake."""


def news(conn: Connection, now: datetime) -> Sequence[LakeFile]:
    """Files of events with bounces nobody looked at, once the oldest of them has waited."""
    read = freezes.bounces_read(conn)
    fresh = [file for file in files.live(conn, ["events"])["events"] if file.id > read and not _known(file, read)]
    return fresh if any(file.registered_at <= now - WAIT for file in fresh) else ()


def give_back_bounced(  # noqa: PLR0917  # where, what, in whose name, when
    db: Database, engine: Engine, lake: Lake, fresh: Sequence[LakeFile], lease: leases.Lease, now: datetime
) -> int:
    """Register the slots of the hard bounces in these files as given back; returns how many."""
    events = {"events": [lake.path(file) for file in fresh]}
    with engine.session(events) as session:
        bounced = session.read(bounced_of()).column("campaign").to_pylist()
    with db.read() as conn:
        chosen = [number for number in bounced if number is not None and _gives_back(conn, number)]
        parts = {str(number) for number in chosen}
        sends = [file for file in files.live(conn, ["sends"])["sends"] if file.part in parts]
    written = None
    if sends:
        with engine.session({**events, **lake.paths({"sends": sends})}) as session:
            written = session.write(bounced_statement(chosen), lake.new("returns", "bounced"))
    try:
        if written is not None and written.rows:
            lake.share(written)
        with db.write() as conn:
            leases.fence(conn, lease)
            freezes.bounces_done(conn, max(file.id for file in fresh))
            if written is not None and written.rows:
                register(conn, lake, "returns", written, now=now)
    except BaseException as fault:
        lake.withdraw(fault, [written])
        raise
    if written is not None and not written.rows:
        lake.discard(written)  # not registered, hence no part of the truth
    return 0 if written is None else written.rows


def _known(file: LakeFile, read: int) -> bool:
    """Whether it only joins files that were read already."""
    joined = file.details.get(files.JOINED, ())
    return bool(joined) and max(joined) <= read


def _gives_back(conn: Connection, campaign_id: int) -> bool:
    """What the campaign's type says; a campaign or policy that cannot be read keeps its slots."""
    with suppress(NotFound, BadInput, KeyError):
        campaign = campaigns.by_id(conn, campaign_id)
        kind = policies.pinned(conn, campaign.policy_version or "").types[campaign.type]
        return kind.bounced is Bounced.GIVE_BACK
    return False
