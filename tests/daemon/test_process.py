"""A real `sendwave run`: ended in the middle by SIGTERM, started again, never twice on one SQLite workspace."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from command_line import Shell

from sendwave.clock import SystemClock
from sendwave.esp.simulated_state import arrivals

pytestmark = pytest.mark.crash


@contextmanager
def _daemon(shell: Shell) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sendwave", "run", "--home", str(shell.home), "--threads", "2"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def _written_to(shell: Shell) -> Counter[str]:
    return Counter(person for arrival in arrivals(shell.home / "esp") for person in arrival.written_to)


@pytest.mark.usefixtures("soon_idle")
def test_sigterm_in_the_middle_loses_nobody_and_writes_to_nobody_twice(shell: Shell) -> None:
    planned = shell.json("campaign", "show", "first")["planned"]
    with _daemon(shell) as process:
        while not _written_to(shell):
            assert process.poll() is None
            SystemClock().sleep(0.05)
        second = shell("run", "--until", "idle", expect=5)
        assert f"pid {process.pid} " in second.err
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0
    lines = [json.loads(line) for line in said.splitlines()]
    events = [line["event"] for line in lines]
    assert (events[0], events[-1]) == ("started", "stopped")
    assert "stopping" in events
    assert "@" not in said
    before = _written_to(shell)
    assert 0 < len(before) < planned, "it was stopped in the middle"
    halfway = shell.json("campaign", "audit", "first")
    assert (halfway["sent"], halfway["unknown"]) == (len(before), 0), "the batch in hand was finished"

    shell("run", "--until", "idle")

    after = _written_to(shell)
    assert set(after.values()) == {1}, "nobody twice"
    assert set(before) < set(after)
    shown = shell.json("campaign", "show", "first")
    refused = sum(wave["refused"] for wave in shown["waves"])
    assert shown["status"] == "completed"
    assert len(after) + refused == planned, "nobody lost"
    assert shell.json("campaign", "audit", "first")["sent"] == len(after)
