"""Small bases for tests of the rules: people, what they allowed and what they got, as the lake's own tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Boolean, Double, Integer, String

from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules.columns import DATASETS, Select
from sendwave.rules.policy import CampaignType, PolicySet

NOW_TS = 1_772_442_000
"""2026-03-02 09:00 UTC, the tests' `now`."""
HOUR, DAY = 3_600, 86_400

Rows = Iterable[Mapping[str, Any]]

TYPE: Mapping[str, Any] = {
    "type": "newsletter",
    "tiers": {
        "hot": {"share": "100%", "cap": "3 per 7d"},
        "warm": {"share": "50%", "cap": "2 per 7d", "min_gap": "48h"},
        "cool": {"share": "100%"},
        "cold": "never",
    },
    "caps": [{"max": "1 per 1d", "counts": "channel"}, {"max": "5 per 30d", "counts": "all"}],
    "control": "10%",
    "waves": {"ramp": ["10%", "30%", "60%"]},
}
POLICY: Mapping[str, Any] = {
    "tiers": {
        "tiers": [
            {"key": "hot", "label": "Hot", "min_score": 50},
            {"key": "warm", "label": "Warm", "min_score": 20},
            {"key": "cool", "label": "Cool", "min_score": 5},
            {"key": "cold", "label": "Cold"},
        ]
    },
    "types": {
        "newsletter": TYPE,
        "service": {"type": "service", "purpose": "service", "waves": {"ramp": ["100%"]}},
    },
    "gates": {"default": {"signals": {"hard_bounce": {"hold": "1%", "halt": "2%", "min_sample": 100}}}},
    "lanes": {"providers": {"gmail": {"label": "Gmail", "domains": ["gmail.com"]}, "other": {"label": "Other"}}},
}


def policy(**changes: Any) -> PolicySet:
    """The policy set of these tests; `changes` replace fields of its newsletter."""
    return PolicySet.model_validate({**POLICY, "types": {**POLICY["types"], "newsletter": {**TYPE, **changes}}})


def newsletter(**changes: Any) -> CampaignType:
    """Its newsletter."""
    return policy(**changes).types["newsletter"]


def table(name: str, rows: Rows = ()) -> pa.Table:
    """Rows of a dataset as Arrow columns; what a row leaves out is NULL."""
    given = list(rows)
    columns = {c.name: pa.array([row.get(c.name) for row in given], arrow(c.type)) for c in DATASETS[name].columns}
    further = sorted({key for row in given for key in row} - columns.keys())
    return pa.table({**columns, **{key: pa.array([row.get(key) for row in given], pa.string()) for key in further}})


def arrow(kind: Any) -> pa.DataType:
    """The Arrow type of a declared column."""
    if isinstance(kind, Boolean):
        return pa.bool_()
    if isinstance(kind, String):
        return pa.string()
    if isinstance(kind, Double):
        return pa.float64()
    return pa.int32() if type(kind) is Integer else pa.int64()


def base(**rows: Rows) -> dict[str, pa.Table]:
    """The inputs of a plan; datasets not named are empty."""
    names = ("contacts", "consents", "scores", "sends", "returns", "suppressions", "plan")
    return {name: table(name, rows.get(name, ())) for name in names}


def person(contact: int, **changes: Any) -> dict[str, Any]:
    """A contact one may write to, once they consent."""
    return {
        "contact": contact,
        "contact_id": f"C-{contact}",
        "email": f"p{contact}@example.com",
        "email_hash": f"{contact:032x}",
        "email_status": "valid",
        "provider": "gmail",
        **changes,
    }


def consent(contact: int, status: str = "granted", **changes: Any) -> dict[str, Any]:
    """Their word about marketing by e-mail."""
    given = {"contact": contact, "channel": "email", "purpose": "marketing", "status": status}
    return {**given, "recorded_ts": NOW_TS - 100 * DAY, **changes}


