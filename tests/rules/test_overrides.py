from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.errors import BadInput
from sendwave.rules import overrides


@given(
    st.integers(0, 10_000_000),
    st.integers(1, 30_000_000),
    st.integers(10_000, 20_000_000),
    st.decimals("0.01", "0.99", places=2),
    st.decimals("1", "10", places=1),
)
def test_a_ramp_sends_everybody_once_and_never_shrinks(
    halted: int, left: int, most: int, start: Decimal, growth: Decimal
) -> None:
    if growth == 1 and start * max(halted, 1) < left / 1_000:
        return  # it would take thousands of waves
    if start * max(halted, 1) < left / 100_000:
        halted = left
    sizes = overrides.ramp(halted, left, most=most, start=start, growth=growth)
    assert sum(sizes) == left
    assert all(a <= b for a, b in pairwise(sizes[:-1]))
    assert sizes[0] <= max(1, ceil(start * max(halted, 1)))
    assert max(sizes) <= most


def test_by_default_a_ramp_begins_with_a_tenth() -> None:
    assert overrides.ramp(200_000, 700_000, most=300_000) == (20_000, 60_000, 180_000, 300_000, 140_000)
    assert overrides.ramp(0, 2, most=0) == (1, 1)
    assert overrides.ramp(5, 0, most=5) == ()


def test_the_worst_evidence_is_told_first() -> None:
    told = [{"verdict": word, "n": n} for n, word in enumerate(("pass", "hold", "blind", "halt"))]
    assert [one["n"] for one in overrides.overruled(told)] == [3, 2, 1]


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_no_reason_no_override(reason: str) -> None:
    with pytest.raises(BadInput, match="say why"):
        overrides.check_reason(reason, "spring")
