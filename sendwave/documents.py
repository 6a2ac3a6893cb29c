"""YAML files checked against models: all mistakes of a file at once, each with its place.

A mistake reads `file:line:column: path: what is wrong. Did you mean 'x'?`, then the source line and a caret. Files are
YAML 1.2, so `21:30` stays text and `NO` is Norway. ruamel.yaml is used in this module alone: it composes the node tree,
whose marks give every key and value its position; the plain Python values are made here.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StringMark
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from sendwave.errors import BadInput, did_you_mean

Checked = TypeVar("Checked", bound=BaseModel)
Loc = tuple[str | int, ...]
"""A place inside a document: keys and list indexes from the top."""

_TAG: Final = "tag:yaml.org,2002:"
_TAGS: Final = frozenset(
    _TAG + kind for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge")
)
_NEWLINE: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # the parser's own idea of a line
_SHOWN: Final = 100  # characters of a long source line that are shown


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing wrong in a document; line and column count from 1, and sort it."""

    line: int
    column: int
    text: str


class Document:
    """A YAML file or text, with the position of everything in it."""

    def __init__(self, name: str, text: str) -> None:
        """Read `text`; `name` is what people call the file. Raises BadInput for anything that is not YAML."""
        self.name, self.text = name, text
        self.lines = _NEWLINE.split(text.rstrip("\r\n"))
        self.mistakes: list[Mistake] = []
        try:
            self.root: Node | None = YAML(typ="safe", pure=True).compose(text)
            self.data: Any = None if self.root is None else self._plain(self.root, ())
        except MarkedYAMLError as fault:
            mark, problem = _syntax(fault)
            raise self.refused([self._at(mark.line, mark.column, (), problem)]) from fault
        except ReaderError as fault:
            before = text[: fault.position]
            problem = f"the character U+{ord(text[fault.position]):04X} does not belong in a text file"
            place = before.count("\n"), len(before) - before.rfind("\n") - 1
            raise self.refused([self._at(*place, (), problem)]) from fault
        except RecursionError as fault:
            raise self.refused([self._at(0, 0, (), "nested too deeply, or an alias inside itself")]) from fault

    def mistake(self, loc: Loc, problem: str, *, at_key: bool = False, offset: int = 0) -> Mistake:
        """What is wrong at `loc`: at its value, or its key; at the nearest place above when there is no such place.

        `offset` counts characters into a text that stands on one line.
        """
        key, value = self._nodes(loc)
        node = key if key is not None and (at_key or value is None or _is_empty(value)) else value
        if node is None:
            return self._at(0, 0, loc, problem)
        column = node.start_mark.column
        if offset and isinstance(node, ScalarNode) and node.start_mark.line == node.end_mark.line:
            column += offset + (node.style in ('"', "'"))
        return self._at(node.start_mark.line, column, loc, problem)

    def refused(self, mistakes: Sequence[Mistake]) -> BadInput:
        """The error that carries these mistakes, in the order of the file."""
        ordered = sorted(set(mistakes))
        count = "a mistake" if len(ordered) == 1 else f"{len(ordered)} mistakes"
        return BadInput(f"{count} in {self.name}", tuple(mistake.text for mistake in ordered))

    def spliced(self, values: Mapping[Loc, str]) -> str:
        """The text with the single values at some places replaced; comments, order and spaces stay as they are.

        Raises BadInput for a place where no single value stands.
        """
        text = self.text
        places: list[tuple[int, int, str]] = []
        for loc, value in values.items():
            node = self._nodes(loc)[1]
            if not isinstance(node, ScalarNode) or node is self._nodes(loc[:-1])[1] or _is_empty(node):
                raise BadInput(f"{self.name} has no single value at {dotted(loc)} that could be replaced")
            if any(start == node.start_mark.index for start, _, _ in places):
                raise BadInput(f"{self.name} shares the value at {dotted(loc)} (&anchor): change it by hand")
            places.append((node.start_mark.index, node.end_mark.index, value))
        for start, end, value in sorted(places, reverse=True):
            text = text[:start] + value + text[end:]
        return text

    def _at(self, line: int, column: int, loc: Loc, problem: str) -> Mistake:
        if line >= len(self.lines) > 0:  # the end of the file: show its last line
            line, column = len(self.lines) - 1, len(self.lines[-1])
        path = f"{dotted(loc)}: " if loc else ""
        shown = _source(self.lines[line], column) if line < len(self.lines) and self.lines[line] else ""
        return Mistake(line + 1, column + 1, f"{self.name}:{line + 1}:{column + 1}: {path}{problem}{shown}")

    def _nodes(self, loc: Loc) -> tuple[Node | None, Node | None]:
        """The key's and the value's node at `loc`, or of the deepest place above it that exists."""
        key, value = None, self.root
        for part in loc:
            if isinstance(value, MappingNode):
                found = next(((k, v) for k, v in _pairs(value) if k.value == part), None)
                if found is None:
                    break
                key, value = found
            elif isinstance(value, SequenceNode) and isinstance(part, int) and part < len(value.value):
                key = value = value.value[part]
            else:
                break
        return key, value

    def _plain(self, node: Node, loc: Loc) -> Any:
        """The node as plain values: keys are text whatever they look like, instants stay text."""
        if node.tag not in _TAGS:
            problem = f"the tag {str(node.tag).removeprefix(_TAG)!r} means nothing here"
            self.mistakes.append(self._at(node.start_mark.line, node.start_mark.column, loc, problem))
        if isinstance(node, MappingNode):
            self._check_keys(node, loc)
            plain: dict[str, Any] = {}
            for key, value in _pairs(node):
                if isinstance(key, ScalarNode) and key.value not in plain:
                    plain[key.value] = self._plain(value, (*loc, key.value))
            return plain
        if isinstance(node, SequenceNode):
            return [self._plain(value, (*loc, index)) for index, value in enumerate(node.value)]
        return _scalar(node)

    def _check_keys(self, node: MappingNode, loc: Loc) -> None:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            mark = key.start_mark
            if not isinstance(key, ScalarNode):
                self.mistakes.append(self._at(mark.line, mark.column, loc, "a key must be a single word"))
            elif key.value in seen and key.tag != _TAG + "merge":
                problem = f"the key {key.value!r} stands here a second time; the first is on line {seen[key.value]}"
                self.mistakes.append(self._at(mark.line, mark.column, (*loc, key.value), problem))
            else:
                seen[key.value] = mark.line + 1


