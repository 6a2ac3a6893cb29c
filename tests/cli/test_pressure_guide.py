"""Pressure by example, pasted as the guide shows it; its figures worked out here once more, without our rules."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
from command_line import Shell
from pasted import Page

from sendwave.clock import VARIABLE, Pace, SystemClock, wall
from sendwave.daemon import Daemon
from sendwave.store import files
from sendwave.workspace import Workspace

SCORES = {"Ann": 90, "Bob": 85, "Cleo": 65, "Dan": 60}
HOUSEHOLD = {"Ann": "rue-1", "Bob": "rue-1", "Cleo": "Cleo", "Dan": "Dan"}
SALES = {"Ann": [3], "Cleo": [3]}  # days ago
NEWS = {"Ann": [60, 59, 58, 57, 56], "Bob": [60, 50, 40]}


@pytest.fixture
def page(bare: Shell, monkeypatch: pytest.MonkeyPatch) -> Page:
    return Page("pressure-by-example.md", bare, monkeypatch)


def cap(who: str) -> int:
    """Sales in 7 days: 2 for burning people (80 and more), 1 for hot ones."""
    return 2 if SCORES[who] >= 80 else 1


def wanted(already: dict[str, int]) -> list[str]:
    """Whom a sale may still write to, the best first, one of a household."""
    free = [who for who in SCORES if len(SALES.get(who, [])) + already.get(who, 0) < cap(who)]
    return [who for n, who in enumerate(free) if HOUSEHOLD[who] not in {HOUSEHOLD[one] for one in free[:n]}]


def kept(days: list[int], most: int) -> list[int]:
    """Which of these messages pass `most per 7d`, walking from the oldest on."""
    found: list[int] = []
    for day in sorted(days, reverse=True):
        if sum(day < before < day + 7 for before in found) < most:
            found.append(day)
    return found


def test_four_people(page: Page) -> None:
    page.paste("Caps per tier, and a household")
    assert wanted({}) == ["Ann", "Dan"]
    decided = {who: page.shell.json("explain", "alpha", who)["decision"] for who in SCORES}
    assert decided == {"Ann": "planned", "Bob": "cap_group_channel_2d", "Cleo": "cap_tier", "Dan": "planned"}

    page.paste("A tie of importance")
    assert wanted(dict.fromkeys(wanted({}), 1)) == ["Bob"], "nothing is left of Ann and Dan for the second sale"

    page.paste("A changed policy on the last 90 days")
    replay = page.shell.json("policy", "diff", "stricter", "--replay", expect=1)["replay"]
    for name, most in (("today", 7), ("changed", 2)):
        per_person = {who: len(kept(NEWS.get(who, []), most)) + len(SALES.get(who, [])) for who in SCORES}
        told = replay[name]
        bars = {int(bar): people for bar, people in told["messages_per_person"].items() if people and bar.isdigit()}
        assert bars == Counter(per_person.values())
        assert told["messages"] == sum(per_person.values())
    assert kept(NEWS["Ann"], 2) == [60, 59]


@pytest.mark.usefixtures("soon_idle")
@pytest.mark.parametrize("campaigns", [2, 5, 20])
def test_so_many_campaigns_at_once(page: Page, campaigns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    [block] = page.blocks("Twenty campaigns at once", "sh")
    every = " ".join(map(str, range(1, 21)))
    assert block.count(every) == 2
    page.sh(block.replace(every, " ".join(map(str, range(1, campaigns + 1)))))
    sent = 100 * min(campaigns, 3)
    row = rf"| {campaigns} | {100 * campaigns:,} | {sent} | 100 × {min(campaigns, 3)} | 0 |"
    assert row in page.section("Twenty campaigns at once")
    if campaigns == 20:
        monkeypatch.setenv(VARIABLE, str(Pace(200, wall())))  # in real time answers come for a minute
        page.console(page.blocks("Twenty campaigns at once", "console")[0])
    workspace = Workspace.open(page.shell.home, {})
    daemon, now = Daemon(workspace), SystemClock().now()
    for second in range(0, 60, 5):
        daemon.step(now + timedelta(seconds=second))
    daemon.dispatcher.close()
    with workspace.db.read() as conn:
        listed = files.live(conn, ["sends", "returns"])
    rows = [row for file in listed["sends"] for row in pq.read_table(workspace.lake.root / file.path).to_pylist()]
    workspace.close()
    assert not listed["returns"]
    each = Counter(row["contact"] for row in rows if row["excluded_by"] is None)
    assert (set(each.values()), len(each)) == ({min(campaigns, 3)}, 100)


def test_slots_that_come_back(page: Page) -> None:
    section = "Slots that come back"
    [block], (waits, after) = page.blocks(section, "sh"), page.blocks(section, "console")
    page.sh(block)
    workspace = Workspace.open(page.shell.home, {})
    daemon, clock = Daemon(workspace), SystemClock()
    try:
        for _ in range(20):  # in real time: what comes back now is known to the commands that follow
            daemon.step(clock.now())
            clock.sleep(0.25)
        shown, cancel = waits.split("$ sendwave ")[1:]
        page.console(f"$ sendwave {shown}$ sendwave {cancel}")
        for minute in range(12):
            daemon.step(clock.now() + timedelta(minutes=minute))
    finally:
        daemon.dispatcher.close()
        workspace.close()
    page.console(after)
    decided = {
        who: page.shell.json("explain", "two", who)["decision"] for who in ("Got", "Bounced", "Refused", "Waiting")
    }
    assert decided == {
        "Got": "cap_tier", "Bounced": "suppressed_hard_bounce",
        "Refused": "suppressed_suppressed", "Waiting": "planned",
    }  # fmt: skip
