"""A local endpoint that speaks Amazon Bedrock's Converse, which boto3 really calls, and answers as a test says."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[dict[str, Any]], tuple[int, dict[str, str], bytes]]
"""A request's body → status, headers and body of the answer."""


def tool_use(headline: object, *sentences: object, key: str = "activity", **more: Any) -> Reply:
    """Answer with the tool's call; `more` goes over the whole message."""
    words = {"headline": headline, "sections": [{"key": key, "sentences": list(sentences)}]}
    return message({"toolUse": {"toolUseId": "t", "name": "write_summary", "input": words}}, **more)


def message(*content: dict[str, Any], **more: Any) -> Reply:
    """Answer with these blocks."""
    said = {
        "output": {"message": {"role": "assistant", "content": list(content)}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 1200, "outputTokens": 150, "totalTokens": 1350},
        "metrics": {"latencyMs": 5},
    } | more
    return lambda _: (200, {}, json.dumps(said).encode())


def failing(status: int, code: str) -> Reply:
    """Answer as AWS does when it says no."""
    return lambda _: (status, {"x-amzn-ErrorType": code}, b'{"message":"no"}')


def honest(request: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """Say what must be said, in plain words, from nothing but the prompt."""
    must = told(request)["must_mention"]
    sentences = [f"What was counted of this is {{{{{name}}}}}." for name in must if name != "events.total"]
    headline = "The hosts reported {{events.total}} events."
    return tool_use(headline, "This is what the agents saw.", *sentences[:7])(request)


def told(request: dict[str, Any]) -> Any:
    """Return the facts in a request."""
    return json.loads(request["messages"][0]["content"][0]["text"].split("\n\n")[0])


class Converse:
    """The endpoint: `replies` are given in turn, the last for ever; `requests` is what came, `raw` their bytes."""

    def __init__(self, port: int, gone: threading.Event) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.replies: list[Reply] = [honest]
        self.requests: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self.models: list[str] = []
        self._gone = gone

    def silent(self, _: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        """Never answer, as long as the test lasts."""
        self._gone.wait(60)
        return 500, {}, b""


@contextmanager
def running() -> Iterator[Converse]:
    """Run the endpoint on a free port of 127.0.0.1."""
    gone = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            body = json.loads(raw)
            converse.raw.append(raw)
            converse.requests.append(body)
            converse.models.append(re.sub(r"^/model/(.*)/converse$", r"\1", self.path))
            reply = converse.replies.pop(0) if len(converse.replies) > 1 else converse.replies[0]
            status, headers, answer = reply(body)
            try:
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                pass  # the client has given up, which is what some tests want

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's signature
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    converse = Converse(server.server_address[1], gone)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield converse
    finally:
        gone.set()
        server.shutdown()
        server.server_close()
        thread.join()
