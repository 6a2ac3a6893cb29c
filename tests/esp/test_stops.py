"""What each ESP says when it stops the account or a quota is used up is a hold of that name; mail called back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from http_esps import Reply, Server, serving

from sendwave import esp
from sendwave.errors import Held
from sendwave.esp.base import Recall, Submission

KEY = b"0123456789abcdef" * 2
Batch = Callable[..., Submission]
KEYS: dict[str, dict[str, str]] = {
    "mailjet": {"api_secret": "s"}, "ses": {"access_key": "k", "secret_key": "s"}, "scaleway": {"project_id": "p"},
}  # fmt: skip


@pytest.fixture
def gateway() -> Iterator[Server]:
    with serving("http_sms") as running:  # it says what the test tells it to, whoever is meant
        yield running


@pytest.fixture
def adapter(content: Path, tmp_path: Path, gateway: Server) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(name: str, **changed: Any) -> Any:
        key = {} if name in {"ses", "kumomta"} else {"api_key": "key"}
        settings = {"esp": name, **key, **KEYS.get(name, {}), "base_url": gateway.url, **changed}
        made.append(esp.make(settings, route="main", home=tmp_path, token_key=KEY))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize(
    ("name", "reply", "reason"),
    [
        ("ses", Reply(400, {"__type": "SendingPausedException", "message": "x"}), "esp_account_stopped"),
        (
            "ses",
            Reply(400, {"__type": "LimitExceededException", "message": "Daily message quota"}),
            "esp_quota_used_up",
        ),
        ("ses", Reply(200, {"BulkEmailEntryResults": [{"Status": "ACCOUNT_SENDING_PAUSED"}]}), "esp_account_stopped"),
        ("sendgrid", Reply(401, {"errors": [{"message": "Your account is suspended"}]}), "esp_account_stopped"),
        ("sendgrid", Reply(401, {"errors": [{"message": "Maximum credits exceeded"}]}), "esp_quota_used_up"),
        ("mailgun", Reply(403, {"message": "Domain news.example is disabled"}), "esp_account_stopped"),
        ("mailgun", Reply(402, {"message": "Monthly limit exceeded"}), "esp_quota_used_up"),
        ("brevo", Reply(402, {"code": "not_enough_credits", "message": "x"}), "esp_quota_used_up"),
        ("brevo", Reply(403, {"code": "account_suspended", "message": "x"}), "esp_account_stopped"),
        ("postmark", Reply(422, {"ErrorCode": 405, "Message": "no credits"}), "esp_quota_used_up"),
        ("postmark", Reply(200, [{"ErrorCode": 412, "Message": "suspended"}]), "esp_account_stopped"),
        ("sparkpost", Reply(420, {"errors": [{"message": "over the limit"}]}), "esp_quota_used_up"),
        ("mandrill", Reply(500, {"status": "error", "name": "PaymentRequired", "message": "x"}), "esp_quota_used_up"),
        ("resend", Reply(429, {"name": "daily_quota_exceeded", "message": "x"}), "esp_quota_used_up"),
        ("mailersend", Reply(421, {"message": "maintenance"}), "esp_account_stopped"),
        ("scaleway", Reply(403, {"type": "quotas_exceeded", "message": "x"}), "esp_quota_used_up"),
        ("unione", Reply(403, {"code": 903, "message": "Sending limit exceeded"}), "esp_quota_used_up"),
        ("unione", Reply(403, {"code": 902, "message": "The account is blocked"}), "esp_account_stopped"),
    ],
)
def test_a_stop_is_a_hold(adapter: Any, gateway: Server, batch: Batch, *, name: str, reply: Reply, reason: str) -> None:
    gateway.script = [reply]
    with pytest.raises(Held) as caught:
        adapter(name).submit(batch("anne@orange.example"))
    assert caught.value.reason == reason
    assert (caught.value.retry_after or 0) >= 3600, "no error in a loop"


@pytest.mark.parametrize(
    ("name", "answers", "path"),
    [
        ("brevo", [Reply(201, {}), Reply(204)], "/v3/smtp/email/"),
        ("sparkpost", [Reply(200, {"results": {"id": "77"}}), Reply(204)], "/api/v1/transmissions/77"),
        ("sendgrid", [Reply(201, {"batch_id": "77"}), Reply(202), Reply(201)], "/v3/user/scheduled_sends"),
    ],
)
def test_mail_to_be_sent_later_is_called_back(
    adapter: Any, gateway: Server, batch: Batch, *, name: str, answers: list[Reply], path: str
) -> None:
    gateway.script = answers
    made, submission = adapter(name, recall_window="1h"), batch("anne@orange.example")
    assert made.capabilities.recall is Recall.SCHEDULED
    receipt = made.submit(submission)
    assert receipt.ref
    assert submission.now < receipt.recall_until <= submission.now + timedelta(hours=1)
    assert made.recall([receipt.ref], submission.now) == [True]
    assert gateway.calls[-1].path.startswith(path)
    assert adapter(name).capabilities.recall is Recall.NONE


def test_a_queue_is_bounced_by_campaign_wave_and_lane(adapter: Any, gateway: Server, batch: Batch) -> None:
    gateway.script = [Reply(200, {"success_count": 1}), Reply(200, {})]
    made, submission = adapter("kumomta"), batch("anne@orange.example")
    receipt = made.submit(submission)
    assert gateway.calls[0].document["content"]["headers"]["X-Campaign"] == receipt.ref == "lettre-mars-wave-2-orange"
    assert made.recall([receipt.ref, receipt.ref], submission.now) == [False, False]
    assert [call.path for call in gateway.calls] == ["/api/inject/v1", "/api/admin/bounce/v1"]
