"""A template taken apart for a whole batch: the text everybody shares, and the slots where people differ.

A slot is what stands between two stretches of plain text: `{{ first_name }}`, an `{% if %}`. It is filled once for each
different value of the fields it reads, not once per person: names repeat, and most of a page is the same for all. A
template that sets variables, includes or inherits cannot be cut up, and is one slot as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Final, NamedTuple

from jinja2 import Environment, Template, meta, nodes
from markupsafe import escape

from sendwave.esp.columns import Column, all_in_json, in_json, texts

_WHOLE: Final = (
    nodes.Assign, nodes.AssignBlock, nodes.Macro, nodes.CallBlock, nodes.Import, nodes.FromImport, nodes.Include,
    nodes.Extends, nodes.Block, nodes.EvalContextModifier, nodes.ScopedEvalContextModifier,
)  # fmt: skip
_ELSEWHERE: Final = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
_REMEMBERED: Final = 20_000  # texts a slot keeps; names and cities are fewer, order numbers would never come again
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
_MARKUP: Final = re.compile(r"[&<>\"']")
_DRAWN: Final = frozenset({"random", "lipsum", "cycler", "joiner"})
"""Filters and functions that may say something else each time they are asked."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One place where people differ."""

    key: str  # the same for slots that say the same
    needs: tuple[str, ...] | None  # fields it reads; None: all there are, never remembered
    fill: Callable[[dict[str, Any]], str] | None = None  # from the fields it reads to the text
    write: Callable[[Any], str] | None = None  # for a bare field: from its value to the text
    whole: bool = False  # a template that could not be cut up
    missing: str = ""  # what `write` writes for people without the field
    seen: dict[Any, str] = field(default_factory=dict)  # what it said before, in earlier batches too


HEADER: Final = "subject"
"""The part that is a header."""

Pattern = Sequence[str | Slot]
"""A template as plain text and slots, in order."""


class Skeleton(NamedTuple):
    """One text for all: `shared` with marks, and for each mark of `names` everybody's values."""

    shared: str
    names: Sequence[str]
    columns: Sequence[Sequence[str]]


def unbroken(value: str) -> str:
    """The value without line breaks and control characters: safe inside a header (RFC 5322 §2.2)."""
    return _CONTROL.sub(" ", value)


def in_headers(values: Sequence[str], *, strip: bool = False) -> list[str]:
    """As `unbroken` for many, of which few need it."""
    if _CONTROL.search("".join(values)):
        values = list(map(unbroken, values))
    return [value.strip() for value in values] if strip else list(values)


def take_apart(environment: Environment, source: str, name: str | None) -> Pattern:
    """The pattern of a template's source; `name` decides about escaping, as the environment says."""
    tree = environment.parse(source)
    if next(tree.find_all(_WHOLE), None) is not None:
        return [_slot(environment, tree.body, name, whole=True)]
    found: list[str | Slot] = []
    for node in tree.body:
        for part in node.nodes if isinstance(node, nodes.Output) else [node]:
            last = found[-1] if found else None
            if not isinstance(part, nodes.TemplateData):
                found.append(_slot(environment, [part], name))
            elif isinstance(last, str):
                found[-1] = last + part.data
            else:
                found.append(part.data)
    return found


def _slot(environment: Environment, body: Sequence[Any], name: str | None, *, whole: bool = False) -> Slot:
    escaping = environment.autoescape(name) if callable(environment.autoescape) else environment.autoescape
    if (bare := _bare(body)) and bare[0] not in environment.globals:
        write: Callable[[Any], str] = _escaped if escaping else str
        return Slot(f"{write.__name__} {bare}", (bare[0],), write=write, missing=write(bare[1]))
    lifted = [nodes.Output([node], lineno=1) if isinstance(node, nodes.Expr) else node for node in body]
    tree = nodes.Template(lifted, lineno=1)
    tree.set_environment(environment)
    compiled = environment.compile(tree, name, name)
    template, shared = Template.from_code(environment, compiled, {}), dict(environment.globals)

    def fill(known: dict[str, Any]) -> str:
        return "".join(template.root_render_func(template.new_context({**shared, **known}, shared=True)))

    needs = None if _draws(tree) else tuple(sorted(meta.find_undeclared_variables(tree)))
    return Slot(f"{escaping} {tree!r}", needs, fill, whole=whole)


