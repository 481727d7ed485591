"""The page of plan, usage and invoices, and the ways to Stripe: the real library against a stand-in on this machine."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from dashboards.portal.processor import Processor, amount
from dashboards.portal.settings import StripeSettings
from tenancy.billing import customer_of, link_customer
from tenancy.billing_tables import BILLING_CUSTOMERS
from tenancy.tenants import get_tenant, set_subscription
from tests.dashboards.portal import stripe_api
from tests.dashboards.portal import stripe_signing as signing

NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def stripe() -> Iterator[Any]:
    with stripe_api.running() as running:
        yield running


@pytest.fixture(scope="module")
def billed(stripe: Any, portal_maker: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A portal that pays at the stand-in."""
    running = portal_maker(
        tmp_path_factory.mktemp("billed"),
        KAIMON_STRIPE_WEBHOOK_SECRET=signing.SECRET,
        KAIMON_STRIPE_API_KEY=stripe_api.KEY,
        KAIMON_STRIPE_API_URL=stripe.url,
        KAIMON_STRIPE_PRICE="price_1",
        KAIMON_STRIPE_PAGES=json.dumps([stripe.url, "https://invoice.stripe.com"]),
        KAIMON_STRIPE_TIMEOUT_S="2",
    )
    with closing(running):
        yield running


@pytest.fixture(scope="module")
def ada(billed: Any) -> Any:
    return billed.member("acme", "ada@acme.example", "admin")


@pytest.fixture(scope="module")
def max_(billed: Any) -> Any:
    return billed.member("acme", "max@acme.example", "member")


@pytest.fixture(scope="module")
def sue(billed: Any) -> Any:
    return billed.member("bolt", "sue@bolt.example", "admin")


@pytest.fixture(autouse=True)
def customers(billed: Any, stripe: Any) -> Iterator[dict[str, str]]:
    """Each tenant is on trial, and a customer whom no other test has; Stripe is there again after each test."""
    made = {}
    with billed.db.transaction() as session:
        session.execute(delete(BILLING_CUSTOMERS))
    for tenant in ("acme", "bolt"):
        set_subscription(billed.db, tenant, "trial")
        made[tenant] = f"cus_{tenant}_{next(NUMBERS)}"
        stripe.customers[made[tenant]] = {"id": made[tenant]}
        link_customer(billed.db, tenant, made[tenant], live=True)
    yield made
    stripe.away, stripe.pages = "", stripe.url


def nobody_yet(billed: Any) -> None:
    with billed.db.transaction() as session:
        session.execute(delete(BILLING_CUSTOMERS))


def words(page: Any) -> str:
    assert page.status_code == 200, page.text
    return " ".join(re.sub(r"<[^>]+>", " ", page.text).split())


def customer(billed: Any, tenant: str) -> str:
    found = customer_of(billed.db, tenant, live=True)
    assert found is not None
    return found.customer_id


def test_an_admin_is_led_to_stripe_to_subscribe_and_back_as_one_customer(
    billed: Any, stripe: Any, ada: Any, sue: Any
) -> None:
    nobody_yet(billed)
    with ThreadPoolExecutor(3) as pool:
        csrf = ada.csrf()
        answers = list(pool.map(lambda _: ada.post("/t/acme/billing/subscribe", csrf), range(3)))
    assert [answer.status_code for answer in answers] == [303] * 3, answers[0].text
    assert all(answer.headers["location"].startswith(f"{stripe.url}/c/pay/cs_") for answer in answers)
    mine = customer(billed, "acme")
    assert stripe.customers[mine]["tenant"] == "acme"
    assert [one["tenant"] for one in stripe.customers.values() if "tenant" in one] == ["acme"]
    asked = [one for one in stripe.asked if one[1] == "/v1/checkout/sessions"][-1][2]
    assert asked["customer"] == mine
    assert asked["success_url"] == f"{billed.url}/t/acme/billing?done=1"
    assert sue.post("/t/bolt/billing/subscribe").status_code == 303
    assert customer(billed, "bolt") != mine
    assert "Thank you" in words(ada.get("/t/acme/billing?done=1"))
    # It counts when Stripe tells of it, not when somebody comes back.
    assert get_tenant(billed.db, "acme").subscription == "trial"
    record = signing.subscription(mine, "active")
    told = signing.event("customer.subscription.created", record)
    assert signing.send(billed, told).json() == {"outcome": "applied"}
    page = words(ada.get("/t/acme/billing"))
    assert "Your plan: active" in page
    ends = datetime.fromtimestamp(record["items"]["data"][0]["current_period_end"], UTC)
    assert f"The subscription renews {ends:%Y-%m-%d}" in page
    assert "Subscribe…" not in page
    again = ada.post("/t/acme/billing/subscribe")
    assert (again.status_code, "There is a subscription" in again.text) == (409, True)
    led = ada.post("/t/acme/billing/manage")
    assert led.status_code == 303
    assert led.headers["location"].startswith(f"{stripe.url}/p/session/bps_")


