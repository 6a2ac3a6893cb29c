"""Where an import happens: a DuckDB session over the files to import and the datasets they meet.

The SQL of each kind is in `recipes.py`; here is what they share. A row ends as `landed`, or in the report with its
file, line and reason: `rejected` rows did not land, `noted` ones did, less something (an unknown time zone, an unusable
address). Intermediate results go to scratch Parquet files, so that memory stays within the engine's limit whatever
the size of the import.
"""

from __future__ import annotations

import csv
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sendwave.engine.base import Written
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine, DuckdbSession, disk_faults
from sendwave.engine.reading import Staged, pick, stage
from sendwave.engine.sources import Source, literal, quoted
from sendwave.rules.addresses import (
    BLANKS,
    FINGERPRINT,
    PHONE,
    PHONE_NOISE,
    PLAIN_EMAIL,
    PLAIN_LENGTH,
    RESERVED,
)
from sendwave.rules.imports import CHANNELS, STATUSES, YES
from sendwave.rules.layout import Layout

IDS: Final = "ids"
_IDS_COLUMNS: Final = "CAST(NULL AS VARCHAR) AS contact_id, CAST(NULL AS BIGINT) AS contact"

SEPARATOR: Final = "\x1f"
"""Between the notes of one row, and the values a fingerprint is made of."""


_WHOLE_IDS: Final = (
    "CASE WHEN suffix(contact_id, '.0') THEN regexp_replace(contact_id, '^(\\d+)\\.0$', '\\1') "
    "ELSE contact_id END AS contact_id"
)
"""SQL: 17850.0, as tools write a number they took for a fraction, is contact 17850."""


def _macros(time_zone: str, layout: Layout) -> str:
    """What the recipes call values by. `word` is `rules.imports.word`; instants are epoch seconds or NULL."""
    patterns = f"TRY_STRPTIME(x, [{', '.join(literal(text) for text in layout.dates)}])"
    written = f"coalesce(TRY_CAST(x AS TIMESTAMP), {patterns})" if layout.iso else patterns
    iso = str(layout.iso).lower()
    statuses = " ".join(f"WHEN {literal(word)} THEN {literal(status)}" for word, status in STATUSES.items())
    channels = " ".join(f"WHEN {literal(word)} THEN {literal(channel)}" for word, channel in CHANNELS.items())
    reserved = " OR ".join(f"suffix(x, {literal(domain)})" for domain in RESERVED)
    yes = ", ".join(literal(word) for word in YES)
    return f"""
    CREATE MACRO value_of(x) AS nullif(CASE WHEN x[1] BETWEEN '!' AND '~' AND x[-1] BETWEEN '!' AND '~' THEN x
        ELSE trim(x, {literal(BLANKS)}) END, '');
    CREATE MACRO word(x) AS CASE WHEN regexp_matches(x, '[^a-z0-9_]|__|^_|_$')
        THEN trim(regexp_replace(lower(strip_accents(x)), '[^a-z0-9]+', '_', 'g'), '_') ELSE x END;
    CREATE MACRO status_of(x) AS CASE word(x) {statuses} END;
    CREATE MACRO channel_of(x) AS CASE word(x) {channels} END;
    CREATE MACRO is_yes(x) AS coalesce(word(x) IN ({yes}), false);
    CREATE MACRO unmarked(x) AS regexp_replace(x, '[\\s\u00a0\u202f€$£]', '', 'g');
    CREATE MACRO number_of(x) AS coalesce(TRY_CAST(x AS DOUBLE), TRY_CAST(CASE
        WHEN strpos(x, '.') < strpos(x, ',') THEN replace(replace(unmarked(x), '.', ''), ',', '.')
        ELSE replace(unmarked(x), ',', '') END AS DOUBLE));
    CREATE MACRO plain_email(x) AS length(x) <= {PLAIN_LENGTH} AND regexp_full_match(x, {literal(PLAIN_EMAIL)})
        AND NOT ({reserved});
    CREATE MACRO phone_digits(x) AS
        regexp_replace(regexp_replace(x, {literal(PHONE_NOISE)}, '', 'g'), '^00', '+');
    CREATE MACRO is_phone(x) AS regexp_full_match(x, {literal(PHONE)});
    CREATE MACRO fingerprint(x) AS substr(sha256(x), 1, {FINGERPRINT});
    CREATE MACRO zoned(x) AS length(x) > 16 AND regexp_matches(substr(x, 17), '(Z|z|[+-]\\d\\d(:?\\d\\d)?)$');
    CREATE MACRO instant_of(x) AS TRY_CAST(floor(CASE
        WHEN x IS NULL THEN NULL
        WHEN {iso} AND length(x) BETWEEN 9 AND 13 AND regexp_full_match(x, '\\d{{9,10}}') THEN TRY_CAST(x AS DOUBLE)
        WHEN {iso} AND length(x) = 13 AND regexp_full_match(x, '\\d{{13}}') THEN TRY_CAST(x AS DOUBLE) / 1000
        WHEN {iso} AND zoned(x) THEN epoch(TRY_CAST(x AS TIMESTAMPTZ))
        ELSE epoch(timezone({literal(time_zone)}, {written}))
    END) AS BIGINT);
    """


