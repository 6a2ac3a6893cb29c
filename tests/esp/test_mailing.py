"""One text for all with values for each: whatever is filled in again is what was rendered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sendwave.esp.mailing import skeleton

LINES = st.lists(st.sampled_from(["Bonjour", "Anne", "", "-sw0-", "fin", "é\r", " "]), max_size=6).map("\n".join)


@given(texts=st.lists(LINES, min_size=1, max_size=5))
def test_filled_in_again_it_is_what_was_rendered(texts: list[str]) -> None:
    found = skeleton(texts, lambda name: f"\0{name}\0", "sw", "-sw")
    for text, values in zip(texts, found.values, strict=True):
        filled = found.shared
        for name, value in zip(found.names, values, strict=True):
            filled = filled.replace(f"\0{name}\0", value)
        assert filled == text


def test_what_everybody_shares_is_given_once() -> None:
    shared = "\n".join(f"line {n}" for n in range(100))
    found = skeleton([f"Bonjour Anne\n{shared}", f"Bonjour Bruno\n{shared}"], lambda n: f"[{n}]", "x", "[")
    assert found.shared == f"[x0]{shared}"
    assert list(found.values) == [("Bonjour Anne\n",), ("Bonjour Bruno\n",)]


def test_a_paragraph_some_do_not_have() -> None:
    found = skeleton(["a\nb\nc\nd", "a\nd"], lambda n: f"[{n}]", "x", "[")
    assert found.shared.startswith("a\n")
    assert found.shared.endswith("d")
