"""Each scenario of the demo ends as its name says, on the daemon's own stages and in virtual time."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from sendwave.demo import play, stage, story
from sendwave.flow import audit
from sendwave.web.charts import draw

START = datetime(2026, 3, 3, 8, 0, tzinfo=UTC)
TYPE = """\
type: newsletter
tiers:
  burning: {share: 100%}
  hot:     {share: 100%}
  warm:    {share: 100%}
  cool:    {share: 100%}
  cold:    {share: 100%}
  frozen:  {share: 100%}
control: 5%
waves: {ramp: [RAMP], soak: 1h, soak_max: 2h}
"""
"""Many of few people, and little to wait for: what a test can afford."""


def _played(
    home: Path, scenario: str, contacts: int, ramp: str = "5%, 10%, 20%, 30%, 35%"
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """`campaign show`, `campaign audit`, and the lines of the story with its end."""
    (home / "policies/types").mkdir(parents=True)
    (home / "policies/types/newsletter.yaml").write_text(TYPE.replace("RAMP", ramp))
    told: list[str] = []
    workspace, _ = play.prepare(home, play.Cast(contacts, 7, scenario, START), lambda _at, line: told.append(line))
    try:
        play.play(workspace, START, lambda _at, line: told.append(line), lambda *_: None)
        shown = audit.show(workspace.db, stage.CAMPAIGN)
        accounted = audit.audit(workspace.db, workspace.engine, workspace.lake, stage.CAMPAIGN)
        people = Counter(row[0] for row in accounted.rows())
        assert set(people.values()) == {1}
        picture = story.picture(workspace, shown)
        assert sum(square.planned for square in picture.squares.values()) == shown["planned"]
        ET.fromstring(draw(picture))
        return shown, accounted.document(), [*told, *story.tell(shown, accounted.document())]
    finally:
        workspace.close()


def _statuses(shown: dict[str, Any]) -> list[str]:
    return [wave["status"] for wave in shown["waves"]]


def test_healthy_goes_to_the_end(tmp_path: Path) -> None:
    shown, accounted, told = _played(tmp_path, "healthy", 3_000)
    assert shown["status"] == "completed"
    assert _statuses(shown) == ["cleared"] * 5
    assert accounted["sent"] > 0.99 * shown["planned"]
    assert any("Every gate passed" in line for line in told)
    assert [line for line in told if line.endswith("cleared")] == [f"wave {n} cleared" for n in range(1, 6)]


def test_a_bad_provider_is_stopped_alone(tmp_path: Path) -> None:
    shown, accounted, told = _played(tmp_path, "bad-provider", 8_000)
    lanes = {lane["provider"]: lane["status"] for lane in shown["lanes"]}
    assert [lane for lane, status in lanes.items() if status == "suspended"] == ["orange"]
    assert _statuses(shown) == ["cleared"] * 5, "the others went on to the last wave"
    assert accounted["not_sent"]["lane_suspended"] > 0
    assert any(line.startswith("orange stopped: ") for line in told)
    assert "Only orange stopped:" in told


def test_a_bad_tail_is_halted_after_good_waves(tmp_path: Path) -> None:
    shown, accounted, told = _played(tmp_path, "bad-tail", 6_000, ramp="5%, 15%, 40%, 25%, 15%")
    assert shown["status"] == "halted"
    assert _statuses(shown)[:2] == ["cleared", "cleared"]
    assert _statuses(shown)[-1] == "halted"
    assert accounted["not_sent"].get("halted", 0) > 0.1 * shown["planned"], (accounted, shown["waves"], told)
    assert any(line.startswith("the campaign stopped itself: ") for line in told)


def test_a_bad_list_is_halted_early(tmp_path: Path) -> None:
    shown, accounted, told = _played(tmp_path, "bad-list", 3_000)
    assert shown["status"] == "halted"
    assert "cleared" not in _statuses(shown)[1:]
    assert accounted["sent"] < 0.2 * shown["planned"]
    assert any(line.startswith("It stopped itself in wave") for line in told)
