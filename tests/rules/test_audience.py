"""The language of audiences, and its truth against a plain reading of the same words in Python."""

from __future__ import annotations

import json
from functools import lru_cache
from math import isnan
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bases import DAY, NOW_TS, newsletter, person, policy, read, ready, table
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import Column, MetaData, Table, create_engine, insert

from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import NotFound
from sendwave.rules import audience_counts
from sendwave.rules.affinity import contact_statement, seen, unknown_fields, unknown_kinds
from sendwave.rules.audience import Condition, Leaf, NamedAudience, Who, mistakes_in
from sendwave.rules.clauses import Acted, Compared, Named, SignedUp, Slip, parse
from sendwave.rules.columns import DATASETS, BigInteger, String
from sendwave.rules.conditions import When
from sendwave.rules.plan import chain_statement, plan_statement

ENGINE = DuckdbEngine(threads=1, memory_limit="512MB")
PEOPLE = 40


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("country in FR, BE", Compared("", "country", "in", ("FR", "BE"))),
        ("country is not FR", Compared("", "country", "not in", ("FR",))),
        ("city contains 'Saint '", Compared("", "city", "contains", ("Saint ",))),
        ("vip exists", Compared("", "vip", "exists")),
        ("age at least 18", Compared("", "age", ">=", ("18",))),
        ("renewal < 2026-04-01", Compared("", "renewal", "<", ("2026-04-01",))),
        ("signed up within 30d", SignedUp("", 30 * DAY)),
        ("audience loyal", Named("", "loyal")),
        ("did quote_request, download", Acted("", ("quote_request", "download"))),
        ("opened including machines within 1y", Acted("", ("email_open",), seconds=365 * DAY, machines=True)),
        ("bought total over 300 within 90d", Acted("", ("purchase",), seconds=90 * DAY, total=(">", 300.0))),
        ("visited at most 2 times", Acted("", ("visit", "product_view"), least=0, most=2)),
        ("amount over 100 within 1y",
         Acted("", ("purchase",), When(numbers=((">", 100.0),)), seconds=365 * DAY)),
        ("clicked campaign spring-sale",
         Acted("", ("email_click", "sms_click", "push_click"), When(words=(("campaign", ("spring-sale",)),)))),
        ("bought category shoes within 180d at least 2 times",
         Acted("", ("purchase",), When(words=(("category", ("shoes",)),)), seconds=180 * DAY, least=2)),
    ],
)  # fmt: skip
def test_what_a_clause_means(text: str, expected: Any) -> None:
    affirmed, found = parse(text)
    assert affirmed
    assert found.text == text
    assert type(found) is type(expected)
    assert {k: v for k, v in _fields(found).items() if k != "text"} == {
        k: v for k, v in _fields(expected).items() if k != "text"
    }
    assert parse(f"not {text}")[0] is False


def _fields(clause: Any) -> dict[str, Any]:
    return {name: getattr(clause, name) for name in clause.__slots__ if name not in ("at", "places")}


@pytest.mark.parametrize(
    ("text", "offset", "words"),
    [
        ("opend within 90d", 0, "Did you mean 'opened'?"),
        ("purchase within 30d", 0, "`did purchase`"),
        ("not bought shoes within 30d", 11, "what is 'shoes'"),
        ("bought within 30", 14, "needs its unit: write 30d"),
        ("bought within 30d within 60d", 18, "a second time"),
        ("bought at least two times", 16, "no number of times"),
        ("bought at least 0 times", 16, "everybody"),
        ("bought total over 3 at least 2 times", 0, "write two conditions"),
        ("country FR", 8, "compares nothing"),
        ("country FR BE", 8, "compares nothing"),
        ("country in FR BE", 14, "one word too many"),
        ("country in", 10, "a word is missing"),
        ("Country in FR", 0, "no field"),
        ("BE", 0, "put a clause with commas in quotes"),
        ("age over old", 9, "neither a number nor a date"),
        ("city contains 'Saint", 14, "not closed"),
        ("opened including robots", 17, "including machines"),
        ("signed up", 9, "within 30d"),
        ("bought within 99999d", 14, "between"),
        ("  ", 0, "empty"),
    ],
)
def test_what_a_clause_cannot_mean(text: str, offset: int, words: str) -> None:
    with pytest.raises(Slip, match=r"(?s).") as wrong:
        parse(text)
    assert words in str(wrong.value)
    assert wrong.value.offset == offset


