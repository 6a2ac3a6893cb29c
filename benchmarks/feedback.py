"""Feedback: reports made durable, read, counted and kept, as a ratio to bare JSON decoding of the same bodies.

    python benchmarks/feedback.py [--events 300000] [--people 300000] [--runs 3] [--without-token] [--profile]

Events come in bodies of 1,000 from as many recipients of a wave in batches of 1,000: delivered, opens, clicks, bounces,
a few complaints, in random order, a tenth of them reported twice. Each body is committed durably (SQLite
synchronous=FULL) before it is read. The budget of a later step is 100,000 events/s with our token, 30,000 without.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import random
import resource
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import campaigns_made
import mail_sent
from sqlalchemy import update

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.flow import feedback
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


def stage(folder: Path, people: int) -> tuple[Database, Lake, DuckdbEngine, list[int]]:
    db = Database(f"sqlite:///{folder / 'state' / 'bench.db'}")
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


def ours(db: Database, lake: Lake, engine: DuckdbEngine, told: list[bytes]) -> tuple[float, float, int]:
    """(seconds to store, seconds to count, events counted)."""
    headers = {"content-type": mail_sent.CONTENT_TYPE}
    started = time.perf_counter()
    for body in told:
        feedback.receive(db, mail_sent.ROUTE, [mail_sent.RawReport(body, headers)], NOW)
    stored = time.perf_counter()
    counted = 0
    while (done := feedback.digest(db, engine, lake, {}, mail_sent.KEY, now=NOW)).reports:
        counted += done.counted
        assert not done.failed
        assert not done.unmatched
    return stored - started, time.perf_counter() - stored, counted


def run(options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        db, lake, engine, batches = stage(Path(name), options.people)
        told = bodies(options.events, batches, token=not options.without_token)
        floor = bare(told)
        profile = cProfile.Profile()
        if options.profile:
            profile.enable()
        busy = time.process_time()
        stored, digested, counted = ours(db, lake, engine, told)
        busy = time.process_time() - busy
        if options.profile:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        with db.read() as conn:
            assert counted == sum(tallies.by_batch(conn, 1).values())
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
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--people", type=int, default=300_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the store and the lake are made")
    parser.add_argument("--without-token", action="store_true", help="events known by address and event id")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    runs = [run(options) for _ in range(options.runs)]
    told = {name: round(statistics.median(one[name] for one in runs), 2) for name in runs[0]}
    told["memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
