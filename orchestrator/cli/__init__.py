"""The command line: composes the two rooms. Commands import what they need when they run, so that --help is quick."""

from orchestrator.cli.main import main

__all__ = ["main"]
