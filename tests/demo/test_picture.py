"""A campaign as one picture: sound XML that a strict page may show, whatever the texts in it."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from sendwave.web.charts import Picture, Square, draw

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<script>alert('x')</script> & \"co\""
TEXTS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=40)
ALLOWED = {"svg", "rect", "defs", "pattern", "line", "text", "g", "title"}


def _picture(text: str = "plain", stopped: str = "") -> Picture:
    squares = {(0, 0): Square(100, 100), (1, 0): Square(300, 120, stopped), (1, 1): Square(50, 0)}
    return Picture(text, text, [f"wave 1\n{text}", "wave 2"], [text, "other"], squares)


def test_what_it_is_made_of() -> None:
    root = ET.fromstring(draw(_picture(stopped="block 9 %")))
    assert root.tag == f"{SVG}svg"
    hints = [element.text for element in root.iter(f"{SVG}title")]
    assert hints == ["100 of 100 sent", "120 of 300 sent: block 9 %", "0 of 50 sent"]
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert words[0] == "plain"
    assert "block 9 %" in words
    assert "never sent" in words


def test_areas_are_people() -> None:
    root = ET.fromstring(draw(_picture()))
    first, second, third = root.iter(f"{SVG}g")
    widths = [[float(rect.get("width", 0)) for rect in square.iter(f"{SVG}rect")] for square in (first, second, third)]
    assert widths[0][0] == widths[0][1]
    assert widths[1][1] == round(widths[1][0] * 120 / 300, 1) or abs(widths[1][1] - widths[1][0] * 0.4) < 0.1
    assert widths[2][1] == 0
    assert widths[1][0] > widths[0][0], "the bigger wave is the wider column"


@given(text=TEXTS, stopped=TEXTS)
def test_no_text_can_break_out(text: str, stopped: str) -> None:
    root = ET.fromstring(draw(_picture(text + NASTY, stopped + NASTY)))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= ALLOWED
    assert not [name for element in root.iter() for name in element.attrib if name.startswith("on") or name == "style"]
    assert text + NASTY in {element.text for element in root.iter(f"{SVG}text")}


def test_a_picture_of_nobody() -> None:
    ET.fromstring(draw(Picture("nobody", "", [], [], {})))
