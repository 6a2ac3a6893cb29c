"""Signatures that providers publish as worked examples: key, request and signature are theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sendwave import esp
from sendwave.esp.base import WebRequest

# standardwebhooks.com and docs.svix.com, "Verifying payloads manually"
STANDARD = (
    "resend",
    {"webhook_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
    {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    },
    b'{"test": 2432232314}',
)
# github.com/sendgrid, the example of the Event Webhook helpers; the body ends with CR LF
TWILIO = (
    "sendgrid",
    {
        "webhook_public_key": "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GR"
        "qe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g=="
    },
    {
        "x-twilio-email-event-webhook-signature": "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0"
        "JuG+luQAbPIqHh89M15TluLtEZtM=",
        "x-twilio-email-event-webhook-timestamp": "1600112502",
    },
    (
        b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address","sg_event_id":"ZHJvcC0xMDk5'
        b'NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA","sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-'
        b'756b745b58-kmzbl-18-5F5FC76C-9.0","smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>"'
        b',"timestamp":1600112492}]\r\n'
    ),
)


@pytest.mark.parametrize("example", [STANDARD, TWILIO], ids=lambda example: example[0])
def test_a_published_example(example: tuple[str, dict[str, Any], dict[str, str], bytes]) -> None:
    name, settings, headers, body = example
    adapter: Any = esp.make({"esp": name, **settings}, route="test", home=Path(), token_key=b"0" * 32)
    assert adapter.verify(WebRequest(body, headers), None) is None
    assert adapter.verify(WebRequest(body.replace(b"2", b"3", 1), headers), None) is not None
    for header in headers:
        changed = headers | {header: f"{headers[header][:-3]}AA="}
        assert adapter.verify(WebRequest(body, changed), None) is not None
