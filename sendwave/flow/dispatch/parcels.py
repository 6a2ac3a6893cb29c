"""Opening a claimed batch: who of its people still may be written to, and what the ESP is told about each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.esp.base import Recipients, Submission
from sendwave.flow.dispatch.pacing import Job
from sendwave.rules import plan, token
from sendwave.rules.columns import CONTACTS
from sendwave.store import batches, files, freezes, payloads, suppressions
from sendwave.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class Parcel:
    """A batch ready to leave: the people who go, and the index of each in its payload."""

    batch: batches.Claimed
    people: pa.Table
    indexes: Sequence[int]
    dropped: Sequence[tuple[int, str]]
    submission: Submission

    @property
    def handed(self) -> tuple[int, Sequence[tuple[int, str]]]:
        """As store.batches.settle takes it."""
        return self.batch.size, self.dropped


def _key(batch_id: int, tokens: Sequence[str]) -> str:
    """Idempotency key: the same for the same people of a batch, and by their tokens of this workspace alone."""
    digest = hashlib.blake2b("".join(tokens).encode(), digest_size=16).hexdigest()
    return f"sendwave-{batch_id}-{digest}"


@dataclass(frozen=True, slots=True)
class Packer:
    """Makes parcels of batches."""

    db: Database
    engine: Engine
    lake: Lake
    token_key: bytes
    _answered: dict[int, list[int]] = field(default_factory=dict, init=False)  # consent files, by freeze

    def pack(self, batch: batches.Claimed, job: Job, now: datetime) -> Parcel:
        """Open the payload, leave out who may not be written to any more, sign a token for everybody else."""
        people = payloads.decode(batch.payload)
        out = self._ask_again(batch, job, people)
        contacts = people["contact"].to_pylist() if out else []
        dropped = [(n, out[contact]) for n, contact in enumerate(contacts) if contact in out]
        return self._parcel(batch, job, people, dropped, now)

    def pack_again(
        self, batch: batches.Claimed, job: Job, dropped: Sequence[tuple[int, str]], now: datetime
    ) -> Parcel | None:
        """The parcel as it was handed over before: without the same people, under the same key.

        None when one of those in it may not be written to any more: what the first call did not bring must not come
        now, and without them it would be another call.
        """
        people = payloads.decode(batch.payload)
        if out := self._ask_again(batch, job, people):
            gone, contacts = {n for n, _ in dropped}, people["contact"].to_pylist()
            if any(contact in out for n, contact in enumerate(contacts) if n not in gone):
                return None
        return self._parcel(batch, job, people, dropped, now)

    def _parcel(
        self, batch: batches.Claimed, job: Job, people: pa.Table, dropped: Sequence[tuple[int, str]], now: datetime
    ) -> Parcel:
        indexes: Sequence[int] = range(batch.size)
        if dropped:
            gone = {n for n, _ in dropped}
            indexes = [n for n in indexes if n not in gone]
            people = people.take(pa.array(indexes, pa.int64()))
        where = batch.origins or [(batch.id, n) for n in range(batch.size)]
        recipients = Recipients(
            people["address"].to_pylist(),
            [token.sign(self.token_key, *where[n]) for n in indexes],
            people["contact_id"].to_pylist(),
            people["tier"].to_pylist(),
            payloads.fields(people),
        )
        scope = (batch.group.campaign_id, batch.group.wave, batch.group.provider)
        submission = Submission(batch.id, _key(batch.id, recipients.tokens), *scope, job.message, recipients, now)
        return Parcel(batch, people, indexes, dropped, submission)

    def _ask_again(self, batch: batches.Claimed, job: Job, people: pa.Table) -> dict[int, str]:
        """{contact: why} of those who may not be written to any more; the rules are asked where there is news.

        Whom the list has is looked up each time: no instant tells what a commit that is still to come will add to it.
        """
        channel, hashes = job.kind.channel, people["address_hash"]
        with self.db.read() as conn:
            suppressed = suppressions.among(conn, channel, hashes.to_pylist())
            if not suppressed and (job.kind.is_service or not self._consents_landed(conn, batch.freeze_id)):
                return {}
            listed = files.live(conn, ["consents"])
        valid = pa.repeat(pa.scalar("valid"), people.num_rows)
        frozen = {"contact": people["contact"], "contact_id": people["contact_id"]}
        for kind in ("email", "phone"):
            frozen |= {kind: people["address"], f"{kind}_hash": hashes, f"{kind}_status": valid}
        tables = {CONTACTS.name: pa.table(frozen), "suppressions": suppressions.as_table(suppressed)}
        with self.engine.session(self.lake.paths(listed), tables) as session:
            out = session.read(plan.handover_statement(job.kind))
        return dict(zip(out["contact"].to_pylist(), out["excluded_by"].to_pylist(), strict=True))

    def _consents_landed(self, conn: Connection, freeze_id: int) -> bool:
        """Whether any did since the people of this freeze were asked about."""
        if freeze_id not in self._answered:
            self._answered[freeze_id] = freezes.consents(conn, freeze_id)
        return [file.id for file in files.live(conn, ["consents"])["consents"]] != self._answered[freeze_id]
