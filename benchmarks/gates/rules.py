"""Our rule through the replay, and beside it the forms that others publish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gates.campaign import Rule
from gates.published import FORMS
from sendwave.rules.replay import Replay


class Ours:
    """The gates of sendwave, through the replay."""

    def __init__(self, hello: dict[str, Any]) -> None:
        self.replay = Replay.of(hello)
        self.reason = ""

    def look(self, tick: dict[str, Any]) -> list[dict[str, Any]]:
        self.replay.hear(tick)
        acts, self.ruling = self.replay.decide()
        return acts

    def overrule(self, told: dict[str, Any]) -> None:
        self.replay.overrule(told)


OURS: Final = "sendwave"
RULES: Final[dict[str, Callable[[dict[str, Any]], Rule]]] = {OURS: Ours, **FORMS}
