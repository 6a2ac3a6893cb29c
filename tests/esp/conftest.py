"""A workspace with content, a server to send to, and batches to send."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from smtp_server import Handler, Server

from sendwave import esp
from sendwave.esp.base import EspAdapter, Message, Recipients, Submission
from sendwave.rules.token import sign

KEY = b"0123456789abcdef" * 2


@pytest.fixture
def token_key() -> bytes:
    return KEY


@pytest.fixture
def content(tmp_path: Path) -> Path:
    folder = tmp_path / "content"
    folder.mkdir()
    (folder / "body.txt").write_text(
        "Bonjour {{ first_name }},\n.\nÀ bientôt\n{{ unsubscribe_url }}\n", encoding="utf-8"
    )
    return folder


@pytest.fixture
def batch(now: datetime) -> Callable[..., Submission]:
    """Makes a submission to the given addresses."""

    def make(*addresses: str, number: int = 1, **changed: Any) -> Submission:
        fields = changed.pop("fields", {"first_name": ["Zoé"] * len(addresses)})
        message = {
            "campaign": "lettre-mars",
            "type": "newsletter",
            "sender": "Maison Lune <news@maisonlune.example>",
            "subject": "Bonjour {{ first_name }}",
            "content": "content",
            "unsubscribe": "https://maisonlune.example/u/{token}",
        } | changed
        people = Recipients(
            addresses,
            [sign(KEY, number, position) for position in range(len(addresses))],
            [f"C{position}" for position in range(len(addresses))],
            ["hot"] * len(addresses),
            fields,
        )
        return Submission(number, f"key-{number}", 1, 2, "orange", Message(**message), people, now)

    return make


@pytest.fixture(params=["pipelined", "step by step"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    running = Server(Handler(pipelining=request.param == "pipelined"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def smtp(tmp_path: Path, content: Path, server: Server) -> Iterator[Callable[..., EspAdapter]]:
    """Makes adapters that send to `server`."""
    made: list[EspAdapter] = []

    def make(**settings: Any) -> EspAdapter:
        chosen = {"esp": "smtp", "bounce_domain": "bounces.example", **server.where, **settings}
        made.append(esp.make(chosen, route="main", home=tmp_path, token_key=KEY))
        return made[-1]

    yield make
    for adapter in made:
        adapter.close()
