"""What adapters of ESPs over HTTP have in common: the API's client, the content, a webhook instead of a poll."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from sendwave.errors import Permanent
from sendwave.esp import hooks
from sendwave.esp.base import Answers, RawReport, Receipt, Refusal, Submission, WebRequest
from sendwave.esp.http import Client
from sendwave.esp.mailing import Desk, Mailing
from sendwave.rules.events import Event


class WebAdapter(ABC):
    """Base of such an adapter, which says what it sends (`_hand_over`) and what it is told (`_events`)."""

    name: ClassVar[str]
    answers: ClassVar[Answers] = Answers()

    def __init__(self, settings: Any, *, home: Path, token_key: bytes) -> None:  # noqa: ARG002  # tokens come signed
        """`home` is the workspace: content folders are relative to it. Connects to nothing yet."""
        self._settings = settings
        self._desk = Desk(home)
        self._client: Client | None = None

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────
    def submit(self, submission: Submission) -> Receipt:
        """See EspAdapter."""
        if self._client is None:
            self._client = self._connect()
        mailing = self._desk.open(submission)
        if not mailing.pieces:
            return Receipt(refused=mailing.refused)
        receipt = self._hand_over(self._client, mailing)
        return Receipt([*mailing.refused, *receipt.refused], receipt.deferred, receipt.unknown, receipt.message_ids)

    @abstractmethod
    def _connect(self) -> Client:
        """The API's client, with the key. Raises Permanent without one."""

    @abstractmethod
    def _hand_over(self, client: Client, mailing: Mailing) -> Receipt:
        """Hand `mailing.pieces` over, once; as EspAdapter.submit."""

    def _key(self) -> str:
        key = hooks.secret(self._settings.api_key)
        if key is None:
            raise Permanent(f"the route has no api_key for {self.name}")
        return key

    # ── being told ───────────────────────────────────────────────────────────────────────────────────────────────
    def verify(self, request: WebRequest, now: datetime | None) -> Refusal | None:  # noqa: ARG002  # no instant in it
        """User and password or bearer token: the ESP signs nothing."""
        return hooks.check_login(self._settings, request)

    def normalise(self, report: RawReport, received_at: datetime) -> Sequence[Event]:
        """See EspAdapter."""
        found = hooks.objects(hooks.read_json(report.body, of=self.name), of=self.name)
        return [event for told in found for event in self._events(told, received_at)]

    @abstractmethod
    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        """The events in one object of a report: whatever it holds, no exception."""

    # ── nothing to poll ──────────────────────────────────────────────────────────────────────────────────────────
    def poll(self, now: datetime) -> Iterable[RawReport]:  # noqa: ARG002  # events come by webhook
        return ()

    def acknowledge(self, reports: Sequence[RawReport]) -> None:  # noqa: B027  # a webhook has nothing to do here
        """Nothing to say: the webhook's answer was the acknowledgement."""

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
