"""The real server is killed between its answer and the digest: whatever it acknowledged is counted in the end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from ports import free_port
from web_side import BREVO, SETTINGS, Place, brevo_event, workspace_of

from sendwave.flow import feedback
from sendwave.rules.token import sign
from sendwave.store import inbox, tallies

SERVE = """
import sys
from pathlib import Path
from sendwave.daemon import Daemon
from sendwave.workspace import Workspace

Daemon(Workspace.open(Path(sys.argv[1]))).run()
"""
PEOPLE = 120


def _start(home: Path, store: str, fault: str) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "SENDWAVE_FAULT": fault, "SENDWAVE_STORE": store}
    return subprocess.Popen([sys.executable, "-c", SERVE, str(home)], env=environ, stderr=subprocess.DEVNULL)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the daemon ended by itself"
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("the daemon does not answer")


@pytest.mark.crash
@pytest.mark.parametrize("fault", ["feedback_stored:12", "feedback_file_written", "feedback_counted"])
def test_nothing_acknowledged_is_lost(tmp_path: Path, now: datetime, fault: str) -> None:
    port, store = free_port(), f"sqlite:///{tmp_path / 'state.db'}"
    place = Place(tmp_path, store, now, people=PEOPLE, settings=SETTINGS.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    workspace, _, batch = workspace_of(place)
    key = workspace.token_key
    acknowledged: list[int] = []
    process = _start(tmp_path, store, fault)
    try:
        _wait(port, process)
        url = f"http://127.0.0.1:{port}/hooks/brevo"

        def post(share: int) -> None:
            with httpx.Client(auth=BREVO) as client:
                for position in range(share, PEOPLE, 4):
                    try:
                        answer = client.post(url, json=brevo_event(now, sign(key, batch, position), "opened"))
                    except httpx.TransportError:
                        return  # killed: this event was not acknowledged, the ESP would repeat it
                    assert answer.status_code == 200
                    acknowledged.append(position)

        threads = [threading.Thread(target=post, args=(share,)) for share in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        process.kill()
        process.wait()
    assert acknowledged
    with workspace.db.read() as conn:
        stored = inbox.backlog(conn)[0]
    house = workspace
    while feedback.digest(house.db, house.engine, house.lake, house.adapters, house.token_key, now=now).reports:
        pass
    with workspace.db.read() as conn:
        counted = set(tallies.positions(conn, batch, "open"))
    workspace.close()
    assert set(acknowledged) <= counted
    assert len(counted) <= len(acknowledged) + 4, "at most what was on its way when it died"
    assert fault == "none" or len(acknowledged) < PEOPLE or stored
