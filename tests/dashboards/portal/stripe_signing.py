"""Events as Stripe makes and signs them, and who sends them to a portal."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import httpx

SECRET = "whsec_" + "aB3" * 12
OTHER = "whsec_" + "zY9" * 12
_NUMBERS = itertools.count(1)


def subscription(customer: str, status: str, **changes: Any) -> dict[str, Any]:
    """Return a subscription's record as of 2026-10-28."""
    now = int(time.time())
    return {
        "id": f"sub_{customer}",
        "object": "subscription",
        "customer": customer,
        "status": status,
        "created": now - 86_400,
        "latest_invoice": f"in_{customer}",
        "cancel_at": None,
        "cancel_at_period_end": False,
        "items": {"object": "list", "data": [{"id": "si_1", "current_period_end": now + 86_400 * 29}]},
    } | changes


def invoice(customer: str, **changes: Any) -> dict[str, Any]:
    """Return an invoice's record."""
    parent = {"type": "subscription_details", "subscription_details": {"subscription": f"sub_{customer}"}}
    return {
        "id": f"in_{customer}",
        "object": "invoice",
        "customer": customer,
        "billing_reason": "subscription_cycle",
        "parent": parent,
    } | changes


def event(kind: str, about: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return an event that was made just now."""
    return {
        "id": f"evt_{next(_NUMBERS)}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": int(time.time()),
        "livemode": True,
        "type": kind,
        "data": {"object": about},
    } | changes


def signature(body: str, secret: str = SECRET, at: int | None = None) -> str:
    """Return the header, made by Stripe's own library."""
    import stripe

    return stripe.WebhookSignature.generate_signature_header(body, secret, at)


def send(portal: Any, told: dict[str, Any], secret: str = SECRET, at: int | None = None) -> httpx.Response:
    """Send an event as Stripe does."""
    body = json.dumps(told)
    return post(portal, body.encode(), signature(body, secret, at))


def post(portal: Any, body: bytes, header: str | None) -> httpx.Response:
    """Send anything to where events go: without a cookie, an origin or a form."""
    headers = {"Content-Type": "application/json"} | ({} if header is None else {"Stripe-Signature": header})
    url = f"{portal.url}/stripe/events"
    return httpx.post(url, content=body, headers=headers, verify=portal.trust, trust_env=False, timeout=60)
