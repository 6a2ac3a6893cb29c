"""Schema versions (Alembic). A store written by a newer sendwave is refused with a clear message."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.engine import Engine

from sendwave.errors import BadInput
from sendwave.store.tables import METADATA

HERE: Final = Path(__file__).parent


def _script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(HERE))
    return ScriptDirectory.from_config(config)


def current(connection: Connection) -> str | None:
    """The schema revision of this store, None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """The newest revision this sendwave knows."""
    revision = _script().get_current_head()
    assert revision is not None, "the package ships at least one revision"
    return revision


def upgrade(engine: Engine) -> None:
    """Migrate to the newest revision in one transaction. Raises BadInput for a store of a newer version."""
    script = _script()
    known = {revision.revision for revision in script.walk_revisions()}
    with engine.connect() as connection:
        found = current(connection)
        if found == script.get_current_head():
            return
        if found is not None and found not in known:
            raise BadInput(
                f"this store was written by a newer sendwave (schema {found!r}): upgrade sendwave or open another one"
            )
    steps = script._upgrade_revs  # noqa: SLF001  # what alembic.command.upgrade itself calls
    context = EnvironmentContext(Config(), script, fn=lambda revision, _context: steps("head", revision))
    with context, engine.connect().execution_options(sendwave_write=True) as connection, connection.begin():
        context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
        context.run_migrations()
