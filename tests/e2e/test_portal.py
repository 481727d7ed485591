"""The portal as its people use it: in Chromium, logged in by an identity provider that is not ours."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def portal() -> ModuleType:
    """What starts all of it; see `portal.py`."""
    spec = importlib.util.spec_from_file_location("kaimon_e2e_portal", Path(__file__).with_name("portal.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def up(portal: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Everything up, with Ada invited as the tenant's first Admin."""
    if (why := portal.missing()) is not None:
        pytest.skip(why)
    with portal.running(tmp_path_factory.mktemp("portal")) as world:
        world.kaimon("portal", "invite", "--tenant", portal.TENANT, portal.ADA.email)
        yield world


@pytest.fixture
def world(up: Any) -> Iterator[Any]:
    """The same, with every browser window closed after the test."""
    yield up
    up.leave()


pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_an_admin_logs_in_by_another_provider_with_a_second_factor_and_no_sooner(world: Any, portal: Any) -> None:
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


def test_who_has_no_second_factor_is_refused(world: Any, portal: Any) -> None:
    pia = world.person()
    pia.log_in(portal.PIA)
    pia.page.wait_for_url(f"{world.url}/callback?*")
    assert pia.heading() == "Login refused"
    assert "a second factor is required" in pia.text()
    assert pia.session() is None
    # The provider knows her now, and says the same of her again, until she says that she wants to be somebody else.
    pia.open("hosts", 403)
    assert pia.session() is None
    pia.page.get_by_role("link", name="Log in as somebody else").click()
    pia.page.get_by_label("E-mail address").fill(portal.ADA.email)
    pia.next()
    pia.prove(portal.ADA.code())
    pia.page.wait_for_url(f"{world.url}/t/{portal.TENANT}/")


def test_who_has_no_verified_address_is_refused(world: Any, portal: Any) -> None:
    eve = world.person()
    eve.log_in(portal.EVE)
    eve.page.wait_for_url(f"{world.url}/callback?*")
    assert eve.heading() == "Login refused"
    assert "does not vouch for the e-mail address" in eve.text()
    assert eve.session() is None
