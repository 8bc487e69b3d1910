"""Run by Alembic: migrates on the connection that `pabal.store.database.migrate` hands over, in its transaction."""

from alembic import context

from pabal.store.migrations import VERSION_TABLE
from pabal.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
