"""Bring the ledger's schema to the level of this release, with the migrations in alembic/."""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, Engine, MetaData, String, Table, inspect, select

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.ledger.engine import begin
from orchestrator.ledger.tables import REVISION

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["current_revision", "require_current", "upgrade"]

_level = Table("alembic_version", MetaData(), Column("version_num", String))  # Alembic's own


def current_revision(engine: Engine) -> str | None:
    """The revision the database is at; None for an empty one."""
    with begin(engine) as connection:
        if not inspect(connection).has_table(_level.name):
            return None
        return connection.execute(select(_level.c.version_num)).scalar_one_or_none()


def require_current(engine: Engine) -> None:
    """Raise a ConfigurationError unless the schema is at this release's level."""
    current = current_revision(engine)
    if current != REVISION:
        raise ConfigurationError(
            f"the ledger's schema is at {current or 'nothing'}, this release needs {REVISION}: run `docmill db upgrade`"
        )


def upgrade(engine: Engine) -> None:
    """Run what is missing of the migrations in one transaction; two at once wait for each other.

    Raises:
        ConfigurationError: the migrations of this installation end at another level than its code needs.
    """
    if current_revision(engine) == REVISION:
        return  # without the third of a second that Alembic takes to load
    from alembic import command

    config = _config()
    with begin(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('docmill.migrations'))")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    require_current(engine)


def _config() -> "Config":
    from alembic.config import Config

    here = Path(__file__).resolve().parent
    packaged = here / "migrations"  # in a wheel; a checkout has them at its top
    folder = packaged if packaged.is_dir() else here.parents[1] / "alembic"
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config