def test_a_form_may_lead_to_stripes_pages_and_nowhere_else(stripe: Any, ada: Any) -> None:
    page = ada.get("/t/acme/billing")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["form-action"] == f"'self' {stripe.url} https://invoice.stripe.com"
    assert policy["default-src"] == "'none'"
    assert stripe.url not in ada.get("/t/acme/hosts").headers["content-security-policy"]
    for elsewhere in ("https://evil.example", f"{stripe.url}@evil.example", f"{stripe.url}.evil.example"):
        stripe.pages = elsewhere
        answer = ada.post("/t/acme/billing/manage")
        assert answer.status_code == 503
        assert "location" not in answer.headers


@pytest.mark.browser
@pytest.mark.slow
def test_in_chromium_subscribe_leads_to_stripes_page_and_to_no_other(billed: Any, stripe: Any, ada: Any) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium")
    sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as driver, driver.chromium.launch(executable_path=chromium, args=options) as browser:
        context = browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(60_000)
        kept = ada.client.cookies["__Host-kaimon"]
        context.add_cookies([{"name": "__Host-kaimon", "value": kept, "url": billed.url, "secure": True}])
        page, said = context.new_page(), []
        page.on("console", lambda message: said.append(message.text))
        page.goto(f"{billed.url}/t/acme/billing")
        page.get_by_role("button", name="Subscribe…").click()
        page.get_by_role("heading", name="Pay here").wait_for()
        assert page.url.startswith(f"{stripe.url}/c/pay/cs_")
        assert said == []
        # What a page of ours that names no such place does: Chromium itself goes nowhere.
        page.goto(f"{billed.url}/t/acme/team")
        page.evaluate("document.querySelector('header form').action = '/t/acme/billing/subscribe'")
        page.locator("header form button").click()
        wait_for(lambda: any("form-action" in text for text in said) or page.wait_for_timeout(100))
        assert page.url == f"{billed.url}/t/acme/team"


def test_each_tenants_admins_see_their_own_invoices_and_members_see_none(
    stripe: Any, customers: dict[str, str], ada: Any, max_: Any, sue: Any
) -> None:
    for tenant, mine in customers.items():
        name = tenant.upper()
        stripe.invoices[mine] = [
            stripe_api.invoice(mine, f"{name}-0003", 0, "draft"),
            stripe_api.invoice(mine, f"{name}-0002", 123_450, "open"),
            stripe_api.invoice(mine, f"{name}-0001", -500, hosted_invoice_url="javascript:alert(1)"),
        ]
    for browser, tenant, other in ((ada, "acme", "BOLT"), (sue, "bolt", "ACME")):
        page, name = browser.get(f"/t/{tenant}/billing").text, tenant.upper()
        assert f'href="https://invoice.stripe.com/i/{name}-0002"' in page
        for shown in ("1,234.50 USD", "-5.00 USD", "to be paid", f"{name}-0001"):
            assert shown in page
        for hidden in (f"{name}-0003", "javascript:", other):
            assert hidden not in page
    asked = stripe.calls("/v1/invoices")
    assert "ACME-0002" in ada.get("/t/acme/billing").text
    assert "ACME-000" not in max_.get("/t/acme/billing").text
    assert stripe.calls("/v1/invoices") == asked, "a list of a minute ago is shown without asking again"


