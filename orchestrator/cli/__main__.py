"""`python -m orchestrator.cli` is `docmill`."""

from orchestrator.cli.main import main

main()
