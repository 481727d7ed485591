"""The portal as its people use it: in Chromium, logged in by an identity provider that is not ours."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.dashboards.portal import stripe_signing as stripe
from tests.e2e import portal
from tests.e2e.machine import Host, make_release


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Everything up, with Ada invited as the tenant's first Admin."""
    if (why := portal.missing()) is not None:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("portal")
    settings = {"KAIMON_STRIPE_WEBHOOK_SECRET": stripe.SECRET, "KAIMON_ERASURE_GRACE_HOURS": "0.0001"}
    with portal.running(folder, **settings) as world:
        world.kaimon("portal", "invite", "--tenant", portal.TENANT, portal.ADA.email)
        world.kaimon("portal", "invite", "--tenant", portal.LEAVING, portal.LEA.email)
        yield world


@pytest.fixture
def world(up: Any) -> Iterator[Any]:
    """The same, with every browser window closed after the test."""
    yield up
    up.leave()


pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_an_admin_logs_in_by_another_provider_with_a_second_factor_and_no_sooner(world: Any) -> None:
    ada = world.person()
    ada.begin(portal.ADA)
    assert ada.page.url.startswith(world.issuer)
    ada.prove(portal.ADA.wrong_code())
    assert "Wrong code" in ada.text()
    assert ada.session() is None
    ada.prove(portal.ADA.code())
    ada.page.wait_for_url(f"{world.url}/t/{portal.TENANT}/")
    assert "ada@acme.example · Admin" in ada.text()
    kept = {one["name"]: one for one in ada.context.cookies(world.url)}
    assert list(kept) == ["__Host-kaimon"]
    assert kept["__Host-kaimon"]["secure"]
    assert kept["__Host-kaimon"]["httpOnly"]


def test_who_has_no_second_factor_is_refused(world: Any) -> None:
    pia = world.person()
    pia.log_in(portal.PIA)
    pia.page.wait_for_url(f"{world.url}/callback?*")
    assert pia.heading() == "Login refused"
    assert "a second factor is required" in pia.text()
    assert pia.session() is None
    # The provider knows her now, and says the same of her again, until she says that she wants to be somebody else.
    pia.open("hosts", 403)
    assert pia.session() is None
    pia.press(pia.page.get_by_role("link", name="Log in as somebody else"))
    pia.say(portal.ADA)
    pia.page.wait_for_url(f"{world.url}/t/{portal.TENANT}/")


def test_who_has_no_verified_address_is_refused(world: Any) -> None:
    eve = world.person()
    eve.log_in(portal.EVE)
    eve.page.wait_for_url(f"{world.url}/callback?*")
    assert eve.heading() == "Login refused"
    assert "does not vouch for the e-mail address" in eve.text()
    assert eve.session() is None


@pytest.fixture
def ada(world: Any) -> Any:
    """The tenant's first Admin, logged in."""
    person = world.person()
    person.log_in(portal.ADA)
    person.page.wait_for_url(f"{world.url}/t/{portal.TENANT}/")
    return person


@pytest.fixture
def watched() -> Iterator[Path]:
    """A folder whose name is short enough for the page to show it whole."""
    with tempfile.TemporaryDirectory(prefix="kaimon-") as folder:
        yield Path(folder)


