"""Callback handlers: what an operator registers hears of every paid call, and cannot break the work."""

from collections.abc import Iterator

import pytest

from orchestrator.contracts.errors import ConfigurationError, UnknownName
from workers.tokens import callbacks
from workers.tokens.callbacks import callback_handler, use_callback_handlers
from workers.tokens.handler import TokenCountingHandler
from workers.tokens.spending import spending_for, spent
from workers.tokens.usage import TokenEvent, TokenUsage


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is registered and used here is not for other tests."""
    monkeypatch.setattr(callbacks, "_makers", {})
    yield
    use_callback_handlers(())


def test_a_handler_hears_of_every_paid_call() -> None:
    """Each call is told with its model, transformation and usage, to a TokenCountingHandler too; a free one is not."""
    heard = TokenCountingHandler(keep_events=True)
    callback_handler("acme.bill")(lambda: heard)
    use_callback_handlers(("acme.bill",))
    with spending_for("title_extractor"):
        spent("openai/small", TokenUsage(prompt=20, completion=5))
    spent("hashed/256", TokenUsage(embedding=7, estimated=True))
    spent("openai/small", TokenUsage())
    assert heard.events == [
        TokenEvent("llm", TokenUsage(20, 5), frozenset(), "openai/small", "title_extractor"),
        TokenEvent("embedding", TokenUsage(embedding=7, estimated=True), frozenset({"embedding"}), "hashed/256"),
    ]
    assert heard.usage.total == 32


def test_handlers_that_are_not_named_hear_nothing() -> None:
    """A handler is made when the settings name it, once, and not before."""
    made: list[TokenCountingHandler] = []

    @callback_handler("acme.bill")
    def make() -> TokenCountingHandler:
        made.append(TokenCountingHandler())
        return made[-1]

    spent("openai/small", TokenUsage(prompt=1))
    assert made == []
    use_callback_handlers(("acme.bill",))
    spent("openai/small", TokenUsage(prompt=2))
    assert [handler.usage.total for handler in made] == [2]


def test_a_handler_that_fails_breaks_nothing() -> None:
    """What a handler raises is no error of the call that was paid for, and the next handler hears of it."""
    heard = TokenCountingHandler()
    callback_handler("acme.strict")(lambda: TokenCountingHandler(token_budget=1))
    callback_handler("acme.bill")(lambda: heard)
    use_callback_handlers(("acme.strict", "acme.bill"))
    spent("openai/small", TokenUsage(prompt=5))
    assert heard.usage.total == 5


def test_unknown_and_double_names_are_refused() -> None:
    """A name that nobody registered is refused with those there are, and so is a second handler of one name."""
    callback_handler("acme.bill")(TokenCountingHandler)
    with pytest.raises(UnknownName, match=r"acme\.bil'.*acme\.bill.*loaded by DOCMILL_MODULES"):
        use_callback_handlers(("acme.bil",))
    with pytest.raises(ConfigurationError, match="registered twice"):
        callback_handler("acme.bill")(lambda: TokenCountingHandler())