def test_every_mistake_has_its_place() -> None:
    with pytest.raises(ValidationError) as wrong:
        Who.parse({"al": ["vip exists"], "any": ["country FR", {"not": 3}, []], "not": {"all": "vip exists"}})
    assert [error["loc"] for error in wrong.value.errors()] == [
        ("al",), ("any", 0), ("any", 1, "not"), ("any", 2), ("not", "all")
    ]  # fmt: skip


def test_named_audiences_are_laid_in_and_never_go_round_in_circles() -> None:
    def named(name: str, *who: str) -> NamedAudience:
        return NamedAudience(audience=name, who=Who.parse(list(who)))

    known = {"fr": named("fr", "country = FR"), "a": named("a", "audience b"), "b": named("b", "not audience a")}
    who = Who.parse(["vip exists", "not audience fr"])
    assert [leaf.text for leaf in who.resolved(known).leaves()] == ["vip exists", "country = FR"]
    with pytest.raises(NotFound, match="Did you mean 'fr'"):
        Who.parse("audience fra").resolved(known)
    [(loc, slip)] = mistakes_in(known, Who.parse(["vip exists", "audience a"]))
    assert (loc, slip.offset) == ((1,), 9)
    assert "part of itself (a > b > a)" in str(slip)


def test_fields_and_kinds_nobody_has() -> None:
    who = Who.parse(["citty = Paris", "score = high", "did purchas", "did email_open", "vip exists"])
    found = [*unknown_fields(who, ["attr_city", "attr_vip"]), *unknown_kinds(who, ["purchase"])]
    assert [(loc, slip.offset) for loc, slip in found] == [((0,), 0), ((1,), 0), ((2,), 4)]
    hints = [str(slip).rpartition(". ")[2] for _, slip in found]
    assert hints[::2] == ["Did you mean 'city'?", "Did you mean 'purchase'?"]


# --- truth


CLAUSES = (
    "country in FR, BE", "country != FR", "vip exists", "age over 30", "age at most 30", "city contains ain",
    "renewal < 2026-03-05", "score over 40", "tier in hot, warm", "signed up within 30d",
    "bought", "bought within 30d", "bought category shoes within 30d", "bought category shoes at least 2 times",
    "bought amount over 50", "bought total over 100 within 30d", "bought exactly 1 times",
    "bought category in shoes, hats at most 1 times", "opened within 30d", "opened including machines within 30d",
    "clicked campaign spring", "did survey value at most 6",
)  # fmt: skip
conditions = st.recursive(
    st.tuples(st.booleans(), st.sampled_from(CLAUSES)).map(lambda drawn: ("" if drawn[0] else "not ") + drawn[1]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"all": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"any": parts}),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=5,
)


@lru_cache(maxsize=4)
def lake(seed: int) -> dict[str, pa.Table]:
    """People with anything unknown about them."""
    draw = np.random.default_rng(seed)

    def pick(*words: Any) -> Any:
        return words[draw.integers(len(words))]

    contacts = [
        person(
            n,
            country=pick("FR", "BE", "DE", None),
            signed_up_ts=pick(NOW_TS - 30 * DAY, NOW_TS - 30 * DAY + 1, NOW_TS + 5, None),
            attr_vip=pick("yes", None),
            attr_age=pick("30", "31", "12.5", "-4", "old", "1e3", "", None),
            attr_city=pick("Saint-Malo", "Paris", None),
            attr_renewal=pick("2026-03-04", "2026-03-05T10:00", "soon", None),
        )
        for n in range(1, PEOPLE + 1)
    ]
    acts = [
        {
            "contact": int(draw.integers(1, PEOPLE + 1)),
            "kind": pick("purchase", "purchase", "purchase", "email_open", "email_click", "survey"),
            "ts": NOW_TS - pick(0, -1, 30 * DAY, 30 * DAY - 1, DAY),
            "value": pick(10.0, 50.0, 50.01, 99.99, 6.0, float("nan"), None),
            "campaign": pick("spring", "other", None),
            "machine": pick(True, False, None),
            "attributes": pick(json.dumps({"category": pick("shoes", "hats", "bags")}), "{}", None),
        }
        for _ in range(PEOPLE * 2)
    ]
    names = {"campaign": pa.int64(), "name": pa.string(), "channel": pa.string()}
    reactions = [
        {"contact": int(draw.integers(1, PEOPLE + 1)), "campaign": 7, "batch": 1, "position": n,
         "type": pick("open", "click"), "event_ts": NOW_TS - DAY, "machine": pick(True, False)}
        for n in range(10)
    ]  # fmt: skip
    scores = [{"contact": n, "score": pick(60.0, 30.0, 10.0, None)} for n in range(1, PEOPLE + 1) if n % 7]
    return {
        **ready(*range(1, PEOPLE + 1), contacts=contacts, scores=scores),
        "interactions": table("interactions", acts),
        "events": table("events", reactions),
        "mailings": pa.table(
            {n: pa.array([v], t) for (n, t), v in zip(names.items(), (7, "spring", "email"), strict=True)}
        ),
    }


