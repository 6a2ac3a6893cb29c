"""CRM: contacts in, scores and tiers out, when asked or by the daemon.

One stage in two files: `exchanging` pulls and pushes, `turns` knows when it is a CRM's turn.
"""

from __future__ import annotations

from sendwave.flow.crm.exchanging import Land, PullReport, PushReport, pull, push
from sendwave.flow.crm.turns import Turns

__all__ = ["Land", "PullReport", "PushReport", "Turns", "pull", "push"]
