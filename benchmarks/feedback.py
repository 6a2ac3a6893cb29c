"""Feedback: reports made durable, read, counted and kept, as a ratio to bare JSON decoding of the same bodies.

    python benchmarks/feedback.py [--events 300000] [--people 300000] [--runs 3] [--without-token] [--profile]
    python benchmarks/feedback.py --esp sendgrid       signed requests of SendGrid, each signature verified
    python benchmarks/feedback.py --single 5000        bodies of one event over real HTTP, from a process of its own
    python benchmarks/feedback.py --store postgresql+psycopg://…   another store; it is migrated, and left full

Events come in bodies of 1,000 from as many recipients of a wave in batches of 1,000: delivered, opens, clicks, bounces,
a few complaints, in random order, a tenth of them reported twice. Each body is committed durably (SQLite
synchronous=FULL) before it is read. `longest_without_verdict` is how long the judge, asked every second beside the
digests, went without a turn. Budgets: 100,000 events per CPU second with our token, 30,000 without, 1,000 requests
per CPU second of the server with one event each, verdicts less than 5 s late.
"""

from __future__ import annotations

import argparse
import base64
import cProfile
import json
import pstats
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import campaigns_made
import mail_sent
import orjson
import web_side
from sqlalchemy import update

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.esp.base import WebRequest
from sendwave.flow import feedback, judge
from sendwave.store import policies, tables, tallies
from sendwave.store.database import Database

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PER_BODY, PER_BATCH = 1_000, 1_000
MIX = {"delivered": 740, "open": 180, "click": 35, "bounce": 20, "deferred": 20, "complaint": 2, "unsubscribe": 3}