def acts_of(tables: dict[str, pa.Table], contact: int) -> list[dict[str, Any]]:
    own = [row for row in tables["interactions"].to_pylist() if row["contact"] == contact]
    for row in tables["events"].to_pylist():
        if row["contact"] == contact:
            told = {"kind": f"email_{row['type']}", "ts": row["event_ts"], "machine": row["machine"]}
            own.append({"value": None, "attributes": None, "campaign": "spring", "channel": "email"} | told)
    return own


def truth(condition: Condition, who: dict[str, Any], acts: list[dict[str, Any]]) -> bool | None:
    """Three-valued logic by hand."""
    if isinstance(condition, Leaf):
        return clause_truth(condition.clause, who, acts)
    found = [truth(part, who, acts) for part in condition.parts]
    if condition.how == "not":
        return None if found[0] is None else not found[0]
    if condition.how == "any":
        return True if True in found else None if None in found else False
    return False if False in found else None if None in found else True


def clause_truth(clause: Any, who: dict[str, Any], acts: list[dict[str, Any]]) -> bool | None:  # noqa: PLR0911
    if isinstance(clause, SignedUp):
        at = who["signed_up_ts"]
        return None if at is None else NOW_TS - clause.seconds < at <= NOW_TS
    if isinstance(clause, Acted):
        return acted_truth(clause, acts)
    value = who[clause.name]
    if clause.operator == "exists":
        return value is not None
    if value is None:
        return None
    if clause.operator in ("in", "not in"):
        return (value in clause.words) is (clause.operator == "in")
    if clause.operator == "contains":
        return clause.words[0] in value
    limit = clause.words[0]
    if "-" in limit:
        return None if not str(value).startswith("2026-") else value[:10] < limit
    if value in ("old", "1e3", ""):
        return None
    number, bound = float(value), float(limit)
    return {">": number > bound, "<=": number <= bound}[clause.operator]


def acted_truth(clause: Acted, acts: list[dict[str, Any]]) -> bool | None:
    counted = []
    for act in acts:
        since = act["ts"] > NOW_TS - (clause.seconds or 10**9)
        if act["kind"] in clause.kinds and act["ts"] <= NOW_TS and since and (clause.machines or not act["machine"]):
            counted.append((fits(clause.when, act), act["value"]))
    sure = [value for fit, value in counted if fit]
    maybe = sum(1 for fit, _ in counted if fit is not False)
    if clause.total is not None:
        if any(value is None or isnan(value) for value in sure) or maybe > len(sure):
            return None
        return sum(round(value * 100) for value in sure) > clause.total[1] * 100
    possible = {
        clause.least <= n <= (10**9 if clause.most is None else clause.most) for n in range(len(sure), maybe + 1)
    }
    return None if len(possible) == 2 else possible.pop()


def fits(when: When, act: dict[str, Any]) -> bool | None:
    told: list[bool | None] = []
    for operator, limit in when.numbers:
        value = act["value"]
        known = value is not None and not isnan(value)
        told.append({">": value > limit, "<=": value <= limit}[operator] if known else None)
    for name, words in when.words:
        word = act["campaign"] if name == "campaign" else json.loads(act["attributes"] or "{}").get(name)
        told.append(None if word is None else word in words)
    return False if False in told else None if None in told else True


def expected(tables: dict[str, pa.Table], who: Who) -> dict[int, bool | None]:
    assert who.condition is not None
    scores = {row["contact"]: row["score"] for row in tables["scores"].to_pylist()}
    found = {}
    for row in tables["contacts"].to_pylist():
        score = scores.get(row["contact"])
        tier = None if score is None else "hot" if score >= 50 else "warm" if score >= 20 else "cool"
        facts = {k.removeprefix("attr_"): v for k, v in row.items()} | {"score": score, "tier": tier}
        found[row["contact"]] = truth(who.condition, facts, acts_of(tables, row["contact"]))
    return found


