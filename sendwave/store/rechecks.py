"""What was learnt about people since they were frozen: who must be asked about again before a batch leaves.

Most batches have no news, and the look costs a set intersection; the rules are asked for the others only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from sendwave.store import files, freezes, suppressions

MARGIN: Final = timedelta(minutes=10)
"""What is this much older than a freeze counts as news: clocks of nodes differ, and commits take time."""


class News:
    """Follows the suppression list of each channel; shared by the threads of one node."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hashes: dict[str, set[str]] = {}
        self._spans: dict[str, tuple[datetime, datetime]] = {}
        self._asked: dict[int, tuple[datetime, list[int]]] = {}

    def concern(
        self, conn: Connection, freeze_id: int, channel: str, hashes: Iterable[str], *, consents: bool, now: datetime
    ) -> bool:
        """Whether one of these addresses was suppressed, or (`consents`) any consent landed, since the freeze."""
        if freeze_id not in self._asked:
            self._asked[freeze_id] = freezes.asked(conn, freeze_id)
        frozen_at, answered = self._asked[freeze_id]
        if consents and [file.id for file in files.live(conn, ["consents"])["consents"]] != answered:
            return True
        return not self._suppressed(conn, channel, frozen_at - MARGIN, now).isdisjoint(hashes)

    def _suppressed(self, conn: Connection, channel: str, since: datetime, now: datetime) -> set[str]:
        """Hashes suppressed since then, or somewhat before; read from the store as far as not known yet."""
        with self._lock:
            first, last = self._spans.get(channel, (now, since))
            unknown_from = last - MARGIN if first <= since else since
            found = suppressions.recorded_since(conn, unknown_from, channel)
            known = self._hashes.setdefault(channel, set())
            known.update(row.address_hash for row in found)
            self._spans[channel] = (min(first, since), now)
            return known