def test_an_answer_with_another_customers_invoice_is_not_shown(
    stripe: Any, customers: dict[str, str], ada: Any
) -> None:
    stripe.invoices[customers["acme"]] = [stripe_api.invoice(customers["bolt"], "BOLT-0001", 100)]
    page = words(ada.get("/t/acme/billing"))
    assert "BOLT" not in page
    assert "Stripe does not answer" in page
    # Left alone for a while; then all is well again.
    stripe.invoices[customers["acme"]] = [stripe_api.invoice(customers["acme"], "ACME-0001", 100)]
    wait_for(lambda: "ACME-0001" in ada.get("/t/acme/billing").text)


@pytest.mark.parametrize("away", ["500", "nonsense", "hang"])
def test_while_stripe_is_away_the_page_shows_plan_and_usage_and_says_so_soon(
    billed: Any, stripe: Any, customers: dict[str, str], ada: Any, away: str
) -> None:
    wait_for(lambda: "no invoice yet" in words(ada.get("/t/acme/billing")))
    renamed(billed, customers)
    stripe.away = away
    page = words(ada.get("/t/acme/billing"))
    assert "Stripe does not answer just now" in page
    assert "Your plan: trial" in page
    assert "Usage by day" in page
    heard = stripe.heard
    began = time.monotonic()
    assert "Stripe does not answer just now" in words(ada.get("/t/acme/billing"))
    assert stripe.heard == heard, "it is left alone for a while"
    assert time.monotonic() - began < 30
    refused = ada.post("/t/acme/billing/manage")
    assert (refused.status_code, refused.headers.get("location")) == (503, None)
    assert "Nothing was changed" in refused.text
    # Its events need nothing of it.
    told = signing.event("customer.subscription.updated", signing.subscription(customers["acme"], "past_due"))
    assert signing.send(billed, told).json() == {"outcome": "applied"}
    assert "Hosts may still send until" in words(ada.get("/t/acme/billing"))
    stripe.away = ""
    wait_for(lambda: "no invoice yet" in words(ada.get("/t/acme/billing")))


def renamed(billed: Any, customers: dict[str, str]) -> None:
    """Make acme another customer, of whom nobody has asked."""
    customers["acme"] = f"cus_acme_{next(NUMBERS)}"
    link_customer(billed.db, "acme", customers["acme"], live=True, instead=True)


def test_where_two_events_of_one_second_differ_stripe_is_asked_what_is_so(
    billed: Any, stripe: Any, customers: dict[str, str]
) -> None:
    mine, now = customers["acme"], int(time.time())
    active, due = signing.subscription(mine, "active"), signing.subscription(mine, "past_due")
    first = signing.event("customer.subscription.updated", active, created=now)
    assert signing.send(billed, first).json() == {"outcome": "applied"}
    older = signing.event("customer.subscription.updated", due, created=now)
    stripe.away = "500"
    refused = signing.send(billed, older)
    assert (refused.status_code, refused.json()["code"]) == (503, "stripe_away")
    stripe.away = ""
    stripe.subscriptions[active["id"]] = active
    assert signing.send(billed, older).json() == {"outcome": "unchanged"}
    assert get_tenant(billed.db, "acme").subscription == "active"
    stripe.subscriptions[active["id"]] = due
    newer = signing.event("customer.subscription.updated", due, created=now)
    assert signing.send(billed, newer).json() == {"outcome": "applied"}
    assert get_tenant(billed.db, "acme").subscription == "past_due"


def test_each_state_says_what_hosts_may_send_and_until_when(billed: Any, stripe: Any, max_: Any) -> None:
    heard = stripe.heard
    tenant = get_tenant(billed.db, "acme")
    assert f"Hosts may send until {tenant.trial_ends_at:%Y-%m-%d %H:%M} UTC, 50 hosts and 50,000,000 events" in words(
        max_.get("/t/acme/billing")
    )
    set_subscription(billed.db, "acme", "active", max_hosts=7)
    assert "Hosts may send: 7 hosts, any number of events a UTC day." in words(max_.get("/t/acme/billing"))
    set_subscription(billed.db, "acme", "past_due")
    assert "A payment did not come through" in words(max_.get("/t/acme/billing"))
    set_subscription(billed.db, "acme", "ended", max_hosts=None)
    page = words(max_.get("/t/acme/billing"))
    assert "Hosts are refused: the subscription was ended at 20" in page
    assert "What is stored is erased 20" in page
    for hidden in ("Subscribe…", "Manage billing…"):
        assert hidden not in page
    assert stripe.heard == heard, "a Member's look asks nothing of Stripe"


