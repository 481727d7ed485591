"""Stripe's events: whether one is genuine and ours, and what it says of a subscription."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from kaimon.base.problems import Problem
from tenancy.billing import Notice

SUBSCRIPTIONS: Final = frozenset(
    {"customer.subscription.created", "customer.subscription.updated", "customer.subscription.deleted"}
)
INVOICES: Final = {"invoice.paid": "paid", "invoice.payment_failed": "failed"}


def genuine(body: bytes, signature: str, secrets: Iterable[str], tolerance_s: int, *, live: bool) -> dict[str, Any]:
    """Return the event in `body`, whoever of `secrets` signed it.

    Args:
        body: as it came.
        signature: the header `Stripe-Signature`.
        secrets: `whsec_…`; more than one while one takes the place of another.
        tolerance_s: seconds after which a signature is too old.
        live: which mode's events count.

    Raises:
        Problem: 400, it is none, is of the other mode, or its signature is forged or too old.
    """
    from stripe import SignatureVerificationError, WebhookSignature

    for secret in secrets:
        try:
            WebhookSignature.verify_header(body, signature, secret, tolerance_s)
        except SignatureVerificationError:
            # Its error holds the body.
            continue
        except UnicodeDecodeError:
            break
        event = _parsed(body)
        if event.get("livemode") is not live:
            raise Problem(400, "wrong_mode", "Of the other mode", f"Want {'live' if live else 'test'} events.")
        return event
    raise Problem(400, "bad_signature", "Not signed by Stripe", "Or too long ago.")


def notice_of(event: dict[str, Any]) -> Notice | None:
    """Return what an event says of a subscription, None if it says nothing of one.

    Raises:
        Problem: 400, it lacks what such an event has.
    """
    kind = event.get("type")
    try:
        if kind in SUBSCRIPTIONS:
            return subscription_notice(event["data"]["object"], str(event["id"]), kind, moment(event["created"]))
        if kind in INVOICES:
            return _of_invoice(event, kind)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError):
        # Not chained: what it says is a customer's.
        raise Problem(400, "bad_event", "Not an event as Stripe's are") from None
    return None


def subscription_notice(found: dict[str, Any], event_id: str, kind: str, at: datetime) -> Notice:
    """Return what a subscription's own record says.

    Raises:
        KeyError: it lacks something; also the other errors of a record that is none.
    """
    # Since 2025-03-31 a period is an item's; before, the subscription's.
    ends = [item["current_period_end"] for item in found["items"]["data"] if item.get("current_period_end")]
    end = max(ends) if ends else found.get("current_period_end")
    cancels = found.get("cancel_at") or (end if found.get("cancel_at_period_end") else None)
    return Notice(
        event_id=event_id,
        kind=kind,
        at=at,
        customer_id=_id(found["customer"]),
        subscription_id=_id(found["id"]),
        status="canceled" if kind == "customer.subscription.deleted" else _short(found["status"]),
        begun_at=moment(found["created"]),
        latest_invoice=None if found.get("latest_invoice") is None else _id(found["latest_invoice"]),
        period_ends_at=None if end is None else moment(end),
        cancels_at=None if cancels is None else moment(cancels),
    )


def _of_invoice(event: dict[str, Any], kind: str) -> Notice | None:
    found = event["data"]["object"]
    # As above: since 2025-03-31 it stands in `parent`.
    subscription = ((found.get("parent") or {}).get("subscription_details") or {}).get("subscription")
    subscription = subscription or found.get("subscription")
    first = found.get("billing_reason") == "subscription_create"
    if subscription is None or (first and INVOICES[kind] == "failed"):
        # Bought once; or a subscription that has not begun.
        return None
    return Notice(
        event_id=str(event["id"]),
        kind=kind,
        at=moment(event["created"]),
        customer_id=_id(found["customer"]),
        subscription_id=_id(subscription),
        status=INVOICES[kind],
        latest_invoice=_id(found["id"]),
    )


def moment(seconds: int) -> datetime:
    """Return a moment of Stripe's: whole seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or event.get("object") != "event" or not isinstance(event.get("id"), str):
        raise Problem(400, "bad_event", "Not an event as Stripe's are")
    return event


def _id(found: Any) -> str:
    """Return an id; what was expanded has it within."""
    return _short(found["id"] if isinstance(found, dict) else found, 255)


def _short(found: Any, most: int = 32) -> str:
    if not isinstance(found, str) or not 0 < len(found) <= most:
        raise ValueError("not a word of Stripe's")
    return found