@given(st.integers(0, 3), conditions)
@settings(max_examples=20 if settings.default.max_examples <= 1_000 else 1_000)  # type: ignore[union-attr]
def test_the_plan_lets_in_whom_the_words_let_in_and_nobody_unknown(seed: int, written: Any) -> None:
    who, tables = Who.parse(written), lake(seed)
    assert Who.parse(json.loads(json.dumps(who.document()))) == who
    told = expected(tables, who)
    kind = newsletter(audience=written)
    rows = read(ENGINE, plan_statement(policy(), kind, "spring", NOW_TS), tables)
    assert {row["contact"] for row in rows if row["excluded_by"] == "not_in_audience"} == {
        contact for contact, holds in told.items() if holds is not True
    }
    [counted] = read(ENGINE, audience_counts.counts_statement(who, policy().tiers, NOW_TS), tables)
    assert (counted["people"], counted["inside"]) == (PEOPLE, sum(holds is True for holds in told.values()))


@given(st.integers(0, 3), st.integers(1, PEOPLE), conditions)
@settings(max_examples=6)
def test_explain_sees_what_the_plan_sees(seed: int, contact: int, written: Any) -> None:
    who, tables = Who.parse(written), lake(seed)
    [row] = read(ENGINE, contact_statement(who, policy().tiers, NOW_TS, contact), tables)
    truths = {n: row[f"holds_{n}"] for n, _ in enumerate(who.leaves())}
    [chain] = read(ENGINE, chain_statement(policy(), newsletter(audience=written), "spring", NOW_TS, contact), tables)
    assert chain["passes_not_in_audience"] is (expected(tables, who)[contact] is True)
    tops = [holds for line, holds in audience_counts.truth_of(who, truths) if not line.depth]
    assert tops
    assert all(seen(leaf, row[f"seen_{n}"]) for n, leaf in enumerate(who.leaves()))


def test_counts_of_clauses_alone_and_so_far() -> None:
    contacts = [
        person(n, country=("FR", "FR", "BE", None)[n - 1], attr_vip="yes" if n > 1 else None) for n in range(1, 5)
    ]
    who = Who.parse(["country in FR", {"any": ["vip exists", "bought"]}])
    tables = {**ready(1, 2, 3, 4, contacts=contacts), "interactions": table("interactions", [])}
    habit = Who.parse("vip exists")
    [row] = read(ENGINE, audience_counts.counts_statement(who, policy().tiers, NOW_TS, None, habit), tables)
    lines = [
        (line.text, row[f"yes_{n}"], row[f"no_{n}"], row[f"run_{n}"])
        for n, line in enumerate(audience_counts.lines(who))
    ]
    assert lines == [("country in FR", 2, 1, 2), ("any of", 3, 1, 1), ("vip exists", 3, 1, 3), ("bought", 0, 4, 3)]
    assert (row["inside"], row["base"], row["both"]) == (1, 3, 1)


def ordered(rows: list[dict[str, Any]]) -> list[str]:
    """A score as text is 10 here and 10.0 there; only people read it."""
    score = f"seen_{CLAUSES.index('score over 40')}"
    return sorted(repr({k: v for k, v in row.items() if k != score}) for row in rows)


@pytest.mark.postgresql
def test_postgresql_gives_the_same_counts(postgresql_url: str) -> None:
    engine, tables = create_engine(postgresql_url), lake(1)
    for name, rows in tables.items():
        kinds = {c.name: c.type for c in DATASETS[name].c} if name in DATASETS else {"campaign": BigInteger()}
        made = Table(name, MetaData(), *(Column(field, kinds.get(field, String())) for field in rows.column_names))
        with engine.begin() as connection:
            made.create(connection)
            if rows.num_rows:
                connection.execute(insert(made), rows.to_pylist())
    who, tiers = Who.parse(list(CLAUSES)), policy().tiers
    asked = [
        audience_counts.counts_statement(who, tiers, NOW_TS, by, Who.parse("opened"))
        for by in (None, "tier", "country")
    ]
    asked += [contact_statement(who, tiers, NOW_TS, contact) for contact in (1, 2, 3, 5, 8)]
    kind = newsletter(audience={"any": [list(CLAUSES[:4]), {"not": CLAUSES[12]}]})
    asked.append(plan_statement(policy(), kind, "spring", NOW_TS))
    with engine.connect() as connection:
        for statement in asked:
            told = [dict(row) for row in connection.execute(statement).mappings()]
            assert ordered(told) == ordered(read(ENGINE, statement, tables))
    engine.dispose()
