"""Policies campaigns were planned or approved under, whole and for good: an edit never changes what ran."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import Final

from pydantic import ValidationError
from sqlalchemy import Connection, Text, bindparam, cast, select

from sendwave.errors import BadInput, NotFound
from sendwave.rules.policy import PolicySet
from sendwave.store.tables import policies
from sendwave.store.upsert import upsert

_DOCUMENT: Final = select(cast(policies.c.document, Text)).where(policies.c.version == bindparam("asked"))


def remember(conn: Connection, policy: PolicySet, now: datetime) -> str:
    """Keep the policy's document under its version, once; returns the version (sha256, 64 hex digits)."""
    version = policy.version
    row = {"version": version, "document": policy.document(), "loaded_at": now}
    conn.execute(upsert(conn, policies).values(row).on_conflict_do_nothing())
    return version


def pinned(conn: Connection, version: str) -> PolicySet:
    """The policy of that version.

    Raises:
        NotFound: it was never kept here.
        BadInput: a sendwave with other policy models kept it.

    """
    document = conn.execute(_DOCUMENT, {"asked": version}).scalar_one_or_none()
    if document is None:
        raise NotFound(f"no policy of version {version[:12]} is kept in this store")
    try:
        return _read(document)
    except ValidationError as wrong:
        raise BadInput(
            f"policy {version[:12]} was kept by another version of sendwave, which this one cannot read; "
            "plan the campaign again under today's policies"
        ) from wrong


@lru_cache(maxsize=32)
def _read(document: str) -> PolicySet:
    """Policies are immutable, and every look at a campaign asks for those it was approved under."""
    return PolicySet.model_validate(json.loads(document))
