"""Lives of nodes: each does its job until nothing is left to do, or until a fault point kills it.

`send` releases and dispatches, `listen` takes in the reports of a folder, `run` is the daemon of the workspace in
`folder`, web side and all, until nothing is left to do, and `stay` the same until `now`. Reads one life per line
(JSON: job, url, folder, now, holder, fault), each in a process of its own, forked from this one before it opens
anything: that spares a second of imports per life. Answers `start PID`, later `end PID STATUS`. For the first two the
ESP is a file: a line per recipient, on disk before the adapter returns.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import sendable

from sendwave import faults, log
from sendwave.daemon import Daemon
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import NotAllowed
from sendwave.esp.base import RawReport, Receipt, Submission
from sendwave.flow import feedback
from sendwave.flow.dispatch import Dispatcher, reconcile
from sendwave.flow.release import give_back, release
from sendwave.rules.events import CONTENT_TYPE
from sendwave.rules.lifecycle import Wave
from sendwave.store import campaigns
from sendwave.store.database import Database
from sendwave.workspace import Workspace


def _on_disk(path: Path, submission: Submission) -> Receipt:
    with path.open("a") as out:
        for address in submission.recipients.addresses:
            out.write(f"{submission.message.campaign} {address}\n")
        out.flush()
        os.fsync(out.fileno())
    return Receipt()


def _clear(db: Database, now: datetime) -> bool:
    """What the judge does; whether anything is left to do."""
    left = True
    with suppress(NotAllowed), db.write() as conn:  # the other node cleared it
        left = False
        for campaign in campaigns.listing(conn):
            for wave in campaigns.waves(conn, campaign.id):
                if wave.status == Wave.SOAKING:
                    campaigns.transition_wave(conn, campaign.id, wave.number, "clear", by="judge", now=now)
                left |= wave.status != Wave.CLEARED
    return left


def send(url: str, folder: Path, now: datetime, holder: str) -> None:
    """Release and dispatch until every wave is cleared."""
    db, lake, engine = Database(url), Lake(folder / "lake"), DuckdbEngine(threads=1, memory_limit="500MB")
    esp = sendable.MemoryEsp(lambda submission: _on_disk(folder / "arrived", submission))
    reconcile(db, holder, now)
    dispatcher = Dispatcher(db, engine, lake, {"main": esp}, sendable.KEY, holder, at_once=2)
    while _clear(db, now):
        release(db, engine, lake, now=now, batch_sizes={"main": 10})
        dispatcher.step(now)
        give_back(db, engine, lake, now=now)
        now += timedelta(seconds=10)
    dispatcher.close()
    db.close()


class _Folder(sendable.MemoryEsp):
    """An ESP whose reports are files: forgotten when they are acknowledged, given again until then."""

    def __init__(self, folder: Path) -> None:
        super().__init__(lambda _submission: Receipt())
        self.folder = folder

    def poll(self, now: datetime) -> Iterable[RawReport]:
        for path in sorted(self.folder.glob("*.json")):
            yield RawReport(path.read_bytes(), {"content-type": CONTENT_TYPE}, path.name)

    def acknowledge(self, reports: Sequence[RawReport]) -> None:
        for report in reports:
            (self.folder / report.ref).unlink()


def listen(url: str, folder: Path, now: datetime, holder: str) -> None:  # nobody claims a report
    """Take in what the ESP reports, until its folder and the inbox are empty."""
    db, lake, engine = Database(url), Lake(folder / "lake"), DuckdbEngine(threads=1, memory_limit="500MB")
    adapters = {"main": _Folder(folder / "reports")}
    feedback.collect(db, adapters, now)
    while feedback.digest(db, engine, lake, adapters, sendable.KEY, now=now, limit=3).reports:
        now += timedelta(seconds=1)
    db.close()


def run(_url: str, folder: Path, _now: datetime, _holder: str) -> None:
    """The daemon, until it is idle."""
    log.configure(level="warning")
    Daemon(Workspace.open(folder), threads=2).run(until_idle=True)


def stay(_url: str, folder: Path, now: datetime, _holder: str) -> None:
    """The daemon, until `now` has come."""
    log.configure(level="warning")
    Daemon(Workspace.open(folder), threads=2).run(until=now)


def _born(*, url: str, folder: str, now: str, holder: str, fault: str, job: str) -> None:
    faults._target, _, count = fault.partition(":")
    faults._left = int(count or 1)
    status = 1
    os.dup2(2, 1)  # what it has to say must not look like an answer of ours
    try:
        JOBS[job](url, Path(folder), datetime.fromisoformat(now), holder)
        status = 0
    except Exception:  # noqa: BLE001  # told, then the process ends without a clean-up that belongs to its parent
        traceback.print_exc()
    finally:
        os._exit(status)


JOBS = {"send": send, "listen": listen, "run": run, "stay": stay}


def main() -> None:
    """Serve lives until the input ends; `wait` on a line of its own waits for one of them."""
    living: set[int] = set()
    for line in sys.stdin:
        if line.strip() == "wait":
            pid, status = os.wait()
            living.discard(pid)
            sys.stdout.write(f"end {pid} {os.waitstatus_to_exitcode(status)}\n")
            sys.stdout.flush()
            continue
        pid = os.fork()
        if pid == 0:
            _born(**json.loads(line))
        living.add(pid)
        sys.stdout.write(f"start {pid}\n")
        sys.stdout.flush()
    for pid in living:  # of a test that failed
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
