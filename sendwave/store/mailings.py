"""The campaigns of this workspace as a table for the set engine: whose reactions count as interactions."""

from __future__ import annotations

import pyarrow as pa
from sqlalchemy import Connection

from sendwave.store import campaigns

NAME = "mailings"
"""The table's name in a statement (rules/acts.py)."""


def table(connection: Connection) -> pa.Table:
    """Columns campaign (store id), name, channel."""
    listed = campaigns.listing(connection)
    return pa.table(
        {
            "campaign": pa.array([c.id for c in listed], pa.int64()),
            "name": pa.array([c.name for c in listed], pa.string()),
            "channel": pa.array([c.channel for c in listed], pa.string()),
        }
    )
