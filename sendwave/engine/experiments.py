"""Experiments run elsewhere: who was assigned to what, and what they did, as the rows of a file say.

They meet no plan and no send of ours, so they need no contact of the base: a row is known by its experiment and its id.
"""

from __future__ import annotations

from typing import Final

from sendwave.engine.landing import IDS, Landing
from sendwave.engine.people import Outcome, note, notes
from sendwave.engine.sources import literal, quoted
from sendwave.rules.imports import CONTROLS

_TOLD: Final = (
    "experiment", "contact", "contact_id", "arm", "control", "tier", "assigned_ts", "visited", "converted", "revenue",
)  # fmt: skip


def prepare_experiments(landing: Landing) -> None:
    """Clean every row into `cleaned`. Without a column of ids a person is known by file and row."""
    for name in ("visited", "converted", "control"):
        landing.run(f"CREATE MACRO {name}_of(x) AS {_yes_or_no('x')}")
    controls = ", ".join(literal(word) for word in CONTROLS)
    attributes = "".join(f", {quoted(name)}" for name in landing.attributes)
    identity = f"CASE WHEN {landing.filled('contact_id', 'f')} THEN contact_id ELSE concat('row ', f, '-', n) END"
    early = "coalesce(instant_of(converted_at) < instant_of(sent_at), false)"
    landing.run(f"CREATE VIEW named AS SELECT * REPLACE ({identity} AS contact_id) FROM raw")
    landing.keep(
        "cleaned",
        f"""SELECT f, n, experiment, contact, contact_id, arm,
            coalesce(control_of(control), coalesce(word(arm), '') IN ({controls})) AS control, tier,
            instant_of(sent_at) AS assigned_ts, visited_of(visited) AS visited,
            NOT {early} AND coalesce(converted_of(converted), number_of(revenue) > 0, false) AS converted,
            CASE WHEN NOT {early} THEN coalesce(number_of(revenue), 0) ELSE 0 END AS revenue{attributes},
            CASE WHEN contact_id IS NULL THEN 'missing_contact_id' WHEN experiment IS NULL THEN 'missing_experiment'
                WHEN arm IS NULL THEN 'missing_arm' WHEN arms > 1 THEN 'two_arms'
                WHEN revenue IS NOT NULL AND (number_of(revenue) IS NULL OR NOT isfinite(number_of(revenue)))
                    THEN 'revenue_not_a_number'
                WHEN number_of(revenue) < 0 THEN 'negative_revenue'
                WHEN (visited IS NOT NULL AND visited_of(visited) IS NULL)
                    OR (converted IS NOT NULL AND converted_of(converted) IS NULL)
                    OR (control IS NOT NULL AND control_of(control) IS NULL) THEN 'ambiguous_outcome' END AS bad,
            CASE WHEN bad IS NOT NULL THEN concat_ws(' ', contact_id, arm, visited, converted, revenue) END AS about,
            {
            notes(
                note("converted_before_the_send", "converted_at", early),
                note("spent_without_converting", "revenue", "number_of(revenue) > 0 AND NOT converted_of(converted)"),
                note("repeated_contact_id", "contact_id", "again > 1"),
            )
        } AS note
        FROM (SELECT *, row_number() OVER (PARTITION BY experiment, contact_id ORDER BY f DESC, n DESC) AS again
            FROM named)
        LEFT JOIN (SELECT experiment, contact_id, count(DISTINCT arm) AS arms FROM named GROUP BY ALL)
            USING (experiment, contact_id)
        LEFT JOIN {IDS} USING (contact_id)""",
    )
    landing.report_rows("cleaned")


def _yes_or_no(name: str) -> str:
    """SQL: a word or a number as a boolean; NULL for neither."""
    return (
        f"CASE WHEN number_of({name}) IS NOT NULL THEN number_of({name}) > 0 "
        f"WHEN status_of({name}) IN ('granted', 'withdrawn') THEN status_of({name}) = 'granted' END"
    )


def merge_experiments(landing: Landing) -> Outcome:
    """Rows of the same experiment and id replace what was known of them; everything else stays."""
    told = [name for name in landing.columns("cleaned") if name in _TOLD or name in landing.attributes]
    listed = ", ".join(quoted(name) for name in told)
    landing.keep(
        "newest",
        f"""SELECT {listed} FROM cleaned WHERE bad IS NULL
        QUALIFY row_number() OVER (PARTITION BY experiment, contact_id ORDER BY f DESC, n DESC) = 1""",
    )
    known = set(landing.columns("experiments"))
    same = [name for name in told if name in known]
    added = [name for name in told if name not in known]
    landed, total = landing.number("SELECT count(*) FROM newest"), ", ".join(quoted(name) for name in same)
    unchanged = landing.number(
        f"SELECT count(*) FROM (SELECT {total} FROM newest INTERSECT ALL SELECT {total} FROM experiments)"
    )
    before = landing.number("SELECT count(*) FROM newest SEMI JOIN experiments USING (experiment, contact_id)")
    counts = {"new": landed - before, "updated": before - unchanged, "unchanged": unchanged}
    if unchanged == landed and not added:
        return Outcome(landed, counts)
    everything = (
        "SELECT * FROM newest UNION ALL BY NAME "
        "SELECT * FROM experiments ANTI JOIN newest USING (experiment, contact_id)"
    )
    written = landing.write("experiments", f"SELECT * FROM ({everything}) ORDER BY experiment, contact_id")
    return Outcome(landed, counts, (("experiments", written),))
