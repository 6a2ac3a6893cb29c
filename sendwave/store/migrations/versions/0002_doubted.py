"""Batches say whether nobody answered for an earlier call of their people: then they may have the message."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, false

revision = "0002"
down_revision = "0001"
open_to = ("0001",)


def upgrade() -> None:
    op.add_column("batches", Column("doubted", Boolean, nullable=False, server_default=false()))
    # who went again without having been put off had not been answered for; of the others nobody can tell any more
    op.execute("UPDATE batches SET doubted = true WHERE origins IS NOT NULL AND attempt = 0")
