"""Where the http_sms adapter is tested: a gateway on loopback that is what its settings describe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sms_gateway import World, serving

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@contextmanager
def world(home: Path, token_key: bytes) -> Iterator[World]:
    with serving() as gateway:
        made = World(home, token_key, gateway, NOW)
        try:
            yield made
        finally:
            made.adapter.close()


@contextmanager
def away(home: Path, token_key: bytes, now: datetime) -> Iterator[Any]:
    with serving() as gateway:
        made = World(home, token_key, gateway, now)
    yield made.adapter
