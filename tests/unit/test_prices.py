"""Prices: the cost of a bill, where it is known."""

import json

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.prices import Price, cost
from orchestrator.contracts.report import BillLine
from orchestrator.runtime import worker_environment
from orchestrator.settings import load_settings

_EMBEDDED = BillLine(transformation="embed", model="openai/small", embedding=2_000_000)
_ASKED = BillLine(transformation="title", model="openai/mini", prompt=1_000_000, completion=500_000, cached=400_000)


def test_a_bill_costs_what_its_lines_cost() -> None:
    """Each kind of token has its price by the million; what the provider had cached has its own, if it has one."""
    small = Price(model="openai/small", embedding=0.02)
    mini = Price(model="openai/mini", prompt=1, completion=4)
    assert cost([_EMBEDDED], [small, mini]) == pytest.approx(0.04)
    assert cost([_EMBEDDED, _ASKED], [small, mini]) == pytest.approx(0.04 + 1 + 2)
    assert cost([_ASKED], [mini.model_copy(update={"cached": 0.5})]) == pytest.approx(0.6 + 0.2 + 2)


def test_what_has_no_price_makes_the_whole_unknown() -> None:
    """A model without a price is not free: the cost of the job is not known, unless its price is said to be nothing."""
    assert cost([_EMBEDDED, _ASKED], [Price(model="openai/small", embedding=0.02)]) is None
    assert cost([_EMBEDDED], [Price(model="openai/small")]) == 0
    assert cost([], []) == 0


def test_prices_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are JSON in the environment, and reach a child as they are."""
    monkeypatch.setenv("DOCMILL_PRICES", '[{"model": "openai/small", "embedding": 0.02}]')
    settings = load_settings()
    assert settings.prices == (Price(model="openai/small", embedding=0.02),)
    monkeypatch.setenv("DOCMILL_PRICES", worker_environment(settings)["DOCMILL_PRICES"])
    assert load_settings() == settings
    shown = CliRunner().invoke(app, ["settings", "--json"]).stdout
    (row,) = [row for row in json.loads(shown)["settings"] if row["name"] == "prices"]
    assert [price["model"] for price in row["value"]] == ["openai/small"]


@pytest.mark.parametrize(
    "wrong",
    [
        '[{"model": "m", "tokens": 1}]',
        '[{"model": "m", "prompt": -1}]',
        '[{"prompt": 1}]',
        '[{"model": "m"}, {"model": "m", "prompt": 1}]',
        "3",
    ],
)
def test_prices_that_make_no_sense_are_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """A price without a model, below nothing, in another word, or a second one for a model is an error."""
    monkeypatch.setenv("DOCMILL_PRICES", wrong)
    with pytest.raises(ConfigurationError, match="DOCMILL_PRICES"):
        load_settings()
