"""`sendwave --help` answers before anything heavy is loaded."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    "duckdb",
    "sqlalchemy",
    "pyarrow",
    "rich",
    "pydantic",
    "numpy",
    "structlog",
    "jinja2",
    "apscheduler",
    "alembic",
}

PROBE = """
import sys
from sendwave.cli import run
codes = [run(["--help"]), run(["--version"]), run(["campain"])]
print(codes, *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=60)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("[0, 0, 2]")
    assert HEAVY & set(last.split()) == set()
    assert "run" in done.stdout
