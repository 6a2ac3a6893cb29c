"""The whole daemon is killed at random moments and fault points, again and again, in the middle of a campaign.

On the other side stands a provider of the simulator, over HTTP or SMTP, that counts what truly arrives. `make kills
RUNS=500` kills so often on each kind of store and wire; the usual test run only a few times. `ROUNDS=20` does it twenty
times over, drawn from the number of the round.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import lives
import pytest
from command_line import Shell, populated
from lives import Nodes
from ports import free_port

from sendwave.clock import VARIABLE, Pace, SystemClock, wall
from sendwave.faults import POINTS
from sendwave.flow import settle
from sendwave.flow.audit import audit
from sendwave.simulator.rehearsal import Rehearsal
from sendwave.simulator.scenario import Scenario
from sendwave.workspace import Workspace

RUNS = int(os.environ.get("SENDWAVE_TEST_KILLS", "2"))
ROUND = int(os.environ.get("SENDWAVE_TEST_ROUND", "1"))
"""What the moments are drawn from: `make kills FROM=7` draws those of round 7 again."""
KILLS = min(RUNS, 10)
"""Per campaign; there are as many campaigns as it takes."""

PEOPLE = 1_000 if RUNS >= 10 else 150
BATCH = 2  # people: many batches, many moments to die
SPEED = 200  # a start of three seconds is ten minutes of the provider's, and it would give up within the campaign
GATES = "default: {signals: {hard_bounce: {hold: 99%, halt: 100%}, complaint: {hold: 99%, halt: 100%}}}\n"
LANES = "routes: {rehearsal: {pace: 1000 per 1h, burst: 20}}\n"  # some 55 a second of ours: several lives' work
DELIVERED = Scenario.model_validate({"script": [{"match": "*", "outcome": "delivered"}]})
DAY = timedelta(days=1)

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(Pace(SPEED, wall())))  # leases of dead nodes end in seconds
        with lives.nodes() as started:
            yield started


def _ended(pid: int) -> bool:
    """Whether it died, its parent not having asked yet; where that cannot be seen it is given its full time."""
    told = Path(f"/proc/{pid}/stat")
    return told.exists() and told.read_text().rpartition(")")[2].split()[0] == "Z"


@dataclass
class Siege:
    """One campaign under kills, and what is known of it from both sides."""

    shop: Shell
    store: str
    running: Rehearsal
    nodes: Nodes
    draw: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    port: int = 0

    def begin(self, port: int) -> None:
        """A workspace with a campaign ready to go."""
        self.port = port
        self.running.service.provider.retries = (60.0, 300.0, *[900.0] * 1_000)  # type: ignore[misc]  # of this one alone
        self.shop.plain("init", self.shop.home)
        route = "".join(
            f"    {key}: {value!r}\n" for key, value in (self.running.route | {"batch_size": BATCH}).items()
        )
        web = f"web: {{listen: '127.0.0.1:{port}'}}\n"
        text = f"time_zone: Europe/Paris\nstore: {self.store}\n{web}routes:\n  rehearsal:\n{route}"
        (self.shop.home / "sendwave.yaml").write_text(text)
        (self.shop.home / "policies/gates.yaml").write_text(GATES)
        (self.shop.home / "policies/lanes.yaml").write_text(LANES)
        populated(self.shop, PEOPLE)
        self.shop.json("campaign", "plan", "first")
        self.shop("campaign", "approve", "first")

    def strike(self) -> bool:
        """One life, killed at a fault point, so many calls later, or at any moment; False when it ended before."""
        way = self.draw.random()
        fault = f"{self.draw.choice(POINTS)}:{self.draw.randint(1, 9)}" if way < 0.4 else ""
        until = self._calls + self.draw.randint(0, 40) if way < 0.8 else 0  # most lives never come to a point
        pid = self.nodes.live("", self.shop.home, SystemClock().now(), job="run", fault=fault)
        for _ in range(400):
            if _ended(pid) or self._calls > until:
                break
            time.sleep(0.05)
        time.sleep(self.draw.uniform(0, 0.1 if way < 0.8 else 3.0))
        ended = self.nodes.kill(pid)
        assert ended in (0, -signal.SIGKILL), "a life that failed is no kill"
        self.kills["killed" if ended else "over"] += 1
        return ended != 0

    @property
    def _calls(self) -> int:
        return sum(self.running.service.truth.calls.values())

    def finish(self) -> None:
        """Lives that nobody kills, until nothing is left to do."""
        self.nodes.live("", self.shop.home, SystemClock().now(), job="run")
        assert self.nodes.end() == 0

    def hear(self) -> None:
        """Everything the provider has to tell is told; it gave nothing up, or silence would prove nothing."""
        for _ in range(20):
            if not self.running.service.posting.waiting():
                break
            self.nodes.live("", self.shop.home, SystemClock().now() + timedelta(minutes=30), job="stay")
            for _ in range(100):
                if self._listens():
                    break
                time.sleep(0.1)
            self.running.service.posting.hurry(SystemClock().now())
            assert self.nodes.end() == 0
        assert not self.running.service.posting.waiting()
        assert not self.running.service.truth.given_up

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def check(self) -> tuple[int, int]:
        """Nobody twice, nobody lost, nobody told to be sent who was not reached; (sent, unknown)."""
        times = Counter({person.address.lower(): person.times for person in self.running.service.truth.people()})
        assert max(times.values(), default=0) <= 1, "somebody got two messages"
        house = Workspace.open(self.shop.home)
        try:
            found = audit(house.db, house.engine, house.lake, "first")
            states = Counter(row[1] for row in found.rows())
        finally:
            house.close()
        assert sum(states.values()) == found.total
        reached = sum(n > 0 for n in times.values())
        assert found.sent <= reached <= found.sent + found.unknown
        return found.sent, found.unknown


KINDS = [
    "sendgrid-sqlite", pytest.param("sendgrid-postgresql", marks=pytest.mark.postgresql),
    "smtp-sqlite", pytest.param("smtp-postgresql", marks=pytest.mark.postgresql),
]  # fmt: skip


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """A wire and a store."""
    return str(request.param)


@pytest.fixture(params=range(-(-RUNS // KILLS)))
def siege(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], nodes: Nodes
) -> Iterator[Siege]:
    wire, _, database = kind.partition("-")
    store = "sqlite:///state/sendwave.db" if database == "sqlite" else request.getfixturevalue("postgresql_url")
    port = free_port()
    hook = f"http://127.0.0.1:{port}/hooks/rehearsal" if wire == "sendgrid" else None
    with Rehearsal(wire, DELIVERED, webhook=hook, clock=SystemClock()) as running:
        draw = random.Random(f"{kind} {request.param} round {ROUND}")
        made = Siege(Shell(tmp_path / "shop", capsys), store, running, nodes, draw)
        made.begin(port)
        yield made


def test_nobody_twice_and_nobody_lost(siege: Siege, record_property: Callable[[str, object], None]) -> None:
    while siege.kills["killed"] < KILLS and siege.strike():
        siege.check()
    siege.finish()
    sent, unknown = siege.check()
    everybody = sent + unknown
    record_property("kills", siege.kills["killed"])
    record_property("unknown", unknown)
    print(f"{siege.kills['killed']} kills, {sent} sent, {unknown} unknown")  # pytest -s shows it
    assert sent > 0
    siege.hear()

    house = Workspace.open(siege.shop.home)
    try:
        later = SystemClock().now() + DAY
        seen = settle.settle_due(house.db, by="test", now=later)
        left = siege.check()[1]
        assert left == unknown - seen
        if left and siege.running.relay is None:
            settle.decide(house.db, "first", resend=True, reason="none of them arrived", by="test", now=later)
    finally:
        house.close()
    if siege.running.relay is not None:
        return  # a relay tells of bounces alone: silence is no proof there, and a person may well write twice
    siege.finish()

    assert siege.check() == (everybody, 0), "whoever had no message got it, and nobody else"
