"""The score's statement as text, for the databases customers keep their data in.

SQLAlchemy's own compiler writes it, with what differs in a table per database: names of types, quotes, how a key of a
JSON object is read, whether an aggregate takes FILTER. No client library is needed to print it. `PROVEN` says which
texts the tests run against a real engine, and which are only compiled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Select
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import GenericTypeCompiler, IdentifierPreparer, SQLCompiler

from sendwave.errors import NotFound, did_you_mean
from sendwave.rules.columns import CONTACTS, INTERACTIONS, attribute
from sendwave.rules.grid import Grid
from sendwave.rules.score import whole_statement

_RUN: Final = "the tests run this text and compare every score"
_COMPILED: Final = "only compiled: no test runs it; compare a few scores with `sendwave score` before you rely on it"
PROVEN: Final = {
    "duckdb": f"DuckDB: {_RUN}",
    "postgresql": f"PostgreSQL: {_RUN}",
    "spark": f"Spark: {_RUN} (make conformance-spark)",
    "databricks": "Databricks: the text for Spark; the tests run it on Spark alone: compare a few scores first",
    "snowflake": f"Snowflake: {_COMPILED}",
    "bigquery": f"BigQuery: {_COMPILED}",
    "trino": f"Trino: {_COMPILED}",
    "clickhouse": f"ClickHouse: {_COMPILED} (by hand, once, 26.9 gave equal scores)",
}
"""What stands behind each text, for people who are about to run it."""


@dataclass(frozen=True)
class _Database:
    """What one database spells its own way. `{0}` is a JSON document, `{1}` a key of it."""

    attribute: str
    types: dict[str, str] = field(default_factory=dict)  # of SQLAlchemy's names
    quote: str = '"'
    backslashes: bool = False  # whether texts escape by backslash, not by doubling
    filters: bool = True  # whether aggregates take FILTER (WHERE …)
    settings: str = ""  # what a statement has to end with, for NULL to mean NULL


_SPARK: Final = _Database(
    "get_json_object({0}, '$.{1}')", {"VARCHAR": "STRING", "DOUBLE PRECISION": "DOUBLE"}, quote="`", backslashes=True
)
_DATABASES: Final = {
    "spark": _SPARK,
    "databricks": _SPARK,
    "snowflake": _Database("CAST(GET(PARSE_JSON({0}), '{1}') AS VARCHAR)", backslashes=True, filters=False),
    "bigquery": _Database(
        "JSON_VALUE({0}, '$.{1}')",
        {"VARCHAR": "STRING", "BIGINT": "INT64", "INTEGER": "INT64", "DOUBLE PRECISION": "FLOAT64", "BOOLEAN": "BOOL"},
        quote="`",
        backslashes=True,
        filters=False,
    ),
    "trino": _Database("json_extract_scalar({0}, '$.{1}')", {"DOUBLE PRECISION": "DOUBLE"}),
    "clickhouse": _Database(
        "nullIf(JSONExtractString(coalesce({0}, ''), '{1}'), '')",
        {"VARCHAR": "Nullable(String)", "BIGINT": "Nullable(Int64)", "INTEGER": "Nullable(Int32)",
         "DOUBLE PRECISION": "Nullable(Float64)"},
        backslashes=True,
        settings="\nSETTINGS join_use_nulls = 1, aggregate_functions_null_for_empty = 1",
    ),
}  # fmt: skip


def score_sql(grid: Grid, dialect: str, as_of: int) -> str:
    """The statement that scores everybody at `as_of` (epoch seconds), its values written out. Raises NotFound.

    It reads `contacts` (contact, signed_up_ts) and `interactions` (contact, interaction_id, kind, ts, value, channel,
    campaign, message_id, machine, attributes), tables or views with the columns docs/guides/scoring.md describes.
    """
    text = text_of(whole_statement(grid, as_of, INTERACTIONS, CONTACTS), dialect)
    return text + (_DATABASES[dialect].settings if dialect in _DATABASES else "") + ";"


def text_of(statement: Select[Any], dialect: str) -> str:
    """A statement with its values written out. Raises NotFound for a database that is none of `PROVEN`."""
    options = {"literal_binds": True, "render_postcompile": True}
    return str(statement.compile(dialect=_dialect(dialect), compile_kwargs=options))


def _dialect(name: str) -> DefaultDialect:
    if name in ("postgresql", "duckdb"):
        standard = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]  # another doubles each %
        standard._backslash_escapes = False  # noqa: SLF001  # as the server's standard_conforming_strings has it
        return standard
    if name not in _DATABASES:
        raise NotFound(f"no statement can be written for {name!r}.{did_you_mean(name, PROVEN)}")
    return _Dialect(_DATABASES[name])


class _Compiler(SQLCompiler):
    def visit_funcfilter(self, funcfilter: Any, **options: Any) -> str:
        """max(x) FILTER (WHERE c) as max(CASE WHEN c THEN x END), which every database has."""
        if self.dialect.database.filters:  # type: ignore[attr-defined]  # our own dialect below
            return str(super().visit_funcfilter(funcfilter, **options))  # type: ignore[no-untyped-call]
        argument = next(iter(funcfilter.func.clauses))
        condition, value = self.process(funcfilter.criterion, **options), self.process(argument, **options)
        return f"{funcfilter.func.name}(CASE WHEN {condition} THEN {value} END)"

    def render_literal_value(self, value: Any, type_: Any) -> str:
        if isinstance(value, str) and self.dialect.database.backslashes:  # type: ignore[attr-defined]
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        return str(super().render_literal_value(value, type_))


class _TypeNames(GenericTypeCompiler):
    def process(self, type_: Any, **options: Any) -> str:
        name = str(super().process(type_, **options))
        return str(self.dialect.database.types.get(name, name))  # type: ignore[attr-defined]

    def visit_double(self, type_: Any, **options: Any) -> str:  # noqa: ARG002  # SQLAlchemy's signature
        return "DOUBLE PRECISION"


class _Names(IdentifierPreparer):
    def __init__(self, dialect: Any) -> None:
        super().__init__(dialect, initial_quote=dialect.database.quote)


class _Dialect(DefaultDialect):
    """SQLAlchemy's plain dialect with the spellings of one database."""

    name = "plain"
    statement_compiler = _Compiler
    type_compiler_cls = _TypeNames
    preparer = _Names  # type: ignore[assignment]  # made of the dialect, as SQLAlchemy's own are
    supports_native_boolean = True
    supports_statement_cache = False

    def __init__(self, database: _Database) -> None:
        self.database = database
        super().__init__()


@compiles(attribute, "plain")
def _attribute(element: attribute, compiler: Any, **options: Any) -> str:
    """Names are keys: neither a quote nor a dot can be in them."""
    document = compiler.process(element.document, **options)
    return str(compiler.dialect.database.attribute.format(document, element.name))
