"""The migrations lead to the tables that the code speaks of."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from pabal.clock import ManualClock
from pabal.store import migrations, schema
from pabal.store.sql import SqlStore
from tests.store.laws.lab import NOW


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'store.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


async def test_migrated_tables_are_those_of_the_schema(url: str) -> None:
    store = SqlStore(url, clock=ManualClock(NOW))
    await store.migrate()
    await store.close()

    if url.startswith("sqlite:"):
        engine = sa.create_engine(f"sqlite:///{url.removeprefix('sqlite:')}")
    else:
        options = {"options": "-c search_path=pabal_store"}
        engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), connect_args=options)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": migrations.VERSION_TABLE})
        differences = compare_metadata(context, schema.metadata)
    engine.dispose()

    assert differences == []


def test_the_newest_migration_is_the_one_that_a_start_looks_for() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))

    assert scripts.get_current_head() == schema.REVISION
