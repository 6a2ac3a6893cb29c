"""Named points where a test may kill the process, to prove that nobody is written to twice and nobody is lost.

Inactive unless the environment sets SENDWAVE_FAULT to `POINT` or `POINT:N` (die at the N-th passage).
"""

from __future__ import annotations

import os
import signal
from typing import Final

POINTS: Final = (
    "after_claim",
    "after_handed",
    "after_call",
    "before_acknowledge",
    "after_acknowledge",
    "release_file_written",
    "release_registered",
    "feedback_stored",
    "feedback_file_written",
    "feedback_counted",
)

_target, _, _count = os.environ.get("SENDWAVE_FAULT", "").partition(":")
_left = int(_count or 1)


def point(name: str) -> None:
    """Die here by SIGKILL when the environment asks for it."""
    global _left
    if name != _target:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
