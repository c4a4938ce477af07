"""Flower with the controls of jobs: `python -m orchestrator.cli.flower`, arguments as of `workers.flower`."""

import sys

from orchestrator.connections import Connections
from orchestrator.contracts.report import TERMINAL_JOB_STATES, JobState
from orchestrator.job import Job
from orchestrator.settings import load_settings

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Start it, with what its pages may do to jobs."""
    from workers.flower import main as start
    from workers.jobs_page.controls import Controls

    page = _Actions(Connections(load_settings()))
    actions = {"cancel": page.cancel, "pause": page.pause, "resume": page.resume, "retry": page.retry}
    start(arguments, Controls(actions))


class _Actions:
    """What is done to a job, told in a sentence, with the job to look at then."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def cancel(self, job_id: str, _: str) -> tuple[str, str]:
        return self._told(job_id, Job(self._connections, job_id).cancel(), "is being cancelled")

    def pause(self, job_id: str, _: str) -> tuple[str, str]:
        return self._told(job_id, Job(self._connections, job_id).pause(), "is paused; batches that run end")

    def resume(self, job_id: str, _: str) -> tuple[str, str]:
        return self._told(job_id, Job(self._connections, job_id).resume(), "goes on")

    def retry(self, job_id: str, user: str) -> tuple[str, str]:
        new = Job(self._connections, job_id).retry_failed(started_by=user)
        return f"The failed documents of job {job_id} are tried again in job {new.id}.", new.id

    @staticmethod
    def _told(job_id: str, state: JobState, done: str) -> tuple[str, str]:
        ended = f"has ended: {state.replace('_', ' ')}"
        return f"Job {job_id} {ended if state in TERMINAL_JOB_STATES else done}.", job_id


if __name__ == "__main__":
    main(sys.argv[1:])
