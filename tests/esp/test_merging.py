"""A template filled in for a whole batch says what Jinja says for each person, in full and by marks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sendwave.errors import BadInput
from sendwave.esp.columns import rows
from sendwave.esp.content import Content, FieldMissing
from sendwave.esp.merging import Merge, compare

LINES = st.lists(st.sampled_from(["Bonjour", "Anne", "", "-sw0-", "fin", "é\r", " "]), max_size=6).map("\n".join)
VALUES = st.sampled_from([None, "", "Zoé", "<b>&", "-swt0-", "{{ x }}", "a\nb", "}", "{", 7, 3.5, True])
PIECES = st.sampled_from(
    [
        "Bonjour ", "{{ x }}", "{{ y }}", "{{ x | default('vous & moi') }}", "{{ x | upper }}", "\n", " { ", "}", "-sw",
        "{% if x %}<i>{{ x }}</i>{% endif %}", "{% for n in [1, 2] %}{{ n }}{{ y }}{% endfor %}",
        "{{ unsubscribe_url }}",
        "{{ '{{' }}", "<p>", "{% raw %}{{ x }}{% endraw %}", "{{ range(3) | list }}", "{# nothing #}", "{{ x ~ y }}",
    ]
)  # fmt: skip
SETTERS = st.sampled_from(["", "{% set z = x %}{{ z }}", "{% macro m() %}{{ x }}{% endmacro %}{{ m() }}"])


def filled(skeleton: dict[str, str], columns: dict[str, Any], row: int) -> dict[str, str]:
    """What an ESP makes of it."""
    found = {}
    for part, text in skeleton.items():
        found[part] = text
        for name, values in columns.items():
            found[part] = found[part].replace(f"\ue000{name}\ue000", values[row])
    return found


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(PIECES, max_size=7),
    setter=SETTERS,
    people=st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=5),
)
def test_everybody_gets_what_jinja_renders_for_them(
    tmp_path: Path, pieces: list[str], setter: str, people: Any
) -> None:
    source = "".join(pieces) + setter
    for name in ("body.txt", "body.html"):
        (tmp_path / name).write_text(source, encoding="utf-8")
    content = Content(tmp_path, "Bonjour {{ x }}")
    links = [f"https://lune.example/u?a=1&t={n}" for n in range(len(people))]
    columns = {"x": [x for x, _ in people], "y": [y for _, y in people], "unsubscribe_url": links}
    merge = content.merge(columns, len(people))
    shared, values = merge.skeletons(lambda name: f"\ue000{name}\ue000", "sw", ("\ue000",))
    for row in range(len(people)):
        known = {name: column[row] for name, column in columns.items()}
        one = content.render({name: value for name, value in known.items() if value is not None and value != ""})
        assert [merge.texts(part)[row] for part in ("subject", "text", "html")] == [one.subject, one.text, one.html]
        in_full = rows({part: merge.written(part) for part in ("subject", "text", "html")}, len(people))[row]
        assert orjson.loads(b"".join(in_full)) == {"subject": one.subject, "text": one.text, "html": one.html}
        given_in = filled(shared, values, row)
        assert (given_in["subject"].strip(), given_in["text"], given_in["html"]) == (one.subject, one.text, one.html)


@given(texts=st.lists(LINES, min_size=1, max_size=5))
def test_finished_texts_filled_in_again_are_what_they_were(texts: list[str]) -> None:
    found = compare(texts, lambda name: f"\ue000{name}\ue000", "sw", ("-sw",))
    for row, text in enumerate(texts):
        again = found.shared
        for name, values in zip(found.names, found.columns, strict=True):
            again = again.replace(f"\ue000{name}\ue000", values[row])
        assert again == text


def test_a_text_in_full_survives_what_only_the_slower_writer_takes(tmp_path: Path) -> None:
    merge = merged(tmp_path, 'Bonjour {{ x }}\n"é"', {"x": ["Zoé\ud800", ""]}, 2)
    told = rows({"text": merge.written("text"), "n": 10**30, "at": None}, 2)
    assert [json.loads(b"".join(one))["text"] for one in told] == ['Bonjour Zoé?\n"é"', 'Bonjour \n"é"']
    assert not merged(tmp_path, "{{ x }}", {"x": ["a", ""]}, 2).written("text").is_empty
    assert merged(tmp_path, "{{ x }}", {"x": ["", None]}, 2).written("text").is_empty


def test_what_everybody_shares_is_given_once() -> None:
    shared = "\n".join(f"line {n}" for n in range(100))
    found = compare([f"Bonjour Anne\n{shared}", f"Bonjour Bruno\n{shared}"], lambda n: f"[{n}]", "x", ("[",))
    assert found.shared == f"[x0]{shared}"
    assert [list(column) for column in found.columns] == [["Bonjour Anne\n", "Bonjour Bruno\n"]]


def test_a_paragraph_some_do_not_have() -> None:
    found = compare(["a\nb\nc\nd", "a\nd"], lambda n: f"[{n}]", "x", ("[",))
    assert found.shared.startswith("a\n")
    assert found.shared.endswith("d")


def merged(folder: Path, source: str, columns: dict[str, Any], count: int) -> Merge:
    (folder / "body.txt").write_text(source, encoding="utf-8")
    return Content(folder, "S").merge(columns, count)


@pytest.mark.parametrize(
    ("source", "shared", "values"),
    [
        ("a{{ x }}b{{ x }}", "a{{swt0}}b{{swt0}}", {"swt0": ["1", "2"]}),
        ("css{ {{ x }} }{{ '' }}", "css{ {{swt0}} }{{swt1}}", {"swt0": ["1", "2"], "swt1": ["", ""]}),
        ("{{ '' }}{% raw %}{{{{% endraw %}{{ x }}", None, None),
        ("a{% raw %}{{{% endraw %}{{ x }}}", "a{{swt0}}{{swt2}}", {"swt0": ["{{", "{{"], "swt2": ["1}", "2}"]}),
    ],
)
def test_what_the_esp_would_take_for_a_mark_is_given_as_a_value(
    tmp_path: Path, source: str, shared: str | None, values: dict[str, list[str]] | None
) -> None:
    found, columns = merged(tmp_path, source, {"x": ["1", "2"]}, 2).skeletons(
        lambda name: f"{{{{{name}}}}}", "sw", ("{{",)
    )
    if shared is not None:
        assert found["text"] == shared
        assert {name: list(column) for name, column in columns.items()} == values
    text = found["text"]
    for name, column in columns.items():
        text = text.replace(f"{{{{{name}}}}}", f"<{column[0]}>")
    assert "{{" not in text.replace("<{{>", "").replace("<{>", "")


def test_a_template_that_fails_for_one_person_fails_for_them_alone(tmp_path: Path) -> None:
    columns = {"x": ["1", None, "3", None], "y": ["0", "1", "2", "4"]}
    found = merged(tmp_path, "{{ x | required }} {{ 10 // (y | int) }}", columns, 4)
    assert sorted(found.failures) == [0, 1, 3]
    assert {type(wrong) for row, wrong in found.failures.items() if row} == {FieldMissing}
    assert found.texts("text")[2] == "3 5"


def test_a_template_that_does_not_compile_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"body\.txt:1"):
        merged(tmp_path, "{{ x", {}, 0)
