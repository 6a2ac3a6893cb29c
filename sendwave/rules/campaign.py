"""What an operator writes to create a campaign: one YAML file."""

from __future__ import annotations

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

    @field_validator("unsubscribe")
    @classmethod
    def _carries_token(cls, value: str | None) -> str | None:
        if value is not None and ("{token}" not in value or not value.startswith("https://")):
            raise ValueError("the unsubscribe URL must be https and contain {token}, or it could not tell who clicked")
        return value