def _bare(body: Sequence[Any]) -> tuple[str, str] | None:
    """(field, what stands in for it) of `{{ field }}` and `{{ field | default("…") }}`."""
    only = body[0] if len(body) == 1 else None
    instead = ""
    if isinstance(only, nodes.Filter) and only.name in {"default", "d"} and not (only.kwargs or only.dyn_args):
        given = only.args[0] if len(only.args) == 1 else None
        if not isinstance(given, nodes.Const):
            return None
        only, instead = only.node, str(given.value)
    return (only.name, instead) if isinstance(only, nodes.Name) else None


def _escaped(value: Any) -> str:
    return str.__str__(escape(value))  # a plain text again: markup would escape what is joined to it


def _draws(tree: nodes.Template) -> bool:
    """Whether it may say something else each time, or reads what cannot be seen from here."""
    drawn = any(getattr(node, "name", "") in _DRAWN for node in tree.find_all((nodes.Filter, nodes.Name)))
    return drawn or next(tree.find_all(_ELSEWHERE), None) is not None


@dataclass
class Merge:
    """Patterns filled in for the people of a batch: `columns` are their fields, `count` their number.

    `failures` are the people for whom a template could not be filled, by position, with what was raised.
    """

    patterns: Mapping[str, Pattern]  # by part: subject, text, html
    columns: Mapping[str, Sequence[Any]]
    count: int
    failures: dict[int, Exception] = field(default_factory=dict)
    _filled: dict[str, Sequence[str]] = field(default_factory=dict)
    _texts: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for slot in [piece for pattern in self.patterns.values() for piece in pattern if isinstance(piece, Slot)]:
            if slot.key not in self._filled:
                self._filled[slot.key] = self._fill(slot)

    def texts(self, part: str) -> list[str]:
        """The part for everybody, in full."""
        if part not in self._texts:
            pieces = [repeat(p, self.count) if isinstance(p, str) else self._filled[p.key] for p in self.patterns[part]]
            whole = list(map("".join, zip(*pieces, strict=True))) if pieces else [""] * self.count
            self._texts[part] = in_headers(whole, strip=True) if part == HEADER else whole
        return self._texts[part]

    def written(self, part: str) -> Column:
        """The part for everybody as it stands in JSON: what is shared is escaped once."""
        if part == HEADER:
            return texts(self.texts(part))
        pattern = self.patterns[part]
        return Column(
            [b'"', *(in_json(p) if isinstance(p, str) else all_in_json(self._filled[p.key]) for p in pattern), b'"']
        )

    def skeletons(
        self, mark: Callable[[str], str], prefix: str, risky: Sequence[str]
    ) -> tuple[dict[str, str], dict[str, Sequence[str]]]:
        """The parts as texts with marks, and everybody's values for each mark; see `skeleton`."""
        shared: dict[str, str] = {}
        columns: dict[str, Sequence[str]] = {}
        for part in self.patterns:
            drawn = self.skeleton(part, mark, prefix, risky)
            shared[part], values = drawn.shared, drawn.columns
            if part == HEADER:
                shared[part], values = unbroken(drawn.shared).strip(), [in_headers(column) for column in values]
            used = [pair for pair in zip(drawn.names, values, strict=True) if mark(pair[0]) in shared[part]]
            for name, column in used:
                same = next((known for known, other in columns.items() if other == column), None)
                if same is None:
                    columns[name] = column
                else:
                    shared[part] = shared[part].replace(mark(name), mark(same))
        return shared, columns

    def skeleton(self, part: str, mark: Callable[[str], str], prefix: str, risky: Sequence[str]) -> Skeleton:
        """The part as one text with marks: `mark("swh0")` is written where the value swh0 goes.

        `risky` is what the ESP would take for a mark: where the shared text has it, it is given as a value too.
        """
        pattern, prefix = self.patterns[part], f"{prefix}{part[0]}"
        if any(isinstance(piece, Slot) and piece.whole for piece in pattern):
            return compare(self.texts(part), mark, prefix, risky)
        drawing = _Drawing(mark, prefix)
        for piece in pattern:
            if isinstance(piece, Slot):
                drawing.add_value(piece.key, self._filled[piece.key])
                continue
            for place, text in enumerate(re.split(f"({'|'.join(map(re.escape, risky))})", piece)):
                if place % 2:
                    drawing.add_value(f"shared {text}", [text] * self.count)
                else:
                    drawing.add_text(text)
        return drawing.done()

    def _fill(self, slot: Slot) -> Sequence[str]:
        columns = self.columns
        if slot.write is not None and slot.needs:
            given, write, missing = columns.get(slot.needs[0], [None] * self.count), slot.write, slot.missing
            if _are_texts(given, plain=write is _escaped):  # nearly always: then nothing is to be done to them
                return [v or missing for v in given]
            return [missing if v is None or v == "" else write(v) for v in given]
        needs = tuple(columns) if slot.needs is None else slot.needs
        if not needs:
            return [self._one(slot, {}, range(self.count))] * self.count
        rows = zip(*[columns.get(name, repeat(None, self.count)) for name in needs], strict=True)
        filled: list[str] = []
        seen = slot.seen
        if len(seen) > _REMEMBERED:
            seen.clear()
        for row, values in enumerate(rows):
            key = values if slot.needs is not None and _hashable(values) else None
            text = seen.get(key) if key is not None else None
            if text is None:
                known = {name: v for name, v in zip(needs, values, strict=True) if v is not None and v != ""}
                text = self._one(slot, known, [row])
                if key is not None and row not in self.failures:
                    seen[key] = text
            filled.append(text)
        return filled

    def _one(self, slot: Slot, known: dict[str, Any], rows: Sequence[int]) -> str:
        try:
            return slot.fill(known) if slot.fill else ""
        except Exception as wrong:  # noqa: BLE001  # a template can fail in any way, and that must not stop a batch
            self.failures.update(dict.fromkeys(rows, wrong))
            return ""


