"""A stand-in for Stripe's API on this machine: what the real library asks of it, answered as Stripe does.

It knows the few calls that the portal makes, refuses what Stripe would refuse, and can be away.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

KEY = "rk_live_" + "5tUv" * 8
VERSION = "2026-10-28.endive"


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An error as Stripe tells it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": "invalid_request_error", "code": code, "message": message}}


class StandIn:
    """What Stripe would know. `away` is `""`, `500`, `hang` or `nonsense`; `heard` counts calls, also while it is."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.away = ""
        self.customers: dict[str, dict[str, Any]] = {}
        self.invoices: dict[str, list[dict[str, Any]]] = {}
        self.subscriptions: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.pages = url
        self.heard = 0
        self._once: dict[str, dict[str, Any]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.released = threading.Event()

    def answer(self, method: str, path: str, asked: dict[str, str], headers: Any) -> dict[str, Any]:
        """Answer one call.

        Raises:
            Refusal: as Stripe would.
        """
        if headers.get("Authorization") != f"Bearer {KEY}":
            raise Refusal(401, "api_key_invalid", "Invalid API Key provided")
        assert headers.get("Stripe-Version") == VERSION
        with self._lock:
            self.asked.append((method, path, asked))
            name = headers.get("Idempotency-Key")
            if method == "POST" and name in self._once:
                return self._once[name]
            made = self._made(method, path, asked)
            if name is not None:
                self._once[name] = made
            return made

    def _made(self, method: str, path: str, asked: dict[str, str]) -> dict[str, Any]:
        number = next(self._numbers)
        if (method, path) == ("POST", "/v1/customers"):
            made = {"id": f"cus_{number}", "object": "customer", "name": asked["name"]}
            self.customers[made["id"]] = made | {"tenant": asked["metadata[kaimon_tenant]"]}
            return made
        if (method, path) == ("POST", "/v1/checkout/sessions"):
            self._require(asked["customer"])
            assert (asked["mode"], asked["line_items[0][price]"]) == ("subscription", "price_1")
            return {"id": f"cs_{number}", "object": "checkout.session", "url": f"{self.pages}/c/pay/cs_{number}"}
        if (method, path) == ("POST", "/v1/billing_portal/sessions"):
            self._require(asked["customer"])
            url = f"{self.pages}/p/session/bps_{number}"
            return {"id": f"bps_{number}", "object": "billing_portal.session", "url": url}
        if (method, path) == ("GET", "/v1/invoices"):
            found = self.invoices.get(asked["customer"], [])[: int(asked["limit"])]
            return {"object": "list", "data": found, "has_more": False, "url": "/v1/invoices"}
        if method == "GET" and path.startswith("/v1/subscriptions/"):
            wanted = path.rpartition("/")[2]
            if wanted in self.subscriptions:
                return self.subscriptions[wanted]
        raise Refusal(404, "resource_missing", f"No such thing: {path}")

    def _require(self, customer: str) -> None:
        if customer not in self.customers:
            raise Refusal(400, "resource_missing", f"No such customer: '{customer}'")

    def calls(self, path: str) -> int:
        """Say how often something was asked."""
        return sum(asked[1] == path for asked in self.asked)


def invoice(customer: str, number: str, total: int, status: str = "paid", **changes: Any) -> dict[str, Any]:
    """Return an invoice's record."""
    return {
        "id": f"in_{number}",
        "object": "invoice",
        "customer": customer,
        "number": number,
        "created": int(time.time()) - 3600,
        "total": total,
        "currency": "usd",
        "status": status,
        "hosted_invoice_url": f"https://invoice.stripe.com/i/{number}",
    } | changes


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: StandIn

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path.startswith("/v1/"):
            self._api("GET", address.path, dict(parse_qsl(address.query)))
        else:
            self._say(200, b"<!doctype html><title>Stripe</title><h1>Pay here</h1>", "text/html")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._api("POST", urlsplit(self.path).path, dict(parse_qsl(body.decode())))

    def _api(self, method: str, path: str, asked: dict[str, str]) -> None:
        self.stand_in.heard += 1
        if self.stand_in.away == "hang":
            self.stand_in.released.wait(60)
            self.close_connection = True
        elif self.stand_in.away == "500":
            self._say(500, b'{"error": {"type": "api_error", "message": "away"}}')
        elif self.stand_in.away == "nonsense":
            self._say(200, b"<html>maintenance</html>")
        else:
            try:
                found = self.stand_in.answer(method, path, asked, self.headers)
                self._say(200, json.dumps(found).encode())
            except Refusal as refusal:
                self._say(refusal.status, json.dumps(refusal.body).encode())

    def _say(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def running() -> Iterator[StandIn]:
    """Listen on this machine for the length of a `with`."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    handler.stand_in = StandIn(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield handler.stand_in
    finally:
        handler.stand_in.released.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
