"""Bars as SVG: well-formed, to scale, safe with any text."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET  # our own output

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.web import bars

SVG = "{http://www.w3.org/2000/svg}"
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), max_size=40)


def rectangles(text: str) -> list[Any]:
    """The rectangles that stand for people: those with a hint."""
    return [r for r in ET.fromstring(text).iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None]


def test_heights_are_to_scale() -> None:
    drawn = rectangles(bars.histogram("T", "s", [("0", 10, "#111111"), ("1", 40, "#111111"), ("2", 0, "#111111")]))
    assert [float(r.get("height")) for r in drawn] == [75.0, 300.0, 0.0]
    assert drawn[1].find(f"{SVG}title").text == "1: 40 contacts, 80.0%"


@pytest.mark.parametrize(
    ("most", "marks"),
    [
        (0, [0, 1]),
        (1, [0, 1]),
        (5, [0, 2, 4, 6]),
        (11, [0, 5, 10, 15]),
        (22, [0, 10, 20, 30]),
        (40, [0, 10, 20, 30, 40]),
        (4_100_000, [0, 2_000_000, 4_000_000, 6_000_000]),
    ],
)
def test_the_scale_is_of_round_whole_numbers(most: int, marks: list[int]) -> None:
    assert bars.ticks(most) == marks


@given(st.integers(0, 10**9))
def test_the_scale_reaches_every_bar_with_few_marks(most: int) -> None:
    marks = bars.ticks(most)
    assert marks[0] == 0
    assert marks[-1] >= most
    assert 2 <= len(marks) <= 5


def test_volume_and_share_stand_above_bars_that_have_room() -> None:
    def said(count: int) -> list[str]:
        drawn = bars.histogram("T", "s", [("a", 30, "#111111"), *[("b", 10, "#111111")] * (count - 1)])
        return [found.text or "" for found in ET.fromstring(drawn).iter(f"{SVG}text")]

    assert {"30 · 75%", "10 · 25%"} <= set(said(2))
    assert "30" in said(15)
    assert not any("%" in text for text in said(15))


def test_parts_of_a_row_fill_it_in_order() -> None:
    parts = [("hot", "Hot", "#aa0000"), ("cold", "Cold", "#0000aa"), ("", "no score", "#cccccc")]
    drawn = rectangles(
        bars.stacked("T", "s", [("Lyon", {"hot": 1, "": 3}), ("Paris", {"cold": 5}), ("none", {})], parts)
    )
    widths = [float(r.get("width")) for r in drawn]
    assert widths[0] * 3 == pytest.approx(widths[1], abs=0.5)
    assert widths[0] + widths[1] == pytest.approx(widths[2], abs=0.5)
    assert [r.get("fill") for r in drawn] == ["#aa0000", "#cccccc", "#0000aa"]


@given(texts, texts, st.lists(st.tuples(texts, st.integers(0, 10**8)), max_size=30))
def test_any_text_is_shown_as_text(title: str, subtitle: str, rows: list[tuple[str, int]]) -> None:
    ET.fromstring(bars.histogram(title, subtitle, [(label, n, "#111111") for label, n in rows]))
    stacked = bars.stacked(title, subtitle, [(label, {"a": n}) for label, n in rows], [("a", title, "#111111")])
    assert "<script" not in stacked.replace(title, "").replace(subtitle, "")
    ET.fromstring(stacked)


def test_labels_are_thinned_out_before_they_overlap() -> None:
    def labels(count: int) -> int:
        text = bars.histogram("T", "s", [(f"{n}00", 1, "#111111") for n in range(count)])
        return sum(found.text.endswith("00") for found in ET.fromstring(text).iter(f"{SVG}text") if found.text)

    assert labels(10) == 10
    assert labels(100) <= 20


@pytest.mark.parametrize(("count", "text"), [(950, "950"), (9_999, "9,999"), (12_345, "12.3k"), (4_100_000, "4.1M")])
def test_counts_in_few_characters(count: int, text: str) -> None:
    assert bars.short(count) == text


def test_colours_run_from_fire_to_ice() -> None:
    assert bars.colours(6) == list(bars.WARM_TO_COLD)
    assert bars.colours(2) == [bars.WARM_TO_COLD[0], bars.WARM_TO_COLD[-1]]
    assert len(bars.colours(10)) == 10
