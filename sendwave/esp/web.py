"""What adapters of ESPs over HTTP have in common: the API's client, the content, a webhook instead of a poll."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from sendwave.errors import HandOverError, Held, Permanent, Unknown
from sendwave.esp import hooks, http
from sendwave.esp.base import Answers, PerRecipient, RawReport, Receipt, Refusal, Submission, WebRequest
from sendwave.esp.mailing import MAIL, Addressing, Desk, Mailing, Piece
from sendwave.rules.events import Cause, Event, EventType, Permanence


class WebAdapter(ABC):
    """Base of such an adapter, which says what it sends (`_hand_over`) and what it is told (`_events`)."""

    name: ClassVar[str]
    answers: ClassVar[Answers] = Answers()
    _addressing: Addressing = MAIL

    def __init__(self, settings: Any, *, home: Path, token_key: bytes) -> None:  # noqa: ARG002  # tokens come signed
        """`home` is the workspace: content folders are relative to it. Connects to nothing yet."""
        self._settings = settings
        self._desk = Desk(home)
        self._opening = threading.Lock()
        self._client: Any = None  # a Client, or whatever the ESP's own library gives; it has close()

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────
    def submit(self, submission: Submission) -> Receipt:
        """See EspAdapter."""
        client = self._connected()
        mailing = self._desk.open(submission, self._addressing)
        if not mailing.pieces:
            return Receipt(refused=mailing.refused)
        receipt = self._hand_over(client, mailing)
        return replace(receipt, refused=[*mailing.refused, *receipt.refused])

    def _connected(self) -> Any:
        with self._opening:
            if self._client is None:
                self._client = self._connect()
            return self._client

    @abstractmethod
    def _connect(self) -> Any:
        """The API's client, with the key. Raises Permanent without one."""

    @abstractmethod
    def _hand_over(self, client: Any, mailing: Mailing) -> Receipt:
        """Hand `mailing.pieces` over, once; as EspAdapter.submit."""

    def _key(self) -> str:
        key = hooks.secret(self._settings.api_key)
        if key is None:
            raise Permanent(f"the route has no api_key for {self.name}")
        return key

    @staticmethod
    def _one_by_one(mailing: Mailing, send: Callable[[Piece], PerRecipient | None]) -> Receipt:
        """For an ESP that takes one person a call: `send` gives what was said of one who was not taken, or raises.

        Raises what `send` raised when nobody was taken before; afterwards the others are put off.
        """
        told: list[PerRecipient] = []
        taken = 0
        for place, piece in enumerate(mailing.pieces):
            try:
                said = send(piece)
            except HandOverError as fault:
                lost = isinstance(fault, Unknown)
                if not taken and not lost:
                    raise
                rest = [other.index for other in mailing.pieces[place + lost :]]
                meaning = (Permanence.SOFT, Cause.OTHER)
                later = [mailing.answer(index, EventType.DEFERRED, str(fault), meaning) for index in rest]
                receipt = _sorted(told, later, [piece.index] if lost else [])
                return replace(receipt, held=fault) if isinstance(fault, Held) else receipt
            taken += said is None
            told += [said] if said is not None else []
        return _sorted(told, [], [])

    def _delete(self, path: str, now: datetime) -> bool:
        """Call one thing back by DELETE; False when the ESP has it no more. Raises as EspAdapter.submit."""
        client = self._connected()
        answer = client.post(path, method="DELETE")
        if answer.status in {404, 409, 410}:
            return False
        if not 200 <= answer.status < 300:
            http.refuse(answer, now)
        return True

    # ── being told ───────────────────────────────────────────────────────────────────────────────────────────────
    def verify(self, request: WebRequest, now: datetime | None) -> Refusal | None:  # noqa: ARG002  # no instant in it
        """User and password or bearer token: the ESP signs nothing."""
        return hooks.check_login(self._settings, request)

    def seals(self, request: WebRequest) -> bool:  # noqa: ARG002  # nothing is signed
        """See WebhookAdapter."""
        return False

    def nonce(self, request: WebRequest) -> str | None:  # noqa: ARG002  # nothing of the kind is signed
        """See WebhookAdapter."""
        return None

    def confirmation(self, request: WebRequest) -> str | None:  # noqa: ARG002  # it asks for nothing
        """See WebhookAdapter."""
        return None

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


def _sorted(told: list[PerRecipient], later: list[PerRecipient], unknown: list[int]) -> Receipt:
    put_off = [one for one in told if one.event.type is EventType.DEFERRED]
    return Receipt([one for one in told if one.event.type is not EventType.DEFERRED], put_off + later, unknown)
