"""Controls: what can be done to a job from its page, and who may do it."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from orchestrator.contracts.logs import get_logger

__all__ = ["ACTIONS", "Controls", "refusal", "user_of"]

_log = get_logger(__name__)
ACTIONS = ("cancel", "pause", "resume", "retry")


@dataclass(frozen=True, slots=True)
class Controls:
    """What whoever starts Flower lets it do: workers themselves start and stop no jobs.

    Attributes:
        actions: by name; each takes the id of a job and who asked, and returns a sentence about what was done and the
            id of the job to look at. They may take seconds, and raise errors of docmill.
    """

    actions: Mapping[str, Callable[[str, str], tuple[str, str]]]
    # One thread: what is asked for twice at once is done one after the other.
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="docmill-controls")
    )

    async def run(self, action: str, job_id: str, user: str) -> tuple[str, str]:
        """Do it in another thread, and write down who asked."""
        _log.info("a job is controlled from Flower", action=action, job=job_id, user=user)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.actions[action], job_id, user)


def refusal(handler: Any, controls: Controls | None) -> str | None:
    """Why this Flower controls no jobs; None if it does, for whoever has come past its login."""
    options = handler.application.options
    if controls is None:
        return "This Flower watches only: `docmill flower` starts one that controls jobs."
    if options.read_only:
        return "Flower is in read-only mode: jobs can be looked at, not controlled."
    if not (options.basic_auth or options.auth or handler.unauthenticated_api):
        return (
            "Controls need a login: start Flower with FLOWER_BASIC_AUTH=user:password, "
            "or with FLOWER_UNAUTHENTICATED_API=true where nobody else can reach it."
        )
    return None


def user_of(handler: Any) -> str:
    """Who is logged in, by the name that Flower's login knows; checked before by Flower itself."""
    if isinstance(handler.current_user, str):
        return handler.current_user
    kind, _, credentials = handler.request.headers.get("Authorization", "").partition(" ")
    name = b64decode(credentials).decode(errors="replace").partition(":")[0] if kind == "Basic" else ""
    return f"{name} (Flower)" if name else "Flower"
