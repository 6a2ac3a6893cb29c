"""The score's statements against the score worked out by hand, act by act, on grids of every style."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hypothesis import given, settings
from hypothesis import strategies as st
from score_by_hand import DAY, Act, at, contacts, interactions, score
from score_grids import GRIDS

from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules.columns import INTERACTIONS
from sendwave.rules.grid import Grid
from sendwave.rules.score import whole_statement

AS_OF = at("2026-03-02T09:00:00")
ENGINE = DuckdbEngine(threads=1, memory_limit="500MB")


def scores(grid: Grid, acts: Iterable[Act], people: Mapping[int, int | None], as_of: int = AS_OF) -> dict[int, int]:
    tables = {"interactions": interactions(acts), "contacts": contacts(people)}
    with ENGINE.session({}, tables) as session:
        found = session.read(whole_statement(grid, as_of, INTERACTIONS)).to_pydict()
    return dict(zip(found["contact"], found["score"], strict=True))


RETAIL, FINANCE, MIXED = GRIDS["retail"], GRIDS["finance"], GRIDS["mixed"]
KINDS = ("purchase", "open", "survey", "visit", "click", "unsubscribe", "unheard_of")


@st.composite
def act(draw: st.DrawFn, *, kinds: tuple[str, ...] = KINDS) -> Act:
    back = draw(st.integers(-DAY, 12 * DAY) | st.sampled_from([0, 2 * DAY, 3 * DAY, 3 * DAY - 1, 4 * DAY, 1800, 1801]))
    words = draw(
        st.sampled_from([{}, {"place": "top"}, {"place": "foot"}, {"link_kind": "unsubscribe", "place": "top"}])
    )
    return Act(
        contact=draw(st.integers(1, 3)),
        kind=draw(st.sampled_from(kinds)),
        ts=AS_OF - back,
        value=draw(st.sampled_from([None, 0.0, 6.0, 6.5, 9.0, float("nan"), float("inf")])),
        campaign=draw(st.sampled_from([None, "a", "b"])),
        message_id=draw(st.sampled_from([None, "m1", "m2"])),
        machine=draw(st.sampled_from([None, False, True])),
        attributes=words,
        interaction_id=draw(st.none() | st.integers(1, 12).map(str)),
    )


def unique(acts: list[Act]) -> list[Act]:
    """Acts of which those with the same id are the same: what an id promises."""
    return list({(a.interaction_id or object()): a for a in acts}.values())


PEOPLE = {1: AS_OF - 4 * DAY, 2: None, 3: AS_OF - 40 * DAY}


@settings(max_examples=60)
@given(st.lists(act(), max_size=14).map(unique), st.data())
def test_the_statement_agrees_with_the_score_by_hand(acts: list[Act], data: st.DataObject) -> None:
    again = acts + data.draw(st.lists(st.sampled_from(acts), max_size=3)) if acts else acts
    again = [a for a in again if a.interaction_id is not None] + [a for a in acts if a.interaction_id is None]
    found = scores(MIXED, again, PEOPLE)
    assert found == {who: score(MIXED, acts, who, since, AS_OF) for who, since in PEOPLE.items()}
