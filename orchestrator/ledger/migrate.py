"""Bring the ledger's schema to the level of this release, with the migrations in alembic/."""

from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from alembic import command
from orchestrator.contracts.errors import ConfigurationError
from orchestrator.ledger.engine import begin

__all__ = ["current_revision", "head_revision", "require_current", "upgrade"]


def _config() -> Config:
    here = Path(__file__).resolve().parent
    packaged = here / "migrations"  # in a wheel; a checkout has them at its top
    folder = packaged if packaged.is_dir() else here.parents[1] / "alembic"
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def head_revision() -> str:
    """The revision this release needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise ConfigurationError("this installation holds no migrations: install docmill again")
    return head


def current_revision(engine: Engine) -> str | None:
    """The revision the database is at; None for an empty one."""
    with begin(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine) -> None:
    """Run the missing migrations in one transaction; two at once wait for each other."""
    config = _config()
    with begin(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('docmill.migrations'))")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def require_current(engine: Engine) -> None:
    """Raise a ConfigurationError unless the schema is at this release's level."""
    current, head = current_revision(engine), head_revision()
    if current != head:
        raise ConfigurationError(
            f"the ledger's schema is at {current or 'nothing'}, this release needs {head}: run `docmill db upgrade`"
        )
