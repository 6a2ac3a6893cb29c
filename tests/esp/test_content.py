"""Templates: what they say for a person, and what is wrong with them before anybody is written to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sendwave.errors import BadInput
from sendwave.esp.content import Content, FieldMissing, check_content, one_line, stamp


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, **bodies: str) -> Path:
    for name, text in bodies.items():
        (folder / f"body.{name}").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("template", "fields", "text"),
    [
        ("Bonjour {{ first_name }},", {"first_name": "Zoé"}, "Bonjour Zoé,"),
        ("Bonjour {{ first_name }},", {}, "Bonjour ,"),
        ("Bonjour {{ first_name | default('à vous') }},", {}, "Bonjour à vous,"),
        ("{{ first_name | required }}", {"first_name": "Zoé"}, "Zoé"),
        ("{% if first_name %}Cher{% endif %}", {}, ""),
        ("{{ '{{ 7 * 7 }}' }} {{ first_name }}", {"first_name": "{{ 7 * 7 }}"}, "{{ 7 * 7 }} {{ 7 * 7 }}"),
        ("{% include 'body.html' %}", {"first_name": "Zoé"}, "<b>Zoé</b>"),
    ],
)
def test_rendering(folder: Path, template: str, fields: dict[str, Any], text: str) -> None:
    content = Content(write(folder, txt=template, html="<b>{{ first_name }}</b>"), "S")
    assert content.render(fields).text == text


def test_a_required_field_that_is_missing_names_itself(folder: Path) -> None:
    content = Content(write(folder, txt="{{ first_name | required }}"), "S")
    with pytest.raises(FieldMissing, match="first_name"):
        content.render({})


def test_fields_are_escaped_in_html_only(folder: Path) -> None:
    rendered = Content(write(folder, txt="{{ x }}", html="{{ x }}"), "{{ x }}").render({"x": "<&>"})
    assert (rendered.subject, rendered.text, rendered.html) == ("<&>", "<&>", "&lt;&amp;&gt;")


def test_a_subject_is_one_line(folder: Path) -> None:
    rendered = Content(write(folder, txt="x"), "Bonjour {{ x }}").render({"x": "Zoé\r\nBcc: a@b.example"})
    assert rendered.subject == "Bonjour Zoé Bcc: a@b.example"
    assert one_line(" a\x00b\u2028c\td ") == "a b c d"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ x.y.z }}",
        "{{ 1 / 0 }}",
        "{{ range(10 ** 9) | list }}",
        "{{ x() }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_a_template_that_fails_on_a_person_is_bad_input(folder: Path, template: str) -> None:
    with pytest.raises(BadInput, match="cannot be filled"):
        Content(write(folder, txt=template), "S").render({})


def test_all_mistakes_at_once(folder: Path) -> None:
    write(folder, txt="Bonjour\n{{ first_nam }}", html="<p>{% if x %}</p>")
    findings = check_content(folder, ["first_name", "x"], subject="{{ first_name | shout }}")
    unknown, unclosed, filtered = findings
    fields = "campaign, email, first_name, token, unsubscribe_url, x"
    assert unknown == f"{folder}/body.txt: no contact has a field 'first_nam'; there are: {fields}"
    assert unclosed.startswith(f"{folder}/body.html:1: Unexpected end of template.")
    assert filtered == "subject:1: No filter named 'shout'."


def test_nothing_wrong(folder: Path) -> None:
    write(folder, txt="{{ first_name }} {{ unsubscribe_url }} {{ email }}")
    assert check_content(folder, ["first_name"], subject="{{ first_name }}") == ()


def test_folders_that_hold_no_content(folder: Path) -> None:
    assert check_content(folder / "nowhere", []) == (
        f"{folder}/nowhere: there is no such folder; it should hold body.txt, body.html or both",
    )
    assert check_content(folder, []) == (f"{folder}: there is neither body.txt nor body.html",)
    (folder / "body.txt").write_bytes(b"\xff\xfe")
    assert check_content(folder, [])[0].startswith(f"{folder}/body.txt: not UTF-8")
    write(folder, txt="{% include 'footer.txt' %}")
    assert check_content(folder, []) == (f"{folder}/body.txt: includes 'footer.txt', which is not in the folder",)


def test_the_stamp_moves_with_the_files(folder: Path) -> None:
    write(folder, txt="a")
    before = stamp(folder)
    write(folder, txt="ab")
    assert stamp(folder) != before
    assert stamp(folder / "nowhere") == ()
