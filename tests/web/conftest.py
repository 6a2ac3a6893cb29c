"""The web side over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from web_side import Place, WebSide, serving

from sendwave.store.database import Database


@pytest.fixture
def web(sqlite_database: Database, tmp_path: Path, now: datetime) -> Iterator[WebSide]:
    """On SQLite."""
    with serving(Place(tmp_path, str(sqlite_database.url), now)) as side:
        yield side


@pytest.fixture
def web_anywhere(database: Database, tmp_path: Path, now: datetime) -> Iterator[WebSide]:
    """On SQLite, then on PostgreSQL."""
    with serving(Place(tmp_path, database.url.render_as_string(hide_password=False), now)) as side:
        yield side
