from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import mail_sent
import pytest
from command_line import Shell
from web_side import Place, workspace_of

from sendwave.esp.base import RawReport
from sendwave.flow import feedback

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A workspace that heard a word nobody knows, and something that is no report."""
    workspace, _, batch = workspace_of(Place(tmp_path, f"sqlite:///{tmp_path / 'state.db'}", NOW))
    key, house = workspace.token_key, workspace
    (tmp_path / "sendwave.yaml").write_text(
        (tmp_path / "sendwave.yaml").read_text() + f"store: sqlite:///{tmp_path / 'state.db'}\n"
    )
    known = mail_sent.sign(key, batch, 1)
    body = f'{{"event": "teleported", "X-Mailin-custom": "{known}", "ts_epoch": 1772442000000}}'.encode()
    feedback.receive(house.db, "brevo", [RawReport(body), RawReport(b"no report")], NOW)
    feedback.digest(house.db, house.engine, house.lake, house.adapters, key, now=NOW)
    workspace.close()
    return Shell(tmp_path, capsys)


def test_status_says_what_was_not_understood(told: Shell) -> None:
    shown = told.json("feedback", "status")
    assert (shown["waiting"], [one["report"] for one in shown["failed"]]) == (0, [2])
    assert [sum(feed["unknown_words"].values()) for feed in shown["feeds"]] == [1]
    assert "nobody could read" in told("feedback", "status").out


def test_reprocess_says_what_it_did(told: Shell) -> None:
    everything = told.json("feedback", "reprocess")
    assert everything == {"reports": 2, "unreadable": 1, "events": 1, "changed": 0, "unknown": 1, "suppressed": 0}
    assert told.json("feedback", "reprocess", "--route", "main")["reports"] == 0
    assert told.json("feedback", "reprocess", "--since", "2026-03-02T09:00:01Z")["reports"] == 0
    assert told.json("feedback", "reprocess", "--unknown-only", "--since", "3000d")["reports"] == 2


def test_wrong_arguments_are_explained(told: Shell) -> None:
    assert "7d" in told("feedback", "reprocess", "--since", "7", expect=2).err
    assert "brevo" in told("feedback", "reprocess", "--route", "brevoo", expect=4).err
