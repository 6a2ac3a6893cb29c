"""Score: from interactions to a score for everybody, daily or when asked.

One stage in five files: `cleaning` brings the clean log up to date, `computing` works the scores out or `elsewhere` has
a database do it, `running` puts them in place of the former ones, `daily` knows when.
"""

from __future__ import annotations

from sendwave.flow.score.daily import JOB, run_due
from sendwave.flow.score.running import Summary, score

__all__ = ["JOB", "Summary", "run_due", "score"]