def load(source: Path | str, name: str | None = None) -> Document:
    """The document in a file (a Path) or in a text (a str), to be called `name` in messages.

    Raises:
        BadInput: no such file, not UTF-8, or not YAML, with the place of the mistake.

    """
    if isinstance(source, str):
        return Document(name or "text", source)
    name = name or str(source)
    try:
        raw = source.read_bytes()
    except OSError as fault:
        reason = "there is no such file" if isinstance(fault, FileNotFoundError) else (fault.strerror or str(fault))
        raise BadInput(f"a mistake in {name}", (f"{name}:1:1: {reason}",)) from fault
    try:
        return Document(name, raw.decode("utf-8-sig"))
    except UnicodeDecodeError as fault:
        before = raw[: fault.start].decode("utf-8-sig", errors="replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        problem = f"byte 0x{raw[fault.start]:02x} is not UTF-8: save the file as UTF-8"
        raise BadInput(f"a mistake in {name}", (f"{name}:{line}:{column}: {problem}",)) from fault


def validate(document: Document, model: type[Checked], at: Loc = ()) -> Checked:
    """The document, or its part at `at`, as a `model`. Raises BadInput with every mistake, in the order of the file."""
    mistakes = list(document.mistakes)
    data = document.data
    for part in at:
        data = data[part]
    if not isinstance(data, Mapping):
        empty = "is empty" if at else "the file is empty"
        problem = empty if data is None else "must be a mapping: keys with values"
        names = ", ".join(_field_names(model, ())) if data is None else ""
        mistakes.append(document.mistake(at, f"{problem}{': expected keys are ' if names else ''}{names}"))
        raise document.refused(mistakes)
    try:
        checked = model.model_validate(data)
    except ValidationError as wrong:
        mistakes += _translated(document, model, wrong.errors(include_url=False), at)
        raise document.refused(mistakes) from wrong
    if mistakes:
        raise document.refused(mistakes)
    return checked


def dotted(loc: Loc) -> str:
    """`('waves', 'ramp', 2)` as `waves.ramp[2]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _pairs(node: MappingNode) -> Iterator[tuple[Node, Node]]:
    """Keys and values, those of `<<: *alias` last: what stands in the mapping itself goes before them."""
    merged: list[Node] = []
    for key, value in node.value:
        if key.tag == _TAG + "merge":
            merged += value.value if isinstance(value, SequenceNode) else [value]
        else:
            yield key, value
    for source in merged:
        if isinstance(source, MappingNode):
            yield from _pairs(source)


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == _TAG + "null"


def _scalar(node: Node) -> Any:
    text, kind = str(node.value), str(node.tag).removeprefix(_TAG)
    digits = text.replace("_", "")
    try:
        if kind == "int":
            return int(digits, 0 if digits.lstrip("+-")[:2].lower() in ("0x", "0o", "0b") else 10)
        if kind == "float":
            return float(re.sub(r"\.(inf|nan)", r"\1", digits, flags=re.IGNORECASE))
    except ValueError:  # `-_` counts as a number for YAML
        return text
    if kind == "bool":
        return text.lower() == "true"
    return None if kind == "null" else text


def _source(line: str, column: int) -> str:
    """The source line and a caret under `column`, each on a line of its own."""
    from rich.cells import cell_len  # a flame is two columns wide on a terminal

    start = max(0, column - _SHOWN // 2) if len(line) > _SHOWN else 0
    shown = line[start : start + _SHOWN].replace("\t", " ")
    return f"\n    {shown}\n    {' ' * cell_len(shown[: column - start])}^"


_SYNTAX: Final = (  # what the parser says, what a person can do about it; True points at where it began
    (r"found character '\\t'", "a tab stands where spaces are due: indent with spaces", False),
    (r"found character '(.+)' that", "nothing can start with {0}: put the text in quotes", False),
    (r"mapping values are not allowed", "a colon too many: put the text in quotes, or start a new line", False),
    (r"expected ',' or '[\]}]'", "this is not closed, a comma is missing, or a text in it needs quotes", True),
    (r"unexpected end of stream", "this quote is not closed", True),
    (r"expected <block end>", "the indentation fits none of the lines above", False),
    (r"undefined alias '?(.+?)'?$", "the alias *{0} is defined nowhere", False),
    (r"another document", "a second document (---): a file holds one", False),
    (r"could not find expected ':'", "a key without a colon", True),
    (r"<stream end>", "the file ends in the middle of something", False),
)


def _syntax(fault: MarkedYAMLError) -> tuple[StringMark, str]:
    said = str(fault.problem or fault)
    mark = fault.problem_mark or fault.context_mark
    for pattern, words, at_start in _SYNTAX:
        if match := re.search(pattern, said):
            began = fault.context_mark if at_start and fault.context_mark is not None else mark
            return began, words.format(*match.groups())
    return mark, " ".join(str(part) for part in (fault.context, said) if part)


def _translated(document: Document, model: type[BaseModel], errors: Sequence[ErrorDetails], at: Loc) -> list[Mistake]:
    """Errors of pydantic in our words. A misspelt key is one mistake, not also the missing one it was meant to be."""
    mistakes, meant = [], set()
    for error in errors:
        if error["type"] == "extra_forbidden":
            *above, key = error["loc"]
            hint = did_you_mean(str(key), _field_names(model, tuple(above)))
            meant |= {(*above, name) for name in re.findall(r"Did you mean '(\w+)'", hint)}
            mistakes.append(document.mistake((*at, *error["loc"]), f"unknown key {key!r}.{hint}", at_key=True))
    for error in errors:
        loc = error["loc"]
        if error["type"] == "missing" and loc not in meant:
            mistakes.append(document.mistake((*at, *loc[:-1]), f"missing key {loc[-1]!r}", at_key=True))
        elif error["type"] not in ("missing", "extra_forbidden"):
            at_key = bool(loc) and loc[-1] == "[key]"
            offset = getattr(error.get("ctx", {}).get("error"), "offset", 0)  # of a text that has a grammar of its own
            place, key = (*at, *(loc[:-1] if at_key else loc)), at_key or offset < 0
            mistakes.append(document.mistake(place, _in_words(error), at_key=key, offset=max(offset, 0)))
    return mistakes


_WORDS: Final[Mapping[str, str]] = {  # by pydantic's error type, or its beginning; {…} are pydantic's context
    "string_type": "must be text: put it in quotes",
    "string_too_short": "needs at least {min_length} characters",
    "string_too_long": "has more than {max_length} characters",
    "string_pattern_mismatch": "{input!r} is not written as it must be (pattern {pattern})",
    "int_": "must be a whole number, not {input!r}",
    "float_": "must be a number, not {input!r}",
    "finite_number": "must be a finite number",
    "bool_": "must be true or false, not {input!r}",
    "list_type": "must be a list: [one, two]",
    "tuple_type": "must be a list: [one, two]",
    "dict_type": "must be a mapping: keys with values",
    "model_": "must be a mapping: keys with values",
    "too_short": "needs at least {min_length}, has {actual_length}",
    "too_long": "has more than {max_length}",
    "greater_than_equal": "must be {ge} or more, not {input}",
    "greater_than": "must be more than {gt}, not {input}",
    "less_than_equal": "must be {le} or less, not {input}",
    "less_than": "must be less than {lt}, not {input}",
    "timezone_aware": "an instant needs its time zone: write for instance 2026-03-02T09:00:00+01:00",
    "datetime_": "is no instant: write for instance 2026-03-02T09:00:00+01:00",
}


def _in_words(error: ErrorDetails) -> str:
    kind, context, given = error["type"], error.get("ctx", {}), error["input"]
    if given is None:
        return "has no value"
    if kind == "value_error":
        return str(context["error"])
    if kind in ("enum", "literal_error"):
        members = re.findall(r"'([^']*)'", str(context["expected"]))
        hint = did_you_mean(str(given), members).partition(" Known")[0]
        return f"{given!r} is not one of {', '.join(members)}.{hint}"
    for start, words in _WORDS.items():
        if kind.startswith(start):
            return words.format(input=given, **context)
    return str(error["msg"])


def _field_names(annotation: Any, loc: Loc) -> tuple[str, ...]:
    """The keys a model takes at `loc`; none where any key may stand."""
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        return _field_names(annotation.model_fields["root"].annotation, loc)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not loc:
            return tuple(annotation.model_fields)
        field = annotation.model_fields.get(str(loc[0]))
        return () if field is None else _field_names(field.annotation, loc[1:])
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return tuple(name for branch in inside for name in _field_names(branch, loc))
    if not loc or not inside:
        return ()
    return _field_names(inside[1] if origin is dict else inside[0], loc[1:])