def score(contact: int, value: float | None = 60.0, tier: str | None = None) -> dict[str, Any]:
    """Their points, and the tier if it was given."""
    return {"contact": contact, "score": value, "tier": tier, "scored_ts": NOW_TS}


def send(contact: int, ago: int, **changes: Any) -> dict[str, Any]:
    """A message they got `ago` seconds before now."""
    sent = {"contact": contact, "campaign": -1, "type": "newsletter", "channel": "email", "sent_ts": NOW_TS - ago}
    return {**sent, "freeze": 0, "batch": 0, "position": 0, "wave": 1, "provider": "gmail", **changes}


def ready(*contacts: int, **rows: Rows) -> dict[str, pa.Table]:
    """A base of people whom nothing excludes, but what `rows` add."""
    given: dict[str, Rows] = {
        "contacts": [person(n) for n in contacts],
        "consents": [consent(n) for n in contacts],
        "scores": [score(n) for n in contacts],
    }
    return base(**{**given, **rows})


def read(engine: DuckdbEngine, statement: Select[Any], tables: Mapping[str, pa.Table]) -> list[dict[str, Any]]:
    """The statement's rows over those tables."""
    with engine.session({}, tables) as session:
        rows: list[dict[str, Any]] = session.read(statement).to_pylist()
    return rows


def odd_base(seed: int, people: int = 60) -> dict[str, pa.Table]:
    """Anything that may lie in a lake: NULLs everywhere, unheard-of words, sends at the edges of every window."""
    draw = np.random.default_rng(seed)

    def pick(*words: Any) -> Any:
        return words[draw.integers(len(words))]

    contacts = [
        person(
            n,
            email=pick(f"p{n}@example.com", f"p{n}@example.com", f"p{n}@example.com", None),
            email_hash=pick(f"{n:032x}", f"{n:032x}", f"{n:032x}", f"{n:032x}", None),
            email_status=pick("valid", "valid", "valid", "valid", "invalid", "missing", "duplicate", "odd", None),
            provider=pick("gmail", "orange", None),
            timezone=pick("Europe/Paris", None),
            attr_first_name=pick("Léa", None),
        )
        for n in range(1, people + 1)
    ]
    words = ("granted", "granted", "granted", "granted", "withdrawn", "pending", "odd", None)
    edges = [days * DAY + off for days in (1, 2, 7, 30) for off in (-1, 0, 1)]
    sends = [
        send(
            int(draw.integers(1, people + 1)),
            int(pick(*edges, int(draw.integers(0, 40 * DAY)))),
            type=pick("newsletter", "newsletter", "brand", None),
            channel=pick("email", "email", "sms", None),
            campaign=int(pick(-1, 7)),
            freeze=n % 9,
            batch=n % 9,
            position=n,
            excluded_by=pick(None, None, None, "suppressed_complaint"),
        )
        for n in range(people * 3)
    ]
    return base(
        contacts=contacts,
        consents=[
            consent(
                n, pick(*words), channel=pick("email", "email", "email", "sms"), recorded_ts=pick(NOW_TS - DAY, None)
            )
            for n in range(1, people + 1)
            if draw.random() < 0.95
        ],
        scores=[
            score(
                n, pick(*draw.uniform(-5, 100, 8).round(0).tolist(), None), pick(None, None, None, "hot", "cold", "odd")
            )
            for n in range(1, people + 1)
            if draw.random() < 0.95
        ],
        sends=sends,
        returns=[
            {"freeze": row["freeze"], "contact": row["contact"], "reason": pick("refused", "recalled", None)}
            for row in sends
            if draw.random() < 0.15
        ],
        suppressions=[
            {
                "address_hash": f"{int(draw.integers(1, people + 1)):032x}",
                "channel": pick("email", "email", "sms", None),
                "scope": pick("all", "marketing", "service", None),
                "reason": pick("complaint", "hard_bounce", None),
            }
            for _ in range(people // 8)
        ],
    )
