"""What a daemon costs that has nothing to send: memory, and its share of a core. Linux only (/proc).

    python benchmarks/idle.py [--seconds 30] [--contacts 20000] [--folder DIR]

A real `sendwave run` over a workspace with contacts, policies and a planned campaign. Budgets: at most 100 MB of its
own memory (proportional set size, what it shares with other processes divided among them) and 1 % of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SETTLE = 8.0  # seconds until what happens once at the start is over
BUDGET_MB, BUDGET_CPU = 100.0, 0.01


def sendwave(home: Path, *arguments: object) -> None:
    """One command, to its end."""
    subprocess.run(
        [sys.executable, "-m", "sendwave", *map(str, arguments), "--home", str(home)], check=True, stdout=sys.stderr
    )


def workspace(home: Path, contacts: int) -> None:
    """People imported and a campaign planned: what a daemon wakes up to on most days."""
    subprocess.run([sys.executable, "-m", "sendwave", "init", str(home), "--people", str(contacts)], check=True,
                   stdout=sys.stderr)  # fmt: skip
    for kind in ("contacts", "consents", "suppressions", "scores", "sends"):
        subprocess.run(
            [sys.executable, "-m", "sendwave", "import", kind, str(home / "data" / f"{kind}.csv"), "--home", str(home)],
            check=False,  # 1 where a line was rejected
            stdout=sys.stderr,
        )
    sendwave(home, "campaign", "create", home / "campaigns/first.yaml")
    sendwave(home, "campaign", "plan", "first")


def spent(pid: int) -> float:
    """Seconds of processor time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> dict[str, float]:
    """MB resident, and MB of its own."""
    rows = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    sizes = {row[0].rstrip(":"): int(row[1]) / 1024 for row in rows if len(row) == 3}
    return {"rss_mb": round(sizes["Rss"], 1), "pss_mb": round(sizes["Pss"], 1)}


def measure(home: Path, seconds: float) -> dict[str, Any]:
    """Start the daemon, let it settle, look at it twice."""
    process = subprocess.Popen([sys.executable, "-m", "sendwave", "run", "--home", str(home)])
    try:
        time.sleep(SETTLE)
        start, since = spent(process.pid), time.monotonic()
        time.sleep(seconds)
        share = (spent(process.pid) - start) / (time.monotonic() - since)
        found = {"cpu": round(share, 4), **memory(process.pid)}
        process.send_signal(signal.SIGTERM)
        found["exit"] = process.wait(60)
        return found
    finally:
        process.kill()


def main() -> int:
    """Print the figures as JSON; 1 when a budget is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--contacts", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="idle-", dir=given.folder) as folder:
        home = Path(folder) / "home"
        workspace(home, given.contacts)
        found = measure(home, given.seconds)
    print(json.dumps(found))
    return 0 if found["cpu"] <= BUDGET_CPU and found["pss_mb"] <= BUDGET_MB else 1


if __name__ == "__main__":
    sys.exit(main())