@pytest.mark.root
@pytest.mark.usefixtures("capturing")
def test_a_host_is_added_as_the_pages_say_its_event_shows_and_a_revoked_token_ends_it(
    world: Any, ada: Any, tmp_path: Path, watched: Path
) -> None:
    machine = os.uname().nodename
    line, token = ada.add_a_host("the first host")
    assert line == f"sh install.sh --server {world.local.ingest_url}"
    assert portal.looks_like_a_token(token)
    ada.follow("Tokens")
    assert not portal.looks_like_a_token(ada.page.content()), "shown once"

    # Another window stays on Hosts, and nobody touches it.
    left = portal.Person(ada.context, world.url)
    left.open("hosts")
    assert "No host has enrolled in this hour." in left.text()
    public = make_release(tmp_path / "release")
    host = Host(tmp_path / "machine")
    more = ("--ca", world.local.prepare(), "--key", public, "--version", "0")
    shown = host.install(line, tmp_path / "release", token, *more)
    assert token not in shown, "the terminal does not show it"
    ada.follow("Hosts")
    assert ada.row(machine).filter(has_text="enrolled").count() == 1
    ada.follow("Tokens")
    assert [cell.inner_text() for cell in ada.row("the first host").get_by_role("cell").all()][1:4] == [
        "used up",
        "1 of 1",
        "1",
    ]

    agent = host.start(world.children, watched)
    deed = watched / "offer <i>2026.txt"
    subprocess.run(["sh", "-c", 'echo >"$1" && mv "$1" "$1.old"', "sh", deed], check=True)
    for _ in portal.attempts("the event on Activity"):
        world.kaimon("land", "--tenant", portal.TENANT)
        ada.open(f"activity?{urlencode({'path': str(deed), 'operation': 'rename'})}")
        if ada.row(str(deed)).count():
            break
    told = [cell.inner_text() for cell in ada.row(str(deed)).get_by_role("cell").all()][1:]
    who = pwd.getpwuid(os.getuid()).pw_name
    assert told == [machine, "rename", f"{deed} → {deed}.old", "mv", who, "1"]
    left.page.get_by_text("first event received").wait_for()
    left.press(left.page.get_by_role("link", name="See its events"))
    left.row(str(deed)).first.wait_for()
    ada.press(ada.row(str(deed)).get_by_role("link"))
    assert ada.heading().startswith("One event: rename")
    assert f"{deed} → {deed}.old" in ada.text()

    ada.follow("Tokens")
    ada.press(ada.row("the first host").get_by_role("link", name="Revoke…"))
    assert "One host enrolled with it." in ada.text()
    assert machine in ada.page.get_by_role("listitem").all_inner_texts()
    ada.press(ada.page.get_by_role("button", name="Revoke it"))
    assert "revoked" in ada.row("the first host").inner_text()
    assert ada.row("the first host").get_by_role("link").count() == 0
    for _ in portal.attempts("the refusal at the agent"):
        refusals = [said for said in world.said("agent") if said["msg"] == "not_welcome"]
        if refusals:
            break
    assert refusals[0]["status"] == 401
    ada.follow("Hosts")
    assert ada.row(machine).filter(has_text="revoked").count() == 1
    world.children.stop_one(agent)


def test_who_is_invited_joins_by_logging_in_and_who_is_removed_is_out_at_once(world: Any, ada: Any) -> None:
    ada.follow("Team")
    ada.page.get_by_label("E-mail address").fill(portal.MAX.email)
    ada.press(ada.page.get_by_role("button", name="Invite"))
    assert "max@acme.example as Member" in ada.page.get_by_role("listitem").filter(has_text="max").inner_text()

    max_ = world.person()
    wanted = f"{world.url}/t/{portal.TENANT}/tokens"
    max_.page.goto(wanted)
    max_.say(portal.MAX)
    max_.page.wait_for_url(wanted)
    assert "max@acme.example · Member" in max_.text()
    assert "Only an Admin makes or revokes tokens." in max_.text()
    max_.open("audit", 403)

    ada.follow("Team")
    assert "None is open." in ada.text()
    ada.press(ada.row(portal.MAX.email).get_by_role("button", name="Make Admin"))
    assert ada.row(portal.MAX.email).get_by_role("button", name="Make Member").count() == 1
    max_.open("audit")
    assert "max@acme.example · Admin" in max_.text()
    ada.press(ada.row(portal.MAX.email).get_by_role("button", name="Make Member"))
    max_.open("audit", 403)

    max_.open("activity")
    ada.press(ada.row(portal.MAX.email).get_by_role("button", name="Remove"))
    assert ada.row(portal.MAX.email).count() == 0
    max_.press(max_.page.get_by_role("button", name="Show"))
    assert max_.heading() == "Not found"
    max_.open("", 404)
    # Nor does logging in again help: the invitation is spent.
    was = max_.session()
    max_.page.goto(f"{world.url}/login")
    max_.page.wait_for_url(f"{world.url}/")
    assert "You are a member of no tenant." in max_.text()
    assert max_.session() not in {None, was}
    max_.open("", 404)


