"""Every adapter against the ESP it speaks to, as strict and as troublesome as the provider documents it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from http_esps import HOOK, NAMES, TALLIES, TELLS_MACHINES, Server, adapter_of, report, request_of, serving

from sendwave import esp
from sendwave.errors import HandOverError, Transient, Unknown
from sendwave.esp.base import Message, RawReport, Receipt, Recipients, Submission
from sendwave.rules.signals import Tally, tally_of
from sendwave.rules.token import sign
from sendwave.simulator.base import LATER, REFUSED
from sendwave.simulator.scenario import OUTCOMES

KEY = b"rehearsal-key-of" * 2
NASTY = ("Zoé", "O'Brien <b>", "a & b", "{{ x }}", "{% raw %}", "%recipient.token%", "*|EMAIL|*", "-swt0-", "100 % + 1",
         "日本", "\\ \"quoted\"", "é=e;c#1", "&amp;")  # fmt: skip
SIGNS_THE_INSTANT = {"mailgun", "resend", "sendgrid", "ses"}
OWN_SERVERS = {"kumomta", "postal"}  # no account that somebody else could stop

pytestmark = pytest.mark.parametrize("name", NAMES)
Make = Callable[..., tuple[Server, Any]]


@pytest.fixture
def rehearse(name: str, tmp_path: Path) -> Iterator[Make]:
    """Makes an ESP with a scenario, and the adapter that leads there."""
    made: list[Any] = []

    def make(hook: str = HOOK, **scenario: Any) -> tuple[Server, Any]:
        server = Server(name, hook=hook, **scenario)
        server.start()
        links = {"unsubscribe_header": True} if "unsubscribe_header" in esp.find(name).Settings.model_fields else {}
        adapter = adapter_of(server, tmp_path, KEY, **links)
        made.extend((server.stop, adapter.close))
        return server, adapter

    yield make
    for end in reversed(made):
        end()


def submission(addresses: list[str], now: datetime, names: tuple[str, ...] = NASTY, number: int = 7) -> Submission:
    tokens = [sign(KEY, number, position) for position in range(len(addresses))]
    fields = {"first_name": [names[position % len(names)] for position in range(len(addresses))]}
    people = Recipients(addresses, tokens, addresses, ["hot"] * len(addresses), fields)
    message = Message(
        "lettre", "newsletter", "Maison Lune <news@maisonlune.example>", "Bonjour {{ first_name }}", "content",
        unsubscribe="https://maisonlune.example/u/{token}",
    )  # fmt: skip
    return Submission(number, f"key-{number}", 3, 1, "orange", message, people, now)


def crowd(count: int) -> list[str]:
    return [f"person.{n}@orange.example" for n in range(count)]


def outcome(adapter: Any, batch: Submission) -> Receipt | HandOverError:
    try:
        return adapter.submit(batch)
    except HandOverError as fault:
        return fault


def test_a_full_batch_arrives_each_with_their_own_text_token_and_link(rehearse: Make, now: datetime) -> None:
    server, adapter = rehearse()
    batch = submission(crowd(adapter.capabilities.batch_size), now)
    receipt = adapter.submit(batch)
    assert (list(receipt.refused), list(receipt.deferred), list(receipt.unknown)) == ([], [], [])
    people = {person.token: person for person in server.service.truth.people()}
    assert len(people) == len(batch.recipients)
    for position, token in enumerate(batch.recipients.tokens):
        person, name = people[token], NASTY[position % len(NASTY)]
        link = f"https://maisonlune.example/u/{token}"
        escaped = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        plain = person.html.replace("&#34;", '"').replace("&#39;", "'")
        assert (person.address, person.times) == (batch.recipients.addresses[position], 1)
        assert (person.subject, person.link) == (f"Bonjour {name}", link)
        assert person.text.replace("\r\n", "\n") == f"Bonjour {name}\n{link}\n"
        assert plain.strip() == f"<p>Bonjour {escaped}</p>"


def test_who_is_refused_or_put_off_is_known_and_the_others_arrive(name: str, rehearse: Make, now: datetime) -> None:
    server, adapter = rehearse()
    at_once = server.service.provider.at_hand_over
    addresses = ["anne@orange.example", "gone.1@orange.example", "bruno@gmail.example", "later.1@orange.example"]
    receipt = adapter.submit(submission(addresses, now))
    assert [one.index for one in receipt.refused] == ([1] if REFUSED in at_once else [])
    assert [one.index for one in receipt.deferred] == ([3] if LATER in at_once else [])
    outside = {one.index for one in (*receipt.refused, *receipt.deferred)}
    assert [address for address, *_ in server.people] == [a for n, a in enumerate(addresses) if n not in outside]


@pytest.mark.parametrize("wait", ["17s", None])
def test_too_many_requests_with_and_without_a_word_how_long(rehearse: Make, now: datetime, wait: str | None) -> None:
    server, adapter = rehearse(calls={"busy": "100%", "retry_after": wait})
    fault = outcome(adapter, submission(crowd(3), now))
    assert isinstance(fault, Transient)
    assert fault.retry_after == (17 if wait else pytest.approx(30))
    assert server.people == []


def test_a_used_up_quota_is_a_long_wait_with_its_reason(name: str, rehearse: Make, now: datetime) -> None:
    server, adapter = rehearse(calls={"quota": 2})
    assert isinstance(outcome(adapter, submission(crowd(2), now)), Receipt)
    fault = outcome(adapter, submission(crowd(2), now, number=8))
    if name in OWN_SERVERS:
        assert isinstance(fault, (Transient, Unknown))
    else:
        assert isinstance(fault, Transient), fault
        assert fault.retry_after is not None
        assert fault.retry_after >= 3600
    assert len(server.people) == 2


def test_an_account_stopped_by_the_esp_takes_nothing(name: str, rehearse: Make, now: datetime) -> None:
    server, adapter = rehearse(calls={"outages": [{"lasts": "1h", "how": "paused"}]})
    fault = outcome(adapter, submission(crowd(2), now))
    assert isinstance(fault, Transient) or name in OWN_SERVERS
    assert server.people == []
    server.clock.sleep(3700)
    assert isinstance(outcome(adapter, submission(crowd(2), now, number=8)), Receipt)


def test_taken_without_an_answer_is_unknown_and_a_key_makes_it_known(rehearse: Make, now: datetime) -> None:
    server, adapter = rehearse(calls={"outages": [{"lasts": "5m", "how": "silent"}]})
    adapter._settings = adapter._settings.model_copy(update={"timeout": timedelta(milliseconds=200)})
    batch = submission(crowd(2), now)
    found = outcome(adapter, batch)
    assert isinstance(found, Unknown) or found.unknown  # type: ignore[union-attr]
    taken = [address for address, *_ in server.people]
    assert taken, "it had been taken all the same"
    if adapter.capabilities.idempotency is None:
        return
    server.clock.sleep(360)
    assert adapter.capabilities.idempotency > timedelta(minutes=6)
    adapter.close()
    adapter._client = None
    adapter._settings = adapter._settings.model_copy(update={"timeout": timedelta(seconds=20)})
    again = outcome(adapter, batch)
    assert isinstance(again, Receipt)
    assert (list(again.refused), list(again.deferred), list(again.unknown)) == ([], [], [])
    assert [address for address, *_ in server.people] == taken, "the key kept them from a second mail"


def test_a_bad_gateway_after_it_was_taken_is_unknown(rehearse: Make, now: datetime) -> None:
    server, adapter = rehearse(calls={"broken": "100%"})
    found = outcome(adapter, submission(crowd(1), now))
    assert isinstance(found, Unknown) or list(found.unknown) == [0]  # type: ignore[union-attr]
    assert len(server.people) == 1


EVERYTHING: dict[str, Any] = {"script": [{"match": f"{word}.*", "outcome": word} for word in OUTCOMES]}


def told(adapter: Any, server: Server, addresses: list[str], now: datetime) -> dict[str, set[Tally]]:
    """What is told of each, verified and in our words."""
    batch = submission(addresses, now)
    adapter.submit(batch)
    found: dict[str, set[Tally]] = {address.partition(".")[0]: set() for address in addresses}
    for post in server.posts():
        request = request_of(post)
        assert adapter.verify(request, server.clock.now()) is None
        for event in adapter.normalise(report(request), server.clock.now()):
            assert event.token is not None
            address = addresses[batch.recipients.tokens.index(event.token)]
            found[address.partition(".")[0]].add(tally_of(event))
            assert event.event_at <= server.clock.now()
    return found


@pytest.mark.parametrize("batch", [1, 1000])
def test_every_event_is_understood_single_and_batched(name: str, rehearse: Make, now: datetime, batch: int) -> None:
    server, adapter = rehearse(**EVERYTHING, webhooks={"batch": batch})
    words = [word for word in OUTCOMES if word not in {"unanswered", "later", "refused"}]
    found = told(adapter, server, [f"{word}.1@orange.example" for word in words], now)
    truth = {person.address.partition(".")[0]: person.told for person in server.service.truth.people()}
    for word in words:
        expected = {TALLIES[kind] for kind in truth[word]}
        if name not in TELLS_MACHINES and Tally.MACHINE_OPEN in expected:
            expected = expected - {Tally.MACHINE_OPEN} | {Tally.OPEN}
        assert found[word] == expected, word
    assert TALLIES["hard_bounce"] in found["hard_bounce"]


def test_a_suppressed_address_is_no_fresh_bounce(rehearse: Make, now: datetime) -> None:
    server, adapter = rehearse(**EVERYTHING)
    if REFUSED in server.service.provider.at_hand_over:
        receipt = adapter.submit(submission(["refused.1@orange.example"], now))
        assert {tally_of(one.event) for one in receipt.refused} <= {Tally.SUPPRESSED, Tally.FAIL, Tally.HARD_BOUNCE}
        return
    assert told(adapter, server, ["refused.1@orange.example"], now)["refused"] == {Tally.SUPPRESSED}


def test_forged_and_stale_requests_are_refused(name: str, rehearse: Make, now: datetime) -> None:
    server, adapter = rehearse()
    adapter.submit(submission(["anne@orange.example"], now))
    posts = server.posts(timedelta(hours=1))
    at = server.clock.now()
    for post in posts:
        assert adapter.verify(request_of(post), at) is None
        refusal = adapter.verify(request_of(server.service.provider.forged(post)), at)
        assert refusal is not None
        assert 400 <= refusal.status < 500
        stale = adapter.verify(request_of(post), at + timedelta(days=30))
        assert (stale is not None) == (name in SIGNS_THE_INSTANT)


def test_an_outage_refuses_connections_and_ends(rehearse: Make, now: datetime) -> None:
    server, adapter = rehearse()
    assert isinstance(outcome(adapter, submission(crowd(1), now)), Receipt)
    server.service.trouble("refused", timedelta(minutes=5), server.clock.now())
    while server._http is not None:
        server._stop.wait(0.01)
    assert isinstance(outcome(adapter, submission(crowd(1), now, number=8)), Transient)
    server.clock.sleep(400)
    while server._http is None:
        server._stop.wait(0.01)
    assert isinstance(outcome(adapter, submission(crowd(1), now, number=9)), Receipt)
    assert len(server.people) == 2


def test_events_of_ses_come_by_queue_too(name: str, rehearse: Make, now: datetime) -> None:
    if name != "ses":
        return
    server, adapter = rehearse(hook="")
    batch = submission(["anne@orange.example", "bruno@gmail.example"], now)
    adapter.submit(batch)
    server.clock.sleep(90 * 86_400)
    first = list(adapter.poll(now))
    again = list(adapter.poll(now))
    assert {r.body for r in again} == {r.body for r in first}
    events = [event for one in again for event in adapter.normalise(RawReport(one.body), server.clock.now())]
    assert {tally_of(event) for event in events} >= {Tally.HARD_BOUNCE, Tally.OPEN, Tally.CLICK}
    adapter.acknowledge(again)
    server.clock.sleep(60)
    assert list(adapter.poll(now)) == []
    assert server.service.posting.waiting() == 0


def test_what_is_wrong_with_a_request_is_said_as_the_provider_would(name: str) -> None:
    with serving(name) as server:
        import httpx

        answer = httpx.post(f"{server.url}/nothing/here", json={})
        assert answer.status_code >= 400 or answer.json()["status"] == "error"
        assert server.service.truth.people() == []