def bodies(events: int, batches: list[int], *, token: bool) -> list[bytes]:
    draw = random.Random(7)
    kinds = draw.choices(list(MIX), list(MIX.values()), k=events)
    told = []
    for kind in kinds:
        batch, position = draw.choice(batches), draw.randrange(PER_BATCH)
        at = NOW - timedelta(seconds=draw.randrange(3_000))
        one: dict[str, Any] = {
            "type": kind,
            "event_at": at.isoformat(),
            "message_id": f"<{draw.getrandbits(64):x}@esp>",
        }
        if token:
            one["token"] = mail_sent.event("open", at, batch, position).token
        else:
            one |= {"recipient": mail_sent.address(batch, position), "event_id": f"{draw.getrandbits(96):x}"}
        if kind == "bounce":
            one |= {
                "permanence": "hard",
                "cause": "unknown_user",
                "enhanced_code": "5.1.1",
                "description": "no such user",
            }
        told.append(one)
    told += draw.sample(told, events // 10)
    draw.shuffle(told)
    return [json.dumps(told[i : i + PER_BODY]).encode() for i in range(0, events, PER_BODY)]


def stage(folder: Path, people: int, store: str | None = None) -> tuple[Database, Lake, DuckdbEngine, list[int]]:
    db = Database(store or f"sqlite:///{folder / 'state' / 'bench.db'}")
    db.migrate()
    lake = Lake(folder / "lake")
    with db.write() as conn:
        version = policies.remember(conn, campaigns_made.policy_set(), NOW)
        campaign = campaigns_made.sending(conn, NOW - timedelta(hours=3), policy_version=version)
        count, sent_at = max(people // PER_BATCH, 1), NOW - timedelta(hours=2)
        ids = [mail_sent.handed(conn, campaign, sent_at, people=PER_BATCH) for _ in range(count)]
        file_id = mail_sent.people_of(conn, lake, campaign, dict.fromkeys(ids, PER_BATCH), freeze=1, now=sent_at)
        conn.execute(update(tables.freezes).values(file_id=file_id))  # one file for the wave, as release writes it
    return db, lake, DuckdbEngine(threads=2, memory_limit="1GB"), ids


def bare(told: list[bytes]) -> float:
    started = time.perf_counter()
    for body in told:
        json.loads(body)
    return time.perf_counter() - started


class Sendgrid:
    """The same events as SendGrid tells them, in signed requests."""

    WORDS = {"complaint": "spamreport"}  # noqa: RUF012  # made once

    def __init__(self) -> None:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        from sendwave import esp

        self.key, self.scheme = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(hashes.SHA256())
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        public = self.key.public_key().public_bytes(serialization.Encoding.DER, form)
        told = {"esp": "sendgrid", "webhook_public_key": base64.b64encode(public).decode()}
        self.adapter: Any = esp.make(told, route=mail_sent.ROUTE, home=Path(), token_key=mail_sent.KEY)

    def request(self, body: bytes) -> WebRequest:
        told = [self.event(one) for one in json.loads(body)]
        raw, stamp = json.dumps(told).encode() + b"\r\n", str(int(NOW.timestamp()))
        signature = base64.b64encode(self.key.sign(stamp.encode() + raw, self.scheme)).decode()
        name = "x-twilio-email-event-webhook-"
        return WebRequest(raw, {f"{name}signature": signature, f"{name}timestamp": stamp})

    def event(self, one: dict[str, Any]) -> dict[str, Any]:
        told = {
            "email": one.get("recipient", "somebody@example.com"),
            "timestamp": int(datetime.fromisoformat(one["event_at"]).timestamp()),
            "smtp-id": one["message_id"],
            "event": self.WORDS.get(one["type"], one["type"]),
            "category": ["spring", "wave-1"],
            "sg_event_id": one.get("event_id") or one["message_id"],
            "sg_message_id": f"{one['message_id']}.recvd",
            "response": "250 2.0.0 OK",
            "useragent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
        }
        return told | ({"sendwave_token": one["token"]} if "token" in one else {})


def ours(
    db: Database, lake: Lake, engine: DuckdbEngine, told: list[WebRequest], adapter: Any
) -> tuple[float, float, int]:
    """(seconds to verify and store, seconds to count, events counted)."""
    adapters = {mail_sent.ROUTE: adapter} if adapter is not None else {}
    headers = {} if adapter is not None else {"content-type": mail_sent.CONTENT_TYPE}
    started = time.perf_counter()
    for request in told:
        assert adapter is None or adapter.verify(request, NOW) is None
        if adapter is None or not adapter.seals(request):
            orjson.loads(request.body)  # what the webhook looks at before it stores
        feedback.receive(db, mail_sent.ROUTE, [mail_sent.RawReport(request.body, headers)], NOW)
    stored = time.perf_counter()
    counted = 0
    while (done := feedback.digest(db, engine, lake, adapters, mail_sent.KEY, now=NOW)).reports:
        counted += done.counted
        assert not done.failed
        assert not done.unmatched
    return stored - started, time.perf_counter() - stored, counted


class Judge:
    """Asks for verdicts every second in a thread of its own, and notes how long it went without one."""

    def __init__(self, db: Database) -> None:
        self.db, self.longest, self.turns = db, 0.0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        last = time.perf_counter()
        while not self._stop.wait(1.0):
            judge.judge(self.db, now=NOW, reports_delivery={})
            now = time.perf_counter()
            self.longest, last, self.turns = max(self.longest, now - last), now, self.turns + 1


def run(options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        db, lake, engine, batches = stage(Path(name), options.people, options.store)
        plain = bodies(options.events, batches, token=not options.without_token)
        sendgrid = Sendgrid() if options.esp == "sendgrid" else None
        told = [sendgrid.request(body) if sendgrid else WebRequest(body) for body in plain]
        floor = bare([request.body for request in told])
        profile = cProfile.Profile()
        if options.profile:
            profile.enable()
        busy = time.process_time()
        with Judge(db) as beside:
            stored, digested, counted = ours(db, lake, engine, told, sendgrid.adapter if sendgrid else None)
        busy = time.process_time() - busy
        if options.profile:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        with db.read() as conn:
            campaign = conn.exec_driver_sql("SELECT max(id) FROM campaigns").scalar_one()
            assert counted == sum(tallies.by_batch(conn, campaign).values())
        db.close()
    events = options.events
    return {
        "events_per_second": events / (stored + digested),
        "events_per_cpu_second": events / busy,
        "store_only": events / stored,
        "digest_only": events / digested,
        "bare_json_per_second": events / floor,
        "times_bare_json": (stored + digested) / floor,
        "counted": counted,
        "longest_without_verdict": beside.longest,
    }


CLIENT = """
import json, socket, sys, threading
host, port, head, connections = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode(), int(sys.argv[4])
bodies = [body.encode() for body in json.load(sys.stdin)]

def run(mine):
    line = socket.create_connection((host, port))
    for body in mine:
        line.sendall(head.replace(b"|", b"\\r\\n") + str(len(body)).encode() + b"\\r\\n\\r\\n" + body)
        got = b""
        while not got.endswith(b"}"):
            got += line.recv(4096) or sys.exit("the server hung up: " + repr(got))
        if not got.startswith(b"HTTP/1.1 200"):
            sys.exit(got.decode())

threads = [threading.Thread(target=run, args=(bodies[n::connections],)) for n in range(connections)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def single(options: argparse.Namespace) -> dict[str, float]:
    """Bodies of one event over real HTTP: every request answered only after its commit."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        store = options.store or f"sqlite:///{name}/bench.db"
        with web_side.serving(web_side.Place(Path(name), store, NOW, people=1_000)) as web:
            told = [json.dumps(web_side.brevo_event(NOW, web.token(n % 1_000))) for n in range(options.single)]
            login = base64.b64encode(b":".join(part.encode() for part in web_side.BREVO)).decode()
            head = f"POST /hooks/brevo HTTP/1.1|Host: x|Authorization: Basic {login}|Content-Type: application/json|"
            host, port = web.server.address
            asked = [sys.executable, "-c", CLIENT, host, str(port), f"{head}Content-Length: ", str(options.connections)]
            busy, started = time.process_time(), time.perf_counter()
            subprocess.run(asked, input=json.dumps(told).encode(), check=True)
            seconds, busy = time.perf_counter() - started, time.process_time() - busy
            assert len(web.stored()) == options.single
    return {
        "requests_per_second": options.single / seconds,
        "requests_per_cpu_second_of_the_server": options.single / busy,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--people", type=int, default=300_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the store and the lake are made")
    parser.add_argument("--without-token", action="store_true", help="events known by address and event id")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--esp", choices=["own", "sendgrid"], default="own", help="whose bodies")
    parser.add_argument("--store", help="URL of another store than a new SQLite file")
    parser.add_argument("--single", type=int, default=0, help="that many bodies of one event, over HTTP")
    parser.add_argument("--connections", type=int, default=32, help="with --single: kept open side by side")
    options = parser.parse_args()
    runs = [single(options) if options.single else run(options) for _ in range(options.runs)]
    told = {name: round(statistics.median(one[name] for one in runs), 2) for name in runs[0]}
    told["memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
