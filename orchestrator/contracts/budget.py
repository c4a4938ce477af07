"""The token budget: tokens that may be spent on prompts, completions and embeddings together."""

from orchestrator.contracts.errors import ConfigurationError

__all__ = ["check_token_budget"]


def check_token_budget(token_budget: object) -> None:
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
