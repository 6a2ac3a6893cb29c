from __future__ import annotations

from datetime import datetime

from mail_sent import minutes

from sendwave.store import feeds
from sendwave.store.database import Database


def test_watermarks_only_rise_and_counts_add_up(database: Database, now: datetime) -> None:
    with database.write() as conn:
        assert feeds.get(conn, "main") == feeds.Feed("main", None, None, {}, 0)
        feeds.update(conn, "main", last_event_at=now, last_received_at=now, unmatched=2, unknown_words={"odd": 1})
        feeds.update(conn, "main", last_event_at=now - minutes(9), last_received_at=now - minutes(1), unmatched=1)
        feeds.update(conn, "main", last_event_at=None, last_received_at=now, unknown_words={"odd": 2, "new": 1})
        feeds.update(conn, "other", last_event_at=None, last_received_at=now)
    with database.read() as conn:
        assert feeds.listing(conn) == [
            feeds.Feed("main", now, now, {"odd": 3, "new": 1}, 3),
            feeds.Feed("other", None, now, {}, 0),
        ]


def test_a_feed_gone_mad_keeps_no_endless_list_of_words(sqlite_database: Database, now: datetime) -> None:
    words = {f"word-{n}": 1 for n in range(feeds.WORDS_KEPT + 9)}
    with sqlite_database.write() as conn:
        feeds.update(conn, "main", last_event_at=None, last_received_at=now, unknown_words=words)
        feeds.update(conn, "main", last_event_at=None, last_received_at=now, unknown_words=words)
        kept = feeds.get(conn, "main").unknown_words
    assert len(kept) == feeds.WORDS_KEPT
    assert set(kept.values()) == {2}
