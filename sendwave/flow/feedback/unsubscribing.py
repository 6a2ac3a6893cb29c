"""Unsubscribing: somebody pressed a link of ours, and the very next batch must leave them out.

Two things are done in one commit: the address goes on the suppression list, which dispatch asks before it hands over,
and the event goes into the inbox like any ESP's, so that it is counted for its campaign where all others are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.utils import parseaddr
from typing import Final

import pyarrow as pa

from sendwave import faults
from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import NotFound
from sendwave.esp.base import RawReport
from sendwave.flow.feedback.stopping import Purposes
from sendwave.rules import arrivals as rules
from sendwave.rules.events import CONTENT_TYPE, Event, EventType, encode_events
from sendwave.rules.token import verify
from sendwave.store import campaigns, inbox, suppressions, tallies
from sendwave.store.database import Database
from sendwave.store.suppressions import ALL, Suppression
from sendwave.store.tallies import Target

SOURCE: Final = "unsubscribe link"
"""Who told us, on the suppression list."""

_STRANGER: Final = "this link is not one of ours, or what it speaks of is no longer kept"


@dataclass(frozen=True, slots=True)
class Subscriber:
    """The person a link belongs to."""

    token: str
    position: int
    target: Target  # the batch they were in
    purpose: str  # what they no longer want: the purpose of that campaign, or `all`
    sender: str  # display name, else the domain, of whom they hear from


def whose(db: Database, token_key: bytes, token: str) -> Subscriber:
    """Whose link this is. Raises NotFound for a forged one, or one of a batch that is no longer known."""
    named = verify(token_key, token)
    if named is None:
        raise NotFound(_STRANGER)
    batch, position = named
    with db.read() as conn:
        target = tallies.targets(conn, [batch]).get(batch)
        if target is None or position >= target.size:
            raise NotFound(_STRANGER)
        name, address = parseaddr(campaigns.by_id(conn, target.campaign_id).settings.sender)
        return Subscriber(
            token.lower(), position, target, Purposes(conn).of(target), name or address.rpartition("@")[2]
        )


def unsubscribe(
    db: Database, engine: Engine, lake: Lake, person: Subscriber, *, everything: bool, now: datetime
) -> Suppression:
    """Write to them no more: about this purpose, or with `everything` at all. Durable when it returns; idempotent.

    Raises NotFound, and writes nothing, when their address is no longer kept.
    """
    address = _address(engine, lake, person)
    scope = ALL if everything else person.purpose
    stop = Suppression(address, person.target.channel, scope, "unsubscribe", now)
    told = Event(
        EventType.UNSUBSCRIBE, now, token=person.token, description=f"{SOURCE}: {'everything' if everything else scope}"
    )
    report = RawReport(encode_events([told]), {"content-type": CONTENT_TYPE})
    with db.write() as conn:
        suppressions.add(conn, [stop], source=SOURCE, now=now)
        inbox.put(conn, person.target.route, [report], now)
    faults.point("feedback_stored")
    return stop


def _address(engine: Engine, lake: Lake, person: Subscriber) -> str:
    """The hash of the address they were written to at, from the wave's file of people."""
    path = lake.root / (person.target.sends or "")
    if person.target.sends is None or not lake.has(path):
        raise NotFound(_STRANGER)
    sought = pa.table(
        {"row": [0], "batch": [person.target.batch_id], "position": pa.array([person.position], pa.int32())}
    )
    with engine.session({"sends": [path]}, {"stopped": sought}) as session:
        found = session.read(rules.addresses_statement())["address_hash"].to_pylist()
    if not found or found[0] is None:
        raise NotFound(_STRANGER)
    return str(found[0])
