"""Mistakes in a YAML file: all at once, each with its place, in words a CRM person understands."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, Field

from sendwave import documents
from sendwave.errors import BadInput
from sendwave.rules.policy import CampaignType
from sendwave.rules.units import Duration, Policy


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Part(Policy):
    size: int = Field(1, ge=1, le=9)
    wait: Duration | None = None
    weight: float = 1.0


class Thing(Policy):
    name: str = Field(min_length=2)
    colour: Colour = Colour.RED
    on: bool = False
    parts: tuple[Part, ...] = Field((), max_length=3)
    by_name: dict[str, Part] = Field(default_factory=dict)
    start: AwareDatetime | None = None


def mistakes(text: str, model: type[BaseModel] = Thing) -> tuple[str, ...]:
    with pytest.raises(BadInput) as wrong:
        documents.validate(documents.load(text, "thing.yaml"), model)
    return wrong.value.findings


def test_a_file_full_of_mistakes_names_them_all() -> None:
    text = dedent("""\
        # what a tired person writes
        type: Newsletter
        importance: high
        chanel: email
        tiers:
          burning: {share: 100}
          hot: {share: 100%, cap: 3, min_gapp: 48h}
          warm:
            cap: 2 per week
          cool:
          frozen: {share: 10%, min_gap: 48}
          frozen: {share: 20%}
        caps:
          - {max: 1 per 1d, counts: chanel}
          - {counts: all}
        control: 0.05
        waves: {ramp: [20%, 30%], soak: 4, window: "08:00-20:00 Europe/Pariss"}
        gates: {use: default, signals: {complaint: {hold: 1%, halt: 0.5%}}}
    """)
    assert "\n".join(mistakes(text, CampaignType)) == dedent("""\
        thing.yaml:2:7: type: 'Newsletter' is no key: lower-case letters, digits and _, a letter first
            type: Newsletter
                  ^
        thing.yaml:3:13: importance: must be a whole number, not 'high'
            importance: high
                        ^
        thing.yaml:4:1: chanel: unknown key 'chanel'. Did you mean 'channel'?
            chanel: email
            ^
        thing.yaml:6:20: tiers.burning.share: a share or rate needs its unit: write 100%
              burning: {share: 100}
                               ^
        thing.yaml:7:27: tiers.hot.cap: a cap or pace needs its window: write for instance '3 per 7d'
              hot: {share: 100%, cap: 3, min_gapp: 48h}
                                      ^
        thing.yaml:7:30: tiers.hot.min_gapp: unknown key 'min_gapp'. Did you mean 'min_gap'?
              hot: {share: 100%, cap: 3, min_gapp: 48h}
                                         ^
        thing.yaml:8:3: tiers.warm: missing key 'share'
              warm:
              ^
        thing.yaml:9:10: tiers.warm.cap: 'week' is no duration: write for instance 16h, 7d or 1h30m
                cap: 2 per week
                     ^
        thing.yaml:10:3: tiers.cool: has no value
              cool:
              ^
        thing.yaml:11:33: tiers.frozen.min_gap: a duration needs its unit: write 48d, 48h or 48m
              frozen: {share: 10%, min_gap: 48}
                                            ^
        thing.yaml:12:3: tiers.frozen: the key 'frozen' stands here a second time; the first is on line 11
              frozen: {share: 20%}
              ^
        thing.yaml:14:29: caps[0].counts: 'chanel' is not one of type, channel, all. Did you mean 'channel'?
              - {max: 1 per 1d, counts: chanel}
                                        ^
        thing.yaml:15:5: caps[1]: missing key 'max'
              - {counts: all}
                ^
        thing.yaml:16:10: control: a share or rate needs its unit: write 0.05% or 5%, whichever is meant
            control: 0.05
                     ^
        thing.yaml:17:33: waves.soak: a duration needs its unit: write 4d, 4h or 4m
            waves: {ramp: [20%, 30%], soak: 4, window: "08:00-20:00 Europe/Pariss"}
                                            ^
        thing.yaml:17:44: waves.window: unknown time zone 'Europe/Pariss'. Did you mean 'Europe/Paris'?
            waves: {ramp: [20%, 30%], soak: 4, window: "08:00-20:00 Europe/Pariss"}
                                                       ^
        thing.yaml:18:44: gates.signals.complaint: the hold level is above the halt level
            gates: {use: default, signals: {complaint: {hold: 1%, halt: 0.5%}}}
                                                       ^""")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("colour: red", "thing.yaml:1:1: missing key 'name'"),
        ("# note\n\nname:\n", "thing.yaml:3:1: name: has no value"),
        ("name: 2026", "thing.yaml:1:7: name: must be text: put it in quotes"),
        ("name: x", "thing.yaml:1:7: name: needs at least 2 characters"),
        ("{name: it, parts: [{size: 0}]}", "thing.yaml:1:27: parts[0].size: must be 1 or more, not 0"),
        ("{name: it, parts: [{size: 10}]}", "thing.yaml:1:27: parts[0].size: must be 9 or less, not 10"),
        ("{name: it, parts: [{size: 1.5}]}", "thing.yaml:1:27: parts[0].size: must be a whole number, not 1.5"),
        ("{name: it, parts: [{weight: a}]}", "thing.yaml:1:29: parts[0].weight: must be a number, not 'a'"),
        ("{name: it, parts: {size: 1}}", "thing.yaml:1:19: parts: must be a list: [one, two]"),
        ("{name: it, parts: [{}, {}, {}, {}]}", "thing.yaml:1:19: parts: has more than 3"),
        ("{name: it, by_name: [a]}", "thing.yaml:1:21: by_name: must be a mapping: keys with values"),
        ("{name: it, by_name: {a: b}}", "thing.yaml:1:25: by_name.a: must be a mapping: keys with values"),
        ("{name: it, on: maybe}", "thing.yaml:1:16: on: must be true or false, not 'maybe'"),
        ("{name: it, colour: bleu}", "thing.yaml:1:20: colour: 'bleu' is not one of red, green."),
        ("{name: it, colour: reed}", "thing.yaml:1:20: colour: 'reed' is not one of red, green. Did you mean 'red'?"),
        (
            "{name: it, start: 2026-03-02 09:00}",
            "thing.yaml:1:19: start: an instant needs its time zone: write for instance 2026-03-02T09:00:00+01:00",
        ),
        (
            "{name: it, start: tomorrow}",
            "thing.yaml:1:19: start: is no instant: write for instance 2026-03-02T09:00:00+01:00",
        ),
        (
            "{name: it, by_name: {a: {sise: 1}}}",
            "thing.yaml:1:26: by_name.a.sise: unknown key 'sise'. Did you mean 'size'?",
        ),
        (
            "{name: it, zzz: 1}",
            "thing.yaml:1:12: zzz: unknown key 'zzz'. Known: by_name, colour, name, on, parts, start.",
        ),
    ],
)
def test_the_words_for_a_mistake(text: str, found: str) -> None:
    assert [finding.splitlines()[0] for finding in mistakes(text)] == [found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: b: c", "1:5: a colon too many: put the text in quotes, or start a new line"),
        ("a:\n\t- x", "2:1: a tab stands where spaces are due: indent with spaces"),
        ("a: [1,\nb: 2", "1:4: this is not closed, a comma is missing, or a text in it needs quotes"),
        ("a: {b: 1", "1:4: this is not closed, a comma is missing, or a text in it needs quotes"),
        ('a: "x', "1:4: this quote is not closed"),
        ("a:\n  b: 1\n c: 2", "3:2: the indentation fits none of the lines above"),
        ("a: *x", "1:4: the alias *x is defined nowhere"),
        ("a: @x", "1:4: nothing can start with @: put the text in quotes"),
        ("a: %5", "1:4: nothing can start with %: put the text in quotes"),
        ("---\na: 1\n---\nb: 2", "3:1: a second document (---): a file holds one"),
        ("a: 1\r\nb: [\r\n", "2:5: the file ends in the middle of something"),
        ("a: \x00", "1:4: the character U+0000 does not belong in a text file"),
        ("a: &x [*x]", "1:1: nested too deeply, or an alias inside itself"),
        ("[" * 500, "1:1: nested too deeply, or an alias inside itself"),
    ],
)
def test_what_is_no_yaml_says_where_and_why(text: str, found: str) -> None:
    assert [finding.splitlines()[0] for finding in mistakes(text)] == [f"thing.yaml:{found}"]


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "~"])
def test_an_empty_file_says_what_could_stand_in_it(text: str) -> None:
    expected = "the file is empty: expected keys are name, colour, on, parts, by_name, start"
    assert mistakes(text)[0].splitlines()[0] == f"thing.yaml:1:1: {expected}"


def test_a_list_is_no_file_of_keys() -> None:
    assert mistakes("- a\n- b")[0].startswith("thing.yaml:1:1: must be a mapping: keys with values\n    - a\n    ^")


def test_a_misspelt_key_is_one_mistake_not_also_a_missing_one() -> None:
    assert [m.splitlines()[0] for m in mistakes("nam: it")] == [
        "thing.yaml:1:1: nam: unknown key 'nam'. Did you mean 'name'?"
    ]


def test_the_caret_stands_under_wide_characters_and_in_long_lines() -> None:
    (flame,) = mistakes('{name: it, by_name: {"🔥🔥": x}}')
    assert flame.splitlines()[2] == " " * (4 + 29) + "^"  # two flames are four columns wide
    (long,) = mistakes("{name: " + "x" * 200 + ", on: maybe}")
    _, shown, caret = long.splitlines()
    assert len(shown) <= 104
    assert shown[caret.index("^") :].startswith("maybe")


def test_yaml_1_2_keeps_times_countries_and_dates_as_text() -> None:
    text = (
        "{t: 21:30, c: [FR, NO, off], d: 2026-03-02, n: 017, o: 0o17, h: 0x1f, i: 1_000, f: 1e3, y: yes, b: true, z: ~}"
    )
    assert documents.load(text).data == {
        "t": "21:30",
        "c": ["FR", "NO", "off"],
        "d": "2026-03-02",
        "n": 17,
        "o": 15,
        "h": 31,
        "i": 1000,
        "f": 1000.0,
        "y": "yes",
        "b": True,
        "z": None,
    }


def test_keys_are_text_even_when_they_look_like_numbers() -> None:
    assert documents.load("{163: a, true: b}").data == {"163": "a", "true": "b"}


def test_anchors_and_merge_keys_work_and_point_at_what_they_name() -> None:
    text = dedent("""\
        name: it
        by_name:
          a: &small {size: 2}
          b: {<<: *small, weight: heavy}
          c: {<<: *small, size: 3}
    """)
    assert documents.load(text).data["by_name"]["c"] == {"size": 3}
    assert mistakes(text)[0].startswith("thing.yaml:4:27: by_name.b.weight: must be a number")


def test_tags_have_no_meaning_and_are_refused() -> None:
    found = mistakes("name: !!python/object:os.system it")
    assert found[0].startswith("thing.yaml:1:7: name: the tag 'python/object:os.system' means nothing here")


def test_a_missing_file_a_folder_and_broken_utf8(tmp_path: Path) -> None:
    for make, expected in (
        (lambda path: None, "1:1: there is no such file"),
        (lambda path: path.mkdir(), "1:1: Is a directory"),
        (lambda path: path.write_bytes(b"a: 1\nb: caf\xe9\n"), "2:7: byte 0xe9 is not UTF-8: save the file as UTF-8"),
    ):
        path = tmp_path / f"{len(expected)}.yaml"
        make(path)
        with pytest.raises(BadInput) as wrong:
            documents.load(path)
        assert wrong.value.findings == (f"{path}:{expected}",)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: it\n")
    assert documents.validate(documents.load(path), Thing).name == "it"


def test_a_part_of_a_document_keeps_its_place() -> None:
    document = documents.load("routes:\n  relay:\n    sise: 1\n", "s.yaml")
    with pytest.raises(BadInput) as wrong:
        documents.validate(document, Part, ("routes", "relay"))
    assert wrong.value.findings[0].startswith("s.yaml:3:5: routes.relay.sise: unknown key 'sise'. Did you mean 'size'?")


@given(st.text(max_size=60) | st.text(alphabet="ab:{}[],-&*!|>'\"%@#?~<. \n\t1", max_size=40))
def test_no_text_raises_anything_but_bad_input(text: str) -> None:
    assert all(mistake.startswith("thing.yaml:") for mistake in mistakes(text))  # none of them describes a Thing
