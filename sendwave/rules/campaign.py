"""What an operator writes to create a campaign: one YAML file."""

from __future__ import annotations

import re
from email.utils import parseaddr
from typing import Final

from pydantic import AwareDatetime, Field, ValidationInfo, field_validator

from sendwave.rules.audience import Audience, Who
from sendwave.rules.money import Amount
from sendwave.rules.units import Policy

SHORT_SENDER: Final = re.compile(r"[A-Za-z0-9 _.&-]{1,11}|\+?[0-9 ]{3,18}")
"""Sender of a text message: at most 11 letters and digits, a short code or a number (3GPP TS 23.040 §9.1.2.5)."""

NO_MAILBOX: Final = "that is no mail address: write 'Maison Lune <news@maisonlune.example>'"


def is_mailbox(written: str) -> bool:
    """Whether there is a mail address in it, with or without a name."""
    local, _, domain = parseaddr(written)[1].rpartition("@")
    return bool(local) and "." in domain


class CampaignFile(Policy):
    """A campaign as its author describes it; the rest comes from its type's policy."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,119}$", description="Short name people type; never reused.")
    title: str = ""
    type: str = Field(description="Campaign type: a file of policies/types/.")
    route: str = Field(description="Route of sendwave.yaml the messages leave by.")
    sender: str = Field(
        description="From header, for instance 'Maison Lune <news@maisonlune.example>'; of a text message up to 11 "
        "letters, or a number."
    )
    subject: str = Field(
        "", description="Subject, title of a notification; Jinja fields such as {{ first_name }} are allowed."
    )
    content: str | None = Field(
        None, description="Folder with body.txt and body.html (Jinja), relative to the workspace."
    )
    reply_to: str | None = None
    unsubscribe: str | None = Field(None, description="One-click unsubscribe URL with {token} (RFC 8058).")
    provider_template: str | None = Field(None, description="Template id at the ESP, instead of `content`.")
    audience: Audience = Field(default=Who(), description="Whom it is for, among those its type may concern.")
    budget: Amount | None = Field(None, description="What it may cost at most, for instance '500 EUR': best first.")
    parts: int = Field(
        1, ge=1, le=20, description="Parts of a text message the ESP composes. Own `content` is measured instead."
    )
    start: AwareDatetime | None = Field(None, description="Not before this instant; none means once approved.")

    @field_validator("sender", "reply_to")
    @classmethod
    def _is_address(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            _one_line(value)
            is_short = info.field_name == "sender" and SHORT_SENDER.fullmatch(value) is not None
            if not is_short and not is_mailbox(value):
                raise ValueError(NO_MAILBOX)
        return value

    @field_validator("subject", "title")
    @classmethod
    def _is_one_line(cls, value: str) -> str:
        return _one_line(value)

    @field_validator("unsubscribe")
    @classmethod
    def _carries_token(cls, value: str | None) -> str | None:
        if value is not None and ("{token}" not in value or not value.startswith("https://")):
            raise ValueError("the unsubscribe URL must be https and contain {token}, or it could not tell who clicked")
        return value


def _one_line(value: str) -> str:
    """A line break in a header field would start another header (RFC 5322, section 2.2)."""
    if any(ord(character) < 32 for character in value):
        raise ValueError("it must be one line, without control characters")
    return value
