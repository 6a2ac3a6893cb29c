"""A node's way to PostgreSQL is cut without a word: the other leads, and nobody is written to twice or lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from cuttable import Line
from nodes_running import CountingEsp, workspace
from postgres_server import Server

from sendwave.clock import VARIABLE, Pace, wall

pytestmark = [pytest.mark.crash, pytest.mark.postgresql]

FASTER = 5
"""The nodes' time, where a batch stays in doubt for a minute; lives and terms run on the machine's own."""


def test_a_leader_cut_off_from_the_database(
    postgresql_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(Pace(FASTER, wall())))
    server = postgresql_server.create()
    store, pace = server.render_as_string(hide_password=False), f"20 per {FASTER}s"
    with (
        CountingEsp(0.02) as esp,
        Line(server) as line,
        workspace(tmp_path / "home", store, esp, people=3_000, pace=pace) as nodes,
    ):
        nodes.start(environ={"SENDWAVE_STORE": line.url})
        nodes.until(lambda: nodes.leader() == 0, "the first leads")
        nodes.start()
        nodes.until(lambda: nodes.heard(1, "policy_loaded") and esp.people, "both run")

        line.cut()
        nodes.until(lambda: nodes.leader() == 1, "the other leads")
        before = len(esp.people)
        nodes.until(lambda: len(esp.people) > before + 20, "it sends on")
        assert not nodes.heard(0, "leads_no_more"), "nothing reached it"
        line.mend()
        nodes.until(lambda: nodes.heard(0, "leads_no_more"), "it finds out")
        before = len(esp.people)
        nodes.until(lambda: len(esp.people) > before + 20, "they go on")

        nodes.command("campaign", "pause", "first")
        nodes.stop()
        assert [process.returncode for process in nodes.processes] == [0, 0]
        left = nodes.left()
        assert esp.twice == []
        assert left["accepted"] <= len(esp.people) <= left["accepted"] + nodes.doubtful()
    postgresql_server.drop(server)
