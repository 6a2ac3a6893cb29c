"""The daemon's stages on virtual time: what they survive, and what they say."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from command_line import Shell, own_logs

from sendwave import log
from sendwave.clock import SystemClock, VirtualClock
from sendwave.daemon import PERIODS, Daemon
from sendwave.errors import Busy, FullDisk, StaleTransition
from sendwave.esp.simulated_state import arrivals
from sendwave.flow import audit, feedback, settle
from sendwave.flow.feedback import Digest
from sendwave.store import campaigns
from sendwave.store.database import Database
from sendwave.workspace import Workspace

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Call it for the log lines since the last call."""
    with own_logs():
        log.configure(level="info", pretty=False)
        yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize(
    ("fault", "event"),
    [
        (FullDisk("the disk is full"), "tick_failed"),
        (Busy("another process is writing"), "tick_failed"),
        (StaleTransition("somebody was first"), "tick_refused"),
        (ZeroDivisionError("a bug"), "tick_crashed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_a_tick_that_fails_is_told_once_and_tried_again(
    house: Workspace, said: Any, monkeypatch: pytest.MonkeyPatch, fault: Exception, event: str
) -> None:
    clock = VirtualClock(NOW)
    daemon = Daemon(house, clock)
    answers: list[Exception | None] = [fault, fault, None, fault]

    def release(_now: datetime) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(daemon, "release", release)
    tick = daemon._guarded("release")
    for _ in range(4):
        tick()
        clock.sleep(1)
    lines = said()
    assert [line["event"] for line in lines] == [event, "tick_recovered", event]
    assert lines[0]["stage"] == "release"
    assert str(fault) in lines[0]["reason"]
    assert ("exception" in lines[0]) is (event == "tick_crashed")


def test_a_fault_that_stays_is_told_again_after_a_minute(
    house: Workspace, now: datetime, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock(now)
    daemon = Daemon(house, clock)

    def judge(_now: datetime) -> None:
        raise FullDisk("the disk is full")

    monkeypatch.setattr(daemon, "judge", judge)
    tick = daemon._guarded("judge")
    for _ in range(121):
        tick()
        clock.sleep(1)
    assert len(said()) == 3


def test_a_bad_policy_edit_keeps_the_old_set_and_says_so(house: Workspace, now: datetime, said: Any) -> None:
    daemon = Daemon(house, VirtualClock(now))
    daemon.policies(now)
    before = daemon._policy
    assert [line["event"] for line in said()] == ["policy_loaded"]
    path = house.home / "policies/types/newsletter.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("type: newsletter\nwaves: {ramp: [120%]}\n")
    daemon.policies(now)
    daemon.policies(now)
    (line,) = said()
    assert line["event"] == "policy_reload_refused"
    assert any("newsletter.yaml:2" in finding for finding in line["findings"])
    assert daemon._policy is before
    path.write_text("type: newsletter\ntiers: {hot: {share: 100%}}\nwaves: {ramp: [100%]}\n")
    daemon.policies(now)
    assert [line["event"] for line in said()] == ["policy_loaded"]
    assert daemon._policy is not before


def test_every_stage_has_a_pace(house: Workspace, now: datetime) -> None:
    daemon = Daemon(house, VirtualClock(now))
    assert all(callable(getattr(daemon, name)) for name in PERIODS)
    assert all(0 < busy <= at_rest for busy, at_rest in PERIODS.values())


def test_an_esp_that_is_down_at_the_start_is_waited_for(shell: Shell) -> None:
    now = SystemClock().now()
    back = now + timedelta(minutes=30)
    outage = f"outages: [{{since: 2020-01-01T00:00Z, until: {back.isoformat()}}}]"
    settings = shell.home / "sendwave.yaml"
    settings.write_text(settings.read_text().replace("state: esp", f"state: esp, {outage}"))
    workspace, clock = Workspace.open(shell.home, {}), VirtualClock(now)
    daemon = Daemon(workspace, clock)
    try:
        daemon.step(now)
        shown = audit.show(workspace.db, "first")
        assert [(hold["reason"], hold["kind"]) for hold in shown["holds"]] == [("esp_unreachable", "hold")]
        assert "rehearsal" in shown["holds"][0]["scope"]
        assert not daemon.idle(now), "it lifts itself: nobody has to do anything"
        while not daemon.idle(clock.now()):
            clock.sleep(20)
            daemon.step(clock.now())
            assert clock.now() - now < timedelta(hours=6)
        shown = audit.show(workspace.db, "first")
    finally:
        daemon.dispatcher.close()
        workspace.close()
    assert (shown["status"], shown["holds"]) == ("completed", [])
    written = Counter(person for arrival in arrivals(shell.home / "esp") for person in arrival.written_to)
    assert set(written.values()) == {1}
    assert min(arrival.at for arrival in arrivals(shell.home / "esp")) >= back


CRM = """\
crm:
  erp: {system: files, folder: exchange, quiet: 0s, pull_every: 5m, push_scores: true}
  dead: {system: salesforce, url: "http://127.0.0.1:9", client_id: a, client_secret: b, pull_every: 5m}
"""


def test_crms_are_read_and_written_of_its_own_accord_and_one_that_fails_holds_nobody_up(
    house: Workspace, said: Any
) -> None:
    with (house.home / "sendwave.yaml").open("a") as file:
        file.write(CRM)
    folder = house.home / "exchange"
    (folder / "in").mkdir(parents=True)
    (folder / "in/contacts.csv").write_text("contact_id,email\nA,a@example.com\n")
    (folder / "in/scores.csv").write_text("contact_id,score\nA,70\n")
    clock = VirtualClock(SystemClock().now())  # the files were written now
    workspace = Workspace.open(house.home, {})
    daemon = Daemon(workspace, clock)
    for _ in range(3):
        daemon._guarded("crm")()
        clock.sleep(30)
    workspace.close()
    (out,) = (folder / "out").iterdir()
    assert out.read_text().splitlines()[1].startswith('"A",70,')
    assert len(list((folder / "done").iterdir())) == 2
    lines = [line for line in said() if "crm" in line]
    assert [(line["event"], line["crm"]) for line in lines] == [
        ("crm_pulled", "erp"),
        ("crm_pushed", "erp"),
        ("crm_failed", "dead"),
    ]
    assert lines[-1]["reason"] == "Salesforce could not be reached: ConnectionError"


def settling(house: Workspace, monkeypatch: pytest.MonkeyPatch) -> tuple[Daemon, list[Database]]:
    """A daemon, and the stores by which it settles."""
    asked: list[Database] = []
    monkeypatch.setattr(settle, "settle_due", lambda db, **_told: asked.append(db) or 0)
    return Daemon(house, VirtualClock(NOW)), asked


def test_a_round_of_all_stages_settles_too(house: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon, asked = settling(house, monkeypatch)
    daemon.step(NOW)
    assert asked == [house.db]


def test_only_the_leader_settles_by_events(house: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon, asked = settling(house, monkeypatch)
    daemon.node.led = house.db.fenced(lambda _conn: None)
    daemon._guarded("settle")()
    assert asked == [daemon.node.led], "its writes are fenced"
    monkeypatch.setattr(type(daemon.node), "leads", False)
    daemon._guarded("settle")()
    daemon.step(NOW)
    assert len(asked) == 1, "another node leads"


def test_what_is_counted_is_judged_at_once_and_no_mailbox_is_waited_for(
    house: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon, done = Daemon(house), []
    portions = iter([Digest(reports=1, campaigns=frozenset({7})), Digest(reports=1), Digest()])
    monkeypatch.setattr(daemon, "collect", lambda _now: pytest.fail("another tick fetches what waits elsewhere"))
    monkeypatch.setattr(feedback, "digest", lambda *_args, **_told: next(portions))
    monkeypatch.setattr(daemon, "judge", lambda _now, only: done.append(only))
    daemon._guarded("feedback")()
    assert done == [{7}], "where there is nothing new the judge has a tick of its own"


def test_what_a_campaign_waits_for_is_told_once_and_shown(
    shell: Shell, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At night in every zone of the base nothing leaves; in the morning it does, and the soak is waited for."""
    kind = shell.home / "policies/types/newsletter.yaml"
    night = "ramp: [20%, 80%], soak: 4h, window: '08:00-20:00 UTC'"
    kind.write_text(re.sub(r"ramp: .*(?=})", night, kind.read_text()))
    shell("campaign", "plan", "first")
    assert "the last one leaves 4h after the first, or later" in shell("campaign", "approve", "first").out
    clock = VirtualClock(SystemClock().now().replace(hour=6, minute=0, second=0, microsecond=0) + timedelta(days=1))
    monkeypatch.setattr("sendwave.cli.campaign.SystemClock", lambda: clock)
    workspace = Workspace.open(shell.home, {})
    daemon = Daemon(workspace, clock)

    def waits() -> list[tuple[str, int, str]]:
        return [(line["for"], line["wave"], line["until"][11:16]) for line in said() if line["event"] == "waiting"]

    tick = daemon._guarded("release")
    try:
        log.configure(level="info", pretty=False)  # commands put it back
        for _ in range(3):
            tick()
            daemon.dispatch(clock.now())
            clock.sleep(1)
        assert waits() == [("window", 1, "08:00")]
        assert "08:00 UTC: the hours 08:00-20:00 UTC" in shell("campaign", "show", "first").out
        log.configure(level="info", pretty=False)
        clock.sleep(2 * 3_600)
        while daemon.dispatch(clock.now()):
            clock.sleep(10)
        tick()
        tick()
        assert waits() == [("soak", 1, shown_soak(shell))]
    finally:
        daemon.dispatcher.close()
        workspace.close()


def shown_soak(shell: Shell) -> str:
    """Until when `campaign show` says that the first wave soaks, as HH:MM."""
    [wait] = shell.json("campaign", "show", "first")["waits"]
    assert (wait["for"], wait["wave"]) == ("soak", 1)
    return str(wait["until"])[11:16]


def test_it_ends_although_a_campaign_starts_at_that_moment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler waits for its ticks while it shuts down; one that wanted another pace then waited for it."""
    workspace = Workspace.open(shell.home, {})
    daemon, ending = Daemon(workspace), threading.Event()
    shutdown = BackgroundScheduler.shutdown

    def told(scheduler: BackgroundScheduler, *, wait: bool = True) -> None:
        ending.set()
        shutdown(scheduler, wait=wait)

    def release(now: datetime) -> None:
        with workspace.db.write() as conn:
            campaigns.start_due(conn, by="daemon", now=now)
        daemon.stop()
        ending.wait(30)
        SystemClock().sleep(0.3)  # by then the scheduler holds its locks

    monkeypatch.setattr(BackgroundScheduler, "shutdown", told)
    monkeypatch.setattr(daemon, "release", release)
    running = threading.Thread(target=daemon.run, daemon=True)
    running.start()
    running.join(60)
    assert not running.is_alive()
    workspace.close()
