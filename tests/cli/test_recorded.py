"""A recorded webhook request in the shapes recorders have, and secrets under the names people know them by."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner

from sendwave.cli import cli
from sendwave.cli.recorded import read
from sendwave.errors import BadInput
from sendwave.esp.hooks import hmac_hex

TOLD = {
    "type": "activity.opened",
    "data": {"type": "opened", "id": "é/1", "email": {"recipient": {"email": "a@b.example"}}},
}
LETTER = json.dumps(TOLD)


def normalised(folder: Path, esp: str, request: Any, *settings: str) -> dict[str, Any]:
    file = folder / "request.json"
    file.write_text(json.dumps(request))
    given = [part for setting in settings for part in ("--setting", setting)]
    result = CliRunner().invoke(cli, ["normalise", esp, str(file), *given], standalone_mode=False)
    assert result.exception is None, result.exception
    told: dict[str, Any] = json.loads(result.stdout)
    return told


@pytest.mark.parametrize(
    "headers",
    [
        {"SIGNATURE": hmac_hex("s", LETTER.encode())},
        [["Signature", hmac_hex("s", LETTER.encode())]],
        [{"name": "signature", "value": hmac_hex("s", LETTER.encode())}],
        {"Signature": [hmac_hex("s", LETTER.encode())]},
    ],
)
def test_headers_in_any_shape(tmp_path: Path, headers: Any) -> None:
    told = normalised(tmp_path, "mailersend", {"headers": headers, "body": LETTER}, "signing_secret=s")
    assert (told["accepted"], told["verified"], told["events"][0]["event_id"]) == (True, True, "é/1")


@pytest.mark.parametrize(
    "body",
    [
        {"body_base64": base64.b64encode(LETTER.encode()).decode()},
        {"body": base64.b64encode(LETTER.encode()).decode(), "isBase64Encoded": True},
        {"body": base64.b64encode(LETTER.encode()).decode(), "encoding": "base64"},
    ],
)
def test_a_body_in_base64(tmp_path: Path, body: dict[str, Any]) -> None:
    request = {"headers": {"Signature": hmac_hex("s", LETTER.encode())}, **body}
    assert normalised(tmp_path, "mailersend", request, "webhook_secret=s")["verified"] is True


@pytest.mark.parametrize(
    "signed",
    [
        LETTER,
        json.dumps(TOLD, separators=(",", ":")),
        json.dumps(TOLD, separators=(",", ":"), ensure_ascii=False),
        json.dumps(TOLD, separators=(",", ":")).replace("/", "\\/"),
    ],
)
def test_a_body_somebody_parsed_is_believed_as_it_was_probably_written(tmp_path: Path, signed: str) -> None:
    request = {"headers": {"Signature": hmac_hex("s", signed.encode())}, "body": TOLD}
    assert normalised(tmp_path, "mailersend", request, "webhook_secret=s")["verified"] is True
    forged = request | {"body": {**TOLD, "type": "activity.clicked"}}
    assert normalised(tmp_path, "mailersend", forged, "webhook_secret=s")["accepted"] is False


def mandrill(url: str, key: str, events: str) -> str:
    signed = f"{url}mandrill_events{events}".encode()
    return base64.b64encode(hmac.new(key.encode(), signed, hashlib.sha1).digest()).decode()


@pytest.mark.parametrize("login", ["", "user:pass@"])
@pytest.mark.parametrize("parsed", [False, True])
def test_a_signed_form_and_the_url_it_came_to(tmp_path: Path, login: str, parsed: bool) -> None:
    events = json.dumps([{"event": "send", "ts": 1772000000, "msg": {"email": "a@b.example"}}])
    headers = {
        "Host": "hooks.example",
        "X-Mandrill-Signature": mandrill(f"https://{login}hooks.example/in?a=1", "k", events),
        **({"Authorization": "Basic " + base64.b64encode(login.strip("@").encode()).decode()} if login else {}),
    }
    request = {
        "path": "/in", "query": "a=1", "headers": headers, "content_type": "application/x-www-form-urlencoded",
        "body": {"mandrill_events": events} if parsed else urlencode({"mandrill_events": events}),
    }  # fmt: skip
    told = normalised(tmp_path, "Mandrill", request, "webhook_key=k")
    assert (told["verified"], told["events"][0]["type"]) == (True, "accepted")
    assert normalised(tmp_path, "mandrill", request, "webhook_key=another")["accepted"] is False


def test_how_old_a_signature_is_counts_when_asked(tmp_path: Path) -> None:
    def signed(stamp: int) -> dict[str, Any]:
        told = {"timestamp": str(stamp), "token": "t", "signature": hmac_hex("k", f"{stamp}t".encode())}
        return {"body": json.dumps({"signature": told, "event-data": {"event": "delivered"}})}

    long_ago = signed(1_500_000_000)
    told = normalised(tmp_path, "mailgun", long_ago, "signing_key=k")
    assert (told["accepted"], told["verified"]) == (True, True)
    assert "too long ago" in told["note"]
    assert "too long ago" in normalised(tmp_path, "mailgun", long_ago, "signing_key=k", "tolerance=1h")["refusal"]
    assert "future" in normalised(tmp_path, "mailgun", signed(10_000_000_000), "signing_key=k")["refusal"]


def test_a_setting_out_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s\n")
    request = {"headers": {"Signature": hmac_hex("s", LETTER.encode())}, "body": LETTER}
    assert normalised(tmp_path, "mailersend", request, f"webhook_secret=@{tmp_path / 'key'}")["verified"] is True


@pytest.mark.parametrize("request_", [[], {"headers": {}}, {"body": "", "headers": [1]}, {"body": "x", "headers": "y"},
                                      {"body_base64": "?"}])  # fmt: skip
def test_what_is_no_request_is_refused(tmp_path: Path, request_: Any) -> None:
    (tmp_path / "request.json").write_text(json.dumps(request_))
    with pytest.raises(BadInput):
        read(tmp_path / "request.json")
