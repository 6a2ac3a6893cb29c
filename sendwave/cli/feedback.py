"""`sendwave normalise` and `classify`: what sendwave makes of a webhook request or a bounce mail; nothing is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sendwave.cli.output import emit_json, home_option

if TYPE_CHECKING:
    from sendwave.esp.base import Refusal, WebRequest
    from sendwave.rules.events import Event

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


_always_json: Final = click.option(
    "--json", is_flag=True, expose_value=False, help="As every command has it; these two print nothing else anyway."
)


@click.command()
@click.argument("esp")
@click.argument("request_file", metavar="REQUEST.json", type=_FILE)
@click.option("--setting", "settings", multiple=True, metavar="KEY=VALUE", help="Of the route; repeatable.")
@click.option("--at", metavar="INSTANT", help="Judge it as if it came then: signatures that are too old are refused.")
@_always_json
def normalise(esp: str, request_file: Path, settings: tuple[str, ...], at: str | None) -> int:
    """What sendwave makes of a webhook request: whether it believes it, and the events in it.

    REQUEST.json holds {method, path, query, content_type, headers, body}. Give the webhook's secret as a setting
    (docs/reference/esp.md). Without any, the request is read and `verified` is false, with the reason in `note`: the
    running daemon would refuse it. With some but not all that is needed, it is refused. Recorded requests are old:
    how old a signature is only counts with --at, or with the setting webhook_tolerance. Exit code 1 when refused.
    """
    from sendwave import clock
    from sendwave import esp as adapters
    from sendwave.cli import recorded
    from sendwave.errors import BadInput
    from sendwave.esp.base import RawReport
    from sendwave.rules.token import LENGTH

    given = dict(_pair(written) for written in settings)
    name = esp.lower().replace("-", "_")
    adapter: Any = adapters.make({"esp": name, **given}, route=name, home=Path.cwd(), token_key=b"\0" * LENGTH)
    requests = recorded.read(request_file)
    now = _instant(at) if at else clock.SystemClock().now()
    tells_age = at is not None or bool({"webhook_tolerance", "tolerance"} & given.keys())
    request, refusal, note = _believed(adapter, requests, now, tells_age=tells_age)
    reason, events = None, []
    if refusal is not None and not (refusal.unset and not _is_asked(adapter)):
        reason = refusal.reason
    else:
        try:
            report = RawReport(request.body, {"content-type": request.content_type, **request.headers})
            events = list(adapter.normalise(report, now))
        except BadInput as wrong:
            reason = str(wrong)
    verified = refusal is None and hasattr(adapter, "verify")
    note = note or (refusal.reason if refusal is not None and reason is None else None)
    answer = {"accepted": reason is None, "refusal": reason, "verified": verified, "note": note}
    emit_json(answer | {"events": _shown(events)})
    return 0 if reason is None else 1


def _believed(
    adapter: Any, requests: Sequence[WebRequest], now: datetime, *, tells_age: bool
) -> tuple[WebRequest, Refusal | None, str | None]:
    """The first of these that the adapter believes, else the first: (it, why not, what to remark)."""
    if not hasattr(adapter, "verify"):
        return requests[0], None, None
    judged = []
    for request in requests:
        refusal, note = adapter.verify(request, now), None
        if refusal is not None and refusal.old and not tells_age:
            note = f"{refusal.reason} The daemon would refuse it; give --at to judge it as of then."
            refusal = adapter.verify(request, None)
        judged.append((request, refusal, note))
    return next((one for one in judged if one[1] is None), judged[0])


def _is_asked(adapter: Any) -> bool:
    """Whether a secret, or anything else to believe requests by, was given."""
    given = adapter._settings.model_fields_set  # noqa: SLF001  # what the user typed, by its own names
    return any(name.startswith("webhook_") and name != "webhook_tolerance" for name in given)


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
        raise click.BadParameter(f"{written!r}: write KEY=VALUE, or KEY=@FILE", param_hint="--setting")
    if value.startswith("@") and Path(value[1:]).is_file():
        value = Path(value[1:]).read_text("utf-8").strip()
    return key.strip(), value


def _instant(written: str) -> datetime:
    from sendwave.esp.hooks import read_instant

    found = read_instant(written)
    if found is None:
        raise click.BadParameter(f"{written!r} is no instant: write 2026-03-02T09:00:00Z", param_hint="--at")
    return found


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
