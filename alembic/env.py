"""Runs the ledger's migrations, on a connection handed in by `docmill db upgrade` or on DOCMILL_DATABASE_URL."""

from sqlalchemy import Connection

from alembic import context
from orchestrator.ledger.engine import begin, create_ledger_engine
from orchestrator.ledger.tables import metadata
from orchestrator.settings import load_settings


def is_ours(name: str | None, kind: str, parent_names: object) -> bool:
    """Tables of collections are the vector store's, made at run time; Alembic leaves them alone."""
    return kind != "table" or (name or "") in metadata.tables


def run(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # A migration that cannot get its lock gives up instead of stopping every worker behind it.
        connection.exec_driver_sql("SET LOCAL lock_timeout = '10s'")
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=is_ours,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_server_default=False,
    )
    with context.begin_transaction():
        context.run_migrations()


handed_in = context.config.attributes.get("connection")
if handed_in is not None:
    run(handed_in)
else:
    with begin(create_ledger_engine(load_settings().ledger_url)) as own:
        run(own)
