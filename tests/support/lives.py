"""Processes of a node that are killed: forked by tests/crash/drive.py, which spares a second of imports for each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

DRIVE = Path(__file__).parent.parent / "crash" / "drive.py"


@dataclass(frozen=True)
class Nodes:
    """Starts nodes in processes of their own, see drive.py."""

    server: subprocess.Popen[str]

    def live(
        self, url: str, folder: Path, now: datetime, *, fault: str = "", holder: str = "node", job: str = "send"
    ) -> int:
        """Start a life; its process id."""
        asked = {
            "job": job, "url": url, "folder": str(folder), "now": now.isoformat(), "holder": holder, "fault": fault
        }  # fmt: skip
        word, pid = self._ask(json.dumps(asked)).split()
        assert word == "start"
        return int(pid)

    def end(self) -> int:
        """How the next life to end ended: 0, or minus the signal that killed it."""
        return int(self._ask("wait").split()[2])

    def kill(self, pid: int) -> int:
        """Kill a life at this very moment; how it ended, which may have been by itself."""
        os.kill(pid, signal.SIGKILL)  # its parent has not waited for it yet: the id is still its own
        return self.end()

    def _ask(self, line: str) -> str:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(line + "\n")
        self.server.stdin.flush()
        return self.server.stdout.readline()


@contextmanager
def nodes() -> Iterator[Nodes]:
    """A server that forks nodes, as long as the block runs."""
    paths = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    with subprocess.Popen(
        [sys.executable, str(DRIVE)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        yield Nodes(server)
        assert server.stdin is not None
        server.stdin.close()
