"""What every ESP over HTTP does with what comes back, each spoken to over a real socket (http_esps.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from http_esps import NAMES, Reply, Server, adapter_of, serving, write_content

from sendwave import esp
from sendwave.errors import HandOverError, Permanent, Transient, Unknown
from sendwave.esp.base import Receipt, Submission

KEY = b"0123456789abcdef" * 2
Batch = Callable[..., Submission]

pytestmark = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def server(name: str) -> Iterator[Server]:
    with serving(name) as running:
        yield running


@pytest.fixture
def adapter(server: Server, tmp_path: Path) -> Iterator[Any]:
    made = adapter_of(server, tmp_path, KEY, timeout="1s")
    yield made
    made.close()


def outcome(adapter: Any, submission: Submission) -> Receipt | HandOverError:
    """The receipt, or what was raised instead; for an ESP called once per person, what became of the one."""
    try:
        return adapter.submit(submission)
    except HandOverError as fault:
        return fault


def test_everybody_travels_with_their_own_token_and_link(name: str, adapter: Any, server: Server, batch: Batch) -> None:
    submission = batch("anne@orange.example", "bruno@gmail.example", fields={"first_name": ["Anne", "Bruno"]})
    adapter.submit(submission)
    links = [link for *_, link in server.people]
    assert [(address, token) for address, token, _ in server.people] == [
        (address, token)
        for address, token in zip(submission.recipients.addresses, submission.recipients.tokens, strict=True)
    ]
    for link, token in zip(links, submission.recipients.tokens, strict=True):
        assert link in {f"https://maisonlune.example/u/{token}", ""}


def test_each_reads_their_own_name(adapter: Any, server: Server, batch: Batch) -> None:
    adapter.submit(batch("anne@orange.example", "bruno@gmail.example", fields={"first_name": ["Anne", "Bruno"]}))
    sent = b"".join(call.body for call in server.calls).replace(b"+", b" ")
    assert b"Anne" in sent
    assert b"Bruno" in sent


def test_too_many_requests_waits_as_long_as_they_say(adapter: Any, server: Server, batch: Batch) -> None:
    server.script = [Reply(429, b"{}", {"Retry-After": "17"})]
    fault = outcome(adapter, batch("anne@orange.example"))
    assert isinstance(fault, Transient)
    assert fault.retry_after == 17


def test_too_many_requests_without_a_word_waits_too(adapter: Any, server: Server, batch: Batch) -> None:
    server.script = [Reply(429, b"slow down")]
    fault = outcome(adapter, batch("anne@orange.example"))
    assert isinstance(fault, Transient)
    assert fault.retry_after is not None
    assert fault.retry_after >= 10


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_5xx_proves_nothing(adapter: Any, server: Server, batch: Batch, status: int) -> None:
    server.script = [Reply(status, b"<html>bad gateway</html>")]
    assert isinstance(outcome(adapter, batch("anne@orange.example", "bruno@gmail.example")), (Unknown, Receipt))
    server.script = [Reply(status, b"<html>bad gateway</html>")]
    found = outcome(adapter, batch("anne@orange.example", number=2))
    assert isinstance(found, Unknown) or list(found.unknown) == [0]  # type: ignore[union-attr]


def test_a_time_out_after_it_was_taken_proves_nothing(server: Server, tmp_path: Path, batch: Batch) -> None:
    made = adapter_of(server, tmp_path, KEY)
    made._settings = made._settings.model_copy(update={"timeout": timedelta(milliseconds=80)})
    server.script = [None]
    found = outcome(made, batch("anne@orange.example"))
    made.close()
    assert isinstance(found, Unknown) or list(found.unknown) == [0]  # type: ignore[union-attr]


def test_a_wrong_key_is_said_plainly(adapter: Any, server: Server, batch: Batch) -> None:
    server.script = [Reply(401, b'{"message": "no such key"}')]
    fault = outcome(adapter, batch("anne@orange.example"))
    assert isinstance(fault, Permanent)
    assert "key" in str(fault)


def test_who_cannot_be_addressed_does_not_stop_the_others(adapter: Any, server: Server, batch: Batch) -> None:
    receipt = adapter.submit(batch("not an address", "bruno@gmail.example"))
    assert [one.index for one in receipt.refused] == [0]
    assert [address for address, *_ in server.people] == ["bruno@gmail.example"]


def test_without_a_key_nothing_is_sent(
    name: str, tmp_path: Path, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # else it asks the machine it runs on for a key
    write_content(tmp_path)
    with pytest.raises((Permanent, Transient)):  # one's own server may ask for no key
        esp.make({"esp": name, "base_url": "http://127.0.0.1:1"}, route="main", home=tmp_path, token_key=KEY).submit(
            batch("anne@orange.example")
        )
