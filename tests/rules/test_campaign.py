from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from campaigns_made import described
from pydantic import ValidationError


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": "Spring Sale"}, "should match pattern"),
        ({"name": "../etc"}, "should match pattern"),
        ({"name": "x" * 121}, "should match pattern"),
        ({"sender": "Maison Lune de Paris"}, "no mail address"),
        ({"reply_to": "Maison Lune"}, "no mail address"),
        ({"sender": "news@localhost"}, "no mail address"),
        ({"sender": "a@b.example\r\nBcc: all@b.example"}, "one line"),
        ({"reply_to": "nobody"}, "no mail address"),
        ({"subject": "Hello\nX-Header: 1"}, "one line"),
        ({"unsubscribe": "https://maisonlune.example/u"}, "contain {token}"),
        ({"unsubscribe": "http://maisonlune.example/u/{token}"}, "must be https"),
        ({"start": datetime(2026, 3, 2, 9)}, "timezone"),  # noqa: DTZ001  # the very mistake
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_a_wrong_campaign_file_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        described(**fields)
    assert says in str(wrong.value)


@pytest.mark.parametrize("sender", ["news@maisonlune.example", '"Lune, Maison" <news@mail.maisonlune.example>'])
def test_a_sender_is_an_address_with_or_without_a_name(sender: str) -> None:
    assert described(sender=sender).sender == sender


def test_a_campaign_file_survives_the_store() -> None:
    file = described(start=datetime(2026, 3, 2, 9, tzinfo=UTC), title="Spring — printemps", content="mail/spring")
    assert type(file).model_validate(file.model_dump(mode="json")) == file
