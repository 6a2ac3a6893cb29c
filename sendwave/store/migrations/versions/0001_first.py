"""The first schema.

Until the first release it is created from the tables as they stand; a released revision is never edited.
"""

from __future__ import annotations

from alembic import op

from sendwave.store.tables import METADATA

revision = "0001"
down_revision = None


def upgrade() -> None:
    METADATA.create_all(op.get_bind(), checkfirst=False)


def downgrade() -> None:
    METADATA.drop_all(op.get_bind(), checkfirst=False)
