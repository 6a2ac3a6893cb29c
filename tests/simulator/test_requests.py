"""What each provider documents that it refuses, and how it says so."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from http_esps import KEYS, NAMES, asked

from sendwave.simulator import providers
from sendwave.simulator.base import KEY, SECRET, Provider, Request, Wrong
from sendwave.simulator.providers.scaleway import PROJECT

TO = "anne@orange.example"
FROM = "news@maisonlune.example"
TOKEN = "01" * 20


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


BEARER = {"authorization": f"Bearer {KEY}"}
SIGNED = {
    "authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/20260302/eu-west-1/ses/aws4_request, SignedHeaders=host, "
    f"Signature={'0' * 64}"
}
FORM = {**basic("api", KEY), "content-type": "application/x-www-form-urlencoded"}
RESEND = {"from": FROM, "to": [TO], "subject": "s", "text": "t", "tags": [{"name": "t", "value": TOKEN}]}
MAILERSEND = {"from": {"email": FROM}, "to": [{"email": TO}], "subject": "s", "text": "t", "tags": [TOKEN]}
POSTMARK = {"From": FROM, "To": TO, "Subject": "s", "TextBody": "t", "Metadata": {"t": TOKEN}}
MAILJET = {"From": {"Email": FROM}, "To": [{"Email": TO}], "TextPart": "t", "CustomID": TOKEN}
BREVO = {"sender": {"email": FROM}, "subject": "s", "textContent": "t",
         "messageVersions": [{"to": [{"email": TO}], "headers": {"X-Mailin-custom": TOKEN}}]}  # fmt: skip
ENTRY = {"Destination": {"ToAddresses": [TO]}, "ReplacementTags": [{"Name": "t", "Value": TOKEN}]}
SES = {"FromEmailAddress": FROM, "DefaultContent": {"Template": {"TemplateContent": {"Subject": "s", "Text": "t"}}},
       "BulkEmailEntries": [ENTRY]}  # fmt: skip
SENDGRID = {"from": {"email": FROM}, "subject": "s", "content": [{"type": "text/plain", "value": "t"}],
            "personalizations": [{"to": [{"email": TO}], "custom_args": {"t": TOKEN}}]}  # fmt: skip
MANDRILL = {"key": KEY, "message": {"from_email": FROM, "to": [{"email": TO}], "metadata": {"t": TOKEN}}}
KUMO = {
    "envelope_sender": FROM,
    "content": {"from": FROM, "subject": "s"},
    "recipients": [{"email": TO, "metadata": {"t": TOKEN}}],
}
SPARKPOST = {"content": {"from": {"email": FROM}, "subject": "s", "text": "t"},
             "recipients": [{"address": {"email": TO}, "metadata": {"t": TOKEN}}]}  # fmt: skip
SCALEWAY = {"project_id": PROJECT, "from": {"email": FROM}, "to": [{"email": TO}], "subject": "s", "text": "t",
            "additional_headers": [{"key": "X-T", "value": TOKEN}]}  # fmt: skip
POSTAL = {"from": FROM, "to": [TO], "subject": "s", "plain_body": "t", "tag": TOKEN}
MAILGUN = {"from": FROM, "to": TO, "subject": "s", "text": "t", "v:t": TOKEN}

GOOD: dict[str, tuple[str, dict[str, str], Any]] = {
    "sendgrid": ("/v3/mail/send", BEARER, SENDGRID),
    "brevo": ("/v3/smtp/email", {"api-key": KEY}, BREVO),
    "mailjet": ("/v3.1/send", basic(KEY, SECRET), {"Messages": [MAILJET]}),
    "mailgun": ("/v3/maisonlune.example/messages", FORM, MAILGUN),
    "postmark": ("/email/batch", {"x-postmark-server-token": KEY}, [POSTMARK]),
    "sparkpost": ("/api/v1/transmissions", {"authorization": KEY}, SPARKPOST),
    "mandrill": ("/api/1.0/messages/send", {}, MANDRILL),
    "resend": ("/emails/batch", BEARER, [RESEND]),
    "mailersend": ("/v1/bulk-email", BEARER, [MAILERSEND]),
    "scaleway": ("/transactional-email/v1alpha1/regions/fr-par/emails", {"x-auth-token": KEY}, SCALEWAY),
    "postal": ("/api/v1/send/message", {"x-server-api-key": KEY}, POSTAL),
    "kumomta": ("/api/inject/v1", {}, KUMO),
    "ses": ("/v2/email/outbound-bulk-emails", SIGNED, SES),
}


def request(name: str, document: Any = None) -> Request:
    path, headers, good = GOOD[name]
    told = good if document is None else document
    body = urlencode(told, doseq=True) if name == "mailgun" else json.dumps(told)
    return Request("POST", path, headers, body.encode())


def speaker(name: str) -> Provider:
    found: Provider = providers.find(name)(KEYS)
    return found


def refusal(name: str, asked: Request) -> tuple[int, str]:
    with pytest.raises(Wrong) as caught:
        speaker(name).read(asked)
    return caught.value.reply.status, caught.value.reply.raw.decode()


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


@pytest.mark.parametrize("name", NAMES)
def test_a_right_request_is_taken(name: str, tmp_path: Path) -> None:
    (mail,) = speaker(name).read(asked(name, tmp_path, TO, TOKEN))
    assert (mail.address, mail.token, mail.sender) == (TO, TOKEN, FROM)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"kumomta", "mandrill"}])
def test_a_wrong_key_is_refused(name: str, tmp_path: Path) -> None:
    right = asked(name, tmp_path, TO, TOKEN)
    wrong = {header: value.replace(KEY, "wrong") for header, value in right.headers.items()}
    if right.basic() != ("", ""):
        wrong |= basic("x", "y")
    status, text = refusal(name, replace(right, headers=wrong))
    assert status in {401, 403} or (name == "postal" and "InvalidServerAPIKey" in text)


def personal(**told: Any) -> dict[str, Any]:
    """A SendGrid request with this in its personalization."""
    return SENDGRID | {"personalizations": [{"to": [{"email": TO}], **told}]}


WRONG: list[tuple[str, Any, int, str]] = [
    ("sendgrid", without(SENDGRID, "from"), 400, "from"),
    ("sendgrid", without(SENDGRID, "content"), 400, "content"),
    ("sendgrid", without(SENDGRID, "subject"), 400, "subject"),
    ("sendgrid", SENDGRID | {"personalizations": SENDGRID["personalizations"] * 1001}, 400, "1000"),
    ("sendgrid", SENDGRID | {"personalizations": [{"to": [{"email": "nobody"}]}]}, 400, "personalizations.0.to"),
    ("sendgrid", SENDGRID | {"categories": ["c"] * 11}, 400, "categories"),
    ("sendgrid", personal(headers={"Subject": "x"}), 400, "reserved"),
    ("sendgrid", personal(custom_args={"a": 1}), 400, "strings"),
    ("sendgrid", personal(substitutions={"-a-": "x" * 10_001}), 400, "10000"),
    ("brevo", without(BREVO, "sender"), 400, "missing_parameter"),
    ("brevo", BREVO | {"messageVersions": BREVO["messageVersions"] * 1001}, 400, "1000"),
    ("brevo", BREVO | {"headers": {"idempotencyKey": "abc"}}, 400, "UUID"),
    ("brevo", BREVO | {"messageVersions": [{"to": [{"email": TO}], "headers": {"X": "é"}}]}, 400, "ASCII"),
    ("mailjet", {"Messages": [MAILJET] * 51}, 400, "50"),
    ("mailjet", {"Messages": [without(MAILJET, "TextPart")]}, 400, "send-0003"),
    ("mailjet", {"Messages": [MAILJET | {"Headers": {"Subject": "x"}}]}, 400, "send-0011"),
    ("mailjet", {"Messages": [MAILJET | {"To": [{"Email": "x"}]}]}, 400, "mj-0013"),
    ("mailgun", without(MAILGUN, "from"), 400, "from"),
    ("mailgun", MAILGUN | {"from": "a@elsewhere.example"}, 404, "Domain not found"),
    ("mailgun", MAILGUN | {"to": [TO, "b@c.example"]}, 400, "everybody"),
    ("mailgun", MAILGUN | {"to": [f"p{n}@c.example" for n in range(1001)]}, 400, "1000"),
    ("mailgun", MAILGUN | {"recipient-variables": "{"}, 400, "JSON"),
    ("postmark", [POSTMARK] * 501, 422, "410"),
    ("postmark", [POSTMARK | {"Metadata": {"a" * 21: "x"}}], 422, "Metadata"),
    ("postmark", [without(POSTMARK, "TextBody")], 422, "TextBody"),
    ("sparkpost", without(SPARKPOST, "recipients"), 422, "recipients"),
    ("sparkpost", SPARKPOST | {"campaign_id": "x" * 65}, 422, "64"),
    ("sparkpost", SPARKPOST | {"recipients": [{"address": TO, "metadata": {"a": "x" * 1000}}]}, 422, "1000"),
    ("mandrill", MANDRILL | {"key": "wrong"}, 500, "Invalid_Key"),
    ("mandrill", {"key": KEY, "message": without(MANDRILL["message"], "to")}, 500, "ValidationError"),
    ("mandrill", {"key": KEY, "message": MANDRILL["message"] | {"metadata": {"a": "x" * 200}}}, 500, "200 bytes"),
    ("mandrill", {"key": KEY, "message": MANDRILL["message"] | {"to": [{"email": TO}] * 2}}, 500, "everybody"),
    ("resend", [RESEND] * 101, 422, "100"),
    ("resend", [RESEND | {"tags": [{"name": "a", "value": "é"}]}], 422, "ASCII"),
    ("resend", [RESEND | {"scheduled_at": "tomorrow"}], 422, "batch"),
    ("mailersend", [MAILERSEND] * 501, 422, "500"),
    ("mailersend", [MAILERSEND | {"tags": ["t"] * 6}], 422, "tags"),
    ("scaleway", SCALEWAY | {"project_id": "another"}, 403, "permissions_denied"),
    ("scaleway", without(SCALEWAY, "subject"), 400, "subject"),
    ("postal", without(POSTAL, "plain_body"), 200, "NoContent"),
    ("postal", without(POSTAL, "to"), 200, "NoRecipients"),
    ("postal", POSTAL | {"from": "nobody"}, 200, "UnauthenticatedFromAddress"),
    ("kumomta", KUMO | {"surprise": 1}, 422, "unknown field"),
    ("kumomta", without(KUMO, "envelope_sender"), 422, "missing field"),
    ("ses", SES | {"BulkEmailEntries": [ENTRY] * 51}, 400, "50"),
    ("ses", SES | {"BulkEmailEntries": [ENTRY | {"ReplacementHeaders": [{"Name": "X", "Value": ""}] * 16}]}, 400, "15"),
    ("ses", without(SES, "DefaultContent"), 400, "Template"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "document", "status", "word"), WRONG)
def test_what_the_documents_forbid_is_refused(name: str, document: Any, status: int, word: str) -> None:
    found, text = refusal(name, request(name, document))
    assert found == status, text
    assert word in text


@pytest.mark.parametrize("name", NAMES)
def test_another_path_is_not_found(name: str, tmp_path: Path) -> None:
    status, text = refusal(name, replace(asked(name, tmp_path, TO, TOKEN), path="/elsewhere"))
    assert status in {400, 404} or "Unknown_Method" in text
