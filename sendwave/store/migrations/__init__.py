"""Schema versions (Alembic). A store written by a newer sendwave is refused with a clear message.

A released revision is never edited: `versions/0001_first.py` is the schema of 0.1.0, frozen. Each change of
`store/tables` is a revision of its own, and a test holds what the revisions make to what the tables say. For one
release a revision only adds (columns that may be NULL or have a server default, tables, indexes) and names in `open_to`
the revision before it: nodes of both versions then work on one store while they are deployed one after the other. What
it replaces is removed by the release after.

Alembic is imported only when there is something to migrate: it costs a second, and every command opens the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, MetaData, Table, delete, insert, inspect, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.schema import DropTable

from sendwave.errors import BadInput
from sendwave.store.begin import to_write
from sendwave.store.tables import METADATA, meta

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

HERE: Final = Path(__file__).parent
HEAD: Final = "0002"
"""The newest revision of `versions/`, so that a store that is up to date needs no Alembic to know it."""

TABLE: Final = "alembic_version"
"""Where Alembic keeps the revision of a store."""

OPEN_TO: Final = "schema_open_to"
"""Key of `meta`: revisions, a space between two."""


def current(connection: Connection) -> str | None:
    """The schema revision of this store, None for an empty one."""
    if not inspect(connection).has_table(TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {TABLE}")).scalar()


def open_to(connection: Connection) -> list[str]:
    """The revisions whose code may work on this store beside the one that wrote it."""
    told = connection.execute(select(meta.c.value).where(meta.c.key == OPEN_TO)).scalar()
    return (told or "").split()


def script(*further: Path) -> ScriptDirectory:
    """The revisions this sendwave ships, and those of further folders."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(str(folder) for folder in (HERE / "versions", *further)))
    return ScriptDirectory.from_config(config)


def upgrade(engine: Engine) -> None:
    """Migrate to the newest revision in one transaction. Raises BadInput for a store of a newer version."""
    with engine.connect() as connection:
        found = current(connection)
    if found == HEAD:
        return
    revisions = script()
    if found is not None and found not in {revision.revision for revision in revisions.walk_revisions()}:
        with engine.connect() as connection:
            if HEAD in open_to(connection):
                return  # the other nodes are a release ahead, and theirs only adds
        raise BadInput(
            f"this store was written by a newer sendwave (schema {found!r}): upgrade sendwave or open another one"
        )
    _migrate(engine, revisions)


def known(revision: str) -> bool:
    """Whether it is of this sendwave or of an earlier one."""
    return revision == HEAD or revision in {one.revision for one in script().walk_revisions()}


def rebuild(connection: Connection, revision: str) -> None:
    """Make an empty store one of that earlier revision, in the caller's transaction: nothing in it may be needed."""
    named = inspect(connection).get_sorted_table_and_fkc_names()
    for name in reversed([name for name, _ in named if name is not None]):
        connection.execute(DropTable(Table(name, MetaData())))
    _run(connection, script(), revision)


def go_on(connection: Connection) -> None:
    """From an earlier revision to the newest, in the caller's transaction."""
    _run(connection, script())


def _migrate(engine: Engine, revisions: ScriptDirectory, to: str = "head") -> None:
    with engine.connect() as connection, to_write(connection).begin():
        _run(connection, revisions, to)


def _run(connection: Connection, revisions: ScriptDirectory, to: str = "head") -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext

    steps = revisions._upgrade_revs  # noqa: SLF001  # what alembic.command.upgrade itself calls
    context = EnvironmentContext(Config(), revisions, fn=lambda revision, _context: steps(to, revision))
    with context:
        context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
        context.run_migrations()
        _say_open(connection, getattr(revisions.get_revision(to).module, "open_to", ()))


def _say_open(connection: Connection, revisions: Sequence[str]) -> None:
    connection.execute(delete(meta).where(meta.c.key == OPEN_TO))
    if revisions:
        connection.execute(insert(meta).values(key=OPEN_TO, value=" ".join(revisions)))
