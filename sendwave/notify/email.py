"""Alerts by e-mail, over SMTP, to the contacts' owner where the owner is (or stands for) an address."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, SecretStr

from sendwave.errors import Permanent, Transient
from sendwave.notify.base import ChannelSettings, Notice
from sendwave.rules.addresses import normalise_email

Address = Annotated[str, BeforeValidator(normalise_email)]


class EmailSettings(ChannelSettings):
    """The relay, and who gets what."""

    host: str
    port: int = Field(default=587, ge=1, le=65_535)
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    user: str = ""
    password: SecretStr = SecretStr("")
    sender: Address
    to: Address = Field(description="Who gets what nobody owns.")
    owners: dict[str, Address] = Field(default_factory=dict, description="Owner as the CRM names them: their address.")
    timeout: float = Field(default=20.0, gt=0, le=120, description="Seconds.")


class Adapter:
    """One mail per notice, over a connection of its own: alerts are few."""

    name: ClassVar[str] = "email"
    Settings: ClassVar[type[ChannelSettings]] = EmailSettings

    def __init__(self, settings: EmailSettings) -> None:
        """Nothing is opened."""
        self.settings = settings

    def send(self, notice: Notice) -> None:
        """Hand the mail to the relay. Its 4xx and a broken line may go again, its 5xx may not (RFC 5321 §4.2.1)."""
        mail = self.mail(notice)
        try:
            with self._connected() as relay:
                relay.send_message(mail)
        except smtplib.SMTPRecipientsRefused as refused:
            code, text = next(iter(refused.recipients.values()))
            raise _answer(code, text) from refused
        except smtplib.SMTPResponseException as refused:
            raise _answer(refused.smtp_code, refused.smtp_error) from refused
        except (OSError, smtplib.SMTPException) as fault:
            raise Transient(f"the relay could not be reached: {type(fault).__name__}") from fault

    def mail(self, notice: Notice) -> EmailMessage:
        """The notice as a mail. Its Message-ID is the same at every attempt, so that a mailbox can drop the second."""
        mail = EmailMessage()
        mail["From"], mail["To"] = self.settings.sender, self.recipient(notice.owner)
        mail["Subject"] = " ".join(notice.title.split())
        mail["Message-ID"] = f"<{notice.key}@{self.settings.sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies, please
        if notice.now is not None:
            mail["Date"] = format_datetime(notice.now)
        mail.set_content("\n".join([notice.text, "", *notice.lines, ""]))
        return mail

    def recipient(self, owner: str) -> str:
        """The owner's address, given or looked up; the default one where there is none."""
        if owner in self.settings.owners:
            return self.settings.owners[owner]
        try:
            return normalise_email(owner)
        except ValueError:
            return self.settings.to

    def _connected(self) -> smtplib.SMTP:
        host, port, timeout = self.settings.host, self.settings.port, self.settings.timeout
        if self.settings.tls == "implicit":
            relay: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=timeout, context=ssl.create_default_context())
        else:
            relay = smtplib.SMTP(host, port, timeout=timeout)
        try:
            if self.settings.tls == "starttls":
                relay.starttls(context=ssl.create_default_context())
            if self.settings.user:
                relay.login(self.settings.user, self.settings.password.get_secret_value())
        except BaseException:
            relay.close()
            raise
        return relay

    def close(self) -> None:
        """Nothing is kept open."""


def _answer(code: int, text: bytes | str) -> Transient | Permanent:
    said = f"the relay answered {code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"
    return Transient(said) if code < 500 else Permanent(said)
