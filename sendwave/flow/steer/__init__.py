"""People steer a campaign. Every act is one transaction with its journal row; what overrules a gate says why."""

from __future__ import annotations

from sendwave.flow.steer.life import PAUSED, approve, cancel, create, pause, shorten
from sendwave.flow.steer.overrule import release_wave, resume, set_limit
from sendwave.flow.steer.ramp import Ramped, resume_by_ramp
from sendwave.flow.steer.routes import free_route, pause_route, route_holds

__all__ = [
    "PAUSED",
    "Ramped",
    "approve",
    "cancel",
    "create",
    "free_route",
    "pause",
    "pause_route",
    "release_wave",
    "resume",
    "resume_by_ramp",
    "route_holds",
    "set_limit",
    "shorten",
]
