"""Write docs/reference/esp.md from the adapters' settings and capabilities.

python tools/esp_reference.py            write it
python tools/esp_reference.py --check    say whether it is out of date, exit code 1
"""

from __future__ import annotations

import sys
import types
import typing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sendwave import esp
from sendwave.esp.hooks import WebhookSettings
from sendwave.rules.units import format_duration

FILE: Final = Path(__file__).parent.parent / "docs" / "reference" / "esp.md"
INTRODUCTION: Final = """\
# ESPs

Drawn from the adapters by `python tools/esp_reference.py`; do not edit.

A route in `sendwave.yaml` says `esp:` and what that ESP's adapter asks for. Keep secrets out of the file: write
`api_key: ${NAME}` and set NAME in the environment. `sendwave check` shows every mistake; `sendwave normalise ESP
REQUEST.json --setting KEY=VALUE` shows what sendwave makes of a recorded webhook request.

- **batch**: people handed over in one call. **one by one**: whether the answer says what became of each.
- **key**: how long an idempotency key lives; within it a batch without an answer may be repeated.
- **delivered**: whether deliveries are reported so surely that their absence means something.
- **answers**: the HTTP statuses our webhook gives when events are stored; when the store is down; when it is no report;
  when the very same signed request came before. Each is what makes that ESP repeat what it must, and nothing else.

Where the ESP or a habit calls a secret otherwise, that name is taken too:
"""
WORDS: Final[dict[Any, str]] = {
    timedelta: "duration", SecretStr: "secret", str: "text", int: "whole number", float: "number", Path: "path",
    bool: "`true` or `false`",
}  # fmt: skip


def document() -> str:
    """The whole page."""
    adapters = {name: esp.find(name) for name in esp.names()}
    made = {
        name: esp.make({"esp": name}, route=name, home=Path(), token_key=bytes(32)).capabilities for name in adapters
    }
    lines = [
        f"{INTRODUCTION}{_other_names()}.",
        "",
        "| esp | batch | one by one | key | events by | delivered | answers |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, has in made.items():
        told = getattr(adapters[name], "answers", None)
        answers = f"{told.stored}, {told.store_down}, {told.not_ours}, {told.repeated}" if told else ""
        life = format_duration(has.idempotency) if has.idempotency else ""
        cells = (f"[{name}](#{name})", f"{has.batch_size:,}", _yes(has.per_recipient), life, has.feed.value,
                 _yes(has.reports_delivery), answers)  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    for name, kind in adapters.items():
        lines += ["", f"## {name}", "", *_settings(kind)]
    return "\n".join(lines) + "\n"


def _other_names() -> str:
    """What a setting may also be called, in one sentence."""
    called = WebhookSettings.also_called.items()
    return "; ".join(f"`{name}` as {', '.join(f'`{other}`' for other in others)}" for name, others in called)


def _yes(value: bool) -> str:  # noqa: FBT001
    return "yes" if value else ""


def _settings(kind: Any) -> list[str]:
    purpose = (sys.modules[kind.__module__].__doc__ or "").strip().partition("\n\n")
    lines = [purpose[0], "", "| key | what | left out | |", "|---|---|---|---|"]
    for key, field in kind.Settings.model_fields.items():
        if key != "esp":
            lines.append(f"| `{key}` | {_kind(field.annotation)} | {_default(field)} | {field.description or ''} |")
    return lines


def _kind(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_kind(one) for one in typing.get_args(annotation) if one is not type(None))
    if origin is typing.Annotated:
        return _kind(typing.get_args(annotation)[0])
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in typing.get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"{', '.join(f'`{name}`' for name in annotation.model_fields)}"
    return WORDS.get(
        annotation, "list" if origin in {list, tuple} else "mapping" if origin else str(annotation.__name__)
    )


def _default(field: FieldInfo) -> str:
    if (
        field.default is PydanticUndefined
        or field.default is None
        or isinstance(field.default, (BaseModel, dict, tuple))
    ):
        return ""
    return f"`{format_duration(field.default) if isinstance(field.default, timedelta) else field.default}`"


def main() -> int:
    """Write, or check."""
    if "--check" in sys.argv:
        same = FILE.is_file() and FILE.read_text("utf-8") == document()
        print("up to date" if same else f"{FILE.name} is out of date: run python tools/esp_reference.py")
        return 0 if same else 1
    FILE.write_text(document(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