def test_a_subscription_that_stripe_ends_enrolls_nobody_until_there_is_another(
    world: Any, ada: Any, tmp_path: Path
) -> None:
    world.kaimon("tenant", "billing", portal.TENANT, "--customer", "cus_1")
    now = int(time.time())

    def told(kind: str, name: str, status: str, at: int) -> Any:
        about = stripe.subscription("cus_1", status, id=name, created=at)
        return stripe.event(f"customer.subscription.{kind}", about, created=at)

    assert stripe.send(world, told("created", "sub_1", "active", now - 60)).json() == {"outcome": "unchanged"}
    over = told("deleted", "sub_1", "canceled", now - 30)
    assert stripe.send(world, over, stripe.OTHER).status_code == 400, "signed by somebody else"
    ada.follow("Billing")
    assert ada.heading(2) == "Your plan: active"
    assert stripe.send(world, over).json() == {"outcome": "applied"}
    ada.page.reload()
    assert ada.heading(2) == "Your plan: ended"
    assert "Hosts are refused" in ada.text()

    line, token = ada.add_a_host("a late host")
    more = ("--ca", world.local.prepare(), "--key", make_release(tmp_path / "release"), "--version", "0")
    host = Host(tmp_path / "machine")
    shown = host.install(line, tmp_path / "release", token, *more, code=1)
    assert "403 subscription_lapsed" in shown
    assert "not enrolled; nothing is installed" in shown
    ada.follow("Audit log")
    assert "stripe" in ada.row("subscription.change").first.inner_text()

    assert stripe.send(world, told("created", "sub_2", "active", now - 10)).json() == {"outcome": "applied"}
    assert "installed and enrolled" in host.install(line, tmp_path / "release", token, *more)
    ada.follow("Billing")
    assert ada.heading(2) == "Your plan: active"


def test_who_asks_for_deletion_loses_all_of_it_and_gets_a_receipt_that_openssl_verifies(
    world: Any, tmp_path: Path
) -> None:
    staged = world.stage(portal.LEAVING, "/srv/our offer.pdf")
    world.kaimon("land", "--tenant", portal.LEAVING)
    world.kaimon("keys", "receipts")
    lea = world.person()
    lea.log_in(portal.LEA)
    lea.page.wait_for_url(f"{world.url}/t/{portal.LEAVING}/")
    lea.follow("Retention")
    assert lea.row("events").first.get_by_role("cell").nth(1).inner_text() == str(staged)
    kept = tmp_path / "receipts.pem"
    kept.write_text(lea.page.locator("pre", has_text="PUBLIC KEY").inner_text())
    lea.press(lea.page.get_by_role("link", name="Erase everything…"))
    lea.page.get_by_label("Type the tenant's name").fill("another")
    lea.press(lea.page.get_by_role("button", name="Erase everything"))
    assert "Nothing has changed." in lea.text()
    lea.page.go_back()
    lea.page.get_by_label("Type the tenant's name").fill(portal.LEAVING)
    lea.press(lea.page.get_by_role("button", name="Erase everything"))
    link = lea.page.locator(".secret pre").inner_text()
    lea.follow("Hosts")
    assert "Everything of this tenant is erased in the night after" in lea.text(), "each page says so"

    stranger = world.person()
    stranger.page.goto(link)
    assert "It has not begun" in stranger.text()
    world.night()
    assert lea.page.goto(f"{world.url}/t/{portal.LEAVING}/hosts").status == 404
    stranger.page.reload()
    assert "Done." in stranger.text()
    for name in ("The receipt", "Its signature", "The public key"):
        with stranger.page.expect_download() as coming:
            stranger.page.get_by_role("link", name=name).click()
        coming.value.save_as(tmp_path / "got" / coming.value.suggested_filename)
    got = tmp_path / "got"
    assert (got / "receipts.pem").read_bytes() == kept.read_bytes(), "the key is the one that was shown before"
    command = stranger.page.locator("pre", has_text="openssl").inner_text()
    verified = subprocess.run(command.split(), cwd=got, capture_output=True, text=True, check=True)
    assert "Signature Verified Successfully" in verified.stdout
    receipt = (got / f"{portal.LEAVING}.json").read_bytes()
    assert hashlib.sha256(receipt).hexdigest() in stranger.text()
    assert json.loads(receipt)["tenant"] == portal.LEAVING
    assert b"offer" not in receipt
