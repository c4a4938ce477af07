"""A server that speaks OpenAI's API on the loopback: real HTTP, deterministic answers, a bill, and faults on demand."""

import base64
import json
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any

__all__ = ["Fault", "OpenAIStub", "openai_stub"]

_BASE_TOKENS = 7  # on top of the words of a text: no count of ours would give the same


@dataclass(frozen=True)
class Fault:
    """What the server does once instead of answering properly.

    Attributes:
        status: the status it answers with.
        message: what its error says.
        code: the error's code, as OpenAI has one.
        headers: further headers, such as Retry-After.
        body: sent as it is, instead of what belongs there.
        cut: close the connection half-way through the body.
        hang: say nothing until the server is closed.
        edit: change an answer that is otherwise right.
    """

    status: int = 200
    message: str = "out of order"
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: bool = False
    hang: bool = False
    edit: Callable[[dict[str, Any]], object] | None = None


class OpenAIStub:
    """The server's state: what it was asked, what it billed, and what will go wrong next.

    Attributes:
        url: its address, with /v1.
        key: the only key it takes; None takes all.
        faults: taken from the left, one a request.
        requests: the bodies of all requests, each with its `path` and `authorization`.
        prompt, completion, embedding: tokens it billed.
        answer: makes the text of a completion out of the last message.
        connections: how many were opened.
        at_once: the most requests that were in its hands at the same time.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.key: str | None = None
        self.dimension = 32
        self.faults: deque[Fault] = deque()
        self.requests: list[dict[str, Any]] = []
        self.prompt = self.completion = self.embedding = 0
        self.answer: Callable[[str], str] = lambda prompt: f"Answer {zlib.crc32(prompt.encode())}"
        self.connections = self.at_once = self._now = 0
        self.pause = 0.0
        self.closing = Event()
        self._lock = Lock()

    def calls(self, path: str) -> list[dict[str, Any]]:
        """The requests whose path ends so."""
        return [request for request in self.requests if request["path"].endswith(path)]

    @contextmanager
    def begun(self, request: dict[str, Any]) -> Iterator[Fault | None]:
        """Note a request, for as long as it takes; gives the fault that is due."""
        with self._lock:
            self.requests.append(request)
            self._now += 1
            self.at_once = max(self.at_once, self._now)
            fault = self.faults.popleft() if self.faults else None
        self.closing.wait(self.pause)
        try:
            yield fault
        finally:
            with self._lock:
                self._now -= 1

    def bill(self, answer: Mapping[str, Any]) -> None:
        """Add what an answer says that it cost."""
        usage = answer.get("usage") or {}
        with self._lock:
            if answer["object"] == "list":
                self.embedding += usage.get("prompt_tokens", 0)
            else:
                self.prompt += usage.get("prompt_tokens", 0)
                self.completion += usage.get("completion_tokens", 0)

    def respond(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A proper answer."""
        if request["path"] == "/v1/chat/completions":
            return self._chat(request)
        return self._embeddings(request)

    def _chat(self, request: Mapping[str, Any]) -> dict[str, Any]:
        text = self.answer(request["messages"][-1]["content"])
        prompt = sum(_tokens(message["content"]) for message in request["messages"])
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": f"{request['model']}-0001",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": _tokens(text),
                "total_tokens": prompt + _tokens(text),
            },
        }

    def _embeddings(self, request: Mapping[str, Any]) -> dict[str, Any]:
        dimension = request.get("dimensions", self.dimension)
        tokens = sum(_tokens(text) for text in request["input"])
        data = [
            {"object": "embedding", "index": index, "embedding": _encode(request, vector(text, dimension))}
            for index, text in enumerate(request["input"])
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "model": request["model"], "data": data, "usage": usage}


def vector(text: str, dimension: int) -> list[float]:
    """The vector of a text: not of length 1, so that whoever should scale it is seen to."""
    return [1 + zlib.crc32(f"{place} {text}".encode()) % 1000 for place in range(dimension)]


def _tokens(text: str) -> int:
    return len(text.split()) + _BASE_TOKENS


def _encode(request: Mapping[str, Any], floats: list[float]) -> object:
    if request.get("encoding_format") == "base64":
        return base64.b64encode(struct.pack(f"<{len(floats)}f", *floats)).decode()
    return floats


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True
    stub: OpenAIStub

    def setup(self) -> None:
        super().setup()
        self.stub.connections += 1

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = {**body, "path": self.path, "authorization": self.headers["Authorization"]}
        with self.stub.begun(request) as fault:
            self._answer(request, fault or Fault())

    def _answer(self, request: dict[str, Any], fault: Fault) -> None:
        if fault.hang:
            self.stub.closing.wait(30)
            self.close_connection = True
            return
        if self.stub.key is not None and request["authorization"] != f"Bearer {self.stub.key}":
            fault = Fault(status=401, message=f"Incorrect key: {request['authorization']}", code="invalid_api_key")
        if fault.status != 200:
            error = {"message": fault.message, "type": "error", "param": None, "code": fault.code}
            self._send(fault, json.dumps({"error": error}).encode())
            return
        answer = self.stub.respond(request)
        if fault.edit is not None:
            fault.edit(answer)
        if fault.body is None and not fault.cut:
            self.stub.bill(answer)
        self._send(fault, json.dumps(answer).encode())

    def _send(self, fault: Fault, body: bytes) -> None:
        data = body if fault.body is None else fault.body
        self.send_response(fault.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in fault.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if fault.cut else data)
        self.close_connection = self.close_connection or fault.cut

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def openai_stub() -> Iterator[OpenAIStub]:
    """A server for the duration of the block."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        stub = OpenAIStub(f"http://127.0.0.1:{server.server_port}/v1")
        handler.stub = stub  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield stub
        finally:
            stub.closing.set()
            server.shutdown()
            thread.join()
