"""`sendwave backup`, `restore`, `campaign unknown` and `settle`, as people type them."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from command_line import Shell, populated

from sendwave.store import batches
from sendwave.workspace import Workspace


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return populated(Shell(tmp_path / "shop", capsys), 60)


def test_a_workspace_moves_to_another_folder(shop: Shell, tmp_path: Path) -> None:
    shop.json("campaign", "plan", "first")
    shop("campaign", "approve", "first")
    copy = tmp_path / "copy"

    made = shop.json("backup", copy)
    checked = shop.json("restore", copy, "--check")
    other = Shell(tmp_path / "other", shop.capture)
    other.home.mkdir()
    for name in ("sendwave.yaml", "policies", "content"):
        source = shop.home / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, other.home / name)
    restored = other.json("restore", copy)

    assert made["rows"] == checked["rows"] == restored["rows"] > 0
    assert (checked["restored"], restored["restored"], restored["paused"]) == (False, True, ["first"])
    assert other.json("campaign", "audit", "first")["total"] == shop.json("campaign", "audit", "first")["total"]
    assert "reason" in other.json("campaign", "show", "first")["holds"][0]
    assert "never restored over anything" in other("restore", copy, expect=2).err
    assert "not empty" in shop("backup", copy, expect=2).err
    assert "no finished backup" in shop("restore", tmp_path, "--check", expect=2).err


def test_people_nobody_knows_the_fate_of(shop: Shell) -> None:
    assert "nobody to decide about" in shop("campaign", "unknown", "first").out
    shop.json("campaign", "plan", "first")
    shop("campaign", "approve", "first")
    house = Workspace.open(shop.home)
    from sendwave.clock import SystemClock
    from sendwave.flow import dispatch, release

    now = SystemClock().now()
    release.release(house.db, house.engine, house.lake, now=now, batch_sizes={"rehearsal": 1000})
    with house.db.write() as conn:
        (ready, *_) = batches.ready(conn, batches.groups(conn, now), now, 1)
        [one] = batches.claim(conn, [ready.id], holder="dead", until=now)
        batches.hand(conn, one, [], holder="dead", now=now)
    dispatch.reconcile(house.db, "me", now)
    house.close()

    (told,) = shop.json("campaign", "unknown", "first", "--csv", shop.home / "people.csv")
    assert (told["batch"], told["people"], told["seen"], told["state"]) == (ready.id, ready.size, 0, "waiting")
    assert "events may tell until" in " ".join(shop("campaign", "unknown", "first").out.split())
    with (shop.home / "people.csv").open() as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["silent"] * ready.size
    assert "either --resend or --leave" in shop("campaign", "settle", "first", expect=2).err
    assert "say why" in shop("campaign", "settle", "first", "--leave", expect=2).err
    assert "decide then" in shop("campaign", "settle", "first", "--leave", "--reason", "x", expect=3).err