@dataclass(slots=True)
class Landing:
    """One import under way. `known` names the datasets it was given, as views of what they hold today."""

    session: DuckdbSession
    lake: Lake
    scratch: Path
    now: datetime
    layout: Layout
    staged: list[Staged] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)

    @property
    def now_ts(self) -> int:
        """Epoch seconds."""
        return int(self.now.timestamp())

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        """Execute SQL of this package; all its rows."""
        with disk_faults():
            return self.session.connection.execute(sql).fetchall()

    def number(self, sql: str) -> int:
        """The one number a query gives."""
        return int(self.run(sql)[0][0] or 0)

    def table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Columns of text under a name."""
        self.session.connection.register(name, pa.table({k: pa.array(v, pa.string()) for k, v in columns.items()}))

    def keep(self, name: str, sql: str) -> None:
        """Compute once: the result as a scratch file under the name of a view."""
        path = self.scratch / f"{name}.parquet"
        self.run(f"COPY ({sql}) TO {literal(path)} (FORMAT parquet)")
        self.run(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({literal(path)})")

    def write(self, dataset: str, sql: str) -> Written:
        """The result as a new file of the lake, not yet registered."""
        written = self.session.write_text(sql, (), self.lake.new(dataset, dataset))
        self.written.append(written)
        return written

    def read(
        self,
        sources: Sequence[Source],
        targets: Sequence[Mapping[str, str]],
        fields: Sequence[str],
        constants: Mapping[str, str] | None = None,
    ) -> None:
        """Read all files into the view `raw`: f, n, every field (clean text or NULL), and the further targets.

        A field of `constants` has that value in every row.
        """
        for source, chosen in zip(sources, targets, strict=True):
            with disk_faults():
                one = stage(self.session.connection, source, chosen, self.scratch, self.layout.skip)
                self.staged.append(one)
        absent = ", ".join(f"CAST(NULL AS VARCHAR) AS {quoted(name)}" for name in fields)
        parts = [f"SELECT -1 AS f, -1 AS n, {absent}", *(part.query for part in self.staged)]
        self.run(f"CREATE VIEW staged AS {' UNION ALL BY NAME '.join(parts)}")
        fixed = {name: f"{literal(value.strip())} AS {quoted(name)}" for name, value in (constants or {}).items()}
        fixed = {"contact_id": _WHOLE_IDS} | fixed
        names = ", ".join(fixed.get(name, quoted(name)) for name in self.columns("staged") if not name.startswith("__"))
        self.run(
            "CREATE TABLE report (f INTEGER, n BIGINT, line BIGINT, landed BOOLEAN, reason VARCHAR, detail VARCHAR)"
        )
        self._report_refused()
        told = [name for name in ("__blank", "__skip") if name in self.columns("staged")]
        real = "".join(f" AND NOT coalesce({name}, false)" for name in told)
        self.run(f"CREATE VIEW raw AS SELECT {names} FROM staged WHERE f >= 0{real}")

    def _report_refused(self) -> None:
        rows = [(part.source.number, one) for part in self.staged for one in part.refused]
        self.session.connection.register(
            "refused",
            pa.table(
                {
                    "f": pa.array([f for f, _ in rows], pa.int32()),
                    "line": pa.array([one.line for _, one in rows], pa.int64()),
                    "reason": pa.array([one.reason for _, one in rows], pa.string()),
                    "lines": pa.array([one.last - one.line + 1 for _, one in rows], pa.int64()),
                }
            ),
        )
        self.run("INSERT INTO report SELECT f, NULL, line, false, reason, '' FROM refused")
        if "__broken" in self.columns("staged"):
            self.run("INSERT INTO report SELECT f, n, NULL, false, __broken, '' FROM staged WHERE __broken IS NOT NULL")

    def columns(self, view: str) -> list[str]:
        """The column names of a view, in order."""
        return [row[0] for row in self.run(f"DESCRIBE {quoted(view)}")]

    @property
    def attributes(self) -> list[str]:
        """Further columns of the files, `attr_…`, sorted."""
        return sorted(name for name in self.columns("raw") if name.startswith("attr_"))

    def filled(self, target: str, number: str) -> str:
        """SQL: whether the file of that number has the column at all; `true` or `false` where all or none have it."""
        numbers = [str(part.source.number) for part in self.staged if target in part.targets]
        if len(numbers) == len(self.staged):
            return "true"
        return f"{number} IN ({', '.join(numbers)})" if numbers else "false"

    def report_rows(self, view: str, *, landed: bool = False) -> None:
        """Report the rows of a view whose `bad` says what is wrong, and the notes of the others.

        `landed` where the row itself did: only what this view made of it is lost.
        """
        self.run(
            f"INSERT INTO report SELECT f, n, NULL, {str(landed).lower()}, bad, coalesce(about, '') FROM {view} "
            "WHERE bad IS NOT NULL"
        )
        self.run(
            f"INSERT INTO report SELECT f, n, NULL, true, split_part(one, '=', 1), substr(one, strpos(one, '=') + 1) "
            f"FROM (SELECT f, n, unnest(string_split(note, {literal(SEPARATOR)})) AS one FROM {view} "
            "WHERE bad IS NULL AND note IS NOT NULL)"
        )

    def tally(self, *, landed: bool) -> dict[str, int]:
        """Rows of the report per reason, the most frequent first. A refused record counts as the lines it swallowed."""
        lines = "coalesce(lines, 1)" if not landed else "1"
        return dict(
            self.run(
                f"SELECT reason, CAST(sum({lines}) AS BIGINT) FROM report LEFT JOIN "
                "(SELECT f AS g, line AS l, lines FROM refused) ON f = g AND line = l "
                f"WHERE landed = {str(landed).lower()} GROUP BY ALL ORDER BY 2 DESC, 1"
            )
        )

    def total(self) -> int:
        """Lines read: rows, and the lines of what could not be read."""
        broken = "SELECT count(__broken) FROM staged" if "__broken" in self.columns("staged") else "SELECT 0"
        return self.number(
            f"SELECT (SELECT count(*) FROM raw) + ({broken}) + (SELECT coalesce(sum(lines), 0) FROM refused)"
        )

    def skipped(self) -> int:
        """Rows left out because the layout says so."""
        if "__skip" not in self.columns("staged"):
            return 0
        return self.number("SELECT count(*) FROM staged WHERE __skip")

    def located(self) -> str:
        """SQL: the report with the line of every row."""
        shifts = [(part.source.number, row, shift) for part in self.staged for row, shift in part.lines.shifts]
        columns = [pa.array(values, pa.int64()) for values in zip(*shifts, strict=True)]
        self.session.connection.register("shifts", pa.table(columns, names=["g", "start", "shift"]))
        return (
            "SELECT f, coalesce(line, n + shift) AS line, landed, reason, detail FROM report "
            "ASOF LEFT JOIN shifts ON f = g AND coalesce(n, 0) >= start"
        )

    def report(self, folder: Path, name: str) -> Path | None:
        """Write the report as CSV (file, line, outcome, reason, detail, row); None when there is nothing to say."""
        if not self.number("SELECT count(*) FROM report"):
            return None
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}-{uuid.uuid4().hex[:6]}.csv"
        with disk_faults(), path.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(("file", "line", "outcome", "reason", "detail", "row"))
            for part in self.staged:
                out.writerows(self._report_of(part))
        return path

    def _report_of(self, part: Staged) -> Iterator[tuple[Any, ...]]:
        found = self.run(
            f"SELECT line, landed, reason, detail FROM ({self.located()}) WHERE f = {part.source.number} "
            "ORDER BY line, landed, reason, detail"
        )
        texts = pick(part, [line for line, landed, *_ in found if not landed])
        line_of_text, text = 0, ""
        for line, landed, reason, detail in found:
            if not landed and line != line_of_text:
                line_of_text, text = next(texts, (line, ""))
            outcome = "noted" if landed else "rejected"
            yield part.source.path, line, outcome, reason, detail, "" if landed else text

    def findings(self, limit: int = 20, of_a_kind: int = 5) -> tuple[str, ...]:
        """The first lines of the report as text, the rejected ones first, a few of every reason."""
        names = {part.source.number: part.source.path.name for part in self.staged}
        rows = self.run(
            f"SELECT * FROM ({self.located()}) QUALIFY row_number() OVER (PARTITION BY landed, reason "
            f"ORDER BY f, line, detail) <= {of_a_kind} ORDER BY landed, f, line, reason, detail LIMIT {limit}"
        )
        return tuple(
            f"{names[f]}:{line}: {reason.replace('_', ' ')}{': ' + detail if detail else ''}"
            for f, line, _, reason, detail in rows
        )


@contextmanager
def land(
    engine: DuckdbEngine,
    lake: Lake,
    known: Mapping[str, Sequence[Path]],
    *,
    time_zone: str,
    now: datetime,
    layout: Layout,
) -> Iterator[Landing]:
    """A landing over the datasets of `known`; what was written is removed when the block raises."""
    scratch = lake.root / f".landing-{uuid.uuid4().hex[:12]}"
    scratch.mkdir(parents=True)
    files = {name: paths for name, paths in known.items() if name != IDS or paths}
    try:
        with engine.workshop(files) as session:
            assert isinstance(session, DuckdbSession), "imports run on the embedded engine"
            session.connection.execute("SET TimeZone = 'UTC'")
            session.connection.execute(_macros(time_zone, layout))
            if IDS not in files:
                session.connection.execute(f"CREATE VIEW {IDS} AS SELECT {_IDS_COLUMNS} WHERE false")
            landing = Landing(session, lake, scratch, now, layout)
            try:
                yield landing
            except BaseException as fault:
                lake.withdraw(fault, landing.written)
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
