"""What every ESP adapter must do, whatever it speaks. A new adapter gets here by a file in esp_worlds/ of its name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave import esp
from sendwave.errors import BadInput, Transient
from sendwave.esp.base import AdapterSettings, Feed, Message, RawReport, Receipt, Recipients, Submission
from sendwave.rules.events import Event, EventType
from sendwave.rules.token import sign, verify

KEY = b"conformance-key-" * 2
BATCH = 7
Submit = Callable[..., Receipt]

pytestmark = pytest.mark.parametrize("name", esp.names())


def worlds(name: str) -> ModuleType:
    path = Path(__file__).parent / "esp_worlds" / f"{name}.py"
    assert path.is_file(), f"every adapter is tested here: write {path.name} beside the others (docs/adding/esp.md)"
    spec = importlib.util.spec_from_file_location(f"esp_worlds_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def world(name: str, tmp_path: Path) -> Iterator[Any]:
    with worlds(name).world(tmp_path, KEY) as made:
        yield made


def submission(addresses: list[str], now: datetime, batch: int = BATCH) -> Submission:
    tokens = [sign(KEY, batch, position) for position in range(len(addresses))]
    people = Recipients(
        addresses, tokens, [f"C{i}" for i in range(len(addresses))], ["hot"] * len(addresses),
        {"first_name": ["Zoé"] * len(addresses)},
    )  # fmt: skip
    message = Message(
        "lettre", "newsletter", "Maison Lune <news@maisonlune.example>", "Bonjour {{ first_name }}", "content",
        unsubscribe="https://maisonlune.example/u/{token}",
    )  # fmt: skip
    return Submission(batch, f"key-{batch}", 3, 1, "orange", message, people, now)


def everybody(world: Any, *, without: tuple[str, ...] = ()) -> list[str]:
    return [address for kind, found in world.addresses.items() if kind not in without for address in found]


def split(receipt: Receipt, count: int) -> dict[str, list[int]]:
    listed = {
        "refused": [one.index for one in receipt.refused],
        "deferred": [one.index for one in receipt.deferred],
        "unknown": list(receipt.unknown),
    }
    outside = [index for found in listed.values() for index in found]
    assert len(outside) == len(set(outside)), "somebody is in two states"
    assert set(outside) <= set(range(count)), "an index that is nobody"
    return {**listed, "accepted": [index for index in range(count) if index not in outside]}


def test_everybody_is_in_exactly_one_state(world: Any, now: datetime) -> None:
    addresses = everybody(world)
    states = split(world.adapter.submit(submission(addresses, now)), len(addresses))
    for state in ("accepted", "refused", "deferred"):
        expected = {addresses.index(address) for address in world.addresses[state]}
        assert expected <= set(states[state]), state
    assert states["unknown"] == [addresses.index(address) for address in world.addresses["unknown"]]


def test_the_truth_agrees_with_the_receipt(world: Any, now: datetime) -> None:
    addresses = everybody(world)
    states = split(world.adapter.submit(submission(addresses, now)), len(addresses))
    written = world.written_to()
    assert len(written) == len(set(written)), "somebody was written to twice"
    assert {addresses[index] for index in states["accepted"]} <= set(written)
    assert not {addresses[index] for index in (*states["refused"], *states["deferred"])} & set(written)


def test_refusals_and_deferrals_say_why(world: Any, now: datetime) -> None:
    addresses = everybody(world, without=("unknown",))
    batch = submission(addresses, now)
    receipt = world.adapter.submit(batch)
    assert {one.event.type for one in receipt.refused} <= {EventType.BOUNCE, EventType.REJECT, EventType.FAIL}
    assert {one.event.type for one in receipt.deferred} <= {EventType.DEFERRED}
    assert bool(receipt.deferred) == bool(world.addresses["deferred"])
    for one in (*receipt.refused, *receipt.deferred):
        assert one.event.token == batch.recipients.tokens[one.index]
        assert one.event.recipient == addresses[one.index]
        assert one.event.event_at == now
        assert one.event.cause is not None
        assert one.event.description


def test_nobody_comes_before_the_call_and_a_second_batch_works(world: Any, now: datetime) -> None:
    assert world.written_to() == []
    for batch in (1, 2):
        world.adapter.submit(submission([f"somebody.{batch}@gmail.example"], now, batch))
    assert world.written_to() == ["somebody.1@gmail.example", "somebody.2@gmail.example"]


def test_reports_come_again_until_acknowledged(world: Any, now: datetime) -> None:
    if world.adapter.capabilities.feed is Feed.WEBHOOK:
        assert list(world.adapter.poll(now)) == []
        world.adapter.acknowledge([])
        return
    batch = submission(world.addresses["accepted"], now)
    world.adapter.submit(batch)
    later = world.let_reports_come(list(batch.recipients.tokens), now)
    first, again = list(world.adapter.poll(later)), list(world.adapter.poll(later))
    assert first
    assert {(r.ref, r.body) for r in first} == {(r.ref, r.body) for r in again}
    world.adapter.acknowledge(first)
    world.adapter.acknowledge(first)  # a second time does no harm
    assert list(world.adapter.poll(later)) == []


def test_events_carry_our_token_and_are_never_from_the_future(world: Any, now: datetime) -> None:
    batch = submission(world.addresses["accepted"], now)
    world.adapter.submit(batch)
    reports, later = told(world, list(batch.recipients.tokens), now)
    events = [event for report in reports for event in world.adapter.normalise(report, later)]
    assert any(event.type is EventType.BOUNCE for event in events)
    for event in events:
        assert event.token is not None
        assert verify(KEY, event.token) is not None
        assert event.event_at <= later
        assert event.event_at.utcoffset() == timedelta(0)


def told(world: Any, tokens: list[str], now: datetime) -> tuple[list[RawReport], datetime]:
    """What the ESP reports, polled or posted to us, and when we read it."""
    if world.adapter.capabilities.feed is not Feed.WEBHOOK:
        later = world.let_reports_come(tokens, now)
        return list(world.adapter.poll(later)), later
    requests, later = world.requests()
    assert [world.adapter.verify(request, later) for request in requests] == [None] * len(requests)
    return [RawReport(request.body, request.headers) for request in requests], later


def test_a_webhook_believes_nobody_else(world: Any, now: datetime) -> None:
    if world.adapter.capabilities.feed is not Feed.WEBHOOK:
        return
    world.adapter.submit(submission(world.addresses["accepted"], now))
    forged = world.forged()
    forged += [replace(one, headers={}) for one in forged]
    forged += [replace(forged[0], headers=dict.fromkeys(forged[0].headers, "x")), replace(forged[0], body=b"{}")]
    for one in forged:
        refusal = world.adapter.verify(one, world.server.clock.now())
        assert refusal is not None, "a forged request was believed"
        assert 400 <= refusal.status < 500


def test_an_esp_that_is_away_is_transient(name: str, tmp_path: Path, now: datetime) -> None:
    with worlds(name).away(tmp_path, KEY, now) as adapter:
        with pytest.raises(Transient):
            adapter.submit(submission(["anne@orange.example"], now))
        adapter.close()


@given(body=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_normalise_never_raises_but_bad_input(name: str, body: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    adapter = bare(name, tmp_path_factory.getbasetemp())
    received_at = datetime.fromisoformat("2026-03-02T09:00:00+00:00")
    try:
        events = adapter.normalise(RawReport(body), received_at)
    except BadInput:
        return
    assert all(isinstance(event, Event) for event in events)


def test_it_says_what_it_is(name: str, tmp_path: Path) -> None:
    kind = esp.find(name)
    assert kind.name == name
    assert issubclass(kind.Settings, AdapterSettings)
    adapter = bare(name, tmp_path)
    assert adapter.capabilities.batch_size >= 1
    adapter.close()


def test_a_misspelt_setting_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        esp.make({"esp": name, "batch_sise": 10}, route="main", home=tmp_path, token_key=KEY)
    (finding,) = caught.value.findings
    assert finding.startswith("routes.main.batch_sise: no such setting; there are: ")


def bare(name: str, home: Path) -> Any:
    return esp.make({"esp": name}, route="test", home=home, token_key=KEY)
