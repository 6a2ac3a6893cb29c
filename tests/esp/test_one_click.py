"""Mandrill's headers are a message's and not a person's: who gets the one-click pair of RFC 8058 all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from http_esps import adapter_of, serving

from sendwave.esp.base import Submission

KEY = b"0123456789abcdef" * 2
ANNE, BRUNO = "anne@orange.example", "bruno@gmail.example"


@pytest.mark.parametrize(
    ("people", "settings", "given"),
    [
        ([ANNE], {"unsubscribe_header": False}, True),
        ([ANNE, BRUNO], {"unsubscribe_header": False}, False),
        ([ANNE, BRUNO], {"unsubscribe_header": True}, True),
    ],
)
def test_the_pair_is_everybodys_own_or_not_there(
    tmp_path: Path, batch: Callable[..., Submission], people: list[str], settings: dict[str, Any], given: bool
) -> None:
    submission = batch(*people, fields={})
    with serving("mandrill") as server:
        adapter = adapter_of(server, tmp_path, KEY, **settings)
        adapter.submit(submission)
        adapter.close()
        links = [link for *_, link in server.people]
    expected = [f"https://maisonlune.example/u/{token}" if given else "" for token in submission.recipients.tokens]
    assert links == expected
