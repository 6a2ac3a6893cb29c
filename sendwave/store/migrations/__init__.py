"""Schema versions (Alembic). A store written by a newer sendwave is refused with a clear message.

Alembic is imported only when there is something to migrate: it costs a second, and every command opens the store.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import Engine

from sendwave.errors import BadInput
from sendwave.store.tables import METADATA

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

HERE: Final = Path(__file__).parent
HEAD: Final = "0001"
"""The newest revision of `versions/`, so that a store that is up to date needs no Alembic to know it."""


def current(connection: Connection) -> str | None:
    """The schema revision of this store, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def script() -> ScriptDirectory:
    """The revisions this sendwave ships."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(HERE))
    return ScriptDirectory.from_config(config)


def upgrade(engine: Engine) -> None:
    """Migrate to the newest revision in one transaction. Raises BadInput for a store of a newer version."""
    with engine.connect() as connection:
        found = current(connection)
    if found == HEAD:
        return
    revisions = script()
    if found is not None and found not in {revision.revision for revision in revisions.walk_revisions()}:
        raise BadInput(
            f"this store was written by a newer sendwave (schema {found!r}): upgrade sendwave or open another one"
        )
    _migrate(engine, revisions)


def _migrate(engine: Engine, revisions: ScriptDirectory) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext

    steps = revisions._upgrade_revs  # noqa: SLF001  # what alembic.command.upgrade itself calls
    context = EnvironmentContext(Config(), revisions, fn=lambda revision, _context: steps("head", revision))
    with context, engine.connect().execution_options(sendwave_write=True) as connection, connection.begin():
        context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
        context.run_migrations()
