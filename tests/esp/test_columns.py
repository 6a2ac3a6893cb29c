"""JSON written by columns is the JSON of each document."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sendwave.esp.columns import Column, anything, listed, quoted, rows, texts, written

TEXTS = st.lists(
    st.one_of(st.text(max_size=8), st.sampled_from(['x",', '","', "\\", '\\"', '"', "a\nb\0", "é\u2028"])), min_size=1
)


def read(document: Any, count: int) -> Any:
    return json.loads(written({"all": listed(rows(document, count))}))["all"]


@given(values=TEXTS, name=st.text(max_size=5))
def test_each_document_has_its_own_values(values: list[str], name: str) -> None:
    document = {"from": name, "to": [{"email": texts(values)}], "list": texts(values, before="<", after=">"), "n": 1}
    assert read(document, len(values)) == [
        {"from": name, "to": [{"email": value}], "list": f"<{value}>", "n": 1} for value in values
    ]


@given(values=TEXTS, name=st.text(max_size=5))
def test_a_document_in_a_text_of_another(values: list[str], name: str) -> None:
    inner = {name: texts(values), "mark": '{"a": "\\n"}'}
    found = read({"data": quoted(inner)}, len(values))
    assert [json.loads(one["data"]) for one in found] == [{name: value, "mark": '{"a": "\\n"}'} for value in values]


def test_some_of_the_people() -> None:
    column = texts(["a", "b", "c"], before="<", after=">").of([2, 0])
    assert read({"x": column}, 2) == [{"x": "<c>"}, {"x": "<a>"}]
    assert read({"x": anything([{"at": date(2026, 3, 2), "eur": Decimal("9.90")}, None])}, 2) == [
        {"x": {"at": "2026-03-02", "eur": "9.90"}}, {"x": None},
    ]  # fmt: skip


def test_half_of_a_surrogate_pair_anywhere_is_no_exception() -> None:
    found = read({"\ud800": texts(["Zo\ud800", "b"]), "huge": 10**30, "x": texts(["1", "2"])}, 2)
    assert found == [{"?": "Zo?", "huge": 10**30, "x": "1"}, {"?": "b", "huge": 10**30, "x": "2"}]


def test_who_is_empty() -> None:
    assert texts(["", ""]).is_empty
    assert not texts(["", "a"]).is_empty
    assert not Column([b'"a"']).is_empty
