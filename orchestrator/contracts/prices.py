"""Prices: what the tokens of a job cost. docmill knows none by itself, for they change: the settings say them."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.contracts.report import BillLine

__all__ = ["Price", "cost"]

_TOKENS_A_PRICE = 1_000_000


class Price(BaseModel):
    """What a million tokens of one model cost, in whatever currency all prices are in.

    Attributes:
        model: by its name on the bill.
        cached: of those tokens of the prompt that the provider had in its own cache; None: the same as others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str = Field(min_length=1)
    embedding: float = Field(default=0.0, ge=0)
    prompt: float = Field(default=0.0, ge=0)
    completion: float = Field(default=0.0, ge=0)
    cached: float | None = Field(default=None, ge=0)


def cost(bill: Iterable[BillLine], prices: Iterable[Price]) -> float | None:
    """What a bill comes to; None if a model on it has no price."""
    by_model = {price.model: price for price in prices}
    total = 0.0
    for line in bill:
        price = by_model.get(line.model)
        if price is None:
            return None
        cached = price.prompt if price.cached is None else price.cached
        total += (
            line.embedding * price.embedding
            + (line.prompt - line.cached) * price.prompt
            + line.cached * cached
            + line.completion * price.completion
        )
    return total / _TOKENS_A_PRICE
