"""The token budget, and what is raised when it is spent."""

from orchestrator.contracts.errors import ConfigurationError, TerminalError

__all__ = ["TokenBudgetExceeded", "check_token_budget"]


class TokenBudgetExceeded(TerminalError):
    """More tokens were spent, or are about to be, than the budget allows. Trying again would only spend more."""

    def __init__(self, budget: int, spent: int, planned: int = 0) -> None:
        going_to = f", and {planned:,} more are asked for" if planned else ""
        super().__init__(
            f"the budget of {budget:,} tokens is exceeded: {spent:,} are spent{going_to}; raise token_budget to go on"
        )
        self.budget = budget
        self.spent = spent
        self.planned = planned


def check_token_budget(token_budget: int | None) -> None:
    """Refuse a budget that nothing could be done with.

    Raises:
        ConfigurationError: it is neither None nor a whole number from 1 on.
    """
    if token_budget is None:
        return
    if not isinstance(token_budget, int) or isinstance(token_budget, bool) or token_budget < 1:
        raise ConfigurationError(
            f"token_budget must be a whole number of tokens from 1 on, or None for no limit, not {token_budget!r}"
        )
