"""`normalise` and `classify`: one document, with the keys scripts rely on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sendwave.cli import cli
from sendwave.errors import BadInput
from sendwave.esp.hooks import hmac_hex
from sendwave.rules.token import sign
from sendwave.workspace import Workspace

KEYS = {
    "type", "permanence", "cause", "recipient", "message_id", "event_id", "event_time", "machine_open", "token",
    "enhanced_code", "url", "description",
}  # fmt: skip
BOUNCE = {
    "RecordType": "Bounce",
    "Type": "HardBounce",
    "Email": "anne@orange.example",
    "ID": 42,
    "BouncedAt": "2026-01-01T00:00:00Z",
}
DSN = """\
From: MAILER-DAEMON@relay.example
To: bounces@m.example
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=XX

--XX
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.example

Final-Recipient: rfc822; anne@orange.example
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 User unknown

--XX--
"""


def run(*arguments: str) -> tuple[int, Any]:
    result = CliRunner().invoke(cli, list(arguments), standalone_mode=False)
    assert result.exception is None, result.exception
    return result.return_value, json.loads(result.stdout)


def request(folder: Path, body: Any, **parts: Any) -> str:
    file = folder / "request.json"
    file.write_text(json.dumps({"method": "POST", "path": "/x", "query": "", "content_type": "application/json",
                                "headers": {}, "body": json.dumps(body)} | parts))  # fmt: skip
    return str(file)


def test_a_request_nobody_can_judge_is_read_and_said_to_be_unverified(tmp_path: Path) -> None:
    code, told = run("normalise", "postmark", request(tmp_path, BOUNCE))
    assert (code, told["accepted"], told["refusal"], told["verified"]) == (0, True, None, False)
    (event,) = told["events"]
    assert set(event) == KEYS
    assert (event["type"], event["permanence"], event["event_id"]) == ("bounce", "hard", "42")
    assert event["event_time"] == "2026-01-01T00:00:00+00:00"


def test_a_signed_request(tmp_path: Path) -> None:
    body = {"type": "activity.delivered", "data": {"type": "delivered"}}
    signature = hmac_hex("s", json.dumps(body).encode())
    genuine = request(tmp_path, body, headers={"Signature": signature})
    code, told = run("normalise", "mailersend", genuine, "--setting", "webhook_secret=s")
    assert (code, told["accepted"], told["verified"], len(told["events"])) == (0, True, True, 1)
    code, told = run("normalise", "mailersend", genuine, "--setting", "webhook_secret=another")
    assert (code, told["accepted"], told["verified"], told["events"]) == (1, False, False, [])
    assert "signature" in told["refusal"]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    _, told = run("normalise", "mailersend", request(tmp_path, {"type": "activity.delivered"}))
    assert told["accepted"] is True
    assert "no secret is set" in told["note"]


def test_half_a_secret_believes_nobody(tmp_path: Path) -> None:
    code, told = run("normalise", "mandrill", request(tmp_path, []), "--setting", "webhook_secret=s")
    assert (code, told["accepted"], told["events"]) == (1, False, [])
    assert "webhook_url" in told["refusal"]


def test_an_unknown_setting_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"webhook_secrets: no such setting; there are: .*webhook_secret"):
        CliRunner().invoke(
            cli,
            ["normalise", "mailersend", request(tmp_path, {}), "--setting", "webhook_secrets=s"],
            standalone_mode=False,
            catch_exceptions=False,
        )


@pytest.mark.parametrize("body", ["[[[", 7, None])
def test_what_is_no_report_is_refused(tmp_path: Path, body: Any) -> None:
    code, told = run("normalise", "sendgrid", request(tmp_path, body))
    assert (code, told["accepted"], told["events"]) == (1, False, [])
    assert told["refusal"]


def test_a_bounce_mail(tmp_path: Path) -> None:
    mail = tmp_path / "bounce.eml"
    mail.write_text(DSN)
    code, told = run("classify", str(mail), "--json")
    assert (code, told["accepted"]) == (0, True)
    (event,) = told["events"]
    assert set(event) == KEYS
    assert (event["type"], event["permanence"], event["cause"]) == ("bounce", "hard", "unknown_user")
    assert event["recipient"] == "anne@orange.example"


def test_in_its_workspace_a_token_is_verified(tmp_path: Path) -> None:
    home = tmp_path / "home"
    CliRunner().invoke(cli, ["init", str(home)], standalone_mode=False, catch_exceptions=False)
    workspace = Workspace.open(home)
    token = sign(workspace.token_key, 1, 2)
    workspace.close()
    genuine, forged = tmp_path / "genuine", tmp_path / "forged"
    genuine.write_text(DSN.replace("bounces@", f"b-{token}@"))
    forged.write_text(DSN.replace("bounces@", f"b-{token[:-1]}{'0' if token[-1] != '0' else '1'}@"))
    code, told = run("classify", "--home", str(home), str(genuine), str(forged))
    assert (code, [one["accepted"] for one in told]) == (1, [True, False])
    assert told[0]["events"][0]["token"] == token
    assert (told[1]["events"], "did not sign" in told[1]["refusal"]) == ([], True)
    assert run("classify", "--home", str(tmp_path), str(forged))[1]["events"][0]["token"] is None


def test_several_mails_give_a_list(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(DSN)
    code, told = run("classify", str(tmp_path / "a"), str(tmp_path / "b"))
    assert code == 0
    assert [Path(one["file"]).name for one in told] == ["a", "b"]
