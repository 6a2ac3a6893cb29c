"""The content of a campaign: a folder of Jinja templates, body.txt and body.html, and a subject line.

Merge fields of a person are the template's variables, plus `email`, `token`, `unsubscribe_url` (their own link) and
`campaign`. A field that is missing or empty renders as nothing; `{{ first_name | default("bonjour") }}` gives it a
stand-in, and `{{ first_name | required }}` refuses to write to a person without it (they are reported as refused,
everybody else is written to). Fields are escaped in body.html, and nothing a field contains is run as a template.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import FileSystemLoader, Template, TemplateError, TemplateNotFound, TemplateSyntaxError, Undefined, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sendwave.errors import BadInput
from sendwave.esp.merging import Merge, take_apart, unbroken

BODIES: Final = ("body.txt", "body.html")
OWN_FIELDS: Final = frozenset({"email", "token", "unsubscribe_url", "campaign"})
"""Fields every message has, whatever the contact base knows."""

_SUBJECT: Final = "subject"
PARTS: Final = (_SUBJECT, "text", "html")
"""Parts of a message by name; a body the folder does not have is left out."""


class FieldMissing(Exception):
    """A template uses `required` on a field this person does not have."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """One person's message, before MIME. A body the folder does not have is None."""

    subject: str
    text: str | None
    html: str | None


def one_line(value: str) -> str:
    """The value without line breaks and control characters: safe in a header (RFC 5322 §2.2)."""
    return unbroken(value).strip()


def _required(value: Any) -> Any:
    if value is None or value == "" or isinstance(value, Undefined):
        raise FieldMissing(str(getattr(value, "_undefined_name", None) or "a required field"))
    return value


def _environment(folder: Path) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(folder),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        keep_trailing_newline=True,
    )
    environment.filters["required"] = _required
    return environment


class Content:
    """Templates compiled once, rendered for each person."""

    def __init__(self, folder: Path, subject: str) -> None:
        """Read and compile. Raises BadInput with every mistake found, as check_content does."""
        if findings := check_content(folder, None, subject=subject):
            raise BadInput(f"the content in {folder} cannot be used: {findings[0]}", findings)
        environment = _environment(folder)
        sources = {_SUBJECT: (subject, None)} | {
            part: ((folder / name).read_text("utf-8"), name)
            for part, name in zip(PARTS[1:], BODIES, strict=True)
            if (folder / name).is_file()
        }
        self._patterns = {part: take_apart(environment, *told) for part, told in sources.items()}
        self._subject = environment.from_string(subject)
        self._text, self._html = (_body(environment, folder, name) for name in BODIES)
        self._globals = dict(environment.globals)
        for template in (self._subject, self._text, self._html):
            if template is not None:
                template.globals = {}  # ours come with the fields: merged once a person, not once a template

    def render(self, fields: Mapping[str, Any]) -> Rendered:
        """One person's message; `fields` holds what is known of them.

        Raises FieldMissing for a `required` field they lack, BadInput for a template that fails on their fields.
        """
        known = {**self._globals, **fields}
        try:
            return Rendered(
                one_line(_filled(self._subject, known)),
                _filled(self._text, known) if self._text else None,
                _filled(self._html, known) if self._html else None,
            )
        except FieldMissing:
            raise
        except Exception as wrong:  # a template can fail in any way, and that must not stop a batch
            raise BadInput(f"the template cannot be filled: {wrong}") from wrong

    def merge(self, columns: Mapping[str, Sequence[Any]], count: int) -> Merge:
        """The messages of `count` people at once: `columns` are their fields, a value for each; never raises."""
        return Merge(self._patterns, columns, count)


def _filled(template: Template, known: dict[str, Any]) -> str:
    # What Template.render does, minus copying all variables and globals once per template.
    return "".join(template.root_render_func(template.new_context(known, shared=True)))


def _body(environment: ImmutableSandboxedEnvironment, folder: Path, name: str) -> Template | None:
    return environment.get_template(name) if (folder / name).is_file() else None


def stamp(folder: Path) -> tuple[Any, ...]:
    """Changes whenever a template of the folder changes."""
    found = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    return tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in found)


def check_content(folder: Path, fields: Iterable[str] | None, *, subject: str = "") -> tuple[str, ...]:
    """Every mistake in the templates, `file:line: what`; none when they can be sent.

    `fields` are the merge fields the contacts have (None: not known, so not checked). Reads the folder, sends nothing.
    """
    if not folder.is_dir():
        return (f"{folder}: there is no such folder; it should hold body.txt, body.html or both",)
    present = [name for name in BODIES if (folder / name).is_file()]
    if not present:
        return (f"{folder}: there is neither body.txt nor body.html",)
    known = None if fields is None else OWN_FIELDS | set(fields)
    environment = _environment(folder)
    findings: list[str] = []
    sources = [(str(folder / name), name) for name in present]
    for label, name in sources:
        try:
            source = (folder / name).read_text("utf-8")
        except UnicodeDecodeError as wrong:
            findings.append(f"{label}: not UTF-8 ({wrong.reason} at byte {wrong.start})")
            continue
        findings += _check_source(environment, label, source, known)
    return tuple(findings + _check_source(environment, _SUBJECT, subject, known))


def _check_source(
    environment: ImmutableSandboxedEnvironment, label: str, source: str, known: frozenset[str] | None
) -> list[str]:
    try:
        tree = environment.parse(source)
        environment.compile(tree)
        for name in meta.find_referenced_templates(tree):
            if name is not None:
                environment.get_template(name)
        unknown = sorted(meta.find_undeclared_variables(tree) - known) if known is not None else []
    except TemplateSyntaxError as wrong:
        return [f"{wrong.name or label}:{wrong.lineno}: {wrong.message}"]
    except TemplateNotFound as wrong:
        return [f"{label}: includes {wrong.name!r}, which is not in the folder"]
    except TemplateError as wrong:
        return [f"{label}: {wrong.message}"]
    return [
        f"{label}: no contact has a field {name!r}; there are: {', '.join(sorted(known or ()))}" for name in unknown
    ]