def test_without_stripe_the_page_says_so_and_shows_plan_and_usage(portal: Any, admin: Any) -> None:
    page = words(admin.get("/t/acme/billing"))
    assert "Payments are not set up in this portal" in page
    assert "Your plan: trial" in page
    assert "Usage by day" in page
    for way in ("subscribe", "manage"):
        answer = admin.post(f"/t/acme/billing/{way}")
        assert (answer.status_code, "Nothing to manage" in answer.text) == (404, False)


def test_usage_is_told_by_day_and_what_is_not_known_is_null(billed: Any) -> None:
    client = billed.api("acme", "read:subscription")
    asked = client.get("/usage", params={"from": "2026-03-01", "to": "2026-03-03"}).json()
    assert asked["days"] == [
        {"day": f"2026-03-0{day}", "events": None, "hosts": None, "bytes": None} for day in (1, 2, 3)
    ]
    assert len(client.get("/usage").json()["days"]) == 31
    for wrong in (("2026-03-03", "2026-03-02"), ("2026-01-01", "2026-04-03"), ("1999-12-31", "2000-01-01")):
        answer = client.get("/usage", params={"from": wrong[0], "to": wrong[1]})
        assert answer.status_code == 400
    assert client.get("/subscription").json()["state"] == "trial"


def test_amounts_are_told_in_their_own_units() -> None:
    assert [amount(*one) for one in ((123_456, "usd"), (-5, "usd"), (1500, "jpy"), (1234, "kwd"))] == [
        "1,234.56 USD",
        "-0.05 USD",
        "1,500 JPY",
        "1.234 KWD",
    ]


@pytest.mark.parametrize("key", ["sk_test_abcd", "rk_test_abcd", "whsec_live_x", "nonsense"])
def test_a_key_of_the_other_mode_is_refused_before_a_port_is_open(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="mode live") as caught:
        Processor(StripeSettings(home=tmp_path, stripe_api_key=key))
    assert key not in str(caught.value)


def test_a_portal_with_such_a_key_says_so_in_a_line_and_does_not_start(tmp_path: Path) -> None:
    settings = {"KAIMON_HOME": str(tmp_path), "KAIMON_STRIPE_API_KEY": "sk_test_abcd"}
    command = [Path(sys.executable).parent / "kaimon", "portal", "serve"]
    ended = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=120)
    (line,) = [json.loads(text) for text in ended.stderr.splitlines()]
    assert ended.returncode == 2
    assert (line["event"], line["error"]) == ("portal_not_started", "stripe_api_key: not a key of the mode live")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stripe_api_url", "http://proxy.example"),
        ("stripe_pages", ["http://pay.example"]),
        ("stripe_pages", ["https://pay.example/path"]),
        ("stripe_pages", ["https://pay.example; script-src *"]),
        ("stripe_pages", ["https://*"]),
    ],
)
def test_an_address_that_is_not_safe_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"stripe|https"):
        StripeSettings(**{"home": tmp_path, name: value})


def test_no_page_has_a_field_for_a_card() -> None:
    # Every field of every page, by its name: a new one is looked at here.
    folder = Path(sys.modules[Processor.__module__].__file__ or "").parent / "templates"
    fields = set()
    for template in folder.glob("*.html"):
        text = template.read_text()
        fields |= set(re.findall(r"<(?:input|select|textarea)[^>]*?name=\"([^\"]*)\"", text))
        assert 'autocomplete="cc-' not in text
        assert "js.stripe.com" not in text
    assert len(fields) > 10
    for word in ("card", "cvc", "cvv", "expiry", "iban", "pan"):
        assert [name for name in fields if word in name.lower().split("_")] == []


def test_no_key_or_address_of_stripes_is_in_the_log(billed: Any, stripe: Any, ada: Any) -> None:
    stripe.away = "500"
    ada.post("/t/acme/billing/manage")
    said = billed.log.read_text()
    assert "stripe_failed" in said
    for secret in (stripe_api.KEY[8:], signing.SECRET[6:], "/c/pay/cs_"):
        assert secret not in said


def wait_for(true: Callable[[], bool], within_s: float = 90) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)
