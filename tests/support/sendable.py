"""A contact base in the lake, approved campaigns over it, an ESP in memory: for tests of release and dispatch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from sendwave.engine.base import Engine, Written
from sendwave.engine.datasets import Lake
from sendwave.esp.base import AdapterSettings, Capabilities, PerRecipient, RawReport, Receipt, Submission
from sendwave.flow.plan import plan
from sendwave.rules.campaign import CampaignFile
from sendwave.rules.events import Event, EventType, Permanence
from sendwave.rules.policy import PolicySet
from sendwave.store import campaigns, files
from sendwave.store import policies as kept
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database

KEY = b"0123456789abcdef"
PROVIDERS = ("gmail", "orange", "other")


def policy_set(
    *,
    caps: Sequence[Mapping[str, Any]] = (),
    ramp: Sequence[str] = ("20%", "80%"),
    waves: Mapping[str, Any] | None = None,
    routes: Mapping[str, Any] | None = None,
    providers: Mapping[str, Any] | None = None,
    importance: int = 40,
    settle_unknown: str = "24h",
) -> PolicySet:
    """One campaign type, one tier, no control group."""
    kind = {
        "type": "newsletter",
        "importance": importance,
        "tiers": {"hot": {"share": "100%"}},
        "caps": list(caps),
        "control": "0%",
        "settle_unknown": settle_unknown,
        "waves": {"ramp": list(ramp), "soak": "1h", **(waves or {})},
    }
    lanes = {name: {"label": name, **(providers or {}).get(name, {})} for name in PROVIDERS}
    return PolicySet.model_validate(
        {
            "tiers": {"tiers": [{"key": "hot", "label": "Hot", "min_score": 50}, {"key": "cold", "label": "Cold"}]},
            "types": {"newsletter": kind},
            "gates": {"default": {"signals": {"hard_bounce": {"hold": "1%", "halt": "2%"}}}},
            "lanes": {"providers": lanes, "routes": dict(routes or {})},
        }
    )


def address(contact: int) -> str:
    """The address of a contact of `write_base`."""
    return f"person{contact}@{PROVIDERS[contact % 3]}.example"


def address_hash(contact: int) -> str:
    """What suppressions know of it."""
    return hashlib.sha256(address(contact).encode()).hexdigest()[:32]


def write_base(
    db: Database,
    lake: Lake,
    people: int,
    now: datetime,
    zones: Sequence[str | None] = (None,),
    *,
    seeds: Collection[int] = (),
) -> None:
    """Contacts 1 to `people`, all of them in the best tier and with consent; `seeds` are our own addresses."""
    every = range(1, people + 1)
    contacts = {
        "contact": pa.array(every, pa.int64()),
        "contact_id": [f"C{n}" for n in every],
        "email": [address(n) for n in every],
        "email_hash": [address_hash(n) for n in every],
        "email_status": ["valid"] * people,
        "phone": pa.nulls(people, pa.string()),
        "phone_hash": pa.nulls(people, pa.string()),
        "provider": [PROVIDERS[n % 3] for n in every],
        "timezone": pa.array([zones[n % len(zones)] for n in every], pa.string()),
        "language": ["fr"] * people,
        "country": ["FR"] * people,
        "group_key": pa.nulls(people, pa.string()),
        "seed": [n in seeds for n in every],
        "attr_first_name": [f"Zoé {n}" for n in every],
    }
    land(db, lake, "contacts", contacts, now)
    consent(db, lake, every, "granted", now)
    scores = {"contact": contacts["contact"], "score": [90.0] * people, "tier": ["hot"] * people}
    land(db, lake, "scores", {**scores, "grid_version": ["x"] * people, "scored_ts": [0] * people}, now)


def consent(db: Database, lake: Lake, people: Iterable[int], status: str, now: datetime) -> None:
    """The marketing consent of these people, as of `now`; a new snapshot, as intake writes one."""
    with db.write() as conn:
        earlier = files.live(conn, ["consents"])["consents"]
        files.retire(conn, [file.id for file in earlier], now)
    words = {row["contact"]: row for file in earlier for row in pq.read_table(lake.root / file.path).to_pylist()}
    same = {"channel": "email", "purpose": "marketing", "status": status, "basis": "consent", "proof": "form"}
    words.update({n: {"contact": n, **same, "recorded_ts": int(now.timestamp())} for n in people})
    rows = pa.Table.from_pylist(list(words.values()))
    land(db, lake, "consents", {name: rows[name] for name in rows.column_names}, now)


def land(db: Database, lake: Lake, dataset: str, columns: Mapping[str, Any], now: datetime) -> None:
    """A registered file of that dataset."""
    path = lake.new(dataset, dataset)
    table = pa.table(dict(columns))
    pq.write_table(table, path)
    lake.share(Written(path, table.num_rows, 1))
    with db.write() as conn:
        files.register(conn, dataset=dataset, path=lake.relative(path), rows=table.num_rows, size=1, now=now)


def approved(
    db: Database, engine: Engine, lake: Lake, policy: PolicySet, now: datetime, *, name: str = "spring", **fields: Any
) -> Campaign:
    """A campaign that was planned and approved."""
    told = {"type": "newsletter", "route": "main", "sender": "news@lune.example", "subject": "Hello {{ first_name }}"}
    file = CampaignFile.model_validate({**told, "name": name, **fields})
    with db.write() as conn:
        made = campaigns.create(conn, file, policy.types[file.type].channel.value, by="ann", now=now)
    plan(db, engine, lake, policy, made, by="ann", now=now)
    with db.write() as conn:
        kept.remember(conn, policy, now)
        campaigns.transition(conn, made.id, "approve", by="eve", now=now, approved_at=now, approved_by="eve")
        return campaigns.by_id(conn, made.id)


def event(kind: EventType, code: str = "5.1.1") -> Event:
    """Something an ESP says about a recipient at hand-over."""
    from datetime import UTC

    return Event(
        kind, datetime(2026, 3, 2, tzinfo=UTC), Permanence.HARD, enhanced_code=code, description="no such user"
    )


@dataclass
class MemoryEsp:
    """Remembers who got what; `answer` may refuse, defer or raise instead of accepting everybody."""

    answer: Callable[[Submission], Receipt] = lambda submission: Receipt()
    arrived: Counter[str] = field(default_factory=Counter)
    submissions: list[Submission] = field(default_factory=list)
    name: ClassVar[str] = "memory"
    Settings: ClassVar[type[AdapterSettings]] = AdapterSettings
    capabilities: Capabilities = field(default_factory=lambda: Capabilities(batch_size=1000))

    def submit(self, submission: Submission) -> Receipt:
        self.submissions.append(submission)
        receipt = self.answer(submission)
        told = {one.index for one in (*receipt.refused, *receipt.deferred)}
        self.arrived.update(a for n, a in enumerate(submission.recipients.addresses) if n not in told)
        return receipt

    def poll(self, now: datetime) -> Iterable[RawReport]:
        return ()

    def acknowledge(self, reports: Sequence[RawReport]) -> None:
        return None

    def normalise(self, report: RawReport, received_at: datetime) -> Sequence[Event]:
        return ()

    def close(self) -> None:
        return None


def refusing(*suffixes: str, later: Sequence[str] = ()) -> Callable[[Submission], Receipt]:
    """Refuses addresses of people whose number ends so, defers those in `later`."""

    def answer(submission: Submission) -> Receipt:
        names = [a.partition("@")[0] for a in submission.recipients.addresses]
        return Receipt(
            refused=[PerRecipient(n, event(EventType.BOUNCE)) for n, a in enumerate(names) if a.endswith(suffixes)],
            deferred=[
                PerRecipient(n, event(EventType.DEFERRED, "4.3.0"))
                for n, a in enumerate(names)
                if a.endswith(tuple(later)) and not a.endswith(suffixes)
            ],
        )

    return answer
