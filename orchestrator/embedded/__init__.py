"""The embedded stack: real servers on one machine with nothing installed, and processes kept alive."""

from orchestrator.embedded.daemon import announced, daemon_pid, down, up
from orchestrator.embedded.stack import Addresses, EmbeddedStack
from orchestrator.embedded.supervisor import Supervisor

__all__ = ["Addresses", "EmbeddedStack", "Supervisor", "announced", "daemon_pid", "down", "up"]
