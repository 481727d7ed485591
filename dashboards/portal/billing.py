"""Billing: what was agreed and what it means, what is used of it, and the ways to Stripe's pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from starlette.responses import RedirectResponse, Response

from dashboards.portal.call import POLICY, Call, Route
from dashboards.portal.processor import Invoice
from dashboards.portal.usage import months_of, usage_of
from kaimon.base.problems import Problem
from tenancy.billing import BillingCustomer, customer_of, link_customer
from tenancy.retention import Kept, kept
from tenancy.subscriptions import Lapse, Subscription, subscription_in
from tenancy.tenants import Tenant, Use, get_tenant, use_of

DAYS: Final = 31
MONTHS: Final = 12


@dataclass(frozen=True)
class Plan:
    """What was agreed with a tenant, as it counts now."""

    agreed: Subscription
    state: str
    lapse: Lapse | None
    use: Use
    kept: Kept
    customer: BillingCustomer | None


def plan_of(call: Call) -> Plan:
    """Return the tenant's plan.

    Raises:
        Problem: 404, it was erased meanwhile.
    """
    tenant = _tenant(call)
    agreed = subscription_in(tenant, call.db.settings)
    return Plan(
        agreed,
        agreed.state_at(call.now),
        agreed.lapse(call.now),
        use_of(call.db, tenant.tenant_id),
        kept(tenant, call.db),
        customer_of(call.db, tenant.tenant_id, live=call.processor.live),
    )


def billing(call: Call) -> Response:
    """Show plan and usage; to Admins invoices too, and how to subscribe or pay."""
    plan, today = plan_of(call), call.now.date()
    first = _months_before(today, MONTHS - 1)
    days = usage_of(call.scope, first, today, call.lake, hosts_from=today - timedelta(days=DAYS - 1))
    invoices: list[Invoice] | None = []
    if call.scope.role == "admin" and plan.customer is not None and call.processor.can_ask:
        invoices = call.processor.invoices(plan.customer.customer_id)
    answer = call.page(
        "billing.html",
        plan=plan,
        days=days[: -DAYS - 1 : -1],
        months=months_of(days),
        invoices=invoices,
        processor=call.processor,
        done="done" in call.query,
    )
    # A form here leads on to a page of Stripe's, and Chromium asks of each step whether it may.
    pages = " ".join(call.processor.settings.stripe_pages)
    answer.headers["Content-Security-Policy"] = POLICY.replace("form-action 'self'", f"form-action 'self' {pages}")
    return answer


def subscribe(call: Call) -> Response:
    """Send an Admin to Stripe's page to subscribe; the tenant is made a customer there if it is none."""
    processor = call.processor
    if not processor.can_ask or processor.settings.stripe_price is None:
        raise _not_set_up()
    tenant = _tenant(call)
    found = customer_of(call.db, tenant.tenant_id, live=processor.live)
    if found is not None and found.subscribed:
        raise Problem(409, "subscribed", "There is a subscription", "It is changed under Manage billing.")
    if found is None:
        made = processor.make_customer(tenant)
        found = link_customer(call.db, tenant.tenant_id, made, live=processor.live)
    return _to_stripe(processor.checkout(found.customer_id, tenant.tenant_id, _back(call)))


def manage(call: Call) -> Response:
    """Send an Admin to Stripe's page where what is paid with, and the subscription, are changed."""
    if not call.processor.can_ask:
        raise _not_set_up()
    found = customer_of(call.db, call.scope.tenant_id, live=call.processor.live)
    if found is None:
        raise Problem(404, "no_customer", "Nothing to manage yet", "Subscribe first.")
    return _to_stripe(call.processor.manage(found.customer_id, _back(call)))


def _tenant(call: Call) -> Tenant:
    tenant = get_tenant(call.db, call.scope.tenant_id)
    if tenant is None:
        raise Problem(404, "not_found", "Not found")
    return tenant


def _back(call: Call) -> str:
    return f"{call.settings.portal_url}/t/{call.scope.tenant_id}/billing"


def _to_stripe(url: str) -> Response:
    return RedirectResponse(url, status_code=303)


def _not_set_up() -> Problem:
    return Problem(404, "no_payments", "No payments are set up here", "Ask whoever runs this kaimon.")


def _months_before(day: date, months: int) -> date:
    """Return the first day of the month that lies so many before a day's."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month + 1, 1)


ROUTES: Final = (
    Route("GET", "billing", "member", billing),
    Route("POST", "billing/subscribe", "admin", subscribe),
    Route("POST", "billing/manage", "admin", manage),
)
