"""Who stops a campaign goes before those who hand its batches over.

On PostgreSQL a hand-over locks its campaign's row in share mode. Whoever shares joins those who share already, ahead of
a writer that waits: with a dozen hands at work a pause was seen to wait for four seconds. Advisory locks queue in turn,
so each hand-over passes one in share mode and whoever moves the campaign takes it alone. SQLite has one writer anyway.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, Integer, String, bindparam, cast, func, literal, select

from sendwave.store.tables import campaigns

_KIND: Final = 0x73656E64
"""Class of our advisory locks: `send` in ASCII."""

_PASSED: Final = func.pg_advisory_xact_lock_shared(literal(_KIND, Integer), cast(campaigns.c.id, Integer))
_PASS: Final = (
    select(campaigns.c.id)
    .where(campaigns.c.id == bindparam("campaign"), cast(_PASSED, String).is_not(None))
    .with_for_update(read=True)
)
"""As a condition the advisory lock is met before the row is locked."""


def in_turn(conn: Connection, campaign_id: int) -> None:
    """Wait until whoever moves the campaign, or suspends a lane of it, is done; the next who would waits for us.

    A statement of its own: one of PostgreSQL sees what was committed before it began, so those that come after this
    one see the campaign as it is until the transaction ends.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(_PASS, {"campaign": campaign_id})


def alone(conn: Connection, campaign_id: int) -> None:
    """Wait until the hand-overs under way are committed; those that come later wait for this transaction."""
    if conn.dialect.name == "postgresql":
        conn.execute(select(func.pg_advisory_xact_lock(literal(_KIND, Integer), literal(campaign_id, Integer))))
