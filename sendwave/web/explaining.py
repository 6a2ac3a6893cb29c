"""Why a contact is, or is not, written to: the answer of `sendwave explain` as a piece of a page, without script."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

_FOLDER: Final = Path(__file__).parent / "templates"


def fragment(document: Mapping[str, Any]) -> str:
    """One `<section>` for the document that `flow.explain.explain` returns; everything in it is escaped."""
    return _template().render(told=document)


@cache
def _template() -> Template:
    loader = FileSystemLoader(_FOLDER)
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return made.get_template("explain.html")
