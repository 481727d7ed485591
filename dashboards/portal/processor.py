"""Stripe, asked by its own library: customers, its pages to subscribe and to pay on, and invoices.

No card data passes here: whoever pays does so on a page of Stripe's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from dashboards.portal.settings import StripeSettings
from dashboards.portal.stripe_events import subscription_notice
from kaimon.base.logs import get_logger
from kaimon.base.problems import Problem
from kaimon.base.secrets import resolved
from kaimon.base.settings import AwsSettings
from tenancy.billing import Notice

if TYPE_CHECKING:
    from stripe import StripeClient

API_VERSION: Final = "2026-10-28.endive"
"""What is asked and understood; the version of the library that is locked. Events may be of 2024 or later."""


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
        if self._key is not None and self._key.split("_")[1:2] != [settings.stripe_mode]:
            raise ValueError(f"stripe_api_key: not a key of the mode {settings.stripe_mode}")

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
