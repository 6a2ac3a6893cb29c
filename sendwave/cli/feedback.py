"""`sendwave normalise` and `classify`: what sendwave makes of a webhook request or a bounce mail; nothing is kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sendwave.cli.output import emit_json, home_option

if TYPE_CHECKING:
    from sendwave.esp.base import WebRequest
    from sendwave.rules.events import Event

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


_always_json: Final = click.option(
    "--json", is_flag=True, expose_value=False, help="As every command has it; these two print nothing else anyway."
)


@click.command()
@click.argument("esp")
@click.argument("request_file", metavar="REQUEST.json", type=_FILE)
@click.option("--setting", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the route; repeatable.")
@click.option("--at", metavar="INSTANT", help="Judge it as if it came then: signatures that are too old are refused.")
@_always_json
def normalise(esp: str, request_file: Path, settings: tuple[str, ...], at: str | None) -> int:
    """What sendwave makes of a webhook request: whether it believes it, and the events in it.

    REQUEST.json holds {method, path, query, content_type, headers, body}. Give the webhook's secret as a setting
    (docs/reference/esp.md). Without any, the request is read and `verified` is false, with the reason in `note`: the
    running daemon would refuse it. With some but not all that is needed, it is refused. The age of a signature is
    judged with --at only: recorded requests are old. Exit code 1 when it is refused.
    """
    from sendwave import clock
    from sendwave import esp as adapters
    from sendwave.errors import BadInput
    from sendwave.esp.base import RawReport
    from sendwave.rules.token import LENGTH

    given = dict(_pair(written) for written in settings)
    adapter: Any = adapters.make({"esp": esp, **given}, route=esp, home=Path.cwd(), token_key=b"\0" * LENGTH)
    request = _request(request_file)
    now = _instant(at) if at else None
    refusal = adapter.verify(request, now) if hasattr(adapter, "verify") else None
    reason, events = None, []
    asked = any(key.startswith("webhook_") and key != "webhook_tolerance" for key in given)
    if refusal is not None and (asked or not refusal.unset):
        reason = refusal.reason
    else:
        try:
            report = RawReport(request.body, {"content-type": request.content_type, **request.headers})
            events = list(adapter.normalise(report, now or clock.SystemClock().now()))
        except BadInput as wrong:
            reason = str(wrong)
    verified = refusal is None and hasattr(adapter, "verify")
    note = refusal.reason if refusal is not None and reason is None else None
    answer = {"accepted": reason is None, "refusal": reason, "verified": verified, "note": note}
    emit_json(answer | {"events": _shown(events)})
    return 0 if reason is None else 1


@click.command()
@home_option
@click.argument("mails", metavar="MAIL…", nargs=-1, required=True, type=_FILE)
@_always_json
def classify(home: Path, mails: tuple[Path, ...]) -> int:
    """What sendwave makes of bounce and complaint mails (RFC 5322 files): the events in each.

    In a workspace, tokens are verified with its key: a forged one is refused. Elsewhere none is shown, for only the
    workspace that signed a token can tell it from a forged one.
    """
    from sendwave import clock

    shown = []
    received_at, key = clock.SystemClock().now(), _token_key(home)
    for mail in mails:
        reason, events = _classified(mail.read_bytes(), key, received_at)
        shown.append({"file": str(mail), "accepted": reason is None, "refusal": reason, "events": _shown(events)})
    emit_json(shown[0] if len(shown) == 1 else shown)
    return 0 if all(one["accepted"] for one in shown) else 1


def _token_key(home: Path) -> bytes | None:
    """The key of the workspace there, None where there is none."""
    if not (home / "sendwave.yaml").is_file():
        return None
    from sendwave.workspace import Workspace

    workspace = Workspace.open(home)
    try:
        return workspace.token_key
    finally:
        workspace.close()


def _classified(mail: bytes, key: bytes | None, received_at: datetime) -> tuple[str | None, Sequence[Event]]:
    """Why it is refused, and the events."""
    from sendwave.errors import BadInput
    from sendwave.esp import reports

    try:
        events = reports.parse(mail, token_key=key, received_at=received_at)
        if not events and key is not None and reports.parse(mail, token_key=None, received_at=received_at):
            return "forged: it names a token that this workspace did not sign", ()
    except BadInput as wrong:
        return str(wrong), ()
    return None, events


def _pair(written: str) -> tuple[str, str]:
    key, equals, value = written.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"{written!r}: write KEY=VALUE", param_hint="--setting")
    return key.strip(), value


def _instant(written: str) -> datetime:
    from sendwave.esp.hooks import read_instant

    found = read_instant(written)
    if found is None:
        raise click.BadParameter(f"{written!r} is no instant: write 2026-03-02T09:00:00Z", param_hint="--at")
    return found


def _request(path: Path) -> WebRequest:
    """The request in the file. Raises BadInput."""
    from sendwave.errors import BadInput
    from sendwave.esp.base import WebRequest

    try:
        told = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as wrong:
        raise BadInput(f"{path} is no JSON: {wrong}") from None
    if not isinstance(told, dict) or "body" not in told or not isinstance(told.get("headers") or {}, dict):
        raise BadInput(f"{path}: a request is an object with method, path, query, content_type, headers and body")
    body = told["body"] if isinstance(told["body"], str) else json.dumps(told["body"])
    headers = {str(name).lower(): str(value) for name, value in (told.get("headers") or {}).items()}
    kind = str(told.get("content_type") or headers.get("content-type", ""))
    return WebRequest(
        body.encode("utf-8", "surrogateescape"),
        headers,
        str(told.get("method") or "POST"),
        str(told.get("path") or "/"),
        str(told.get("query") or "").removeprefix("?"),
        kind,
    )


def _shown(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Events under the stable names of the command line."""
    return [
        {
            "type": event.type.value,
            "permanence": event.permanence.value,
            "cause": event.cause.value if event.cause else None,
            "recipient": event.recipient,
            "message_id": event.message_id,
            "event_id": event.event_id,
            "event_time": event.event_at.isoformat(),
            "machine_open": event.machine_open,
            "enhanced_code": event.enhanced_code,
            "token": event.token,
            "url": event.url,
            "description": event.description,
        }
        for event in events
    ]


COMMANDS: Final = {"normalise": normalise, "classify": classify}
