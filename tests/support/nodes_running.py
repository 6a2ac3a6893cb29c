"""Several real `sendwave run` on one workspace, and an ESP on loopback that notes what truly arrives and when."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self

import orjson
from command_line import Shell, populated
from sqlalchemy import Executable, func, select, text

from sendwave.clock import Pace, SystemClock, stopwatch, wall
from sendwave.store.database import Database
from sendwave.store.tables import batches, leases

SETTINGS: Final = """\
store: {store}
lake: lake
engine: {{threads: 1, memory_limit: 600MB}}
routes:
  rehearsal: {{esp: sendgrid, api_key: counted, base_url: "{url}", batch_size: {batch}}}
"""
REAL: Final = SystemClock(Pace(1.0, wall()))
"""The machine's own time, whatever the pace of the nodes."""

PATIENCE: Final = 120.0
"""Seconds anything here may take on a busy machine before a test gives up."""


class CountingEsp:
    """Speaks SendGrid's /v3/mail/send, takes everything, and remembers the instant and the addresses of each call."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds  # a call takes
        self.people: Counter[str] = Counter()
        self.began: list[float] = []  # when each call came, on `stopwatch`
        self.last: dict[str, float] = {}  # when the last call of each campaign came
        self.calls: Counter[str] = Counter()  # by campaign
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.esp = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, body: bytes, began: float) -> None:
        told = orjson.loads(body)
        people, campaign = [one["to"][0]["email"] for one in told["personalizations"]], told["categories"][0]
        with self._lock:
            self.began.append(began)
            self.calls[campaign] += 1
            self.last[campaign] = max(began, self.last.get(campaign, began))
            self.people.update(people)

    @property
    def twice(self) -> list[str]:
        with self._lock:
            return [who for who, times in self.people.items() if times > 1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    esp: CountingEsp


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:  # the library's name
        began = stopwatch()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        esp = self.server.esp  # type: ignore[attr-defined]  # of _Server
        if esp.seconds:
            REAL.sleep(esp.seconds)
        esp.take(body, began)
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


class _Mute:
    """Stands in for pytest's capture where nobody reads what commands print."""

    def readouterr(self) -> tuple[str, str]:
        return "", ""


@contextmanager
def _quiet() -> Iterator[None]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield


@dataclass
class Nodes:
    """A workspace, and the processes that run on it."""

    home: Path
    db: Database
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(self, *arguments: object, expect: int = 0) -> None:
        """A command of the command line, in this process."""
        with _quiet():
            Shell(self.home, _Mute())(*arguments, expect=expect)  # type: ignore[arg-type]  # as much as it uses

    def start(
        self, threads: int = 2, environ: Mapping[str, str] | None = None, *, first: str = ""
    ) -> subprocess.Popen[bytes]:
        """One more node; what it says goes to a file beside the workspace. `first` is Python it runs before."""
        program = ["-c", f"{first}\nfrom sendwave.__main__ import main\nmain()"] if first else ["-m", "sendwave"]
        with self.said(len(self.processes)).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *program, "run", "--home", str(self.home), "--threads", str(threads)],
                stderr=log, stdout=log, env={**os.environ, **(environ or {})},
            )  # fmt: skip
        self.processes.append(process)
        return process

    def said(self, number: int) -> Path:
        return self.home.parent / f"node-{number}.log"

    def events(self, number: int) -> list[dict[str, Any]]:
        """What a node logged so far."""
        lines = self.said(number).read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def heard(self, number: int, event: str) -> bool:
        return any(one["event"] == event for one in self.events(number))

    def leader(self) -> int | None:
        """The number of the node that leads, as the logs have it last."""
        led = [
            (one["epoch"], number)
            for number in range(len(self.processes)) for one in self.events(number) if one["event"] == "leads"
        ]  # fmt: skip
        return max(led)[1] if led else None

    def left(self) -> dict[str, int]:
        """{status: people} of all batches."""
        chosen = select(batches.c.status, func.sum(batches.c.size)).group_by(batches.c.status)
        with self.db.read() as conn:
            return {status: int(people) for status, people in conn.execute(chosen).all()}

    def doubtful(self) -> int:
        """People of batches that were handed over and that nobody has an answer for."""
        statuses = ("handed", "unknown")
        with self.db.read() as conn:
            asked = select(func.coalesce(func.sum(batches.c.size), 0)).where(batches.c.status.in_(statuses))
            return int(conn.execute(asked).scalar_one())

    def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait for it. Raises AssertionError that also says where the batches are, and who holds or waits for what."""
        try:
            until(holds, what)
        except AssertionError as vain:
            raise AssertionError(f"{vain}; batches {self.left()}, in the store {self.held()}") from None

    def held(self) -> dict[str, list[Any]]:
        """The store's leases, and on PostgreSQL the sessions in a transaction or waiting for a lock."""
        asked: dict[str, Executable] = {"leases": select(leases)}
        if not self.db.is_sqlite:
            asked["sessions"] = text(
                "SELECT pid, state, wait_event, now() - state_change, left(query, 60) FROM pg_stat_activity"
                " WHERE datname = current_database() AND (xact_start IS NOT NULL OR wait_event_type = 'Lock')"
            )
        with self.db.read() as conn:
            return {what: [tuple(row) for row in conn.execute(statement)] for what, statement in asked.items()}

    def stop(self) -> None:
        """SIGTERM to those that still run, and wait."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(holds: Callable[[], object], what: str, patience: float = PATIENCE, every: float = 0.05) -> float:
    """Wait for it; returns the seconds it took. Raises AssertionError naming `what` after `patience` seconds."""
    began = stopwatch()
    while not holds():
        assert stopwatch() - began < patience, f"waited {patience:.0f} s in vain: {what}"
        REAL.sleep(every)
    return stopwatch() - began


@contextmanager
def workspace(
    home: Path, store: str, esp: CountingEsp, *, people: int, pace: str | None = None, batch: int = 10
) -> Iterator[Nodes]:
    """A workspace whose campaign `first` is approved and waits for a node. `pace` is of the route, `200 per 1s`."""
    nodes = Nodes(home, Database(store))
    shell = Shell(home, _Mute())  # type: ignore[arg-type]  # as much as it uses
    try:
        with _quiet():
            shell.plain("init", home)
            (home / "sendwave.yaml").write_text(SETTINGS.format(store=store, url=esp.url, batch=batch))
            told = f"routes: {{rehearsal: {{pace: {pace}, burst: 20}}}}\n" if pace else "{}\n"
            (home / "policies/lanes.yaml").write_text(told)
            populated(shell, people=people)
            shell("campaign", "plan", "first")
            shell("campaign", "approve", "first")
        yield nodes
    finally:
        nodes.stop()
        nodes.db.close()
