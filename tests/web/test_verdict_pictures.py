from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from sendwave.web import outcomes, verdicts

ONE: dict[str, Any] = {
    "signal": "hard_bounce", "wave": 2, "provider": "orange", "verdict": "hold", "events": 33, "sent": 441,
    "rate": 0.0776,
    "low": 0.04, "high": 0.13, "hold_limit": 0.02, "halt_limit": 0.05, "maturity": 0.96, "sentence": "a < b & c",
}  # fmt: skip


def test_a_gate_on_a_line_shows_rate_band_and_limits_in_order() -> None:
    line = verdicts.bar(ONE)
    assert len(line) == 34
    assert line.index("┆") < line.index("│") < line.index("●")
    assert line[line.index("●") + 1] == "━"


@pytest.mark.parametrize(
    "changes", [{"rate": None}, {"hold_limit": None}, {"halt_limit": 1.0}, {"rate": 0.0, "low": 0.0, "high": 1.0}]
)
def test_odd_gates_are_drawn_too(changes: dict[str, Any]) -> None:
    told = {**ONE, **changes}
    assert len(verdicts.bar(told)) == 34
    ET.fromstring(verdicts.draw("t", "s", [told]))  # our own text


def test_the_picture_names_every_gate_and_escapes_its_words() -> None:
    drawn = verdicts.draw("spring: what the gates say", "as of today", [ONE, {**ONE, "signal": "complaint", "wave": 0}])
    texts = [node.text for node in ET.fromstring(drawn).iter() if node.text]
    assert {"hard bounce", "complaint", "wave 2, orange", "all waves, orange", "96% in", "a < b & c"} <= {*texts}


def test_simulated_ends_fill_their_bar() -> None:
    share = {"share": 0.5, "low": 0.4, "high": 0.6}
    one = {
        "policy": "yours", "completed": share, "halted": share, "waits_for_a_person": {**share, "share": 0.0},
        "hours": None,
        "mails_past_limit": {"median": 1_200.0}, "people_past_limit": 10,
    }  # fmt: skip
    drawn = outcomes.draw("spring, simulated 100 times", [one])
    widths = [float(n.get("width", "0")) for n in ET.fromstring(drawn).iter() if n.get("height") == "30"]
    assert widths == [215.0, 215.0]
    assert "1,200 mails past a limit" in drawn
