"""Build and post a batch to each ESP that takes JSON (or a form of it), as a ratio to posting the same bytes alone.

    python benchmarks/bench_batches.py [--people 1000] [--runs 5] [--only brevo,sendgrid] [--profile]

The people have a name, a city and their own links in a subject, a text of 1 KB and a page of 5 KB; every message
carries our token and the one-click pair. An ESP whose calls take fewer than `--people` gets as many calls as it needs.
The floor is `orjson.dumps` of the same documents and an httpx post of the same bytes. Answers come from another process
over loopback; milliseconds are the least of the runs of this process's own processor time: neighbours only add to it.

The budget of 12 ms a thousand is out of reach where a call takes few people: of twenty calls of 50 (SES, Mailjet) httpx
alone takes 10 ms, of ten calls of 100 and six megabytes (Resend) 8, and a call for each person (Scaleway, Postal) costs
half a millisecond each. Where pages go out in full they are written faster than `orjson.dumps` writes them: a ratio
below 1.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import multiprocessing
import pstats
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import orjson

from sendwave import esp
from sendwave.esp.base import Message, Recipients, Submission
from sendwave.rules.token import sign

KEY = b"0123456789abcdef" * 2
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
BUDGET = 12.0
ANSWERS: dict[str, tuple[int, Callable[[list[str]], Any]]] = {  # everybody was taken
    "sendgrid": (202, lambda _: b""),
    "brevo": (201, lambda _: {"messageIds": ["<1@brevo>"]}),
    "mailjet": (200, lambda to: {"Messages": [{"Status": "success", "To": [{"Email": a}]} for a in to]}),
    "mailgun": (200, lambda _: {"id": "<1@mg>", "message": "Queued. Thank you."}),
    "postmark": (200, lambda to: [{"ErrorCode": 0, "Message": "OK"} for _ in to]),
    "sparkpost": (200, lambda _: {"results": {"id": "1"}}),
    "mandrill": (200, lambda to: [{"email": a, "status": "queued", "_id": "1"} for a in to]),
    "resend": (200, lambda _: {"data": [{"id": "1"}]}),
    "mailersend": (202, lambda _: {"bulk_email_id": "1"}),
    "ses": (200, lambda to: {"BulkEmailEntryResults": [{"Status": "SUCCESS", "MessageId": "1"} for _ in to]}),
    "kumomta": (200, lambda to: {"success_count": len(to), "fail_count": 0, "failed_recipients": [], "errors": []}),
    "scaleway": (200, lambda _: {"emails": [{"id": "1"}]}),
    "postal": (200, lambda _: {"status": "success", "data": {"messages": {}}}),
    "unione": (200, lambda to: {"status": "success", "job_id": "1", "emails": to}),
}
SETTINGS: dict[str, dict[str, str]] = {
    "mailjet": {"api_secret": "secret"},
    "ses": {"access_key": "key", "secret_key": "secret"},
    "scaleway": {"project_id": "p"},
}
NAMED = {"mandrill": "to", "unione": "recipients"}  # who answer by address
ONE_BY_ONE = {"scaleway", "postal"}  # a call per person: measured by the call, not by the batch
TEXT = (
    "Bonjour {{ first_name | default('à vous') }},\n{{ city }}\n"
    + "Une ligne de texte.\n" * 45
    + "{{ unsubscribe_url }}\n"
)
HTML = (
    "<p>Bonjour {{ first_name }}</p>{% if city %}<p>À {{ city }} aussi</p>{% endif %}\n"
    + "<p>Une ligne de la page & d'autres.</p>\n" * 120
    + '<a href="{{ unsubscribe_url }}">Se désabonner</a>\n'
)


def batch(number: int, people: int) -> Submission:
    """People whose names repeat, as names do; addresses, tokens and links do not."""
    everybody = range(people)
    columns = {
        "first_name": [None if n % 50 == 0 else f"Zoé{n % 400}" for n in everybody],
        "city": [f"Ville-{n % 90}" if n % 3 else None for n in everybody],
        "language": ["fr"] * people,
    }
    recipients = Recipients(
        [f"camille.{number}.{n}@orange.example" for n in everybody],
        [sign(KEY, number, n) for n in everybody],
        [f"C{n}" for n in everybody],
        ["hot"] * people,
        columns,
    )
    message = Message(
        "lettre-mars", "newsletter", "Maison Lune <news@maisonlune.example>", "Bonjour {{ first_name }}", "content",
        unsubscribe="https://maisonlune.example/u/{token}",
    )  # fmt: skip
    return Submission(number, f"key-{number}", 1, 2, "orange", message, recipients, NOW)


def answer_everybody(name: str, listening: socket.socket) -> None:
    """The other process: reads each request whole and says that everybody was taken."""
    while True:
        connection, _ = listening.accept()
        threading.Thread(target=converse, args=(name, connection), daemon=True).start()


def converse(name: str, connection: socket.socket) -> None:
    """One connection, to its end."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = connection.makefile("rb", 1 << 20)
    replies: dict[int, bytes] = {}
    while stream.readline():
        length = 0
        while (header := stream.readline()) not in (b"\r\n", b""):
            if header.lower().startswith(b"content-length:"):
                length = int(header.split(b":")[1])
        body = stream.read(length)
        size = people_in(name, body)
        if size not in replies or name in NAMED:
            named = (
                [one["email"] for one in json.loads(body).get("message", {}).get(NAMED[name], [])]
                if name in NAMED
                else []
            )
            status, answer = ANSWERS[name]
            told = answer(named or [f"c{n}@x.example" for n in range(size)])
            raw = told if isinstance(told, bytes) else json.dumps(told).encode()
            replies[size] = b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%b" % (status, len(raw), raw)
        connection.sendall(replies[size])


