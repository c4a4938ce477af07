"""A server that speaks OpenAI's API: OpenAI itself, vLLM, Ollama, LM Studio, and many more."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
from collections.abc import Awaitable, Callable
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.contracts.addresses import redacted
from orchestrator.contracts.errors import ConfigurationError, ServiceUnreachable, TerminalError, TransientError
from orchestrator.settings import Settings, load_settings
from workers.providers.calls import provider_call
from workers.providers.retries import MalformedAnswer, read_retry_after, with_retries

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

__all__ = ["OpenAIServer", "preload_client", "process_server"]

T = TypeVar("T")
Answer = dict[str, Any]

_OPENAI = "https://api.openai.com/v1"
_PASSING = frozenset({408, 409, 425, 429})  # and every 5xx
_REFUSING_ALL = frozenset({401, 403, 404})  # no other request of the pipeline would fare better
_QUOTA_IS_USED_UP = "insufficient_quota"  # a 429 that waiting does not mend
_SHOWN_CHARACTERS = 300  # of what the server said


class OpenAIServer:
    """One server and this process's client of it, to be used on one event loop.

    Args:
        base_url: its address up to and with /v1.
        key: sent with each request; empty where the server needs none.
        timeout: seconds for it to answer one request.

    Attributes:
        concurrency: requests at once.
        is_openai: it is OpenAI's own, whose API has moved on from what the others copied.

    Raises:
        ConfigurationError: OpenAI's own server is meant, and there is no key for it.
    """

    def __init__(self, base_url: str, key: str, *, concurrency: int, timeout: float) -> None:
        self._base_url = base_url
        self._key = key
        self.concurrency = concurrency
        self._timeout = timeout
        self._free = asyncio.Semaphore(concurrency)
        self.is_openai = base_url.startswith("https://api.openai.com")
        if self.is_openai and not key:
            raise ConfigurationError(
                f"{_OPENAI} needs a key: set DOCMILL_OPENAI_API_KEY where the workers run, "
                "or DOCMILL_OPENAI_BASE_URL to use another server"
            )

    @property
    def address(self) -> str:
        """Where it is; without a password."""
        return redacted(self._base_url)

    async def ask(self, model: str, send: Callable[[AsyncOpenAI], Awaitable[Any]], read: Callable[[Answer], T]) -> T:
        """Ask, and ask again while that may help.

        Args:
            model: for the messages of errors.
            send: sends one request by `with_raw_response`.
            read: makes something of the answer; a KeyError, IndexError, TypeError or ValueError means malformed.

        Raises:
            TransientError: the server is busy, broken or away; `retry_after` is what it asked for.
            ConfigurationError: the server refuses the key, the address or the model: nothing else would fare better.
            TerminalError: it refuses this request, or what it answers is malformed each time.
        """

        async def once() -> T:
            async with self._free:
                with provider_call(model):
                    return self._read(model, await self._send(model, send), read)

        return await with_retries(once)

    async def _send(self, model: str, send: Callable[[AsyncOpenAI], Awaitable[Any]]) -> bytes:
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        # `from None`: the library's errors hold the server's words whole, which may repeat the key.
        try:
            response = await send(self._client)
        except APITimeoutError:
            reason = f"no answer within {self._timeout:g} s"
            raise ServiceUnreachable(f"the server of {model!r}", self.address, reason) from None
        except APIConnectionError as error:
            reason = self._shown(str(error.__cause__ or error))
            raise ServiceUnreachable(f"the server of {model!r}", self.address, reason) from None
        except APIStatusError as error:
            raise self._refusal(model, error) from None
        body: bytes = response.content
        return body

    def _refusal(self, model: str, error: APIStatusError) -> TransientError | TerminalError:
        status = error.status_code
        summary = f"{self.address} answered {status} for {model!r}"
        message = f"{summary}: {self._shown(_said(error))}"
        refusal: TransientError | TerminalError
        if error.code == _QUOTA_IS_USED_UP or status in _REFUSING_ALL:
            refusal = ConfigurationError(message)
        elif status in _PASSING or status >= 500:
            refusal = TransientError(message, read_retry_after(error.response.headers))
        else:
            refusal = TerminalError(message)
        refusal.summary = summary  # the server's words may repeat what it was asked
        return refusal

    def _read(self, model: str, body: bytes, read: Callable[[Answer], T]) -> T:
        try:
            answer = json.loads(body)
            if not isinstance(answer, dict):
                raise TypeError(f"{type(answer).__name__} instead of an object")
            return read(answer)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise MalformedAnswer(f"{self.address} sent a malformed answer for {model!r} ({reason})") from None

    def _shown(self, text: str) -> str:
        shown = text.replace(self._key, "***") if self._key else text
        return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"

    @cached_property
    def _client(self) -> AsyncOpenAI:
        try:
            from openai import AsyncOpenAI
        except ImportError as error:
            raise ConfigurationError("models named openai/… need the extra: pip install 'docmill[openai]'") from error
        return AsyncOpenAI(
            base_url=self._base_url,
            api_key=self._key or "none",  # the library wants one; servers without keys ignore it
            timeout=self._timeout,
            max_retries=0,  # `with_retries` does it, and knows that a worker must not sleep
        )


def process_server() -> OpenAIServer:
    """The server that this process's settings name, always the same while they are.

    Without an address of its own, docmill goes where OpenAI's own variables lead.

    Raises:
        ConfigurationError: a setting is wrong or missing.
    """
    settings = load_settings()
    base_url, key = _named(settings)
    return _server(base_url, key, settings.llm_concurrency, settings.llm_timeout, os.getpid())


def preload_client(settings: Settings) -> None:
    """Load the library of the client, 1 s and 25 MB, where the settings name a server and the library is installed."""
    base_url, key = _named(settings)
    if (key or base_url != _OPENAI) and importlib.util.find_spec("openai"):
        from openai import AsyncOpenAI

        client = AsyncOpenAI(base_url=_OPENAI, api_key="none")  # asks nothing; a wrong address is its job's to report
        _ = client.embeddings, client.chat.completions  # each is loaded when it is first asked for


def _named(settings: Settings) -> tuple[str, str]:
    """(address, key or "")."""
    base_url, secret = settings.openai_base_url, settings.openai_api_key
    key = secret.get_secret_value() if secret else ""
    if base_url is None:
        base_url = os.environ.get("OPENAI_BASE_URL") or _OPENAI
        key = key or os.environ.get("OPENAI_API_KEY", "")  # which is sent to no address but this one
    return base_url, key


@lru_cache(maxsize=1)
def _server(base_url: str, key: str, concurrency: int, timeout: float, pid: int) -> OpenAIServer:
    return OpenAIServer(base_url, key, concurrency=concurrency, timeout=timeout)


def _said(error: APIStatusError) -> str:
    """The server's words: OpenAI's form of an error, or else whatever it sent."""
    body = error.body
    said = body.get("message") if isinstance(body, dict) else body
    return str(said or error.response.text or error.message).strip()
