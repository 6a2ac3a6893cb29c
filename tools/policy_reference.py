"""Write what follows from the policy models: policies/schema/*.json for editors, docs/reference/policies.md for people.

python tools/policy_reference.py            write them
python tools/policy_reference.py --check    say which are out of date, exit code 1
"""

from __future__ import annotations

import inspect
import json
import sys
import types
import typing
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, RootModel
from pydantic.fields import FieldInfo

from sendwave.flow import policies
from sendwave.rules.conditions import When
from sendwave.rules.report_policy import Money
from sendwave.rules.signals import SIGNALS
from sendwave.rules.units import Frequency, LocalTime, LocalWindow

TOP: Final = Path(__file__).parent.parent
WORDS: Final[dict[Any, str]] = {
    timedelta: "duration",
    Decimal: "share",
    Frequency: "frequency",
    LocalWindow: "daily window",
    LocalTime: "daily time",
    When: "condition",
    Money: "amount",
    AwareDatetime: "instant with its zone",
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
}
HEADINGS: Final = {
    "type": "types/NAME.yaml: a campaign type",
    "audience": "audiences/NAME.yaml: whom messages are for (see the guide to audiences)",
    "tiers": "tiers.yaml: slices of the engagement score",
    "gates": "gates.yaml: when to stop",
    "lanes": "lanes.yaml: mailbox providers and routes",
    "score": "score.yaml: the scoring grid",
    "alerts": "alerts.yaml: when a score is worth a word",
    "report": "report.yaml: what reports reckon with",
    "budgets": "budgets.yaml: what messages cost, and may cost",
    "campaign": "A campaign file (`sendwave campaign create FILE`)",
}
INTRODUCTION: Final = """\
# Policy files

Drawn from the models by `python tools/policy_reference.py`; do not edit.

Policy files are YAML 1.2 in the workspace's `policies/` folder, layered over the defaults that come with sendwave:
`tiers.yaml`, `score.yaml`, `alerts.yaml` and `report.yaml` replace the shipped one whole, `types/*.yaml` type by type,
`audiences/*.yaml` audience by audience, `gates.yaml` set by set; `lanes.yaml` is laid over provider by provider and
key by key. A shipped campaign type that speaks of tiers your `tiers.yaml` does not have is left out.
`sendwave check` shows every mistake of all files at once, each with its line and column.

Numbers carry their unit, and a bare one is refused:

| word | write | means |
|---|---|---|
| duration | `16h`, `7d`, `1h30m` | w, d, h, m, s; a day is 24 hours |
| share | `50%`, `0.3%` | up to 100%; `0.3%` is 3 in 1,000 |
| frequency | `2 per 7d`, `6000 per 1m` | a window that rolls: the last 7 × 24 hours, not a calendar week |
| daily window | `08:00-20:00 local`, `22:00-06:00 Europe/Paris` | each person's own clock, or one zone's |
| daily time | `04:00 Europe/Paris` | skipped by the clocks: the next minute there is; shown twice: the first |
| amount | `0.045 EUR` | with its currency (ISO 4217) |
| condition | `{value: "<= 6"}`, `{status: [open, unresolved]}` | `value`, `channel`, `campaign` or an attribute |
| key | `newsletter` | lower-case letters, digits and `_`, a letter first |

First line of a file, for completion in your editor: `# yaml-language-server: $schema=schema/tiers.json`, where
`sendwave policy schema tiers` prints that schema.
"""


def schemas() -> dict[Path, str]:
    """JSON Schema files by path."""
    folder = TOP / "policies" / "schema"
    return {
        folder / f"{kind}.json": json.dumps(policies.schema(kind), indent=1, ensure_ascii=False) + "\n"
        for kind in policies.KINDS
        if kind != "campaign"  # that file is no policy
    }


def reference() -> str:
    """The page of all kinds of files."""
    parts, told = [INTRODUCTION], set[type[BaseModel]]()
    for kind, model in policies.KINDS.items():
        parts.append(f"## {HEADINGS[kind]}\n")
        for section in sections(model):
            if section not in told:
                told.add(section)
                parts.append(described(section, "" if section is model else f"### {section.__name__}\n\n"))
    signals = "\n".join(
        f"| `{signal.name}` | {signal.label} | messages {signal.exposure} |" for signal in SIGNALS.values()
    )
    parts.append(f"## Signals a gate may watch\n\n| signal | rate of | divided by |\n|---|---|---|\n{signals}\n")
    return "\n".join(parts)


def described(model: type[BaseModel], heading: str) -> str:
    """One model: what it is, then a row per key."""
    text = inspect.getdoc(model) or ""
    if issubclass(model, RootModel):
        return f"{heading}{text}\n\nThe file is a {in_words(model.model_fields['root'].annotation)}.\n"
    defaults = model.model_json_schema(mode="serialization").get("properties", {})
    rows = [row(name, field, defaults.get(name, {})) for name, field in model.model_fields.items()]
    return f"{heading}{text}\n\n| key | value | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def row(name: str, field: FieldInfo, schema: dict[str, Any]) -> str:
    """One line of a table."""
    default = "**required**" if field.is_required() else shown(schema.get("default"))
    words = [in_words(field.annotation), *limits(field)]
    return f"| `{name}` | {', '.join(words)} | {default} | {(field.description or '').replace('|', '/')} |"


def limits(field: FieldInfo) -> Iterator[str]:
    """Bounds of a number."""
    for bound in field.metadata:
        if (least := getattr(bound, "ge", None)) is not None:
            yield f"{least} or more"
        if (most := getattr(bound, "le", None)) is not None:
            yield f"{most} at most"


def shown(default: Any) -> str:
    """A default as the file would say it."""
    if default in (None, "", [], {}) or isinstance(default, dict):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def in_words(annotation: Any) -> str:
    """A type as a person would say it."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(in_words(branch) for branch in inside if branch is not type(None))
    if origin is typing.Annotated:
        return in_words(inside[0])
    if origin is dict:
        return f"mapping of names to {in_words(inside[1])}"
    return f"list of {in_words(inside[0])}" if origin in (tuple, list) else _class_in_words(annotation)


def _class_in_words(annotation: Any) -> str:
    if annotation in WORDS:
        return WORDS[annotation]
    if issubclass(annotation, Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    return f"[{annotation.__name__}](#{annotation.__name__.lower()})"


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The model and those inside it, each once, in reading order."""
    yield model
    for field in model.model_fields.values():
        for inner in models_in(field.annotation):
            yield from sections(inner)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from models_in(inner)


def outputs() -> dict[Path, str]:
    """Everything this script writes."""
    return {**schemas(), TOP / "docs" / "reference" / "policies.md": reference()}


def stale() -> list[Path]:
    """The files that are not what the models say now."""
    return [p for p, text in outputs().items() if not p.exists() or p.read_text(encoding="utf-8") != text]


if __name__ == "__main__":
    outdated = stale()
    for path in outdated:
        if "--check" in sys.argv:
            print(f"{path.relative_to(TOP)} is out of date: run python tools/policy_reference.py")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(outputs()[path], encoding="utf-8")
            print(f"wrote {path.relative_to(TOP)}")
    sys.exit(1 if outdated and "--check" in sys.argv else 0)
