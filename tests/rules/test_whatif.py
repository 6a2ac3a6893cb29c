from __future__ import annotations

import pytest

from sendwave.errors import BadInput
from sendwave.rules import whatif


@pytest.mark.parametrize(
    ("text", "person", "rate"),
    [
        ("complaint x3 in tier cold", (2, "orange", "cold"), 0.03),
        ("complaint x3 in tier cold", (2, "orange", "hot"), 0.01),
        ("complaint × 3", (1, "orange", "hot"), 0.03),
        ("Hard bounce = 6% in lane orange", (1, "orange", "hot"), 0.06),
        ("hard_bounce = 6% in provider orange", (1, "sfr", "hot"), 0.01),
        ("block x10 from wave 3", (4, "sfr", "hot"), 0.1),
        ("block x10 from wave 3", (2, "sfr", "hot"), 0.01),
        ("block x10 in wave 3", (4, "sfr", "hot"), 0.01),
        ("block x1000", (1, "sfr", "hot"), 1.0),
    ],
)
def test_a_change_is_read_and_applied(text: str, person: tuple[int, str, str], rate: float) -> None:
    change = whatif.parse(text)
    assert (change.changed(0.01) if change.applies(*person) else 0.01) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("complaints triple", "is not understood: write for instance"),
        ("complant x3", "Did you mean 'complaint'"),
        ("complaint x3 in wave two", "a wave is a number"),
        ("complaint x3 from tier cold", "only a wave can be a beginning"),
        ("complaint = 140%", "cannot be above 100%"),
    ],
)
def test_what_is_not_understood_says_how_to_write_it(text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        whatif.parse(text)


def test_a_change_about_nobody_is_refused() -> None:
    plan = {"tiers": {"hot", "cold"}, "lanes": {"orange"}, "waves": {1: None, 2: None}}
    whatif.check([whatif.parse("complaint x3 in tier cold"), whatif.parse("block x2 in wave 2")], **plan)
    for text in ("complaint x3 in tier colder", "block x2 in wave 3", "block x2 in lane orang"):
        with pytest.raises(BadInput, match="nobody of the plan is in"):
            whatif.check([whatif.parse(text)], **plan)
