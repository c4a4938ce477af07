"""Options that several commands share."""

from typing import Annotated

import typer

__all__ = ["DEFAULT_COLLECTION", "AsJson", "CollectionName", "JobId"]

DEFAULT_COLLECTION = "documents"

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; logs go to stderr.")]
CollectionName = Annotated[str, typer.Option("--collection", "-c", help="Nodes that are searched together.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id; `docmill jobs` lists them.")]
