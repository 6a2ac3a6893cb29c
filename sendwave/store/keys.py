"""Secrets the nodes of one store share: made once, by whoever comes first."""

from __future__ import annotations

import secrets

from sqlalchemy import select

from sendwave.store.database import Connection
from sendwave.store.tables import meta
from sendwave.store.upsert import upsert


def token_key(conn: Connection) -> bytes:
    """The 32-byte key that signs recipient tokens; made at the first call, the same ever after."""
    conn.execute(upsert(conn, meta).values(key="token_key", value=secrets.token_hex(32)).on_conflict_do_nothing())
    return bytes.fromhex(conn.execute(select(meta.c.value).where(meta.c.key == "token_key")).scalar_one())
