"""The journal: who did what to which campaign, why, on what evidence, under which policies. Rows are only added."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, insert, select

from sendwave.store.tables import journal

_ROW: Final = insert(journal)  # built once


@dataclass(frozen=True, slots=True)
class Entry:
    """One row; `action` is `<what>.<event>`, for instance `campaign.approve` or `hold.place`."""

    id: int
    at: datetime
    actor: str
    action: str
    campaign_id: int | None
    wave: int | None
    provider: str | None
    reason: str
    evidence: Mapping[str, Any]
    policy_version: str | None

    def document(self) -> dict[str, Any]:
        """The row as plain JSON values; the instant as ISO 8601 text."""
        return {**asdict(self), "at": self.at.isoformat()}


def write(
    conn: Connection,
    *,
    at: datetime,
    actor: str,
    action: str,
    campaign_id: int | None = None,
    wave: int | None = None,
    provider: str | None = None,
    reason: str = "",
    evidence: Mapping[str, Any] | None = None,
    policy_version: str | None = None,
) -> None:
    """Add a row in the transaction of what it tells. Evidence values JSON does not know are kept as their text."""
    row = {
        "at": at,
        "actor": actor,
        "action": action,
        "campaign_id": campaign_id,
        "wave": wave,
        "provider": provider,
        "reason": reason,
        "evidence": json.loads(json.dumps(dict(evidence or {}), default=str)),
        "policy_version": policy_version,
    }
    conn.execute(_ROW, row)


def read(conn: Connection, campaign_id: int | None = None, limit: int | None = None, *, after: int = 0) -> list[Entry]:
    """Rows of one campaign, or all, oldest first; with `limit`, the newest so many; `after`: only later ids."""
    statement = select(journal).where(journal.c.id > after).order_by(journal.c.id.desc()).limit(limit)
    if campaign_id is not None:
        statement = statement.where(journal.c.campaign_id == campaign_id)
    return [Entry(**row) for row in conn.execute(statement).mappings()][::-1]
