"""Stripe, asked by its own library: customers, its pages to subscribe and to pay on, and invoices.

No card data passes here: whoever pays does so on a page of Stripe's.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from dashboards.portal.settings import StripeSettings
from dashboards.portal.stripe_events import moment, subscription_notice
from kaimon.base.logs import get_logger
from kaimon.base.problems import Problem
from kaimon.base.secrets import resolved
from kaimon.base.settings import AwsSettings
from tenancy.billing import Notice
from tenancy.tenants import Tenant

if TYPE_CHECKING:
    from stripe import StripeClient

API_VERSION: Final = "2026-10-28.endive"
"""What is asked and understood; the version of the library that is locked. Events may be of 2024 or later."""
MOST_INVOICES: Final = 24
FRESH_S: Final = 60.0
"""How long a list of invoices is shown without asking again."""
AWAY_TIMES: Final = 3
"""How long Stripe is left alone after it did not answer, in times that a page would wait for it."""
_MOST_LISTS: Final = 1000
_DECIMALS: Final = dict.fromkeys(("CLP", "JPY", "KRW", "PYG", "VND", "XAF", "XOF", "XPF"), 0) | dict.fromkeys(
    ("BHD", "JOD", "KWD", "OMR", "TND"), 3
)
"""Currencies whose smallest unit is not a hundredth."""


@dataclass(frozen=True)
class Invoice:
    """An invoice: its number, when it was made, what it comes to and what became of it; `url` is Stripe's page of it.

    `url` is None where there is none, or none where we would send somebody.
    """

    number: str
    made_at: datetime
    total: str
    status: str
    url: str | None


class Processor:
    """Stripe as the settings describe it. Safe to share among threads."""

    def __init__(self, settings: StripeSettings) -> None:
        """Read the secrets; nobody is asked before somebody needs it.

        Raises:
            ValueError: a key of the other mode, or a reference that names no secret.
            kaimon.base.aws.AwsError: a secret cannot be read.
        """
        self.settings = settings
        aws = AwsSettings(home=settings.home)
        secret = settings.stripe_webhook_secret
        words = "" if secret is None else resolved(secret, aws)
        self.webhook_secrets = tuple(word.strip() for word in words.split(",") if word.strip())
        key = settings.stripe_api_key
        self._key = None if key is None else resolved(key, aws).strip()
        fitting = tuple(f"{kind}_{settings.stripe_mode}_" for kind in ("sk", "rk"))
        if self._key is not None and not self._key.startswith(fitting):
            raise ValueError(f"stripe_api_key: not a key of the mode {settings.stripe_mode}")
        self._lists: OrderedDict[str, tuple[float, list[Invoice]]] = OrderedDict()
        self._away_until = 0.0
        self._lock = threading.Lock()

    @property
    def live(self) -> bool:
        """Whether this is about money."""
        return self.settings.stripe_mode == "live"

    @property
    def can_ask(self) -> bool:
        """Whether Stripe can be asked anything."""
        return self._key is not None

    def subscription(self, notice: Notice) -> Notice:
        """Return what Stripe says now of the subscription that an event is about.

        Raises:
            Problem: 503, it does not say.
        """
        with self._asking("subscription"):
            found = self._client.v1.subscriptions.retrieve(notice.subscription_id)
            now = subscription_notice(found.to_dict(), notice.event_id, "customer.subscription.updated", notice.at)
        return replace(now, customer_id=notice.customer_id)

    def make_customer(self, tenant: Tenant) -> str:
        """Make a tenant a customer and return its id; asked again soon, also at once, it is the same one.

        Raises:
            Problem: 503, Stripe does not answer.
        """
        known = f"{tenant.tenant_id} {tenant.created_at.isoformat()} {tenant.name}"
        once = f"kaimon-customer-{hashlib.sha256(known.encode()).hexdigest()[:32]}"
        asked: Any = {"name": tenant.name, "metadata": {"kaimon_tenant": tenant.tenant_id}}
        with self._asking("customer"):
            return str(self._client.v1.customers.create(asked, {"idempotency_key": once}).id)

    def checkout(self, customer_id: str, tenant_id: str, back: str) -> str:
        """Return the page on which a customer subscribes to the price that is set; `back` is where it leads to.

        Raises:
            Problem: 503, Stripe does not answer, or with a page that is not its own.
        """
        asked: Any = {
            "mode": "subscription",
            "customer": customer_id,
            "client_reference_id": tenant_id,
            "line_items": [{"price": self.settings.stripe_price, "quantity": 1}],
            "success_url": f"{back}?done=1",
            "cancel_url": back,
        }
        with self._asking("checkout"):
            return self._page(self._client.v1.checkout.sessions.create(asked).url)

    def manage(self, customer_id: str, back: str) -> str:
        """Return the page on which a customer changes what it pays with, or cancels.

        Raises:
            Problem: 503, as `checkout`.
        """
        with self._asking("manage"):
            return self._page(
                self._client.v1.billing_portal.sessions.create({"customer": customer_id, "return_url": back}).url
            )

    def invoices(self, customer_id: str) -> list[Invoice] | None:
        """Return a customer's newest invoices that were issued, of the last minute; None if Stripe does not answer."""
        now = time.monotonic()
        with self._lock:
            kept = self._lists.get(customer_id)
            if kept is not None and now < kept[0]:
                return kept[1]
            if now < self._away_until:
                return None
        try:
            found = self._ask_invoices(customer_id)
        except Problem:
            with self._lock:
                self._away_until = time.monotonic() + AWAY_TIMES * self.settings.stripe_timeout_s
            return None
        with self._lock:
            self._lists[customer_id] = (now + FRESH_S, found)
            self._lists.move_to_end(customer_id)
            if len(self._lists) > _MOST_LISTS:
                self._lists.popitem(last=False)
        return found

    def _ask_invoices(self, customer_id: str) -> list[Invoice]:
        with self._asking("invoices"):
            page = self._client.v1.invoices.list({"customer": customer_id, "limit": MOST_INVOICES}).to_dict()
            for one in page["data"]:
                if one["customer"] != customer_id:
                    raise ValueError("another customer's invoice")
            return [self._invoice(one) for one in page["data"] if one["status"] not in {None, "draft"}]

    def _invoice(self, found: dict[str, Any]) -> Invoice:
        url = found.get("hosted_invoice_url")
        return Invoice(
            str(found.get("number") or found["id"]),
            moment(found["created"]),
            amount(int(found["total"]), str(found["currency"])),
            str(found["status"]),
            url if isinstance(url, str) and self._is_stripes(url) else None,
        )

    def _page(self, url: str | None) -> str:
        if url is None or not self._is_stripes(url):
            raise ValueError("not a page of Stripe's")
        return url

    def _is_stripes(self, url: str) -> bool:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}" in self.settings.stripe_pages

    @cached_property
    def _client(self) -> StripeClient:
        import stripe

        if self._key is None:
            raise Problem(503, "billing_not_set_up", "No payments are set up here")
        stripe.enable_telemetry = False
        logging.getLogger("stripe").setLevel(logging.WARNING)
        url = self.settings.stripe_api_url
        return stripe.StripeClient(
            self._key,
            stripe_version=API_VERSION,
            base_addresses=None if url is None else {"api": url},
            http_client=stripe.RequestsClient(timeout=self.settings.stripe_timeout_s),
            max_network_retries=0,
        )

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Say as a problem what Stripe does not answer, and log why, without anything that was asked."""
        import stripe

        try:
            yield
        except (stripe.StripeError, KeyError, TypeError, ValueError) as error:
            code, status = getattr(error, "code", None), getattr(error, "http_status", None)
            get_logger(__name__).warning(
                "stripe_failed", what=what, kind=type(error).__name__, code=code, status=status
            )
            told = "Nothing was changed. Try again in a few minutes."
            raise Problem(503, "stripe_away", "Stripe does not answer", told, {"Retry-After": "60"}) from None


def amount(minor: int, currency: str) -> str:
    """Return an amount of money, given in its smallest unit, for people: `1,234.50 USD`."""
    name = currency.upper()[:3]
    decimals = _DECIMALS.get(name, 2)
    return f"{minor / 10**decimals:,.{decimals}f} {name}"