def people_in(name: str, body: bytes) -> int:
    """How many people a request names, for ESPs that answer person by person."""
    if name in {"mailjet", "postmark", "ses"}:
        mark = {"mailjet": b'"CustomID"', "postmark": b'"Metadata"', "ses": b'"Destination"'}[name]
        return body.count(mark)
    return 1


class Recorder:
    """Keeps what is posted, to post it again bare."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def __call__(self, request: httpx.Request) -> None:
        self.bodies.append(request.read())


def cpu(work: Callable[[], object]) -> float:
    """Milliseconds of this process's processor time."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1000


def measure(name: str, people: int, runs: int, profile: cProfile.Profile | None) -> dict[str, Any]:
    listening = socket.create_server(("127.0.0.1", 0))
    other = multiprocessing.get_context("fork").Process(target=answer_everybody, args=(name, listening), daemon=True)
    other.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "content").mkdir()
        (home / "content" / "body.txt").write_text(TEXT, encoding="utf-8")
        (home / "content" / "body.html").write_text(HTML, encoding="utf-8")
        key = {} if name in {"ses", "kumomta"} else {"api_key": "key"}
        settings = {"esp": name, **key, **SETTINGS.get(name, {}), "base_url": url}
        adapter = esp.make(settings, route="r", home=home, token_key=KEY)
        size = 50 if name in ONE_BY_ONE else min(adapter.capabilities.batch_size, people)
        calls = 1 if name in ONE_BY_ONE else -(-people // size)
        made = [[batch(run * 1000 + call, size) for call in range(calls)] for run in range(runs + 1)]
        recorder = Recorder()
        bodies = record(adapter, made[0], recorder)
        ours, floors = [], []
        for some in made[1:]:
            if profile:
                profile.enable()
            ours.append(cpu(lambda some=some: [adapter.submit(one) for one in some]))
            if profile:
                profile.disable()
            floors.append(bare(url, bodies))
        adapter.close()
    other.kill()
    other.join()
    listening.close()
    milliseconds, floor = min(ours), min(floors)
    scale = people / (size * calls)
    return {
        "people_per_call": 1 if name in ONE_BY_ONE else size,
        "ms_per_call": round(milliseconds / (size if name in ONE_BY_ONE else calls), 2),
        "ms_per_people": round(milliseconds * scale, 1),
        "floor_ms": round(floor * scale, 1),
        "ratio": round(milliseconds / floor, 2),
        "kilobytes": round(sum(map(len, bodies)) * scale / 1000),
    }


def record(adapter: Any, batches: list[Submission], recorder: Recorder) -> list[bytes]:
    """Submit once, to warm up, and keep the bodies."""
    send = httpx.HTTPTransport.handle_request

    def kept(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        recorder(request)
        return send(self, request)

    httpx.HTTPTransport.handle_request = kept  # type: ignore[method-assign]
    for one in batches:
        receipt = adapter.submit(one)
        assert not receipt.refused, receipt.refused[0]
        assert not receipt.deferred
        assert not receipt.unknown
    httpx.HTTPTransport.handle_request = send  # type: ignore[method-assign]
    return recorder.bodies


def bare(url: str, bodies: list[bytes]) -> float:
    """The same documents written as JSON, the same bytes posted."""
    documents = []
    for body in bodies:
        try:
            documents.append(json.loads(body))
        except ValueError:  # a form
            documents.append(parse_qs(body.decode()))
    with httpx.Client() as client:
        client.post(url, content=b"{}")

        def work() -> None:
            for document, body in zip(documents, bodies, strict=True):
                orjson.dumps(document)
                client.post(url, content=body, headers={"Content-Type": "application/json"})

        return cpu(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()
    profile = cProfile.Profile() if asked.profile else None
    names = [name for name in asked.only.split(",") if name] or list(ANSWERS)
    print(f"{'ESP':12}{'a call':>8}{'ms a call':>11}{'ms a 1,000':>12}{'floor ms':>10}{'ratio':>7}{'kB':>8}")
    for name in names:
        found = measure(name, asked.people, asked.runs, profile)
        row = (found[key] for key in ("people_per_call", "ms_per_call", "ms_per_people", "floor_ms", "ratio"))
        people, per_call, per_people, floor, ratio = row
        over = "" if per_people <= BUDGET else f"  over {BUDGET:g} ms"
        print(f"{name:12}{people:8}{per_call:11}{per_people:12}{floor:10}{ratio:7}{found['kilobytes']:8}{over}")
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
