"""A relay spoken to over SMTP: one transaction per person on kept connections, bounces read from a mailbox.

Each mail leaves from `b-<token>@bounce_domain` (VERP), so that whatever comes back says whom it is about.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from sendwave.errors import BadInput, Permanent
from sendwave.esp import reports
from sendwave.esp.base import AdapterSettings, Capabilities, Feed, RawReport, Receipt, Submission
from sendwave.esp.content import Content, stamp
from sendwave.esp.conversation import Conversation, Relay
from sendwave.esp.delivery import Delivery
from sendwave.esp.mailbox import Mailbox, MailboxSettings
from sendwave.esp.mime import Letters
from sendwave.rules.events import Event
from sendwave.rules.units import Duration, parse_duration


class SmtpSettings(AdapterSettings):
    """A route by SMTP."""

    esp: Literal["smtp"]
    host: str = Field("localhost", min_length=1)
    port: int = Field(587, ge=1, le=65535)
    tls: Literal["starttls", "implicit", "none"] | None = Field(
        None, description="Left out: starttls, but none to a relay on this very machine."
    )
    ca_file: Path | None = Field(None, description="Certificates to trust instead of the system's, PEM.")
    username: str | None = None
    password: SecretStr | None = None
    helo: str | None = Field(None, description="Name we greet with; the bounce or sender domain when left out.")
    bounce_domain: str | None = Field(None, description="Domain of the VERP senders; the sender's own when left out.")
    unsubscribe_mailbox: str | None = Field(None, description="Address for List-Unsubscribe by mail.")
    batch_size: int = Field(200, ge=1, le=10_000)
    timeout: Duration = parse_duration("1m")
    final_timeout: Duration = Field(parse_duration("10m"), description="For the reply to a whole mail; RFC 5321.")
    mails_per_connection: int | None = Field(None, ge=1)
    bounces: MailboxSettings | None = Field(None, description="Where bounces and complaints arrive; or just a Maildir.")

    @field_validator("bounces", mode="before")
    @classmethod
    def _folder_alone(cls, value: Any) -> Any:
        return {"maildir": value} if isinstance(value, str) else value

    @property
    def encryption(self) -> str:
        """`tls`, or what stands for it when it is left out."""
        return self.tls or ("none" if _is_loopback(self.host) else "starttls")

    @model_validator(mode="after")
    def _secret_stays_secret(self) -> Self:
        if self.username and self.encryption == "none" and not _is_loopback(self.host):
            raise ValueError("a password must not travel in clear: use `tls: starttls` or `tls: implicit`")
        return self


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Adapter:
    """The `smtp` ESP. Safe for several threads: each batch has a connection to itself."""

    name: ClassVar[str] = "smtp"
    extra: ClassVar[str] = "bounces"
    Settings: ClassVar[type[AdapterSettings]] = SmtpSettings

    def __init__(self, settings: SmtpSettings, *, home: Path, token_key: bytes) -> None:
        """`home` is the workspace: content and Maildir folders are relative to it. Connects to nothing yet."""
        self._settings, self._home, self._key = settings, home, token_key
        self._idle: deque[Conversation] = deque()  # the newest first: the longest idle may be dead
        self._content: dict[tuple[str, str], tuple[object, Content]] = {}
        self._lock = threading.Lock()
        self._mailbox = Mailbox(settings.bounces, home, settings.bounce_domain) if settings.bounces else None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            batch_size=self._settings.batch_size, per_recipient=True, feed=Feed.MAILBOX, concurrent=True
        )

    def submit(self, submission: Submission) -> Receipt:
        """See EspAdapter. Raises Transient or Permanent only when nobody of the batch was handed over."""
        message, settings = submission.message, self._settings
        letters = Letters(
            message,
            self._content_of(message.content, message.subject),
            wave=submission.wave,
            now=submission.now,
            bounce_domain=settings.bounce_domain,
            unsubscribe_mailbox=settings.unsubscribe_mailbox,
        )

        def connect() -> Conversation:
            return Conversation(self._relay(letters.domain))

        delivery = Delivery(submission, letters, self._kept() or connect(), connect, settings.mails_per_connection)
        try:
            receipt = delivery.run()
        except BaseException:
            if delivery.line is not None:  # in the middle of something: not to be used again
                delivery.line.close(polite=False)
            raise
        if delivery.line is not None:
            with self._lock:
                self._idle.appendleft(delivery.line)
        return receipt

    def poll(self, now: datetime) -> Iterable[RawReport]:  # noqa: ARG002 - mail is there or it is not
        """Mails waiting in the Maildir. The listener, if there is one, starts with the first call.

        Raises Busy when its port is taken.
        """
        return self._mailbox.waiting() if self._mailbox else ()

    def acknowledge(self, reports: Sequence[RawReport]) -> None:
        if self._mailbox:
            self._mailbox.acknowledge(reports)

    def normalise(self, report: RawReport, received_at: datetime) -> Sequence[Event]:
        return reports.parse(report.body, token_key=self._key, received_at=received_at)

    def close(self) -> None:
        with self._lock:
            idle = list(self._idle)
            self._idle.clear()
        for line in idle:
            line.close()
        if self._mailbox:
            self._mailbox.close()

    def _kept(self) -> Conversation | None:
        """A kept connection that still answers."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                line = self._idle.popleft()
            if line.is_alive():
                return line
            line.close(polite=False)

    def _relay(self, sender_domain: str) -> Relay:
        chosen = self._settings
        return Relay(
            host=chosen.host,
            port=chosen.port,
            tls=chosen.encryption,
            helo=chosen.helo or chosen.bounce_domain or sender_domain,
            username=chosen.username,
            password=chosen.password.get_secret_value() if chosen.password else None,
            ca_file=str(self._home / chosen.ca_file) if chosen.ca_file else None,
            timeout=chosen.timeout.total_seconds(),
            final_timeout=chosen.final_timeout.total_seconds(),
        )

    def _content_of(self, folder: str | None, subject: str) -> Content:
        """Templates compiled once, and again when their files change. Raises Permanent."""
        if folder is None:
            raise Permanent("a campaign by SMTP needs `content`, a folder with body.txt or body.html")
        path, key = self._home / folder, (folder, subject)
        with self._lock:
            seen = stamp(path)
            cached = self._content.get(key)
            if cached is None or cached[0] != seen:
                try:
                    cached = self._content[key] = (seen, Content(path, subject))
                except BadInput as wrong:
                    raise Permanent(str(wrong)) from wrong
            return cached[1]
