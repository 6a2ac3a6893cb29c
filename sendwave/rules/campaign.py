"""What an operator writes to create a campaign: one YAML file."""

from __future__ import annotations

from email.utils import parseaddr

from pydantic import AwareDatetime, Field, field_validator

from sendwave.rules.units import Policy


class CampaignFile(Policy):
    """A campaign as its author describes it; the rest comes from its type's policy."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,119}$", description="Short name people type; never reused.")
    title: str = ""
    type: str = Field(description="Campaign type: a file of policies/types/.")
    route: str = Field(description="Route of sendwave.yaml the messages leave by.")
    sender: str = Field(description="From header, for instance 'Maison Lune <news@maisonlune.example>'.")
    subject: str = Field(min_length=1, description="Subject; Jinja fields such as {{ first_name }} are allowed.")
    content: str | None = Field(
        None, description="Folder with body.txt and body.html (Jinja), relative to the workspace."
    )
    reply_to: str | None = None
    unsubscribe: str | None = Field(None, description="One-click unsubscribe URL with {token} (RFC 8058).")
    provider_template: str | None = Field(None, description="Template id at the ESP, instead of `content`.")
    start: AwareDatetime | None = Field(None, description="Not before this instant; none means once approved.")

    @field_validator("sender", "reply_to")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None:
            _one_line(value)
            local, _, domain = parseaddr(value)[1].rpartition("@")
            if not local or "." not in domain:
                raise ValueError("that is no mail address: write 'Maison Lune <news@maisonlune.example>'")
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
