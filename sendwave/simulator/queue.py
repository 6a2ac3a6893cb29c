"""Amazon SQS, by which events of SES may come: ReceiveMessage and DeleteMessageBatch of its JSON protocol.

docs.aws.amazon.com/AWSSimpleQueueService: a message not deleted within the visibility time-out comes again with another
handle; a standard queue promises neither order nor once.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final

from sendwave.simulator.base import Reply, Request
from sendwave.simulator.posting import Parcel, Posting

_VISIBILITY: Final = timedelta(seconds=30)
_MOST: Final = 10
_TYPE: Final = {"Content-Type": "application/x-amz-json-1.0"}


@dataclass
class _Waiting:
    body: str
    parcel: Parcel
    visible: datetime
    receives: int = 0


class Queue:
    """One queue of events. Safe for several threads."""

    def __init__(self, posting: Posting) -> None:
        self._posting = posting
        self._messages: dict[str, _Waiting] = {}
        self._numbers = count(1)
        self._lock = threading.Lock()

    def answer(self, request: Request, now: datetime) -> Reply | None:
        """The answer to a call of SQS; None for anything else."""
        target = request.headers.get("x-amz-target", "")
        if not target.startswith("AmazonSQS."):
            return None
        told = request.document if isinstance(request.document, dict) else {}
        with self._lock:
            if target.endswith(".ReceiveMessage"):
                return Reply(200, {"Messages": self._receive(told, now)}, _TYPE)
            if target.endswith((".DeleteMessageBatch", ".DeleteMessage")):
                return Reply(200, self._delete(told.get("Entries") or [{"Id": "0", **told}], now), _TYPE)
        wrong = {"__type": "com.amazonaws.sqs#UnsupportedOperation", "message": f"not in this rehearsal: {target}"}
        return Reply(400, wrong, _TYPE)

    def _receive(self, told: dict[str, Any], now: datetime) -> list[dict[str, Any]]:
        for parcel in self._posting.due(now):
            assert parcel.post is not None  # signed when it left
            name = f"m{next(self._numbers)}"
            self._messages[name] = _Waiting(parcel.post.body.decode(), parcel, now)
        chosen = [(n, m) for n, m in self._messages.items() if m.visible <= now]
        found = []
        for name, message in chosen[: min(int(told.get("MaxNumberOfMessages") or 1), _MOST)]:
            message.visible, message.receives = now + _VISIBILITY, message.receives + 1
            digest = hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest()
            handle = f"{name}#{message.receives}"
            found.append({"MessageId": name, "ReceiptHandle": handle, "MD5OfBody": digest, "Body": message.body})
        return found

    def _delete(self, entries: list[dict[str, Any]], now: datetime) -> dict[str, Any]:
        for entry in entries:
            message = self._messages.pop(str(entry.get("ReceiptHandle")).partition("#")[0], None)
            if message is not None:
                self._posting.answered(message.parcel, 200, now)
        return {"Successful": [{"Id": entry.get("Id")} for entry in entries], "Failed": []}