def _are_texts(values: Sequence[Any], *, plain: bool) -> bool:
    """Whether these are all texts or None; with `plain` also without anything that HTML escapes."""
    try:
        together = "\0".join([value for value in values if value is not None])
    except TypeError:
        return False
    return not plain or _MARKUP.search(together) is None


def _hashable(values: tuple[Any, ...]) -> bool:
    try:
        hash(values)
    except TypeError:
        return False
    return True


@dataclass
class _Drawing:
    """A skeleton as it is drawn. A brace beside a brace of a mark would change it: such goes into the value."""

    mark: Callable[[str], str]
    prefix: str
    names: list[str] = field(default_factory=list)
    _said: list[str] = field(default_factory=list)  # text and marks
    _values: list[Sequence[str]] = field(default_factory=list)
    _keys: dict[str, int] = field(default_factory=dict)
    _open: int | None = None  # where the last mark stands in _said, while text may still be glued to its value

    def add_text(self, text: str) -> None:
        closing = self.mark("")[-1]
        if self._said and self._open is not None and text.startswith(closing):
            rest = text.lstrip(closing)
            self._glue(after=text[: len(text) - len(rest)])
            text = rest
        if text:
            self._said.append(text)
            self._open = None

    def add_value(self, key: str, values: Sequence[str]) -> None:
        opening, before = self.mark("")[0], ""
        if self._said and self._open is None and self._said[-1].endswith(opening):
            kept = self._said[-1].rstrip(opening)
            before, self._said[-1] = self._said[-1][len(kept) :], kept
        if before:
            key, values = f"{before}{key}", [before + value for value in values]
        self._place(key, values)

    def _glue(self, after: str) -> None:
        number = self._open or 0
        self._said.pop()
        self._place(f"{number} glued {after}", [value + after for value in self._values[number]])

    def _place(self, key: str, values: Sequence[str]) -> None:
        number = self._keys.get(key)
        if number is None and values in self._values:  # said the same of everybody under another name
            number = self._keys[key] = self._values.index(values)
        if number is None:
            number = self._keys[key] = len(self.names)
            self.names.append(f"{self.prefix}{number}")
            self._values.append(values)
        self._said.append(self.mark(self.names[number]))
        self._open = number

    def done(self) -> Skeleton:
        return Skeleton("".join(self._said), self.names, self._values)


def compare(texts: Sequence[str], mark: Callable[[str], str], prefix: str, risky: Sequence[str]) -> Skeleton:
    """What finished texts share, line by line, where no pattern says it.

    Texts of unequal length share their beginning and their end.
    """
    rows = [text.splitlines(keepends=True) for text in texts]
    if len({len(row) for row in rows}) > 1:
        head = _agreeing(rows)
        tail = _agreeing([row[head:][::-1] for row in rows])
        rows = [[*row[:head], "".join(row[head : len(row) - tail]), *row[len(row) - tail :]] for row in rows]
    drawing = _Drawing(mark, prefix)
    for place, column in enumerate(zip(*rows, strict=True)):
        if column.count(column[0]) == len(column) and not any(word in column[0] for word in risky):
            drawing.add_text(column[0])
        else:
            drawing.add_value(f"line {place}", column)
    return drawing.done()


def _agreeing(rows: Sequence[Sequence[str]]) -> int:
    """How many lines from the start are the same in all of them."""
    return next((n for n, column in enumerate(zip(*rows, strict=False)) if len(set(column)) > 1), min(map(len, rows)))
